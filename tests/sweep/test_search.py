"""What a sweep draws, shares and runs, without a cluster."""

import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="the sweep extra is not installed")
import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from reprocnn.core.errors import UserError
from reprocnn.sweep import jobs, search
from reprocnn.sweep.jobs import Sharing, Stage, parts_of
from reprocnn.sweep.overrides import experiment_name, grid, values
from reprocnn.sweep.trial import Watched


def override(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=0.1", ["lr=0.1"]),
        ("lr=0.1,0.3", ["lr=0.1", "lr=0.3"]),
        ("seed=range(1,4)", ["seed=1", "seed=2", "seed=3"]),
        ("lr=interval(0.1,0.4)", ["lr=0.1", "lr=0.4"]),
        ("mnist.optimizer=adam,muon", ["mnist.optimizer=adam", "mnist.optimizer=muon"]),
    ],
)
def test_values_of_an_override(text, expected):
    assert values(override(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "drop=null,0.5", "name='1','2'", "name='true','false'", "name='null',x", "name='a,b','c'", "name='[x',y",
        r"name='it\'s','b'", "model={a:1},{a:2}", "layers=[1,2],[3]", "name=@a,b", "lr=0.10,1e-3", "seed=01,1",
        "deep=true,false", "+new=1,2",
    ],
)  # fmt: skip
def test_a_search_tries_the_values_of_the_grid(text):
    one = override(text)
    drawn = [search._with_values([one], {one.key_or_group: value}) for value in search.distribution(one).choices]
    assert [trial for (trial,) in drawn] == values(one)


def test_a_grid_is_every_combination_in_order():
    trials = grid([override("lr=0.1,0.2"), override("seed=1,2"), override("threads=2")])
    assert trials == [
        ("lr=0.1", "seed=1", "threads=2"), ("lr=0.1", "seed=2", "threads=2"),
        ("lr=0.2", "seed=1", "threads=2"), ("lr=0.2", "seed=2", "threads=2"),
    ]  # fmt: skip


LONG = "a=" + "b" * 58


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (("seed=2", "lr=0.003"), "lr0.003-seed2"),
        (("mnist.network=warmup", "lr=1e-05", "shift=-3"), "lr1e-05-mnist.network=warmup-shift-3"),
        (("layer1=64",), "layer1=64"),
        (("lr=[0.1,0.2]", "seed=1"), "sweep-" + hashlib.sha256(b'["lr=[0.1,0.2]", "seed=1"]').hexdigest()[:10]),
        (("lr=.5",), "sweep-" + hashlib.sha256(b'["lr=.5"]').hexdigest()[:10]),
        (("lr=0.1..2",), "sweep-" + hashlib.sha256(b'["lr=0.1..2"]').hexdigest()[:10]),
        (("net=größer",), "sweep-" + hashlib.sha256(b'["net=gr\\u00f6\\u00dfer"]').hexdigest()[:10]),
        ((LONG,), LONG),
        ((LONG + "b",), f"{LONG}-" + hashlib.sha256(f'["{LONG}b"]'.encode()).hexdigest()[:10]),
        ((), "sweep-" + hashlib.sha256(b"[]").hexdigest()[:10]),
    ],
)
def test_an_experiment_is_named_after_its_values(overrides, name):
    """In whatever order. The names never change, or the experiments that are there would run again."""
    assert experiment_name(overrides) == experiment_name(overrides[::-1]) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a1=2",), ("a=12",)),
        (("a=b", "c=1"), ("a=b_c1",)),
        (("net=s",), ("nets=",)),
        (("a=1e", "b=2"), ("a=1", "e=x", "b=2")),
        (("a=1", "b=-2"), ("a=1-b-2",)),
    ],
)
def test_no_two_experiments_have_the_same_name(one, other):
    assert experiment_name(one) != experiment_name(other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=choice(0.1,1,adam)", CategoricalDistribution([0.1, 1, "adam"])),
        ("lr=0.1,0.2", CategoricalDistribution([0.1, 0.2])),
        ("lr=interval(0.1,0.4)", FloatDistribution(0.1, 0.4)),
        ("lr=interval(0,1.0)", FloatDistribution(0, 1)),
        ("lr=tag(log,interval(0.1,0.4))", FloatDistribution(0.1, 0.4, log=True)),
        ("seed=int(interval(1,5))", IntDistribution(1, 5)),
        ("seed=tag(log,int(interval(1,5)))", IntDistribution(1, 5, log=True)),
    ],
)
def test_a_sweep_is_a_distribution_of_optuna(text, expected):
    found = search.distribution(override(text))
    assert (type(found), found) == (type(expected), expected)


