"""Networks of stored runs, and the table of verdicts."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from fewlabels.engine import show, sweep
from fewlabels.scores import verdicts


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Three runs on record; the third one's network was trained elsewhere."""
    for run, value in enumerate((1.0, 2.0)):
        torch.save({"network": {"weight": torch.tensor([[value]])}}, tmp_path / f"{run}.pt")
    records = {run: {"network": f"{run}.pt"} for run in range(3)}
    monkeypatch.setattr(sweep, "records", lambda experiment, config, folder: records)
    return tmp_path


def build(run):
    return torch.nn.Linear(1, 1, bias=False).train()


def test_networks_are_those_on_this_machine_ready_to_predict(stored, capsys):
    found = show.trained(None, None, stored, build)
    assert {run: float(network.weight.detach()) for run, network in found.items()} == {0: 1.0, 1: 2.0}
    assert not any(network.training for network in found.values())
    assert capsys.readouterr().out == ""


def test_a_method_is_returned_whole_with_its_network_loaded(stored):
    found = show.trained(None, None, stored, lambda run: SimpleNamespace(network=build(run)), only=lambda run: run == 1)
    assert [*found] == [1]
    assert float(found[1].network.weight.detach()) == 2
    assert not found[1].network.training


def test_says_so_where_no_network_is_here(stored, capsys):
    assert show.trained(None, None, stored, build, only=lambda run: run == 2) == {}
    assert "not on this machine" in capsys.readouterr().out


@pytest.mark.parametrize("data", [["phantom", "phantom"], ["digits", "digits, legacy"]])
def test_verdicts_name_their_scale_and_their_data_where_there_are_several(data):
    claims = pd.DataFrame(index=range(2), columns=verdicts.COLUMNS).assign(
        data=data, scale="64 of 512 px", p=[0.5, None]
    )
    shown = show.verdicts(claims)
    assert ("data" in shown.columns) == (len(set(data)) == 2)
    assert shown.to_html().count("64 of 512 px") == 2
    assert ">nan<" not in shown.to_html().lower()
