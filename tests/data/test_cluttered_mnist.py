"""Cluttered MNIST and its source: files made here, an oracle that composes images pixel by pixel, and with
FEWLABELS_DATA the real digits."""

import gzip
import hashlib
import os
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import refused, same
from sklearn.datasets import load_digits

from fewlabels.data import cluttered_mnist as clutter
from fewlabels.data import mnist, prepared
from fewlabels.data.cohort import Cohort, Split

TRAIN, TEST = 30, 20  # digits in the files made here
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (TRAIN + TEST, 28, 28)).astype(np.uint8)
DIGITS = np.arange(TRAIN + TEST) * 7 % 10
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SMALL = (60, 7, 9)  # pairs


# ---- files as others make them ----


def idx(values, *sizes, magic=None):
    sizes = sizes or np.shape(values)
    magic = magic or {1: 2049, 3: 2051}[len(sizes)]
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes) + np.asarray(values, np.uint8).tobytes()


def contents():
    parts = (PIXELS[:TRAIN], DIGITS[:TRAIN], PIXELS[TRAIN:], DIGITS[TRAIN:])
    return dict(zip(NAMES, map(idx, parts)))


def write(folder, compressed, files=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (files or contents()).items():
        (folder / name).with_name(name + ".gz" * compressed).write_bytes(
            gzip.compress(content) if compressed else content
        )


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(mnist, "COUNTS", {"train": TRAIN, "test": TEST})
    values = {name: content[16 if "images" in name else 8 :] for name, content in contents().items()}
    monkeypatch.setattr(mnist, "VALUES", {name: hashlib.sha256(value).hexdigest() for name, value in values.items()})


@pytest.fixture
def root(small, tmp_path):
    """A data root of 50 digits as plain files."""
    write(tmp_path / "mnist", compressed=False)
    return tmp_path


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---- MNIST ----


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("folder", ["mnist", "mnist/raw"])
def test_load(small, tmp_path, folder, compressed):
    write(tmp_path / folder, compressed)
    before = files_below(tmp_path)
    cohort = clutter.load(tmp_path)
    assert files_below(tmp_path) == before
    assert (cohort.images.shape, cohort.images.dtype) == ((50, 1, 28, 28), torch.float32)
    np.testing.assert_array_equal(cohort.images[:, 0], PIXELS.astype(np.float32) / np.float32(255))
    assert (cohort.labels.tolist(), cohort.labels.dtype) == (DIGITS.tolist(), torch.int64)
    expected = tuple([f"train/{i:05}" for i in range(TRAIN)] + [f"test/{i:05}" for i in range(TEST)])
    assert cohort.ids == cohort.groups == expected
    assert (cohort.classes, cohort.spacing_mm) == (tuple("0123456789"), (1.0, 1.0))
    assert cohort.meta["data"] == "mnist"
    assert "LeCun" in cohort.meta["source"]


def test_prepared_gives_the_same_bits(root):
    out = root / "new/mnist.npz"
    digest = clutter.prepare(root, out)
    assert files_below(root / "new") == ["mnist.npz"]
    assert same(clutter.load(out), clutter.load(root))
    assert clutter.check(out) == clutter.check(root)
    assert digest in clutter.check(root)
    assert clutter.prepare(out, root / "again.npz") == digest


def test_check(root):
    lines = clutter.check(root).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("mnist: MNIST")
    assert lines[1].startswith("50 of 50 images; train: 3 of 0, 3 of 1")
    assert "test: 2 of 0, 2 of 1" in lines[1]


def test_digits_in_the_shape_of_mnist():
    """By numpy, axis after axis: pixel i of 20 lies at (i + 1/2) * 8/20 - 1/2 of 8; outside, the edge goes on."""
    cohort, source = clutter.digits(), load_digits()
    assert (cohort.images.shape, cohort.images.dtype) == ((1797, 1, 28, 28), torch.float32)
    assert (cohort.labels.tolist(), cohort.labels.dtype) == (source.target.tolist(), torch.int64)
    assert (cohort.ids[0], cohort.ids[-1], cohort.groups) == ("digit/0000", "digit/1796", cohort.ids)
    assert cohort.meta["data"] == "digits"
    for text in ("scikit-learn", "UCI", "CC BY 4.0", "BSD"):
        assert text in cohort.meta["source"]
    at = (np.arange(20) + 0.5) * 8 / 20 - 0.5
    for image, pixels in zip(cohort.images[:100, 0].numpy(), source.images / 16):
        rows = np.array([np.interp(at, range(8), column) for column in pixels.T]).T
        expected = np.pad([np.interp(at, range(8), row) for row in rows], 4)
        np.testing.assert_allclose(image, expected, atol=1e-6)


def test_no_root():
    for call in (clutter.load, clutter.check, lambda root: clutter.prepare(root, "out.npz")):
        refused(lambda call=call: call(None), "FEWLABELS_DATA", mnist.URL, "fewlabels download mnist", "found nothing")
    refused(lambda: clutter.download(None), "FEWLABELS_DATA", "found nothing")


@pytest.mark.parametrize("folder", ["mnist", "mnist/raw"])
@pytest.mark.parametrize("spelling", ["{0}-images.idx3-ubyte", "{0}-images-idx3-ubyte/{0}-images-idx3-ubyte"])
def test_names_of_the_copy_on_kaggle(small, tmp_path, folder, spelling):
    """It has each file with a dot in its name, and once more in a folder."""
    before = contents()
    write(tmp_path / "plain/mnist", compressed=False)
    for name, content in before.items():
        part, kind = name.split("-", 1)
        path = (
            tmp_path
            / folder
            / spelling.format(part)
            .replace("images-idx3", kind[:-6])
            .replace("images.idx3", kind[:-6].replace("-", "."))
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert same(clutter.load(tmp_path), clutter.load(tmp_path / "plain"))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_another_data_set_under_the_names_of_mnist(small, tmp_path, name, compressed):
    """Fashion-MNIST and others have the same names, sizes and numbers of classes; a download may be filled with 0."""
    header = 16 if "images" in name else 8
    for change, found in (
        (lambda values: values[::-1], "found "),
        (lambda values: bytes(len(values)), "nothing but 0"),
    ):
        content = contents()[name]
        write(tmp_path / "mnist", compressed, contents() | {name: content[:header] + change(content[header:])})
        texts = (f"{tmp_path / 'mnist' / name}", f"expected the official values of {name}, SHA-256 ", found)
        refused(lambda: clutter.load(tmp_path), *texts)
        refused(lambda: clutter.check(tmp_path), *texts)


@pytest.mark.parametrize("name", NAMES)
def test_missing_files(root, name):
    path = root / "mnist" / name
    path.unlink()
    refused(lambda: clutter.load(root), f"{path}: ", f"{name}.gz", mnist.URL, "download mnist", "found no such file")
    refused(lambda: clutter.load(root / "x"), f"{root / 'x/mnist'}", "download mnist", "found no folder")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        (NAMES[0], idx(PIXELS[:TRAIN], magic=2049), ("magic number 2051", "found 2049")),
        (NAMES[1], idx(PIXELS[:TRAIN]), ("magic number 2049", "found 2051")),
        (NAMES[1], b"hello", ("magic number 2049", f"found {int.from_bytes(b'hell', 'big')}")),
        (NAMES[1], b"", ("magic number 2049", "found 0 bytes")),
        (NAMES[2], b"\0\0\x08\x03\0", ("20 x 28 x 28", "no size")),
        (NAMES[2], idx(PIXELS[TRAIN:])[:-1], ("15,680 bytes after the header", "found 15,679")),
        (NAMES[2], idx(PIXELS[TRAIN:]) + b"\0", ("15,680 bytes after the header", "found 15,681")),
        (NAMES[3], idx(DIGITS[TRAIN:]) + b"\0", ("20 bytes after the header", "found 21")),
        (NAMES[2], idx(PIXELS[TRAIN:, :27]), ("20 x 28 x 28", "found 20 x 27 x 28")),
        (NAMES[2], idx(PIXELS[TRAIN:], TEST, 14, 56), ("20 x 28 x 28", "found 20 x 14 x 56")),
        (NAMES[1], idx(DIGITS[: TRAIN - 1]), ("expected 30, found 29",)),
        (NAMES[0], idx(PIXELS[: TRAIN - 1]), ("30 x 28 x 28", "found 29 x 28 x 28")),
        (NAMES[3], idx([*DIGITS[TRAIN:-2], 10, 3]), ("labels of 0 to 9", "found 10 at position 18")),
    ],
)
def test_files_that_are_not_mnist(small, tmp_path, compressed, name, content, texts):
    write(tmp_path / "mnist/raw", compressed, contents() | {name: content})
    refused(lambda: clutter.load(tmp_path), f"{tmp_path / 'mnist/raw' / name}{'.gz' * compressed}: expected", *texts)