class Drawn:
    """Experiments that exist, by their params, with metrics."""

    def __init__(self, *found: tuple[dict[str, Any], float | None, str | None]) -> None:
        self.found = {
            name or experiment_name(tuple(f"{key}={one}" for key, one in params.items())): (params, value)
            for params, value, name in found
        }
        self.pruned: dict[str, Any] = {}

    def names(self) -> set[str]:
        return set(self.found)

    def params(self, name: str) -> dict[str, Any]:
        return self.found[name][0]

    def value(self, name: str) -> float | None:
        return self.found[name][1]

    def history(self, name: str) -> list[float]:
        value = self.found[name][1]
        return [value / 2, value] if value else []


@pytest.fixture
def studies(monkeypatch) -> list[optuna.Study]:
    made = []
    create = optuna.create_study

    def create_study(**options: Any) -> optuna.Study:
        made.append(create(**options))
        return made[-1]

    monkeypatch.setattr(optuna, "create_study", create_study)
    return made


SPACE = [override("lr=interval(0.1,0.4)"), override("seed=1,2,3"), override("threads=2")]


@pytest.mark.parametrize("minimize", [False, True])
@pytest.mark.parametrize("sampler", ["random", "optuna"])
def test_drawn_trials_report_their_metric_to_the_study(studies, sampler, minimize):
    proposals = list(search.Search(sampler, 5, minimize).proposals(SPACE, Drawn()))
    [study] = studies
    assert study.direction.name == ("MINIMIZE" if minimize else "MAXIMIZE")
    assert type(study.sampler).__name__ == {"random": "RandomSampler", "optuna": "TPESampler"}[sampler]
    assert len(proposals) == len({proposal.overrides for proposal in proposals}) == 5
    for i, proposal in enumerate(proposals):
        rate, seed, threads = (one.partition("=") for one in proposal.overrides)
        assert (rate[0], seed[0], threads) == ("lr", "seed", ("threads", "=", "2"))
        assert 0.1 <= float(rate[2]) <= 0.4
        assert seed[2] in "123"
        proposal.end(None if i == 2 else i / 10)
    assert [trial.value for trial in study.trials] == [0.0, 0.1, None, 0.3, 0.4]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.best_value == (0.0 if minimize else 0.4)


def test_earlier_experiments_of_the_same_search_count(studies):
    experiments = Drawn(
        ({"lr": 0.2, "seed": 1, "threads": 2}, 0.9, None),
        ({"lr": 0.3, "seed": 3, "threads": 2}, 0.8, None),
        ({"lr": 0.2, "seed": 2, "threads": 4}, 0.7, None),  # of other threads
        ({"lr": 0.25, "seed": 2, "threads": 2}, 0.6, "by-hand"),
    )
    drawn = search.Search("random", 3, False).proposals(SPACE, experiments)
    *earlier, first = [proposal.overrides for proposal in drawn]
    assert earlier == [("lr=0.2", "seed=1", "threads=2"), ("lr=0.3", "seed=3", "threads=2")]
    [study] = studies
    known = sorted((trial.params["lr"], trial.params["seed"], trial.value) for trial in study.trials[:2])
    assert known == [(0.2, 1, 0.9), (0.3, 3, 0.8)]
    more = search.Search("random", 1, False).proposals(SPACE, Drawn())
    assert [proposal.overrides for proposal in more] != [first]  # another seed, or each search would draw the same
    again = search.Search("random", 2, False).proposals(SPACE, experiments)
    assert [proposal.overrides for proposal in again] == earlier


@pytest.mark.parametrize(("sampler", "wanted", "got"), [("optuna", 8, 8), ("random", 12, 12), ("random", 20, 12)])
def test_no_trial_is_drawn_twice(studies, sampler, wanted, got):
    space = [override("lr=0.1,0.2,0.3"), override("seed=range(0,4)")]
    names = {experiment_name(trial) for trial in grid(space)}
    experiments = Drawn(({"lr": 0.1, "seed": 0}, 0.9, None), ({"lr": 0.3, "seed": 2}, 0.8, None))
    drawn = []
    for proposal in search.Search(sampler, wanted, False).proposals(space, experiments):  # type: ignore[arg-type]
        drawn.append(experiment_name(proposal.overrides))
        proposal.end(0.5)
    assert len(drawn) == len(set(drawn)) == got
    assert names >= set(drawn)


