"""The page of `segment`: what it shows of a state, as a parser of HTML reads it; and the pictures on it."""

import base64
import io
import json
import tomllib
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from fewlabels.paths import CHECKOUT
from fewlabels.segment import report
from fewlabels.segment.overlays import colour, overlay

VOID = {"meta", "img", "br", "link", "hr", "input"}
NAMES = [f"ward {i % 3}/{i:02}" for i in range(8)]


class Page(HTMLParser):
    """Tags, which must close in their order; links, pictures, and the text without CSS."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag, name):
        return [attributes.get(name) for found, attributes in self.attributes if found == tag]


def state(data, names=NAMES, **more):
    """Of a making that is done: two labelled images, the others not."""
    return {
        "data": str(data), "command": "fewlabels segment 'my data' --minutes 15", "made": "2026-11-29 23:10",
        "version": "0.2.0", "finished": True, "minutes": 15.0,
        "cases": [
            {"name": name, "labelled": i < 2, "size": [1, 48, 64], "channels": 1, "note": "", "mask":
             f"segmented/masks/{name}.png", "image": str(data / f"images/{name}.png"), "shares": [0.9, 0.1]}
            for i, name in enumerate(names)
        ],
        "classes": [{"name": "background", "value": 0, "share": 0.9}, {"name": "tumour", "value": 255, "share": 0.1}],
        "intensity": {"lowest": -1000.0, "median": 80.5, "highest": 255.0}, "notes": ["a note"],
        "warnings": ["a warning"],
        "suspicious": [{"name": names[3], "why": "larger than the others"}],
        "plan": {"side": 128, "crop": 96, "batch": 8, "steps": 700, "seconds_per_step": 0.4, "members": 2,
                 "network": "a U-Net"},
        "floor": {"dice": [0.71], "seconds": 9.0, "what": "a random forest"},
        "members": [
            {"name": "supervised 1", "kind": "supervised", "steps": 700, "seconds": 200.0, "kept": True, "why": ""},
            {"name": "semi-supervised 1", "kind": "semi-supervised", "steps": 500, "seconds": 95.0, "kept": False,
             "why": "tumour: 0.2 % of the pixels"},
        ],
        "fit": [{"name": names[1], "dice": 0.31}, {"name": names[0], "dice": 0.87}],
        "stage": "finished", "seconds_left": 0.0,
    } | more  # fmt: skip


@pytest.fixture
def out(tmp_path):
    (tmp_path / "my data/segmented").mkdir(parents=True)
    return tmp_path / "my data/segmented"


def pictures(out, names=NAMES, size=(640, 480)):
    """Pictures below `overlays/`, each of one grey."""
    found = {}
    for i, name in enumerate(names):
        found[name] = out / "overlays" / f"{name}.jpg"
        found[name].parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (3 * i,) * 3).save(found[name])
    return found


def written(out, *arguments):
    path = report.write(out, *arguments)
    assert path == out / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_of_a_finished_making_says_everything(out):
    page = written(out, state(out.parent), pictures(out))
    for words in (
        "Masks of my data", "Done: 8 masks", str(out / "masks"), "8, of which 2 with a mask", "all 64 x 48",
        "-1000 to 255", "half of the pixels below 80.5", "tumour 255 10.0 % 0.71", "a note", "a warning",
        f"{NAMES[3]} : larger than the others", "network a U-Net", "time of a step 0.4 s", "time given 15 min",
        "supervised 1 700 3 min 20 s kept", "semi-supervised 1 500 1 min 35 s dropped tumour: 0.2 % of the pixels",
        "fewlabels segment 'my data' --minutes 15", "fewlabels 0.2.0, 2026-11-29 23:10",
    ):  # fmt: skip
        assert words in page.text, words
    look = page.text[page.text.index("Look at these labels first") :]
    assert look.index(f"{NAMES[1]} 0.31") < look.index(f"{NAMES[0]} 0.87")
    assert "refresh" not in page.all("meta", "http-equiv")
    assert "width=device-width, initial-scale=1" in page.all("meta", "content")
    assert "script" not in page.tags


def test_nothing_is_loaded_from_elsewhere_and_links_lead_to_files_beside_it(out):
    shown = pictures(out)
    page = written(out, state(out.parent), shown)
    assert len(page.all("img", "src")) == 8 + 2 + 1 + 2  # the gallery, labelled, suspicious, worst
    for source in page.all("img", "src"):
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            assert (picture.format, picture.size) == ("JPEG", (320, 240))
    links = {(out / unquote(link)).resolve() for link in page.all("a", "href")}
    images = {out.parent / f"images/{name}.png" for name in NAMES}
    assert links == images | {out / f"masks/{name}.png" for name in NAMES} | {*shown.values(), out / "masks"}
    assert "link" not in page.tags
    assert "url(" not in (out / "report.html").read_text()


def test_while_it_runs_the_page_reads_itself_anew_and_says_the_time_left(out):
    page = written(out, state(out.parent, finished=False, stage="supervised 2 of 3", seconds_left=300.0))
    assert ("meta", {"http-equiv": "refresh", "content": "20"}) in page.attributes
    assert "Running: supervised 2 of 3 , about 5 min of training left" in page.text
    assert "Done" not in page.text


@pytest.mark.parametrize("key", state(CHECKOUT))
@pytest.mark.parametrize("gone", [True, False])
def test_what_is_not_known_yet_is_left_out(out, key, gone):
    whole = state(out.parent)
    part = {name: value for name, value in whole.items() if name != key} if gone else whole | {key: None}
    page = written(out, part, pictures(out))
    assert "None" not in page.text
    assert "Undefined" not in page.text


def test_the_first_page_needs_no_more_than_what_was_read(out):
    first = {key: state(out.parent)[key] for key in ("data", "command", "cases", "classes", "notes", "warnings")}
    first |= {"finished": False, "members": [], "floor": None, "stage": "reading the files"}
    first["cases"] = [
        {key: each for key, each in case.items() if key != "shares"} | {"mask": None} for case in first["cases"]
    ]
    page = written(out, first)
    assert "Running: reading the files" in page.text
    for words in ("Networks", "Look at these labels", "Images with their masks", "Dice", "training left"):
        assert words not in page.text
    assert written(out, {"data": str(out.parent)}).tags.count("h2") == 0
    assert written(out, {}).tags.count("h2") == 0


def test_names_and_words_that_look_like_html_are_text(out):
    bad = ['<b>"x"&', "<script>alert(1)</script>", "a'b%41#?:c", "</div></main>"]
    with_bad = state(out.parent, bad, command="fewlabels segment '<i>'", notes=["<i>n"], warnings=["<i>w"], stage="<i>")
    with_bad["classes"][1] |= {"name": "<i>class", "value": "<i>"}
    with_bad["suspicious"][0]["why"] = "<i>why"
    with_bad["members"][0] |= {"name": "<i>member", "why": "<i>"}
    page = written(out, with_bad, pictures(out, ['<b>"x"&', "a'b%41#?:c"]))
    assert not {"b", "script"} & {*page.tags}
    assert page.tags.count("i") == sum(attributes != {} for tag, attributes in page.attributes if tag == "i")
    for words in (*bad, "<i>n", "<i>w", "<i>class", "<i>why", "<i>member"):
        assert words in page.text
    assert str(out.parent / "images/a'b%41#?:c.png") in {
        str((out / unquote(link)).resolve()) for link in page.all("a", "href")
    }


def test_a_name_that_is_no_text_does_not_stop_it(out):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    page = written(out, state(out.parent, [*NAMES[:7], name]))
    assert "caf?" in page.text
    assert "../images/caf%E9.png" in page.all("a", "href")


def test_sixty_pictures_are_shown_and_the_others_named(out):
    names = [f"{i:03}" for i in range(75)]
    unlabelled = state(out.parent, names, suspicious=[], fit=[])
    for case in unlabelled["cases"]:
        case["labelled"] = False
    page = written(out, unlabelled, pictures(out, names, (32, 32)))
    assert page.all("img", "alt") == [f"outlines in {name}" for name in names[:60]]
    assert "15 more" in page.text
    assert {f"overlays/{name}.jpg" for name in names} <= {*page.all("a", "href")}


def test_a_picture_that_is_damaged_or_gone_is_left_out_and_one_made_anew_is_shown_anew(out):
    shown = pictures(out)
    shown[NAMES[0]].write_bytes(b"no picture")
    shown[NAMES[1]].write_bytes(shown[NAMES[1]].read_bytes()[:300])
    shown[NAMES[2]].unlink()
    bare = state(out.parent, suspicious=[], fit=[])
    assert written(out, bare, shown).all("img", "alt") == [f"outlines in {name}" for name in NAMES[3:]]
    before = written(out, bare, shown).all("img", "src")
    Image.new("RGB", (640, 480), "red").save(shown[NAMES[3]])
    after = written(out, bare, shown).all("img", "src")
    assert (before[0] != after[0], before[1:] == after[1:]) == (True, True)


def test_masks_that_somebody_drew_are_on_the_first_page_before_anything_came_out(out):
    page = written(out, state(out.parent, suspicious=[], fit=[]), {}, pictures(out, NAMES[:2]))
    assert page.all("img", "alt") == [f"outlines in {name}" for name in NAMES[:2]]
    assert "The outlines are those of your masks" in page.text


def test_mixed_sizes_are_counted_and_volumes_have_slices(out):
    mixed = state(out.parent)
    mixed["cases"][0]["size"] = [24, 48, 64]
    mixed["cases"][1] |= {"size": [1, 100, 200], "channels": 3}
    page = written(out, mixed)
    assert "64 x 48 (6), 24 slices of 64 x 48 (1), 200 x 100 (1)" in page.text
    assert "grey (7), colour (1)" in page.text


@pytest.mark.parametrize(
    ("words", "seconds"),
    [("0 s", 0), ("0.4 s", 0.4), ("59 s", 59.4), ("1 min", 59.7), ("1 min 15 s", 75), ("2 h 2 min", 7345)],
)
def test_durations(words, seconds):
    assert report.duration(seconds) == words


@pytest.mark.parametrize(
    ("words", "share"), [("0.0 %", 0.0), ("100.0 %", 1.0), ("3.1 %", 0.0312), ("0.04 %", 0.0004), ("< 1e-4 %", 1e-9)]
)
def test_small_shares_keep_a_digit(words, share):
    assert report.percent(share) == words


@pytest.mark.parametrize(("words", "stored"), [("#ff000a", [255, 0, 10]), ("0.5", 0.5), ("1000000", 1000000)])
def test_values_are_said_as_they_are_stored(words, stored):
    assert report.value(json.loads(json.dumps(stored))) == words


def test_the_template_is_packaged():
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["fewlabels"]
    files = {path.name for pattern in patterns for path in (CHECKOUT / "lib/fewlabels").glob(pattern)}
    assert "report.html.jinja" in files


def square(shape, top, left, side, k=1):
    y = np.zeros(shape, np.int64)
    y[..., top : top + side, left : left + side] = k
    return y


def ramp(height, width, dtype=np.uint8, factor=1):
    return (np.linspace(0, 200, height * width).reshape(1, height, width, 1) * factor).astype(dtype)


@pytest.mark.parametrize(("dtype", "factor"), [(np.uint8, 1), (np.uint16, 300), (np.int16, -5), (np.float32, 1e-3)])
def test_an_outline_lies_within_its_structure_and_the_rest_is_the_image(dtype, factor):
    image, y = ramp(256, 300, dtype, factor), square((1, 256, 300), 40, 50, 60, 2)
    shown = overlay(image, y)
    frame = square((256, 300), 40, 50, 60) - square((256, 300), 42, 52, 56) == 1
    assert (shown.shape, shown.dtype) == ((256, 300, 3), np.uint8)
    assert (shown[frame] == colour(2)).all()
    plain = image[0, ..., 0].astype(float)
    low, high = np.quantile(plain, [0.01, 0.99])
    grey = np.round(255 * ((plain - low) / (high - low)).clip(0, 1))
    assert (shown[~frame] == grey[~frame][:, None]).all()


def test_the_dashed_outline_lies_outside_of_the_mask_so_that_both_are_seen():
    y = square((1, 256, 256), 40, 50, 60)
    shown = overlay(ramp(256, 256), y, y)
    inner = square((256, 256), 40, 50, 60) - square((256, 256), 42, 52, 56) == 1
    around = square((256, 256), 38, 50, 60) == 1  # the line above and below; no corners
    around[40:98] = False
    around[38:40, 50:110] = True
    assert (shown[inner] == colour(1)).all()
    dashes = shown[around]
    assert {*map(tuple, dashes.tolist())} == {(0, 0, 0), (255, 255, 255)}


def test_the_slice_with_the_most_foreground_is_shown_of_either():
    image = np.stack([np.full((256, 256, 1), v) for v in (0.0, 50.0, 100.0)])
    image[:, :128] += 300
    y = np.zeros((3, 256, 256), int)
    y[1] = square((256, 256), 10, 10, 9)
    assert (overlay(image, y)[10, 10] == colour(1)).all()
    truth = np.zeros_like(y)
    truth[2] = square((256, 256), 10, 10, 99)
    assert not (overlay(image, y, truth) == colour(1)).all(-1).any()
    none = overlay(image, np.full_like(y, -1))
    assert {*np.unique(none)} == {0, 255}


@pytest.mark.parametrize(
    ("size", "expected"),
    [((2048, 1024), (512, 256)), ((40, 30), (280, 210)), ((256, 256), (256, 256)), ((3000, 1), (512, 1))],
)
def test_pictures_are_neither_large_nor_tiny(size, expected):
    assert overlay(ramp(*size), square((1, *size), 0, 0, 1)).shape == (*expected, 3)


def test_a_thin_structure_in_a_large_image_is_not_lost():
    y = np.zeros((1, 2048, 2048), int)
    y[0, 1001, 100:1900] = 3
    y[0, 5, 5] = 1
    shown = overlay(np.zeros((1, 2048, 2048, 1), np.uint8), y)
    assert (shown[250, 30:470] == colour(3)).all()
    assert (shown[1, 1] == colour(1)).all()


def test_colours_of_a_picture_stay_and_more_classes_than_colours_begin_again():
    image = np.zeros((1, 256, 256, 3), np.uint8)
    image[0, :128, :, 0] = 255
    shown = overlay(image, square((1, 256, 256), 200, 200, 9, 31))
    assert (shown[:128] == (255, 0, 0)).all()
    assert (shown[200, 200] == colour(31)).all()
    assert {colour(k) for k in range(1, 32)} == {colour(k) for k in range(1, 10)}


def test_what_cannot_be_windowed_is_shown_all_the_same():
    nothing = np.zeros((1, 256, 256), int)
    assert np.ptp(overlay(np.full((1, 256, 256, 1), 7.0), nothing)) == 0
    assert np.ptp(overlay(np.full((1, 256, 256, 1), np.nan), nothing)) == 0
    holes = ramp(256, 256, np.float64)
    holes[0, :9] = np.inf
    assert (overlay(holes, nothing)[:9] == 0).all()
    speck = np.zeros((1, 256, 256, 1))
    speck[0, 100, 100] = 1.0
    assert (overlay(speck, nothing)[100, 100] == 255).all()