def test_damaged_gzip(small, tmp_path):
    write(tmp_path / "mnist", compressed=True)
    path = tmp_path / f"mnist/{NAMES[0]}.gz"
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-6] ^= 1  # in the checksum
    for damaged in (b"", content[:5], content[:1000], content[:-1], bytes(flipped), b"hello", content + b"hello"):
        path.write_bytes(damaged)
        refused(lambda: clutter.load(tmp_path), f"{path}: expected ", "compressed with gzip" if damaged else "found")


def test_prepared_files_that_are_not_mnist(root):
    out = root / "file.npz"
    clutter.prepare(root, out)
    arrays, content = prepared.read(out, "mnist"), out.read_bytes()
    for damaged in (b"", content[:100], content[:-1]):
        out.write_bytes(damaged)
        refused(lambda: clutter.load(out), f"{out}: expected a file written by `python -m fewlabels prepare mnist`")
    prepared.write(out, "cifar10", arrays)
    refused(lambda: clutter.load(out), f"{out}: ", "found one of cifar10")
    wrong = {"labels": {NAMES[1]: arrays[NAMES[1]] + np.uint8(1)}, "uint8": {NAMES[1]: arrays[NAMES[1]] + 0.0}}
    wrong["(30, 28, 28)"] = {NAMES[0]: arrays[NAMES[0]][1:]}
    for text, changed in wrong.items():
        prepared.write(out, "mnist", arrays | changed)
        refused(lambda: clutter.load(out), f"{out}", text)
    prepared.write(out, "mnist", {NAMES[0]: arrays[NAMES[0]]})
    refused(lambda: clutter.load(out), f"{out}: ", *NAMES)