@pytest.mark.parametrize("text", ["lr=interval(0.1,0.25)", "lr=0.1,0.2"])
def test_of_earlier_trials_those_in_the_space_count(studies, text):
    space = [override(text), override("seed=1")]
    experiments = Drawn(({"lr": 0.2, "seed": 1}, 0.9, None), ({"lr": 0.3, "seed": 1}, 0.8, None))
    drawn = search.Search("random", 1, False).proposals(space, experiments)  # type: ignore[arg-type]
    assert [proposal.overrides for proposal in drawn] == [("lr=0.2", "seed=1")]


def test_a_trial_that_failed_before_does_not_count(studies):
    class Failed(Drawn):
        def value(self, name: str) -> float | None:
            raise UserError("found no such number")

    experiments = Failed(({"lr": 0.2, "seed": 1}, None, None))
    drawn = search.Search("random", 1, False).proposals([override("lr=0.2,0.3"), override("seed=1")], experiments)  # type: ignore[arg-type]
    assert [proposal.study for proposal in drawn] == studies


def test_other_experiments_need_neither_the_keys_nor_the_metric(studies):
    class Others(Drawn):
        def params(self, name: str) -> dict[str, Any]:
            values: dict[str, dict[str, Any]] = {
                "flat": {"lr": 0.2},
                "list": {"lr": [0.2]},
                "text": {"lr": "x", "seed": 1},
            }
            return values[name]

        def value(self, name: str) -> float | None:
            raise AssertionError(name)

    others = Others(*(({}, None, name) for name in ("flat", "list", "text")))
    space = [override("lr.a=0.1,0.2"), override("seed=1")]
    for overrides in (SPACE, space):
        drawn = search.Search("random", 2, False).proposals(overrides, others)  # type: ignore[arg-type]
        assert all(proposal.study for proposal in drawn)


@pytest.mark.parametrize("sign", ["+", "++"])
def test_keys_that_the_params_may_lack_keep_their_plus(studies, sign):
    trials = grid([override(f"{sign}lr=0.1,0.2"), override(f"{sign}seed=1")])
    assert trials == [(f"{sign}lr=0.1", f"{sign}seed=1"), (f"{sign}lr=0.2", f"{sign}seed=1")]
    space = [override(f"{sign}lr=0.1,0.2"), override(f"{sign}seed=1")]
    earlier = ({"lr": 0.2, "seed": 1}, 0.9, experiment_name(trials[1]))
    found = [one.overrides for one in search.Search("random", 2, False).proposals(space, Drawn(earlier))]
    assert found[0] == trials[1]
    assert found[1] in trials
    assert search.as_values(trials[0], search.as_distributions(space)) == {"lr": 0.1}
    assert ("train", trials[0]) not in Sharing(STAGES, [], {"lr"})


@pytest.mark.parametrize("minimize", [False, True])
def test_a_trial_below_the_median_at_its_epoch_is_behind(studies, minimize):
    """The median of five finished trials, as Optuna waits for so many."""
    sign = -1 if minimize else 1
    *first, last = search.Search("random", 6, minimize, prune=True).proposals(SPACE, Drawn())
    for i, proposal in enumerate(first):
        assert not proposal.is_behind([sign * i, sign * (i + 10)])
        proposal.end(sign * (i + 10))
    assert not last.is_behind([])
    assert not last.is_behind([sign * 3])
    assert not last.is_behind([sign * 3])  # nothing new
    assert last.is_behind([sign * 3, sign * 11])
    last.end(sign * 11, pruned=True)
    trial = studies[0].trials[-1]
    assert (trial.state.name, trial.intermediate_values) == ("PRUNED", {1: sign * 3, 2: sign * 11})


def test_without_pruning_no_trial_is_behind():
    *first, last = search.Search("random", 6, False).proposals(SPACE, Drawn())
    for i, proposal in enumerate(first):
        proposal.is_behind([i])
        proposal.end(i)
    assert not last.is_behind([-1])


