"""From a folder of drawn images to masks, stopped and gone on with, and by the command line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from fewlabels.__main__ import main
from fewlabels.engine.training import Stopped
from fewlabels.errors import BadInput
from fewlabels.segment import predict, segment
from fewlabels.segment.ensemble import export, load

MINUTES = 0.01  # the fewest steps there are


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Bright discs on noise, ten images, four of them with masks of 0 and 255, segmented."""
    rng, data = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    for name in ("images", "masks", "truth"):
        (data / name).mkdir()
    rows, columns = np.mgrid[:40, :56]
    for i in range(10):
        disc = (rows - rng.uniform(12, 28)) ** 2 + (columns - rng.uniform(12, 44)) ** 2 < rng.uniform(7, 10) ** 2
        image = (80 + 90 * disc + rng.normal(0, 10, disc.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(data / "images" / f"{i}.png")
        mask = Image.fromarray(disc.astype(np.uint8) * 255)
        mask.save(data / ("masks" if i < 4 else "truth") / f"{i}.png")
    torch.set_num_threads(1)
    segment(data, MINUTES, quiet=True)
    return data


def masks(folder):
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def test_every_image_has_a_mask_of_the_same_values_and_they_are_right(folders):
    found, truth = masks(folders / "segmented/masks"), masks(folders / "truth")
    assert len(found) == 10
    assert {mask.shape for mask in found.values()} == {(40, 56)}
    assert {int(v) for mask in found.values() for v in np.unique(mask)} == {0, 255}
    dice = [2 * (found[n] & t > 0).sum() / ((found[n] > 0).sum() + (t > 0).sum()) for n, t in truth.items()]
    assert np.mean(dice) > 0.85
    state = json.loads((folders / "segmented/state.json").read_text())
    assert state["finished"]
    assert state["fit"][0]["dice"] <= state["fit"][-1]["dice"]
    assert "report.html" in {path.name for path in (folders / "segmented").iterdir()}
    assert not (folders / "segmented/.work").exists()


def test_a_second_run_changes_nothing_and_trains_nothing(folders, capsys):
    before = {path: path.stat().st_mtime_ns for path in (folders / "segmented").rglob("*") if path.is_file()}
    assert main(["segment", str(folders), "--minutes", str(MINUTES)]) == 0
    assert "Nothing has changed" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (folders / "segmented").rglob("*") if path.is_file()}


def test_the_model_makes_the_same_masks_elsewhere(folders, tmp_path):
    predict(folders / "segmented/model", folders / "images", tmp_path / "out")
    found = masks(tmp_path / "out")
    assert len(found) == 10
    for name, mask in masks(folders / "segmented/masks").items():
        assert np.array_equal(found[name], mask)


def test_exported_it_is_the_same_network(folders, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    together = load(folders / "segmented/model")
    assert export(together, tmp_path / "model.onnx") < 1e-4
    x = torch.rand(3, 1, 96, 32)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    [p] = session.run(None, {"images": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(p), together.probabilities(x), rtol=0, atol=1e-4)


def test_stopped_and_run_again_it_makes_the_same_masks(folders, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for path in (folders / name).iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    with pytest.raises(Stopped):
        segment(tmp_path, MINUTES, stop=lambda: True, quiet=True)
    state = json.loads((tmp_path / "segmented/state.json").read_text())
    assert not state["finished"]
    assert not (tmp_path / "segmented/masks").exists()
    segment(tmp_path, MINUTES, quiet=True)
    for name, mask in masks(folders / "segmented/masks").items():
        assert np.array_equal(np.array(Image.open(tmp_path / "segmented/masks" / name)), mask)


def test_what_cannot_be_is_named(folders, tmp_path, capsys):
    assert main(["segment", str(tmp_path)]) == 2
    assert main(["segment", str(folders), "--minutes", "0"]) == 2
    assert "minutes: expected more than 0, found 0" in capsys.readouterr().err
    with pytest.raises(BadInput, match="model.json"):
        predict(tmp_path, folders / "images", tmp_path / "out")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"no picture")
    (tmp_path / "masks/a.png").write_bytes((folders / "masks/0.png").read_bytes())
    with pytest.raises(BadInput, match=r"a\.png: expected an image that can be read, found the start of no picture$"):
        segment(tmp_path, quiet=True)
