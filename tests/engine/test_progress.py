"""The bar of a sweep: what it says is left, against sweeps whose every second is known."""

import pytest

from fewlabels.engine import params, progress, sweep, training
from fewlabels.engine.progress import Bar, Progress, plan
from fewlabels.paths import CHECKOUT


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def simulate(plans, cost, every=25, known=None, finished=(), seconds=None, warm_up=0.0):
    """Runs what is not stored: `[(seconds so far, seconds said to be left)]` at each report, and all seconds.

    cost  stage -> seconds a step truly takes; stages are trained once
    """
    clock, said, trained = Clock(), [], {*finished}
    found = Progress(plans, seconds or {}, finished, clock)
    for run in (run for run in plans if run not in (seconds or {})):
        found.begin(run)
        *stages, scoring = plans[run].items()
        for stage, steps in (stage for stage in stages if stage[0] not in trained):
            trained.add(stage)
            for step in range(every, steps + 1, every):
                clock.now += every * cost(stage) + warm_up
                warm_up = 0.0
                found.at(stage, step / steps)
                said.append((clock.now, found.seconds_left()))
        clock.now += scoring[1] * cost(scoring[0])
        found.end()
        said.append((clock.now, found.seconds_left()))
    assert found.done == pytest.approx(found.total)
    assert found.seconds_left() == 0
    return said, clock.now


def of(experiment, profile):
    module, config = params.load(CHECKOUT / f"params/{experiment}/{profile}.yaml")
    return {run.id: plan(module, config, run) for run in module.grid(config)}


@pytest.mark.parametrize(
    ("scoring", "stage_1", "warm_up"), [(1, 1, 0), (3, 1, 20), (0.2, 1, 5), (1, 1.3, 20), (1, 0.8, 20), (4, 1, 60)]
)
def test_what_the_bar_of_reproduce_jsrt_says(scoring, stage_1, warm_up):
    """However long scoring, stage 1 and the first interval take: within 30 % at 25, 50 and 75 % of the time."""
    plans = of("jsrt", "quick")
    assert len(plans) == 7
    assert sum({s: n for stages in plans.values() for s, n in stages.items() if "scores" not in s}.values()) == 2900

    def cost(stage):
        return 0.2 * (scoring if "scores" in stage else stage_1 if "supervised" in stage else 1)

    said, all_seconds = simulate(plans, cost, warm_up=warm_up)
    for share in (0.25, 0.5, 0.75):
        now, left = min(said, key=lambda entry: abs(entry[0] - share * all_seconds))
        assert left == pytest.approx(all_seconds - now, rel=0.3)
    assert said[-8][1] == pytest.approx(all_seconds - said[-8][0], rel=0.01)  # by then all kinds were measured


def test_a_shared_stage_counts_once_and_finished_ones_not_at_all():
    plans = of("jsrt", "quick")
    stage_1 = [stage for stages in plans.values() for stage in stages if stage.startswith("supervised")]
    assert (len(stage_1), len({*stage_1})) == (7, 2)
    clock, at = Clock(), Progress(plans, {})
    assert at.total == sum({s: n for stages in plans.values() for s, n in stages.items()}.values())
    assert at.done == 0
    assert at.seconds_left() is None
    assert Progress(plans, {}, {*stage_1}, clock).done == 800


def test_costs_that_were_stored_are_used_and_corrected():
    """Stored: A at 1 s a step, B at 3. This machine is twice as slow, as the first run of A shows."""
    plans = {f"{m}_seed={s}": {f"{m}_seed={s}": 100, f"scores of {m}_seed={s}": 10} for s in (0, 1) for m in "AB"}
    seconds = {"A_seed=0": 110, "B_seed=0": 330}
    assert Progress(plans, seconds).seconds_left() == pytest.approx(440)
    said, all_seconds = simulate(plans, lambda s: 2 if "A" in s else 6, seconds=seconds)
    assert all_seconds == 880
    assert [left for _, left in said] == pytest.approx([880 - now for now, _ in said])


def test_a_stage_that_is_resumed_is_not_taken_for_a_fast_one():
    plans, clock = {"A": {"A": 100, "scores of A": 10}}, Clock()
    at = Progress(plans, {}, clock=clock)
    at.begin("A", ["A"])
    for step in (80, 90):  # it begins at 70
        clock.now += 10
        at.at("A", step / 100)
    assert at.seconds_left() == pytest.approx(20)