def test_pruned_trials_of_the_same_search_count(studies):
    experiments = Drawn(({"lr": 0.2, "seed": 1, "threads": 2}, 0.9, None))
    for trial in ("lr=0.3", "seed=3", "threads=2"), ("lr=0.35", "seed=3", "threads=4"), ("lr=0.3", "threads=2"):
        experiments.pruned[experiment_name(trial)] = {"overrides": list(trial), "pruned": [0.1, 0.15]}
    drawn = search.Search("random", 3, False, prune=True).proposals(SPACE, experiments)
    proposals = [proposal.overrides for proposal in drawn]
    assert proposals[:2] == [("lr=0.2", "seed=1", "threads=2"), ("lr=0.3", "seed=3", "threads=2")]
    assert len(proposals) == 3
    finished, pruned, _ = studies[0].trials
    assert (finished.state.name, finished.intermediate_values) == ("COMPLETE", {1: 0.45, 2: 0.9})
    assert (pruned.state.name, pruned.params, pruned.intermediate_values) == (
        "PRUNED", {"lr": 0.3, "seed": 3}, {1: 0.1, 2: 0.15},
    )  # fmt: skip


STAGES = {
    "prepare": Stage(frozenset({"split", "mnist.val_fraction"}), ()),
    "train": Stage(frozenset({"split", "mnist.val_fraction", "lr", "mnist"}), ("prepare",)),
    "plot": Stage(frozenset({"split", "mnist.val_fraction", "lr", "mnist", "targets"}), ("train", "prepare")),
}


def test_each_stage_gets_the_overrides_that_reach_it():
    trial = ("lr=0.1", "split=3", "mnist.epochs=2", "mnist_extra=1", "targets.a=1")
    assert parts_of(trial, STAGES) == {
        "prepare": ("split=3",),
        "train": ("lr=0.1", "split=3", "mnist.epochs=2"),
        "plot": ("lr=0.1", "split=3", "mnist.epochs=2", "targets.a=1"),
    }
    assert parts_of(("mnist=1",), STAGES)["prepare"] == ("mnist=1",)
    assert parts_of(("++lr=0.1", "+split=3"), STAGES)["train"] == ("++lr=0.1", "+split=3")


def test_what_several_trials_need_is_shared():
    trials = [("lr=0.1", "split=3"), ("lr=0.2", "split=3"), ("lr=0.2", "split=4")]
    sharing = Sharing(STAGES, trials, set())
    assert ("prepare", ("split=3",)) in sharing
    assert ("prepare", ("split=4",)) not in sharing
    assert ("train", ("lr=0.1", "split=3")) not in sharing
    assert ("prepare", ()) not in sharing


def test_of_a_search_everything_that_no_drawn_key_reaches_is_shared():
    sharing = Sharing(STAGES, [], {"lr", "mnist.epochs"})
    assert ("prepare", ("split=3",)) in sharing
    assert ("train", ("lr=0.1", "split=3")) not in sharing
    assert ("train", ("split=3", "mnist.epochs=2")) not in sharing
    assert ("train", ("split=3",)) in sharing


class Task:
    """What Ray would start: the jobs in order, each with what it waits for."""

    def __init__(self) -> None:
        self.started: list[tuple[Any, Any, tuple[Any, ...]]] = []
        self.chosen: list[dict[str, Any]] = []

    def options(self, **options: Any) -> "Task":
        self.chosen.append(options)
        return self

    def remote(self, job: Any, repository: Any, *needed: Any) -> str:
        self.started.append((job, repository, needed))
        return f"reference {len(self.started)}"


@pytest.fixture
def task(monkeypatch) -> Task:
    made = Task()

    def remote(num_cpus: int) -> Callable[[Any], Task]:
        assert num_cpus == 3
        return lambda function: made

    monkeypatch.setattr(jobs, "ray", SimpleNamespace(put=lambda content: len(content) > 100, remote=remote))
    return made


def job(**changes: Any) -> Any:
    return jobs.Job(
        **{
            "name": "", "revision": "0" * 40, "overrides": (), "target": None, "cache": "/cache", "remote": None,
            "apart": False, "settings": {}, "versions": {}, "variables": {}, "gpus": 0, "watched": None,
        } | changes
    )  # fmt: skip


