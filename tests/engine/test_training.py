"""The training loop: what was interrupted ends in the same bits as what was not."""

import math
import resource

import pytest
import torch
from helpers import same
from torch import nn

from fewlabels.engine.training import Batches, Diverged, Shuffled, Stopped, fit

STEPS, EVERY = 20, 4


class Regression:
    """A method as `fit` wants it, with all that a resume can lose: batch norm, an optimiser with a state, noise."""

    def __init__(self, optimiser="adadelta"):
        torch.manual_seed(7)
        self.network = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        make = {"adadelta": torch.optim.Adadelta, "adam": torch.optim.Adam}[optimiser]
        self.optimiser = make(self.network.parameters(), lr=0.1)
        self.calls = 0
        self.crash_at = self.nan_at = None

    def training_step(self, batch):
        self.calls += 1
        if self.calls == self.crash_at:
            raise KeyboardInterrupt
        self.network.train()
        x, y = batch
        x = x + 0.1 * torch.randn_like(x)  # what the random transforms are to the real method
        loss = (self.network(x) - y).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.detach() if self.calls != self.nan_at else torch.tensor(math.nan), "constant": 2.0}

    def state_dict(self):
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state):
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])


class Training:
    """A method, its data and its samplers, fresh from the start; `scores` replaces the validation if given."""

    def __init__(self, folder, optimiser="adadelta", scores=None):
        data = torch.Generator().manual_seed(3)
        self.x, self.y = torch.randn(11, 5, generator=data), torch.randn(11, 1, generator=data)
        self.method, self.folder = Regression(optimiser), folder
        self.batches = Batches(self.batch_of, Shuffled(11, 4), Shuffled(7, 2))
        self.scores, self.weights = scores and iter(scores), []

    def batch_of(self, *indices):
        chosen = torch.cat(indices)
        return self.x[chosen], self.y[chosen]

    def validate(self):
        self.weights.append({name: value.clone() for name, value in self.method.network.state_dict().items()})
        if self.scores:
            return {"validation": next(self.scores)}
        self.method.network.eval()
        with torch.no_grad():
            return {"validation": -float((self.method.network(self.x) - self.y).square().mean())}

    def fit(self, **options):
        options = {"steps": STEPS, "every": EVERY, "seed": 5} | options
        return fit(self.method, self.batches, self.validate, folder=self.folder, **options)


def last_state(folder):
    return torch.load(folder / "last.pt", weights_only=True)


@pytest.fixture
def whole_run(tmp_path):
    """(training, history, the state saved at its end) of a run that nothing interrupted."""
    training, states = Training(tmp_path / "whole"), []
    history = training.fit(report=lambda step, entry: states.append(last_state(training.folder)))
    return training, history, states[-1]


# ---- interrupted and resumed ----


@pytest.mark.parametrize("optimiser", ["adadelta", "adam"])
@pytest.mark.parametrize("crash_at", [1, 5, 11, 20])
def test_a_crash_at_any_step_does_not_change_the_result(tmp_path, optimiser, crash_at):
    whole, broken = Training(tmp_path / "whole", optimiser), Training(tmp_path / "broken", optimiser)
    history = whole.fit()
    broken.method.crash_at = crash_at
    with pytest.raises(KeyboardInterrupt):
        broken.fit()

    torch.manual_seed(999)  # a new process has another state
    resumed = Training(tmp_path / "broken", optimiser)
    assert resumed.fit() == history
    assert same(resumed.method.network.state_dict(), whole.method.network.state_dict())
    saved = (crash_at - 1) // EVERY * EVERY
    assert resumed.method.calls == STEPS - saved  # and it did go on from there


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_stopping_saves_first(tmp_path, whole_run, stop_after):
    whole, history, _ = whole_run
    first, asked = Training(tmp_path / "stopped"), []
    with pytest.raises(Stopped, match=f"step {stop_after * EVERY} of {STEPS}"):
        first.fit(stop=lambda: asked.append(1) or len(asked) == stop_after)
    assert first.method.calls == stop_after * EVERY

    resumed = Training(tmp_path / "stopped")
    assert resumed.fit(stop=lambda: False) == history
    assert resumed.method.calls == STEPS - stop_after * EVERY
    assert same(resumed.method.network.state_dict(), whole.method.network.state_dict())


