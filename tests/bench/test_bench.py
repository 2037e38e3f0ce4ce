"""The benchmark runs, says what it could not run, and refuses to time different work. No time is judged here."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from fewlabels import warps
from fewlabels.bench import abilities, cases, peers, report, timing, training, volumes
from fewlabels.bench.__main__ import main
from fewlabels.bench.timing import COLUMNS, MEASURED, NOT_INSTALLED, NOT_RUN, Different, Pair
from fewlabels.models.layers import Conv3d


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    assert main(["--quick", "--threads", "1", "--repeats", "2", "--results", str(root)]) == 0
    return root / "bench" / "warps-smoke"


@pytest.fixture(scope="module")
def speed(folder):
    return pd.read_csv(folder / "speed.csv", keep_default_na=False)


def test_what_was_timed_is_written(tmp_path, monkeypatch):
    """Of two cases; the whole benchmark is long."""
    pairs = [pair for pair in cases.pairs(quick=True) if pair.case[0] in "AC"]
    monkeypatch.setattr(cases, "pairs", lambda quick: pairs)
    assert main(["--quick", "--threads", "1", "--repeats", "2", "--results", str(tmp_path)]) == 0
    speed = pd.read_csv(tmp_path / "bench/warps-smoke/speed.csv", keep_default_na=False)
    assert list(speed.columns) == COLUMNS
    assert speed[["case", "device", "work", "peer"]].to_numpy().tolist() == [
        [pair.case, pair.device, pair.work, pair.peer] for pair in pairs
    ]
    done = speed[speed["state"] == MEASURED]
    assert {*done["case"].str[0]} == {*"AC"}
    assert (done[["ours_ms", "peer_ms", "ratio"]].astype(float) > 0).all(axis=None)
    assert "ratio = peer / ours" in (tmp_path / "bench/warps-smoke/warps.md").read_text(encoding="utf-8")


def chosen(peer, work=peers.FORWARD, letter="A"):
    found = [
        pair
        for pair in cases.pairs(quick=True)
        if (pair.peer, pair.work, pair.device, pair.case[0]) == (peer, work, "cpu", letter)
    ]
    return found[0]


@pytest.mark.long
def test_all_files_are_written(folder):
    assert {path.name for path in folder.iterdir()} == {"speed.csv", "capabilities.csv", "warps.md", "figure1.png"}
    assert (folder / "figure1.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "warps.md").read_text(encoding="utf-8")
    assert "ratio = peer / ours" in text
    assert f"torch {torch.__version__}" in text
    assert "## What each can do" in text


@pytest.mark.long
def test_columns_are_complete(speed):
    assert list(speed.columns) == COLUMNS
    assert set(speed["state"]) <= {MEASURED, NOT_INSTALLED, NOT_RUN}
    done = speed[speed["state"] == MEASURED]
    assert {case[0] for case in done["case"]} >= set("ABCEFGHIJ")
    numbers = done[["ours_ms", "peer_ms", "ratio", "ratio_p10", "ratio_p90"]].astype(float)
    assert (numbers > 0).all(axis=None)
    assert np.allclose(numbers["ratio"], numbers["peer_ms"] / numbers["ours_ms"], rtol=1e-2)
    assert (done["repeats"].astype(int) == 2).all()
    assert (done["met"].isin(["yes", "no"]) == (done["target"] != "")).all()


@pytest.mark.long
def test_every_target_of_the_cpu_is_there(speed):
    aimed = speed[(speed["target"] != "") & (speed["device"] == "cpu")]
    assert sorted(aimed["target"]) == sorted(
        ["ratio >= 20", "ratio >= 16", "ours <= 2 x peer", "ratio >= 8", "ratio >= 6"]
        + ["ours <= 1.3 x peer"] * 4
        + ["share <= 10%"]
        + ["share <= 5%"] * 3
    )


@pytest.mark.long
def test_a_step_of_a_classifier_says_its_pace(speed):
    of_step = speed[speed["case"].str.startswith("G") & (speed["device"] == "cpu")]
    assert list(of_step["work"]) == ["noise", "shift", "rotation"]
    for note, ms in zip(of_step["note"], of_step["peer_ms"]):
        images = float(note.split("; ")[1].removesuffix(" images/s").replace(",", ""))
        assert images == pytest.approx(32_000 / float(ms), rel=0.01)  # 16 images and their transforms


@pytest.mark.long
def test_a_step_of_a_generator_says_its_pace_and_is_more_than_its_fields(speed):
    [of_step] = speed[speed["case"].str.startswith("H") & (speed["device"] == "cpu")].to_dict("records")
    images = float(of_step["note"].split("; ")[-1].removesuffix(" images/s").replace(",", ""))
    pace = 4_000 / float(of_step["peer_ms"])
    assert images == pytest.approx(pace, abs=0.5 + 0.001 * pace)  # a whole number
    assert float(of_step["ratio"]) > 1


@pytest.mark.long
def test_one_small_volume_is_timed_before_and_after(speed):
    rows = speed[speed["case"].str.startswith("conv3d N=1")]
    assert list(rows["peer"]) == ["torch's Conv3d"] * 3
    assert (rows["device"] == "cpu").all()
    assert volumes.as_torch_has_it(Conv3d(1, 1, 3)).__class__ is torch.nn.Conv3d


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_without_cuda_its_rows_say_not_run(speed, folder):
    cuda = speed[speed["device"] == "cuda"]
    assert {case[0] for case in cuda["case"]} == set("ABCDEFGHIJK")
    assert (cuda["state"] == NOT_RUN).all()
    assert (cuda[["ours_ms", "peer_ms", "ratio"]] == "").all(axis=None)
    assert "not run: needs CUDA" in (folder / "warps.md").read_text(encoding="utf-8")


def test_a_peer_that_is_not_installed_has_its_row():
    def make():
        raise AssertionError("must not be made")

    row = timing.measure(Pair("A", peers.FORWARD, "nobody", make, package="fewlabels_nobody"), repeats=2, seconds=1)
    assert row["state"] == NOT_INSTALLED
    assert row["repeats"] == 0
    line = report.markdown(pd.DataFrame([row], columns=COLUMNS), abilities.table())
    assert "| nobody | not installed |" in line


def test_guard_fails_when_a_peers_result_differs(monkeypatch):
    pair = chosen("SciPy map_coordinates")
    assert timing.measure(pair, repeats=1, seconds=1)["state"] == MEASURED
    monkeypatch.setattr("scipy.ndimage.map_coordinates", lambda image, at, order: np.zeros(at.shape[1:], image.dtype))
    with pytest.raises(Different, match="A: 2x1x40x40, order 3, forward, SciPy map_coordinates: tensor 0"):
        timing.measure(pair, repeats=1, seconds=1)


def test_guard_fails_when_only_a_gradient_differs(monkeypatch):
    pair = chosen("torch grid_sample", peers.IMAGE, "C")
    original = torch.nn.functional.grid_sample

    def detached(x, *arguments, **named):  # right values, half the gradient
        y = original(x, *arguments, **named)
        return y.detach() / 2 + y / 2

    monkeypatch.setattr("torch.nn.functional.grid_sample", detached)
    with pytest.raises(Different, match="tensor 1"):
        timing.measure(pair, repeats=1, seconds=1)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_guard_takes_no_number_for_a_difference(wrong):
    pair = Pair("A", peers.FORWARD, "nobody", None)
    with pytest.raises(Different):
        timing.guard(pair, (torch.ones(3),), (torch.tensor([1, 1, wrong]),))


def test_both_are_timed_in_turn_and_begin_in_turn():
    order = []
    pair = Pair("A", peers.FORWARD, "nobody", None)
    timing.interleaved(lambda: order.append("ours"), lambda: order.append("peer"), pair, repeats=4, seconds=0)
    assert order[2:] == ["ours", "peer", "peer", "ours", "ours", "peer"]  # warm first; time is up after 3


@pytest.mark.parametrize(("target", "smallest"), [("ratio >= 20", 20), ("ours <= 2 x peer", 0.5), ("share <= 5%", 20)])
def test_targets_in_words_are_ratios(target, smallest):
    assert timing.aimed(target) == pytest.approx(smallest)


def test_fields_of_a_step_are_recorded_and_replayed(monkeypatch):
    calls, again = [], []
    ours, step = training.pair("cpu", quick=True).make()
    with monkeypatch.context() as patched:
        for name in warps.__all__:
            if callable(function := getattr(training.consistency, name, None)):
                patched.setattr(
                    training.consistency, name, lambda *a, f=function, n=name, **k: (calls.append(n), f(*a, **k))[1]
                )
        ours, step = training.pair("cpu", quick=True).make()
        calls.clear()
        step()
        assert {"gaussian_field", "align", "warp"} <= set(calls)
        again = [*calls]
        calls.clear()
        ours()
        assert calls == again


def test_capabilities_are_yes_or_no_ours_first():
    table = abilities.table()
    assert table["package"][0] == "ours"
    assert table[list(abilities.COLUMNS)].isin(["yes", "no"]).all(axis=None)
    assert set(table["version read"][1:]) == set(abilities.READ.values())


@pytest.mark.long
def test_figure_shows_what_was_measured_only(speed):
    shown = [text.get_text() for axis in report.figure(speed).axes for text in axis.get_yticklabels()]
    assert "ours, plain PyTorch" in shown
    assert not any("device copy" in name for name in shown) or torch.cuda.is_available()