def test_a_shared_stage_starts_once_and_before_the_trials_that_need_it(task):
    trials = [("lr=0.1", "split=3"), ("lr=0.2", "split=3"), ("lr=0.2", "split=4")]
    machines: Any = SimpleNamespace(threads=3, gpus=0, options=lambda: {"label_selector": "x"})
    made = jobs.Jobs(machines, job(), STAGES, Sharing(STAGES, trials, set()))
    assert [made.submit(trial) for trial in trials] == ["reference 2", "reference 3", "reference 4"]
    shared = f"prepare-{experiment_name(('split=3',))}"
    assert [(one.name, one.overrides, one.target, needed) for one, _, needed in task.started] == [
        (shared, ("split=3",), "prepare", ()),
        (experiment_name(trials[0]), trials[0], None, ("reference 1",)),
        (experiment_name(trials[1]), trials[1], None, ("reference 1",)),
        (experiment_name(trials[2]), trials[2], None, ()),
    ]
    assert all(repository is True for _, repository, _ in task.started)
    assert task.chosen == [{"label_selector": "x", "num_gpus": 0}] * 4
    assert all(one.gpus == 0 for one, _, _ in task.started)


def test_only_what_the_device_reaches_gets_gpus(task):
    """The data that trials share are prepared without; a trial is watched, what it shares is not."""
    machines: Any = SimpleNamespace(threads=3, gpus=0.5, options=dict)
    watched = Watched("history.csv", "accuracy")
    made = jobs.Jobs(machines, job(watched=watched), STAGES, Sharing(STAGES, [], {"lr"}))
    made.submit(("lr=0.1", "split=3", "device=gpu"))
    assert [(one.target, one.gpus, one.watched) for one, _, _ in task.started] == [
        ("prepare", 0, None), (None, 0.5, watched),
    ]  # fmt: skip
    assert task.chosen == [{"num_gpus": 0}, {"num_gpus": 0.5}]


def test_a_shared_stage_waits_for_shared_stages_before_it(task):
    machines: Any = SimpleNamespace(threads=3, gpus=0, options=dict)
    made = jobs.Jobs(machines, job(), STAGES, Sharing(STAGES, [], {"targets"}))
    made.submit(("lr=0.1", "targets=1"))
    assert [(one.target, needed) for one, _, needed in task.started] == [
        ("prepare", ()), ("train", ("reference 1",)), (None, ("reference 1", "reference 2")),
    ]  # fmt: skip


def test_what_failed_because_of_a_machine_is_forgotten(task, monkeypatch):
    machines: Any = SimpleNamespace(threads=3, gpus=0, options=dict)
    made = jobs.Jobs(machines, job(), STAGES, Sharing(STAGES, [], {"lr"}))
    errors = {"machine": jobs.MachineError("id", "host", "full"), "trial": jobs.RayError(), "running": None}
    made.shared = {(name, ()): name for name in errors}

    def get(reference: str, timeout: float) -> None:
        assert timeout == 0
        if errors[reference]:
            raise errors[reference]

    monkeypatch.setattr(jobs.ray, "get", get, raising=False)
    made.forget_failed()
    assert list(made.shared) == [("trial", ()), ("running", ())]


def test_trials_that_are_behind_are_stopped_and_no_others(task, monkeypatch):
    reported = {"behind": [0.1], "ahead": [0.9], "ended": [0.1]}
    stopped: list[str] = []
    take, stop = SimpleNamespace(remote=lambda: reported), SimpleNamespace(remote=stopped.append)
    watched = Watched("history.csv", "accuracy", SimpleNamespace(take=take, stop=stop))
    monkeypatch.setattr(jobs.ray, "get", lambda reference, timeout: reference, raising=False)
    machines: Any = SimpleNamespace(threads=3, gpus=0, options=dict)
    made = jobs.Jobs(machines, job(watched=watched), STAGES, Sharing(STAGES, [], set()))
    made.stop(dict.fromkeys(("behind", "ahead"), lambda values: values[-1] < 0.5))
    assert stopped == ["behind"]
    jobs.Jobs(machines, job(), STAGES, Sharing(STAGES, [], set())).stop({"behind": lambda _: True})  # not watched
    monkeypatch.setattr(take, "remote", lambda: (_ for _ in ()).throw(jobs.RayError()))
    made.stop({"behind": lambda _: True})  # the actor does not answer
    assert stopped == ["behind"]


@pytest.mark.parametrize("text", ["deep=1,true", "deep=0,false"])
def test_a_truth_value_is_not_the_number_that_equals_it(text):
    one = override(text)
    drawn = [search._with_values([one], {one.key_or_group: value}) for value in search.distribution(one).choices]
    assert [trial for (trial,) in drawn] == values(one)