def test_a_failed_run_is_no_longer_left():
    plans = {run: {run: 10, f"scores of {run}": 1} for run in "AB"}
    at = Progress(plans, {})
    at.begin("A")
    at.end(failed=True)
    assert at.done == 11


def test_an_experiment_that_names_no_stages_counts_its_runs(tiny):
    class Experiment:
        pass

    run = type("Run", (), {"id": "A_seed=0"})
    assert plan(Experiment, None, run) == {"A_seed=0": 10, "scores of A_seed=0": 1}
    plans = {f"A_seed={n}": {f"A_seed={n}": 10, f"scores of A_seed={n}": 1} for n in range(4)}
    said, all_seconds = simulate(plans, lambda stage: 3.0, every=5)
    assert [left for _, left in said] == pytest.approx([all_seconds - now for now, _ in said])


def test_what_the_bar_shows(capsys):
    clock = Clock()
    plans = {run: {run: 100, f"scores of {run}": 10} for run in "AB"}
    with Bar(Progress(plans, {}, (), clock), 2, 0) as b:
        b.begin("A")
        b.bar.mininterval = 0  # as at a terminal where time passes
        for step in (50, 100):
            clock.now += 50
            b.report("A", step, 100, {"validation": 81.23})
        clock.now += 10
        b.end()
        b.begin("B")
        b.end("Diverged: a loss")
    shown = [line.strip() for line in capsys.readouterr().out.replace("\n", "\r").split("\r")]
    assert " 23%|██▎       | 02:50 left, 1/2 A 50/100, validation 81.2".strip() in shown
    assert " 45%|████▌     | 02:00 left, 1/2 A, scoring".strip() in shown
    assert "B failed: Diverged: a loss" in shown
    assert "100%|██████████| 1 of 2 runs" in shown


# ---- what experiments say of their stages is what they train ----


class Trained(Exception):
    pass


@pytest.mark.parametrize("name", sorted(path.name for path in (CHECKOUT / "params").iterdir() if path.is_dir()))
def test_stages_are_those_that_are_trained(name, monkeypatch, tmp_path):
    """Of one run of each method, nothing trained: the names and steps with which training is called, in their order."""
    module, config = params.load(CHECKOUT / f"params/{name}/smoke.yaml")
    methods = {*config.methods, *params.load(CHECKOUT / f"params/{name}/quick.yaml")[1].methods}
    config = config.model_copy(update={"methods": sorted(methods)})
    cohort, called = module.load(config), {}

    def fit(method, batches, validate, *, steps, folder, **options):
        called[folder.name] = steps
        if folder.name == last:
            raise Trained
        return [{"step": steps, "validation": 1.0}]

    monkeypatch.setattr(training, "fit", fit)
    for run in {run.method: run for run in module.grid(config)}.values():
        called.clear()
        declared = module.stages(config, run)
        last = [*declared][-1]
        with pytest.raises(Trained):
            module.run(config, run, cohort, tmp_path)
        assert list(called.items()) == list(declared.items()), run.id


def test_the_sweep_knows_what_is_stored_and_what_is_trained(tiny, cohort, tmp_path, monkeypatch):
    from fewlabels.papers.bortsova2019 import jsrt as experiment

    config, seen = tiny(steps_supervised=4, steps_finetune=4, validate_every=2), []
    monkeypatch.setattr(progress, "Progress", lambda *found: seen.append(found) or Progress(*found))
    sweep.sweep(experiment, config, cohort, tmp_path, device="cpu", limit=1)
    (tmp_path / "runs").rename(tmp_path / "aside")
    sweep.sweep(experiment, config, cohort, tmp_path, device="cpu", limit=1)
    sweep.sweep(experiment, config, cohort, tmp_path, device="cpu")
    runs = [run.id for run in experiment.grid(config)]
    stages = {"supervised_labels=2_split=0_seed=0", "Baseline_labels=2_split=0_seed=0"}
    assert [[*plans] for plans, *_ in seen] == [runs[:1], runs[:1], runs]
    assert [[*seconds] for _, seconds, _ in seen] == [[], [], runs[:1]]
    assert [finished for *_, finished in seen] == [set(), stages, stages]