def test_stopped_after_every_interval(tmp_path, whole_run):
    whole, history, end = whole_run
    for _ in range(STEPS // EVERY):
        training = Training(tmp_path / "again")
        with pytest.raises(Stopped):
            training.fit(stop=lambda: True)
        assert training.method.calls == EVERY
    assert same(last_state(tmp_path / "again"), end)  # optimiser, samplers, RNG and all
    finished = Training(tmp_path / "again")
    assert finished.fit(stop=lambda: True) == history  # nothing left to stop
    assert finished.method.calls == 0
    assert same(finished.method.network.state_dict(), whole.method.network.state_dict())


def test_what_is_saved_holds_all_that_decides_the_next_step(tmp_path):
    """Each part is needed: with any one of them left out of the saved state, the resumed run ends elsewhere."""
    whole = Training(tmp_path / "whole")
    whole.fit()
    for part in ("rng", "batches", "optimiser", "network"):
        training, asked = Training(tmp_path / part), []
        with pytest.raises(Stopped):
            training.fit(stop=lambda asked=asked: asked.append(1) or len(asked) == 3)
        state, fresh = last_state(training.folder), Training(tmp_path / "unused")
        if part == "rng":
            state["rng"] = torch.Generator().manual_seed(1).get_state()
        elif part == "batches":
            state["batches"] = fresh.batches.state_dict()
        else:
            state["method"][part] = fresh.method.state_dict()[part]
        torch.save(state, training.folder / "last.pt")
        resumed = Training(tmp_path / part)
        resumed.fit()
        assert not same(resumed.weights[-1], whole.weights[-1]), part


def test_calling_again_returns_at_once(tmp_path, whole_run):
    whole, history, _ = whole_run
    again = Training(whole.folder)
    before = (whole.folder / "network.pt").read_bytes()
    assert again.fit() == history
    assert (again.method.calls, again.weights) == (0, [])
    assert same(again.method.network.state_dict(), whole.method.network.state_dict())
    assert (whole.folder / "network.pt").read_bytes() == before


def test_what_lies_in_the_folder(tmp_path, whole_run):
    training = Training(tmp_path / "a")
    seen = []
    training.fit(report=lambda step, entry: seen.append({path.name for path in training.folder.iterdir()}))
    assert seen == [{"last.pt"}] * (STEPS // EVERY)
    assert {path.name for path in training.folder.iterdir()} == {"network.pt"}


def test_the_seed_decides(tmp_path):
    histories = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        training = Training(tmp_path / name)
        torch.manual_seed(len(histories))  # what was drawn before does not matter
        histories.append(training.fit(seed=seed))
    assert histories[0] == histories[1] != histories[2]


# ---- history, best on validation, patience ----


def test_history(tmp_path):
    """Validated every `every` steps and after the last; a loss is the mean over the steps since."""
    training, losses, reported = Training(tmp_path), [], []
    step = training.method.training_step

    def recording(batch):
        found = step(batch)
        losses.append(float(found["loss"]))
        return found

    training.method.training_step = recording
    history = training.fit(steps=10, report=lambda *arguments: reported.append(arguments))
    assert [entry["step"] for entry in history] == [4, 8, 10]
    for entry, part in zip(history, (losses[:4], losses[4:8], losses[8:]), strict=True):
        assert entry["loss"] == pytest.approx(sum(part) / len(part), rel=1e-6)
        assert entry["constant"] == 2.0
    assert reported == [(entry["step"], entry) for entry in history]


def test_the_network_left_is_the_best_on_validation(tmp_path):
    training = Training(tmp_path, scores=[1.0, 5.0, 3.0, 5.0, 4.0])
    history = training.fit()
    assert [entry["validation"] for entry in history] == [1.0, 5.0, 3.0, 5.0, 4.0]
    left = training.method.network.state_dict()
    assert same(left, training.weights[1])  # the first of two equals
    assert not same(left, training.weights[3])
    again = Training(tmp_path)
    again.fit()
    assert same(again.method.network.state_dict(), training.weights[1])


def test_the_network_left_is_the_last_where_it_is_asked_for(tmp_path, whole_run):
    _, history, _ = whole_run
    training = Training(tmp_path, scores=[3.0, *range(len(history) - 1)])
    training.fit(keep="last")
    assert same(training.method.network.state_dict(), training.weights[-1])
    again = Training(tmp_path)
    again.fit(keep="last")
    assert same(again.method.network.state_dict(), training.weights[-1])


def test_the_best_survives_an_interruption(tmp_path):
    first = Training(tmp_path, scores=[1.0, 9.0, 2.0])
    asked = []
    with pytest.raises(Stopped):
        first.fit(stop=lambda: asked.append(1) or len(asked) == 3)
    resumed = Training(tmp_path, scores=[3.0, 4.0])
    assert [entry["validation"] for entry in resumed.fit()] == [1.0, 9.0, 2.0, 3.0, 4.0]
    assert same(resumed.method.network.state_dict(), first.weights[1])


def test_the_first_validation_counts_even_at_zero(tmp_path):
    training = Training(tmp_path, scores=[0.0] * 5)
    training.fit()
    assert same(training.method.network.state_dict(), training.weights[0])


def test_patience(tmp_path):
    """8 steps without a better one: from the best at step 8 to step 16."""
    history = Training(tmp_path / "a", scores=[1.0, 2.0, 2.0, 1.5, 9.0]).fit(patience=8)
    assert [entry["step"] for entry in history] == [4, 8, 12, 16]
    history = Training(tmp_path / "b", scores=[5.0, 4.0, 3.0, 2.0, 1.0]).fit(patience=0)
    assert len(history) == 5  # 0 is never


def test_patience_counts_across_an_interruption(tmp_path):
    asked = []
    with pytest.raises(Stopped):
        Training(tmp_path, scores=[1.0, 2.0, 2.0]).fit(patience=8, stop=lambda: asked.append(1) or len(asked) == 3)
    resumed = Training(tmp_path, scores=[1.5, 9.0])
    assert [entry["step"] for entry in resumed.fit(patience=8)] == [4, 8, 12, 16]
    assert resumed.method.calls == 4


# ---- faults ----


def test_nan_leaves_the_state_before_it(tmp_path, whole_run):
    whole, history, _ = whole_run
    training = Training(tmp_path / "nan")
    training.method.nan_at = 10
    with pytest.raises(Diverged, match="between steps 8 and 12"):
        training.fit()
    state = last_state(training.folder)
    assert [entry["step"] for entry in state["history"]] == [4, 8]
    assert not (training.folder / "network.pt").exists()
    resumed = Training(training.folder)
    assert resumed.fit() == history  # had the NaN been an accident
    assert same(resumed.method.network.state_dict(), whole.method.network.state_dict())


def test_infinite_loss_in_the_first_interval(tmp_path):
    training = Training(tmp_path / "inf")
    training.y = training.y * math.inf
    with pytest.raises(Diverged):
        training.fit()
    assert not (training.folder / "last.pt").exists()
    assert training.weights == []  # not even validated


@pytest.mark.parametrize("damage", ["half", "empty", "text", "first byte"])
@pytest.mark.parametrize("name", ["last.pt", "network.pt"])
def test_a_damaged_file_is_moved_aside_and_training_starts_again(tmp_path, whole_run, damage, name):
    whole, history, _ = whole_run
    folder = tmp_path / "damaged"
    asked = []
    if name == "last.pt":
        with pytest.raises(Stopped):
            Training(folder).fit(stop=lambda: asked.append(1) or len(asked) == 2)
    else:
        Training(folder).fit()
    content = (folder / name).read_bytes()
    damaged = {"half": content[: len(content) // 2], "empty": b"", "text": b"hello", "first byte": b"x" + content[1:]}
    (folder / name).write_bytes(damaged[damage])

    training = Training(folder)
    assert training.fit() == history
    assert training.method.calls == STEPS
    assert same(training.method.network.state_dict(), whole.method.network.state_dict())
    assert (folder / name).with_suffix(".damaged").read_bytes() == damaged[damage]
    assert {path.name for path in folder.iterdir()} == {"network.pt", name.replace(".pt", ".damaged")}


def test_what_a_killed_process_left_does_no_harm(tmp_path, whole_run):
    whole, history, _ = whole_run
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / ".last.pt.4711").write_bytes(b"half a file")
    training = Training(folder)
    assert training.fit() == history
    assert same(training.method.network.state_dict(), whole.method.network.state_dict())


def test_a_disk_that_is_full_keeps_the_state_before(tmp_path, monkeypatch):
    """The kernel itself refuses to write further. Python alone says so with an OSError; torch's own writer does not."""
    training, save = Training(tmp_path), torch.save
    states, limits = [], resource.getrlimit(resource.RLIMIT_FSIZE)

    def nearly_full(state, file):
        if len(states) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        states.append(state)
        save(state, file)

    monkeypatch.setattr(torch, "save", nearly_full)
    try:
        with pytest.raises(OSError, match="File too large"):
            training.fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    assert [entry["step"] for entry in last_state(tmp_path)["history"]] == [4, 8]


# ---- Shuffled ----


@pytest.mark.parametrize(("n", "size"), [(10, 5), (10, 3), (7, 2), (5, 5), (3, 1), (1, 1), (3, 8), (1, 4)])
def test_each_index_once_before_any_comes_again(n, size):
    torch.manual_seed(0)
    sampler = Shuffled(n, size)
    batches = [next(sampler) for _ in range(3 * n)]
    assert {batch.shape for batch in batches} == {(size,)}
    drawn = torch.cat(batches).tolist()
    rounds = [drawn[i : i + n] for i in range(0, len(drawn) - n + 1, n)]
    assert all(sorted(once) == list(range(n)) for once in rounds)
    if n > 4:
        assert len({tuple(once) for once in rounds}) > 1  # shuffled anew each time


def test_shuffled_goes_on_from_its_position():
    sampler = Shuffled(9, 4)
    for _ in range(3):
        next(sampler)
    position, rng = sampler.state_dict(), torch.get_rng_state()
    expected = [next(sampler).tolist() for _ in range(6)]
    other = Shuffled(9, 4)
    next(other)
    other.load_state_dict(position)
    torch.set_rng_state(rng)
    assert [next(other).tolist() for _ in range(6)] == expected


def test_shuffled_depends_on_the_seed_alone():
    def draw(seed):
        torch.manual_seed(seed)
        sampler = Shuffled(20, 6)
        return torch.cat([next(sampler) for _ in range(5)]).tolist()

    assert draw(1) == draw(1) != draw(2)