# ---- download ----


@pytest.fixture
def server(monkeypatch):
    """A dict of what is served from now on as the official files, whose checksums are the official ones."""
    served = {f"{name}.gz": gzip.compress(content) for name, content in contents().items()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = served.get(self.path.split("/")[-1])
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(mnist, "URL", f"http://127.0.0.1:{http.server_port}/mnist/")
    monkeypatch.setattr(mnist, "SHA256", {name: hashlib.sha256(x).hexdigest() for name, x in served.items()})
    yield served
    http.shutdown()
    http.server_close()
    thread.join()


def test_download(small, server, tmp_path):
    assert clutter.download(tmp_path) == tmp_path / "mnist/raw"
    assert files_below(tmp_path) == sorted(f"mnist/raw/{name}.gz" for name in NAMES)
    assert clutter.load(tmp_path).labels.tolist() == DIGITS.tolist()
    server.clear()
    clutter.download(tmp_path)  # they are there: not fetched again


@pytest.mark.parametrize(("answer", "found"), [(b"another", hashlib.sha256(b"another").hexdigest()), (None, "404")])
def test_downloads_that_fail(small, server, tmp_path, answer, found):
    name = f"{NAMES[2]}.gz"
    server[name] = answer
    texts = (f"{mnist.URL}{name}: expected {tmp_path / 'mnist/raw' / name} with SHA-256 {mnist.SHA256[name]}", found)
    refused(lambda: clutter.download(tmp_path), *texts)
    assert files_below(tmp_path) == sorted(f"mnist/raw/{name}.gz" for name in NAMES[:2])


def test_the_address_and_checksums_are_the_official_ones():
    assert mnist.URL == "https://ossci-datasets.s3.amazonaws.com/mnist/"
    assert {name: value[:8] for name, value in mnist.SHA256.items()} == {
        f"{NAMES[0]}.gz": "440fcabf",
        f"{NAMES[1]}.gz": "3552534a",
        f"{NAMES[2]}.gz": "8d422c7b",
        f"{NAMES[3]}.gz": "f7ae60f9",
    }  # in full: see the real files


# ---- splits ----


@pytest.fixture(scope="module")
def cohort():
    return clutter.digits()


@pytest.fixture(scope="module")
def split(cohort):
    return clutter.splits(cohort, share=0.02, validation=100)


def numbered(train, test, labels=None):
    ids = tuple([f"train/{i:05}" for i in range(train)] + [f"test/{i:05}" for i in range(test)])
    labels = torch.arange(len(ids)) % 10 if labels is None else torch.tensor(labels)
    return Cohort(torch.zeros(len(ids), 1, 28, 28), labels, ids, tuple("0123456789"), (1.0, 1.0), ids)


@pytest.mark.parametrize("seed", [0, 3])
def test_splits(seed):
    cohort = numbered(2000, 50)
    parts = clutter.splits(cohort, share=0.01, validation=50, seed=seed)
    order = [f"train/{i:05}" for i in np.random.RandomState(seed).permutation(2000)]
    nines = [name for name in order[:1950] if name.endswith("9")]
    assert parts.labelled == tuple(nines[:20])  # 19.5, rounded up
    assert parts.unlabelled == tuple(name for name in order[:1950] if name not in nines[:20])
    assert parts.validation == tuple(order[1950:])
    assert parts.test == tuple(f"test/{i:05}" for i in range(50))
    shuffled = [*range(2049, -1, -1)]
    backwards = Cohort(
        cohort.images, cohort.labels[shuffled], cohort.ids[::-1], cohort.classes, (1.0, 1.0), cohort.groups
    )
    again = clutter.splits(backwards, share=0.01, validation=50, seed=seed)
    assert (again.labelled, again.unlabelled, again.validation) == (parts.labelled, parts.unlabelled, parts.validation)


def test_splits_of_mnist_do_not_change():
    labels = (np.arange(70_000) * 7919 % 65_521 % 10).tolist()
    parts = clutter.splits(numbered(60_000, 10_000, labels))
    assert [len(part) for part in vars(parts).values()] == [595, 58_905, 500, 10_000]
    assert parts.validation[:2] + parts.validation[-1:] == ("train/30268", "train/16322", "train/02732")


def test_splits_of_digits(cohort):
    parts = clutter.splits(cohort)
    order = [f"digit/{i:04}" for i in np.random.RandomState(0).permutation(1797)]
    assert parts.test == tuple(order[-449:])
    assert parts.validation == tuple(order[-949:-449])
    assert (len(parts.labelled), len(parts.unlabelled)) == (8, 840)  # 1% of 848
    assert set(cohort.labels[cohort.index(parts.labelled)].tolist()) == {9}
    assert sorted(sum(vars(parts).values(), ())) == list(cohort.ids)
    assert parts != clutter.splits(cohort, seed=1)


def test_impossible_splits():
    cohort = numbered(100, 5)
    refused(lambda: clutter.splits(cohort, 0.5, 20), "share: expected 1 to ", "nines, found 0.5 of 80", "which is 40")
    refused(lambda: clutter.splits(cohort, 0.001, 20), "share: expected 1 to ", "found 0.001 of 80", "which is 0")
    refused(lambda: clutter.splits(cohort, 0.01, 100), "validation: expected 1 to 99", "found 100")
    refused(lambda: clutter.splits(cohort, 0.01, 0), "validation: expected 1 to 99", "found 0")


# ---- images: the oracle ----


def compose(noise, sources, digit, corner, pieces, flips):
    """One image and its mask, pixel by pixel, as Section 4.1 and the released code have it."""
    image, mask = noise.copy(), np.zeros(noise.shape, bool)
    if digit is not None:
        for r in range(28):
            for c in range(28):
                if digit[r, c] > 0:
                    image[corner[0] + r, corner[1] + c] = digit[r, c]
                mask[corner[0] + r, corner[1] + c] = digit[r, c] > 0.5
    for k, (source, top, left, row, column) in enumerate(pieces):
        for r in range(10):
            for c in range(10):
                new, old = sources[source][top + r, left + c], image[row + r, column + c]
                if flips is not None:
                    if new > 0 and (old <= 0.1 or flips[k][r, c]):
                        old = new
                elif new + old > 1:
                    old = max(new, old)
                elif new > 0:
                    old = new
                image[row + r, column + c] = old
    return image, mask


@pytest.fixture
def recorded(monkeypatch):
    """What `paste` and `scatter` are given: for each domain a list of their arguments, one for each chunk."""
    calls = {"paste": [], "scatter": []}

    def spy(name, original):
        def recording(canvas, *arguments):
            calls[name].append((canvas.copy(), *(None if a is None else a.copy() for a in arguments)))
            original(canvas, *arguments)

        monkeypatch.setattr(clutter, name, recording)

    spy("paste", clutter.paste)
    spy("scatter", clutter.scatter)
    return calls


@pytest.mark.parametrize("dither", [False, True])
@pytest.mark.parametrize(("task", "side", "pieces"), [("48-simple", 48, 8), ("48-hard", 48, 24), ("128", 128, 80)])
def test_images_are_those_of_the_oracle(cohort, split, recorded, task, side, pieces, dither):
    parts = clutter.generate(cohort, split, task, pairs=(6, 2, 3), dither=dither)
    assert list(parts) == ["validation", "test", "train"]
    for i, (part, n) in enumerate(zip(parts.values(), (2, 3, 6))):
        noise, _, digits, corners = recorded["paste"][i]
        _, sources, pasted, pasted_flips = recorded["scatter"][2 * i]
        other_noise, _, strewn, strewn_flips = recorded["scatter"][2 * i + 1]
        assert part.presence.shape == part.absence.shape == (n, 1, side, side)
        assert (part.presence.dtype, part.absence.dtype, part.masks.dtype) == (torch.float32, torch.float32, torch.bool)
        assert pasted.shape == strewn.shape == (n, pieces, 5)
        assert (pasted_flips is not None) == (strewn_flips is not None) == dither
        for j in range(n):
            p, a = ((f[j] if dither else None) for f in (pasted_flips, strewn_flips))
            image, mask = compose(noise[j], sources, digits[j], corners[j], pasted[j], p)
            np.testing.assert_array_equal(part.presence[j, 0], image)
            np.testing.assert_array_equal(part.masks[j], mask)
            image, _ = compose(other_noise[j], sources, None, None, strewn[j], a)
            np.testing.assert_array_equal(part.absence[j, 0], image)


@pytest.mark.parametrize("dither", [False, True])
def test_images_without_digits_are_those_of_the_oracle(cohort, split, recorded, dither):
    test = clutter.generate(cohort, split, "48-hard", pairs=(2, 2, 5), dither=dither)["test"]
    left = clutter.without_digits(cohort, split, "48-hard", 4, dither=dither)
    noise = recorded["paste"][1][0]  # of the test part
    _, sources, pasted, flips = recorded["scatter"][2]
    assert left.shape == (4, 1, 48, 48)
    for j in range(4):
        image, _ = compose(noise[j], sources, None, None, pasted[j], flips[j] if dither else None)
        np.testing.assert_array_equal(left[j, 0], image)
    assert (left != test.presence[:4])[:, 0][test.masks[:4]].float().mean() > 0.3  # elsewhere clutter is on top
    assert torch.equal(clutter.without_digits(cohort, split, "48-hard", 2, dither=dither), left[:2])


def test_what_a_piece_does_to_what_it_covers():
    """0.7 over 0.2 replaces it, over 0.4 is greater, over 0.8 is less; over noise it replaces; 0 changes nothing."""
    canvas, sources = np.zeros((1, 12, 12), np.float32), np.zeros((2, 28, 28), np.float32)
    canvas[0, 2, 1:7] = 0.2, 0.4, 0.8, -0.03, 0.5, 0.25
    sources[1, 5, 6:12] = 0.7, 0.7, 0.7, 0.7, 0, 0.75
    piece = np.array([[[1, 5, 6, 2, 1]]])
    clutter.scatter(canvas, sources, piece)
    expected = np.zeros((12, 12), np.float32)
    expected[2, 1:7] = 0.7, 0.7, 0.8, 0.7, 0.5, 0.75
    np.testing.assert_array_equal(canvas[0], expected)


def test_dithered_overlaps_take_either():
    canvas, sources = np.full((500, 10, 10), 0.3, np.float32), np.full((1, 28, 28), 0.6, np.float32)
    canvas[:, 0] = 0.05  # noise
    sources[:, :, 9] = 0
    flips = np.random.default_rng(0).random((500, 1, 10, 10)) < 0.5
    clutter.scatter(canvas, sources, np.zeros((500, 1, 5), int), flips)
    assert np.all(canvas[:, 0, :9] == np.float32(0.6))
    assert np.all(canvas[:, 1:, 9] == np.float32(0.3))
    np.testing.assert_array_equal(canvas[:, 1:, :9], np.where(flips[:, 0, 1:, :9], np.float32(0.6), np.float32(0.3)))


# ---- images: what is drawn ----


@pytest.fixture(scope="module")
def many(cohort, split):
    return clutter.generate(cohort, split, "48-simple", pairs=(3000, 50, 50))


def test_background(many):
    """What is below zero is noise alone, the lower half of a normal distribution of sd 0.01."""
    for images in (many["train"].presence, many["train"].absence):
        below = images[images < 0]
        assert float(below.square().mean().sqrt()) == pytest.approx(0.01, rel=0.01)
        assert float((below < -0.02).float().mean()) == pytest.approx(0.0455, abs=0.002)
        assert float(images.max()) <= 1


def test_what_is_drawn_is_uniform(cohort, split, recorded):
    clutter.generate(cohort, split, "48-simple", pairs=(3000, 1, 1))
    sources = len(split.labelled + split.unlabelled)
    calls = len(recorded["paste"]) - 2
    corners = np.concatenate([arguments[3] for arguments in recorded["paste"][-calls:]])
    pieces = np.concatenate([arguments[2] for arguments in recorded["scatter"][-2 * calls :]]).reshape(-1, 5)
    assert (len(corners), len(pieces)) == (3000, 2 * 3000 * 8)
    for drawn, end in (*zip(corners.T, (20, 20)), *zip(pieces.T, (sources, 18, 18, 38, 38))):
        counts = np.bincount(drawn, minlength=end)
        assert len(counts) == end  # none is beyond, the released code's range
        assert ((counts - len(drawn) / end) ** 2).sum() / (len(drawn) / end) < end + 5 * np.sqrt(2 * end)  # chi squared
    for a in range(5):
        for b in range(a):
            assert abs(np.corrcoef(pieces[:, a], pieces[:, b])[0, 1]) < 0.03


def test_digits_are_drawn_with_replacement(many, cohort, split):
    train = many["train"]
    of = cohort.labels[cohort.index(split.labelled + split.unlabelled)].bincount(minlength=10) / (1348 - 100)
    np.testing.assert_allclose(train.kinds.bincount(minlength=10) / 3000, of, atol=0.025)
    assert train.kinds.dtype == torch.int64
    expected = 3000 * len(split.labelled) / (1348 - 100)
    assert abs(len(train.labelled) - expected) < 4 * expected**0.5
    assert len(train.labelled) != round(expected)  # chance, not a quota


def test_masks_are_whole_digits_of_their_kind(many, cohort, split):
    """Cut out of its mask, every digit is that of a source of its class and part."""
    for part, ids in (("train", split.labelled + split.unlabelled), ("validation", split.validation)):
        index = cohort.index(ids)
        known = {}
        for digit, kind in zip(cohort.images[index, 0] > 0.5, cohort.labels[index].tolist()):
            known[cut(digit)] = kind
        for mask, kind in zip(many[part].masks, many[part].kinds.tolist()):
            assert known[cut(mask)] == kind


def cut(mask):
    """The smallest rectangle that holds it, as bytes."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return tuple(box.shape), box.numpy().tobytes()


def test_the_domains_are_not_paired(many):
    """An image of P is no more like its neighbour of A than like any other's."""
    presence, absence = many["train"].presence.flatten(1), many["train"].absence.flatten(1)
    presence, absence = (x - x.mean(0) for x in (presence, absence))
    neighbours, others = (presence * absence).mean(1), (presence * absence.roll(1, 0)).mean(1)
    assert abs(float(neighbours.mean() - others.mean())) < 5 * float((neighbours - others).std()) / 3000**0.5
    ink = [float((images > 0.1).float().mean()) for images in (many["train"].presence, many["train"].absence)]
    assert ink[0] > ink[1] + 0.02  # the digit


def test_labelled_are_nines_of_the_split(many):
    train = many["train"]
    assert train.labelled.dtype == torch.int64
    assert torch.equal(train.labelled, train.labelled.unique())
    assert set(train.kinds[train.labelled].tolist()) == {9}
    assert len(train.labelled) < (train.kinds == 9).sum()  # not all nines
    for part in ("validation", "test"):
        assert many[part].labelled.tolist() == list(range(50))


def test_each_part_draws_from_its_own(cohort, split, recorded):
    clutter.generate(cohort, split, "48-simple", pairs=(5, 5, 5))
    for i, ids in enumerate((split.validation, split.test, split.labelled + split.unlabelled)):
        expected = cohort.images[cohort.index(ids), 0]
        for call in recorded["scatter"][2 * i : 2 * i + 2]:
            np.testing.assert_array_equal(call[1], expected)


def test_as_many_pairs_as_sources(cohort):
    few = Split(*(cohort.ids[a:b] for a, b in ((0, 3), (3, 20), (20, 25), (25, 31))))
    parts = clutter.generate(cohort, few, "48-simple")
    assert {name: len(part.presence) for name, part in parts.items()} == {"validation": 5, "test": 6, "train": 20}


def test_clutter_of_the_labelled_alone(cohort, split, recorded):
    both = {c: clutter.generate(cohort, split, "48-hard", clutter=c) for c in ("all", "labelled")}
    train = both["labelled"]["train"]
    assert len(train.presence) == len(train.absence) == len(split.labelled) == 25
    assert train.labelled.tolist() == list(range(25))
    assert set(train.kinds.tolist()) == {9}
    np.testing.assert_array_equal(recorded["scatter"][-1][1], cohort.images[cohort.index(split.labelled), 0])
    assert same({**both["labelled"], "train": train}, {**both["all"], "train": train})
    fewer = clutter.generate(cohort, split, "48-hard", pairs=(624, 3, 4), clutter="labelled")  # half of 1248
    assert {name: len(part.presence) for name, part in fewer.items()} == {"validation": 3, "test": 4, "train": 13}


# ---- one seed, the same bytes ----


@pytest.mark.parametrize("dither", [False, True])
def test_chunks_and_threads_change_nothing(cohort, split, monkeypatch, dither):
    def make(threads=1, **options):
        torch.set_num_threads(threads)
        return clutter.generate(cohort, split, "48-hard", SMALL, dither=dither, **options)

    once = make()
    assert same(once, make(threads=2))
    torch.set_num_threads(1)
    for chunk in (1, 7, 59, 1000):
        monkeypatch.setattr(clutter, "CHUNK", chunk)
        assert same(once, make())
    assert not same(once, make(seed=1))


def test_parts_do_not_depend_on_each_other(cohort, split):
    once = clutter.generate(cohort, split, "48-simple", SMALL)
    for pairs, unchanged in (((61, 7, 9), ("validation", "test")), ((60, 8, 9), ("train", "test")), ((60, 7, 1), ())):
        again = clutter.generate(cohort, split, "48-simple", pairs)
        for part in unchanged or ("train", "validation"):
            assert same({part: once[part]}, {part: again[part]})
    assert not once["train"].presence[:7].equal(once["validation"].presence)


def test_seed_task_and_dithering_change_images(cohort, split):
    once = clutter.generate(cohort, split, "48-simple", SMALL)
    dithered = clutter.generate(cohort, split, "48-simple", SMALL, dither=True)
    assert not once["train"].presence.equal(dithered["train"].presence)
    assert once["train"].masks.equal(dithered["train"].masks)  # the same places
    for other in (
        clutter.generate(cohort, split, "48-simple", SMALL, seed=1),
        clutter.generate(cohort, split, "48-hard", SMALL),
    ):
        for part in once:
            assert not once[part].masks.equal(other[part].masks)


def test_images_do_not_change():
    """What is pinned is exact on every machine, as its sources are; a change asks for another VERSION."""
    images, ids = torch.from_numpy(PIXELS[:, None] / np.float32(255)), tuple(map(str, range(50)))
    cohort = Cohort(images, torch.from_numpy(DIGITS), ids, tuple("0123456789"), (1.0, 1.0), ids)
    split = Split(ids[:5], ids[5:30], ids[30:40], ids[40:])
    for dither, pinned in ((False, "22b6ba97b26406b5"), (True, "9aa6163f6f069be8")):
        parts = clutter.generate(cohort, split, "48-simple", (20, 5, 5), dither=dither)
        digest = hashlib.sha256()
        for part in parts.values():
            for tensor in (part.masks, part.presence > 0.1, part.absence > 0.1, part.labelled, part.kinds):
                digest.update(tensor.numpy())
        assert (digest.hexdigest()[:16], clutter.VERSION) == (pinned, 1)


# ---- kept ----


def test_cached(cohort, split, tmp_path, monkeypatch):
    folder = tmp_path / "new/cache"
    options = {"pairs": SMALL, "dither": True, "seed": np.int64(3)}
    expected = clutter.generate(cohort, split, "48-simple", **options)
    assert same(clutter.cached(folder, cohort, split, "48-simple", **options), expected)
    (name,) = files_below(folder)
    with np.load(folder / name, allow_pickle=False) as file:
        assert all(file[key].dtype != object for key in file.files)
    monkeypatch.setattr(clutter, "_draw", None)  # not made again
    again = clutter.cached(folder, cohort, split, "48-simple", **options, clutter="all")
    assert same(again, expected)
    again["train"].presence[0] = 0  # what comes from the file is no one else's
    assert same(clutter.cached(folder, cohort, split, "48-simple", **options), expected)
    assert files_below(folder) == [name]


def test_the_cache_tells_everything_apart(cohort, split, tmp_path, monkeypatch):
    images = cohort.images.clone()
    images[0, 0, 14, 14] += 0.01
    other = Cohort(images, cohort.labels, cohort.ids, cohort.classes, cohort.spacing_mm, cohort.groups)
    swapped = Split(split.labelled[::-1], split.unlabelled, split.validation, split.test)
    wanted = [
        (cohort, split, "48-simple", {}),
        (cohort, split, "48-hard", {}),
        (cohort, split, "48-simple", {"seed": 1}),
        (cohort, split, "48-simple", {"dither": True}),
        (cohort, split, "48-simple", {"clutter": "labelled"}),
        (cohort, split, "48-simple", {"pairs": (2, 2, 1)}),
        (cohort, swapped, "48-simple", {}),
        (other, split, "48-simple", {}),
    ]
    for cohort_, split_, task, options in wanted:
        options = {"pairs": (1, 2, 1)} | options
        expected = clutter.generate(cohort_, split_, task, **options)
        for _ in range(2):
            assert same(clutter.cached(tmp_path, cohort_, split_, task, **options), expected)
    assert len(files_below(tmp_path)) == len(wanted)
    monkeypatch.setattr(clutter, "VERSION", clutter.VERSION + 1)
    clutter.cached(tmp_path, cohort, split, "48-simple", pairs=(1, 2, 1))
    assert len(files_below(tmp_path)) == len(wanted) + 1


def test_damaged_caches_are_made_again(cohort, split, tmp_path):
    def make(seed=0):
        return clutter.cached(tmp_path, cohort, split, "48-simple", pairs=(2, 1, 1), seed=seed)

    expected = make()
    (name,) = files_below(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    make(seed=1)
    (other,) = set(files_below(tmp_path)) - {name}
    with np.load(path) as file:
        changed = dict(file)
    changed["train presence"][0, 0, 0, 0] += 1
    np.savez(tmp_path / "changed.npz", **changed)  # as zip archives go it is whole
    replaced = [(tmp_path / each).read_bytes() for each in (other, "changed.npz")]
    flipped = []
    for at in (len(content) // 3, len(content) // 2, len(content) - 200):
        flipped.append(bytearray(content))
        flipped[-1][at] ^= 1
    for damaged in (b"", b"hello", content[:100], content[:-1], content[: len(content) // 2], *flipped, *replaced):
        path.write_bytes(damaged)
        assert same(make(), expected)
        assert path.read_bytes() == content
    assert files_below(tmp_path) == sorted([name, other, "changed.npz"])


def test_a_cache_that_cannot_be_written(cohort, split, tmp_path):
    (tmp_path / "file").write_text("x")
    refused(
        lambda: clutter.cached(tmp_path / "file", cohort, split, "48-simple", pairs=(1, 1, 1)), tmp_path / "file/clut"
    )


# ---- bad input ----


@pytest.mark.parametrize("call", [clutter.generate, lambda *a, **o: clutter.cached("/nowhere", *a, **o)])
def test_bad_options(cohort, split, call):
    refused(lambda: call(cohort, split, "64"), "task: expected one of 48-simple, 48-hard, 128, found '64'")
    refused(lambda: call(cohort, split, "128", clutter="none"), "clutter: expected all or labelled, found 'none'")
    refused(lambda: call(cohort, split, "128", seed=-1), "seed: expected 0 or more, found -1")
    for pairs in ((1, 2), (1, 2, 0), (1, 2, 3, 4)):
        refused(lambda pairs=pairs: call(cohort, split, "128", pairs=pairs), "pairs: expected three numbers", pairs)
    empty = Split((), split.unlabelled, split.validation, split.test)
    refused(lambda: call(cohort, empty, "128", clutter="labelled"), "split, train: expected at least one", "found none")
    empty = Split(split.labelled, split.unlabelled, (), split.test)
    refused(
        lambda: call(cohort, empty, "128", pairs=(1, 1, 1)), "split, validation: expected at least one", "found none"
    )
    wide = Cohort(torch.zeros(1, 1, 28, 29), torch.zeros(1).long(), ("a",), ("0",), (1.0, 1.0), ("a",))
    refused(lambda: call(wide, split, "128"), "cohort images: expected (n, 1, 28, 28), found (1, 1, 28, 29)")


# ---- the real files ----


@pytest.fixture(scope="module")
def real_root():
    root = os.environ.get("FEWLABELS_DATA")
    if not root or not Path(root, "mnist").is_dir():
        pytest.skip("FEWLABELS_DATA is not set to a folder that holds mnist/: no digit is shipped")
    return Path(root)


@pytest.mark.long
def test_real_data(real_root, tmp_path):
    cohort = clutter.load(real_root)
    out = tmp_path / "mnist.npz"
    clutter.prepare(real_root, out)
    assert same(cohort, clutter.load(out))
    assert out.stat().st_size <= 45e6
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # as published
    assert cohort.labels[:60_000].bincount().tolist() == counts
    assert cohort.labels[60_000:].bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert cohort.labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert float(cohort.images[:60_000].mean()) == pytest.approx(0.1307, abs=1e-4)
    assert float(cohort.images[:60_000].std()) == pytest.approx(0.3081, abs=1e-4)
    for path in (real_root / "mnist/raw").glob("*.gz"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == mnist.SHA256[path.name]
    split = clutter.splits(cohort)
    assert [len(part) for part in vars(split).values()] == [595, 58_905, 500, 10_000]
    assert set(cohort.labels[cohort.index(split.labelled)].tolist()) == {9}
    train = clutter.generate(cohort, split, "48-hard", (4000, 10, 10))["train"]
    assert 15 <= len(train.labelled) <= 70  # 1% of 4,000, by chance
    assert float(train.masks.float().sum((1, 2)).mean()) == pytest.approx(102, abs=5)
