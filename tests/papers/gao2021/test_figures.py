"""Units of what is drawn."""

from fewlabels.papers.gao2021 import figures


def test_the_rms_has_the_unit_of_its_kind():
    history = [{"step": s, "loss_of_clean": 1.0} for s in (1, 2)]
    for kind in ("affine", "deformation", "appearance"):
        history = [e | {f"loss_of_{kind}": 1.0, f"loss_of_random_{kind}": 1.0, f"rms_{kind}": 0.1} for e in history]
    found = [axis.get_ylabel() for axis in figures.challenge({"Comb": history}).axes]
    assert found[3:] == ["RMS (half sides)", "RMS (half sides)", "RMS (of intensities 0 to 1)"]
