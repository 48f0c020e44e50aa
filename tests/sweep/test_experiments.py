"""What a sweep reads from its repository, how a job runs in a clone of it, and what comes back."""

import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from dvc.config import Config
from dvc.repo import Repo

pytest.importorskip("ray", reason="the sweep extra is not installed")
from reprocnn.core.errors import UserError
from reprocnn.sweep import command, jobs, pruning, trial
from reprocnn.sweep import experiments as module
from reprocnn.sweep.cluster import Machines
from reprocnn.sweep.driver import Driver
from reprocnn.sweep.experiments import Experiments, metric_files
from reprocnn.sweep.jobs import Stage, pipeline_stages, template
from reprocnn.sweep.overrides import experiment_name
from reprocnn.sweep.trial import Outcome, Watched, versions
from tests.support import tiny
from tests.support.commands import call, commit, save

VAL = json.dumps({"val": {"accuracy": 0.5, "loss": 2, "zero": 0}})
TEST = json.dumps({"test": {"accuracy": 0.25}, "source": "public"})


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "repository"
    tiny.make(folder)
    return folder


@pytest.fixture
def repository(original, tmp_path, monkeypatch):
    """The tiny repository, made once and copied."""
    folder = tmp_path / "repository"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    return folder


def declare(repository, **metrics) -> None:
    """Put other metrics at the top of dvc.yaml, in place of those of the stage."""
    pipeline = yaml.safe_load((repository / "dvc.yaml").read_text())
    pipeline["stages"]["train"].pop("metrics", None)
    pipeline.pop("metrics", None)
    (repository / "dvc.yaml").write_text(yaml.safe_dump(pipeline | metrics))


def experiment(repository, metric: str, **files: str) -> Experiments:
    """Those of a commit, the only one of which has the metric files NAME_SUFFIX, and is named `it`."""
    revision = call(repository, "git", "rev-parse", "HEAD").strip()
    experiments = Experiments(revision, metric, metric_files(Repo()))
    (repository / "metrics").mkdir()
    for name, text in files.items():
        (repository / "metrics" / name.replace("_", ".")).write_text(text)
    save(repository)
    call(repository, "git", "update-ref", f"{experiments.prefix}/it", "HEAD")
    return experiments


def test_data_beside_the_pipeline_is_no_stage_and_one_of_a_subfolder_has_its_address(repository):
    (repository / "sub").mkdir()
    (repository / "sub/dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"prep": {"cmd": "x", "deps": ["../raw.csv"], "outs": ["prep.txt"]}}})
    )
    (repository / "raw.csv.dvc").write_text(yaml.safe_dump({"outs": [{"path": "raw.csv", "md5": "0" * 32}]}))
    pipeline = yaml.safe_load((repository / "dvc.yaml").read_text())
    pipeline["stages"]["train"]["deps"] += ["sub/prep.txt", "raw.csv"]
    (repository / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    stages = pipeline_stages(Repo())
    assert set(stages) == {"prepare", "train", "sub/dvc.yaml:prep"}
    assert set(stages["train"].upstream) == {"prepare", "sub/dvc.yaml:prep"}
    assert stages["sub/dvc.yaml:prep"].upstream == ()


@pytest.mark.parametrize("folder", [".", "pages"])
def test_the_page_of_a_sweep_is_no_change_but_other_files_are(repository, folder):
    Path(folder).mkdir(exist_ok=True)
    (page := Path(folder) / "page[1].html").touch()
    command._check_repository(page)
    call(repository, "git", "config", "status.showUntrackedFiles", "no")
    for path in (None, Path("/elsewhere/page.html")):
        with pytest.raises(UserError, match="uncommitted"):
            command._check_repository(path)
    (Path(folder) / "page1.html").touch()
    with pytest.raises(UserError, match="uncommitted"):
        command._check_repository(page)


def test_a_repository_in_a_folder_of_another_one_is_refused(repository, monkeypatch):
    (repository / "sub").mkdir()
    monkeypatch.chdir(repository / "sub")
    with pytest.raises(UserError, match=r"the git repository begins in a folder above"):
        command._check_repository(None)


def test_a_pruned_trial_that_diverged_is_recorded(repository):
    watched = Watched("history.csv", "accuracy")
    made = [Experiments("0123", "val.accuracy", [], watched) for _ in range(1)]
    outcome = Outcome(b"", {}, False, "node", 1.0, (), [0.5, float("nan"), float("inf")])
    made[0].receive(("lr=0.1",), outcome)
    Path("runs/sweep/.partial-1-x.json").write_text("{")  # of a sweep that was killed
    Path("runs/sweep/damaged.json").write_text("{")
    Path("runs/sweep/list.json").write_text("[1]")
    again = Experiments("0123", "val.accuracy", [], watched)
    assert {name: record["pruned"] for name, record in again.pruned.items()} == {"lr0.1": [0.5, None, None]}


def test_the_metric_files_are_those_of_dvc_yaml(repository):
    assert sorted(metric_files(Repo())) == ["metrics/test.json", "metrics/val.json"]
    declare(repository, metrics=["all.yaml"])
    assert metric_files(Repo()) == ["all.yaml"]
    declare(repository)
    with pytest.raises(UserError, match=r"dvc\.yaml: found no metrics"):
        metric_files(Repo())


@pytest.mark.parametrize(("metric", "value"), [("val.accuracy", 0.5), ("test.accuracy", 0.25), ("val.zero", 0.0)])
def test_the_metric_may_be_in_either_file(repository, metric, value):
    experiments = experiment(repository, metric, val_json=VAL, test_json=TEST)
    assert experiments.names() == {"it"}
    assert experiments.value("it") == value
    assert experiments.value("other") is None


@pytest.mark.parametrize("metric", ["val.precision", "val", "source", "val.accuracy.mean"])
def test_a_value_other_than_a_number_is_refused_with_the_known_keys(repository, metric):
    with pytest.raises(UserError) as error:
        experiment(repository, metric, val_json=VAL, test_json=TEST).value("it")
    message = str(error.value)
    assert message.startswith(f"sweep: --metric {metric}: found no such number in metrics/")
    assert set(message.partition("known: ")[2].split(", ")) == {
        "val.accuracy", "val.loss", "val.zero", "test.accuracy", "source",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "true", "1" + "0" * 400])
def test_a_value_without_a_place_in_an_order_is_refused(repository, text):
    experiments = experiment(repository, "val.accuracy", val_json=f'{{"val": {{"accuracy": {text}}}}}')
    with pytest.raises(UserError, match=r"--metric val\.accuracy: found no such number in metrics/val\.json"):
        experiments.value("it")


def test_the_metric_is_checked_at_the_commit_where_that_has_any(repository):
    fresh: Any = SimpleNamespace(status=dict)
    stale: Any = SimpleNamespace(status=lambda: {"train": [{"changed deps": {"train.py": "modified"}}]})
    experiment(repository, "val.precision", val_json=VAL).check_metric(fresh)  # whose commit has none
    revision = call(repository, "git", "rev-parse", "HEAD").strip()
    Experiments(revision, "val.accuracy", metric_files(Repo())).check_metric(fresh)
    Experiments(revision, "val.precision", metric_files(Repo())).check_metric(stale)
    with pytest.raises(UserError, match=r"--metric val\.precision: found no such number in .*; known: val\.accuracy"):
        Experiments(revision, "val.precision", metric_files(Repo())).check_metric(fresh)


def test_one_of_the_files_may_be_missing(repository):
    assert experiment(repository, "val.accuracy", val_json=VAL).value("it") == 0.5


def test_a_metric_in_both_files_is_ambiguous(repository):
    with pytest.raises(UserError, match=r"val\.accuracy: found in metrics/test\.json and metrics/val\.json, expected"):
        experiment(repository, "val.accuracy", val_json=VAL, test_json=VAL).value("it")


def test_a_metric_file_in_yaml_that_no_stage_declares(repository):
    declare(repository, metrics=["metrics/all.yaml"])
    assert experiment(repository, "val.accuracy", all_yaml="val: {accuracy: 0.75}").value("it") == 0.75


def test_a_broken_metric_file(repository):
    with pytest.raises(UserError, match=r"sweep: it: .*metrics/val\.json"):
        experiment(repository, "val.accuracy", val_json='{"val": ').value("it")


def bundle(repository, ref: str, params: str) -> bytes:
    """Return what a worker sends: a commit on HEAD with other params, under `ref`. Then the repository has neither."""
    revision = call(repository, "git", "rev-parse", "HEAD").strip()
    (repository / "params.yaml").write_text(params)
    commit(repository)
    call(repository, "git", "update-ref", ref, "HEAD")
    call(repository, "git", "bundle", "create", "--quiet", "../bundle", ref, f"^{revision}")
    call(repository, "git", "update-ref", "-d", ref)
    call(repository, "git", "reset", "--quiet", "--hard", revision)
    return (repository.parent / "bundle").read_bytes()


def test_an_outcome_becomes_an_experiment_with_its_records(repository, monkeypatch):
    fetched = []
    monkeypatch.setattr(module, "_fetch_outputs", lambda name, ref: fetched.append((name, ref)))
    overrides = ("lr=0.2", "seed=1")
    name = experiment_name(overrides)
    revision = call(repository, "git", "rev-parse", "HEAD").strip()
    made = Experiments(revision, "val.accuracy", metric_files(Repo()))
    ref = f"refs/exps/{revision[:2]}/{revision[2:]}/{name}"
    sent = bundle(repository, ref, "{lr: 1e-05, seed: 1, split: 1, threads: 0}")
    assert made.names() == set()
    made.receive(overrides, Outcome(sent, {"train_it": {"threads": 1}}, False, "host-a", 2.5))
    assert made.names() == {name}
    assert call(repository, "git", "status", "--porcelain") == ""  # or the next sweep would refuse to start
    assert made.params(name) == {"lr": 0.00001, "seed": 1, "split": 1, "threads": 0}
    assert json.loads(Path(f"runs/sweep/{name}.json").read_text()) == {
        "overrides": ["lr=0.2", "seed=1"], "records": {"train_it": {"threads": 1}}, "node": "host-a", "seconds": 2.5,
        "gpus": [],
    }  # fmt: skip
    assert fetched == []
    made.receive(overrides, Outcome(sent, {}, True, "host-a", 2.5))
    assert fetched == [(name, ref)]

    # Of several sweeps at once, too, where git alone would refuse some.
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: made.receive(overrides, Outcome(sent, {}, False, "host-a", 2.5)), range(36)))
    assert made.names() == {name}


def test_outputs_that_are_in_the_remote_are_fetched_for_the_experiment(repository, monkeypatch):
    call(repository, "git", "update-ref", "refs/exps/it", "HEAD")
    fetched: list[Any] = []
    monkeypatch.setattr(Repo, "fetch", lambda repo, **options: fetched.append(options))
    module._fetch_outputs("it", "refs/exps/it")
    revision = call(repository, "git", "rev-parse", "HEAD").strip()
    assert [(one["revs"], one["workspace"]) for one in fetched] == [([revision], False)]

    def fail(repo: Repo, **options: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(Repo, "fetch", fail)
    with pytest.raises(UserError, match=r"^outputs not fetched: no route; run `dvc exp apply it` and `dvc pull`"):
        module._fetch_outputs("it", "refs/exps/it")


def test_an_outcome_that_git_refuses_has_no_record(repository):
    made = Experiments(call(repository, "git", "rev-parse", "HEAD").strip(), "val.accuracy", metric_files(Repo()))
    with pytest.raises(UserError):
        made.receive(("lr=0.2",), Outcome(b"damaged", {}, False, "host-a", 2.5))
    assert list(module.RECORDS.glob("*.json")) == []


def test_a_trial_that_ran_twice_is_its_last_run(repository):
    revision = call(repository, "git", "rev-parse", "HEAD").strip()
    made = Experiments(revision, "val.accuracy", metric_files(Repo()))
    sent = {lr: bundle(repository, f"{made.prefix}/lr0.2", f"lr: {lr}") for lr in (0.2, 0.3)}
    for lr, content in sent.items():
        made.receive(("lr=0.2",), Outcome(content, {}, False, "host-a", 2.5))
        assert made.params("lr0.2") == {"lr": lr}


def test_a_pruned_trial_is_recorded_for_the_same_commit_and_metric_alone(repository):
    """It is no experiment, since it has no results."""
    watched = Watched("history.csv", "accuracy")
    revision = call(repository, "git", "rev-parse", "HEAD").strip()
    made = Experiments(revision, "val.accuracy", metric_files(Repo()), watched)
    assert made.pruned == {}
    made.receive(("lr=0.2",), Outcome(b"", {}, False, "host-a", 2.5, ("1",), [0.5, 0.25]))
    assert made.names() == set()
    assert made.pruned["lr0.2"]["pruned"] == [0.5, 0.25]
    again = Experiments(revision, "val.accuracy", metric_files(Repo()), watched)
    assert again.pruned["lr0.2"] == {
        "overrides": ["lr=0.2"], "records": {}, "node": "host-a", "gpus": ["1"], "seconds": 2.5,
        "pruned": [0.5, 0.25], "pruned_by": [revision, "history.csv", "accuracy"],
    }  # fmt: skip
    for one, by in ("0123", watched), (revision, Watched("history.csv", "loss")), (revision, None):
        assert Experiments(one, "val.accuracy", metric_files(Repo()), by).pruned == {}


def test_the_history_of_an_experiment(repository):
    (repository / "history.csv").write_text("epoch,accuracy\n1,0.5\n2,0.75\n3,")
    experiments = experiment(repository, "val.accuracy", val_json=VAL)
    assert experiments.history("it") == []
    experiments.watched = Watched("history.csv", "accuracy")
    assert experiments.history("it") == [0.5, 0.75]  # the third row is not whole yet
    experiments.watched = Watched("history.csv", "loss")
    with pytest.raises(UserError, match=r"^history\.csv: found no column loss; known: epoch, accuracy$"):
        experiments.history("it")


@pytest.mark.parametrize(
    ("text", "metric", "found"),
    [
        ("plots/it/history.csv:val_accuracy", "x.y", ("plots/it/history.csv", "val_accuracy")),
        ("", "it.val.accuracy", ("plots/it/history.csv", "val_accuracy")),
        ("model.txt:a", "x", ("model.txt", "a")),
    ],
)
def test_the_history_to_prune_by_is_an_output(repository, text, metric, found):
    declare_history(repository)
    watched = pruning.find(Repo(), text, metric)
    assert (watched.file, watched.column, watched.progress) == (*found, None)


@pytest.mark.parametrize(("text", "shown"), [("lr=0.1", "lr=0.1"), ("nosuch.csv:a", "nosuch.csv"), ("", "plots/val/")])
def test_a_history_that_no_stage_writes_is_refused(repository, text, shown):
    declare_history(repository)
    with pytest.raises(UserError) as error:
        pruning.find(Repo(), text, "val.accuracy")
    assert str(error.value).startswith(f"sweep: --prune: found {shown}")
    assert str(error.value).endswith("expected FILE:COLUMN of a CSV output in dvc.yaml (known: plots/it/history.csv)")


def test_progress_keeps_what_is_new_and_stops_whom_the_driver_says():
    progress = pruning.Progress()
    assert not progress.report("a", [0.5])
    progress.report("b", [0.25])
    assert progress.take() == {"a": [0.5], "b": [0.25]}
    assert progress.take() == {}
    progress.stop("a")
    assert progress.report("a", [0.5])
    assert not progress.report("b", [0.25])


def declare_history(repository) -> None:
    pipeline = yaml.safe_load((repository / "dvc.yaml").read_text())
    pipeline["stages"]["train"]["plots"] = [{"plots/it/history.csv": {"cache": False}}]
    (repository / "dvc.yaml").write_text(yaml.safe_dump(pipeline))


def test_a_job_is_described_by_this_repository(repository, monkeypatch):
    call(repository, sys.executable, "-m", "dvc", "remote", "add", "--local", "--default", "storage", "../storage")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    repo = Repo()
    assert pipeline_stages(repo) == {
        "prepare": Stage(frozenset({"split"}), ()),
        "train": Stage(frozenset({"split", "lr", "seed", "threads"}), ("prepare",)),
    }
    assert list(pipeline_stages(repo)) == ["prepare", "train"]
    job = template(repo, "0123")
    assert (job.name, job.revision, job.overrides, job.target, job.apart) == ("", "0123", (), None, False)
    assert (job.gpus, job.watched) == (0, None)
    assert (job.versions, job.variables) == (versions(), {"OMP_NUM_THREADS": "3"})
    assert Path(job.cache) == repository / ".dvc/cache"
    assert job.remote == str(repository.parent / "storage")
    assert job.settings["remote"]["storage"]["url"] == job.remote


@pytest.fixture
def ran(repository, tmp_path, monkeypatch):
    """Run a job of this repository, whose dvc leaves an experiment with a learning rate of 0.25 in the clone."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(trial.ray, "get_gpu_ids", lambda: [3])
    call(repository, "dvc", "remote", "add", "--local", "--default", "storage", "../storage")
    (tmp_path / "storage").mkdir()
    call(repository, "git", "bundle", "create", "--quiet", "../all", "HEAD")
    settings: list[Any] = []

    def run(clone: Callable[[Any], None] = lambda history: None, **changes: Any) -> tuple[Outcome, Any]:
        revision = call(repository, "git", "rev-parse", "HEAD").strip()
        job = replace(template(Repo(), revision), name="lr0.25", overrides=("lr=0.25",), **changes)

        def run_experiment(place: Path, job: trial.Job, lock: Any, cached: bool, history: Any) -> None:
            folder = place / "repository"
            settings.append(Config(str(folder / ".dvc")))
            assert call(folder, "git", "rev-parse", "HEAD").strip() == revision
            assert call(folder, "git", "status", "--porcelain") == ""
            (folder / "runs").mkdir()
            (folder / "runs/train_it.json").write_text('{"threads": 1}')
            (folder / "params.yaml").write_text("lr: 0.25")
            call(folder, "git", "commit", "--quiet", "--all", "--message=by the sweep")
            call(folder, "git", "update-ref", f"refs/exps/{revision[:2]}/{revision[2:]}/lr0.25", "HEAD")
            clone(history)

        monkeypatch.setattr(trial, "_run_experiment", run_experiment)
        with pytest.raises(UserError):
            trial._run(job, b"cut")  # which leaves half a clone
        return trial._run(job, (tmp_path / "all").read_bytes()), settings.pop()

    return run


@pytest.mark.parametrize("cached", [True, False])
def test_the_outcome_of_a_job_in_a_clone_becomes_an_experiment_here(repository, ran, tmp_path, cached):
    """Results go to the cache that both share, or through the remote."""
    outcome, settings = ran(**{} if cached else {"cache": "/nowhere/cache"})
    assert (outcome.records, outcome.pushed, outcome.gpus) == ({"train_it": {"threads": 1}}, not cached, ("3",))
    assert (outcome.node, outcome.pruned) == (platform.node(), None)
    assert settings["remote"]["storage"]["url"] == str(tmp_path / "storage")
    assert settings["core"]["remote"] == "storage"
    folder = repository / ".dvc/cache" if cached else trial._places() / "cache"
    assert settings["cache"] == settings["cache"] | {"dir": str(folder), "type": ["reflink", "symlink", "copy"]}
    assert list(trial._places().rglob("repository")) == []  # the clone is gone
    revision = call(repository, "git", "rev-parse", "HEAD").strip()
    made = Experiments(revision, "val.accuracy", metric_files(Repo()))
    made.receive(("lr=0.25",), replace(outcome, pushed=False))
    assert made.params("lr0.25") == {"lr": 0.25}


def test_a_job_that_was_stopped_gives_its_history_alone(ran):
    def stop(history: Any) -> None:
        history.stopped, history.values = True, [0.5, 0.25]

    outcome, _ = ran(stop, watched=Watched("history.csv", "accuracy"))
    assert (outcome.bundle, outcome.pruned) == (b"", [0.5, 0.25])
    outcome, _ = ran(watched=Watched("history.csv", "accuracy"))
    assert outcome.bundle
    assert outcome.pruned is None


@pytest.fixture
def started(repository, monkeypatch):
    """Return the drivers that the command makes and what it asks of the cluster, which runs nothing."""
    drivers: list[Driver] = []
    asked: list[str] = []

    class Asked(Machines):
        def inspect(self, job: trial.Job) -> bool:
            asked.append(f"inspect {self.threads} {self.gpus}")
            return job.revision != call(repository, "git", "rev-parse", "HEAD").strip()

    monkeypatch.setattr(command, "Machines", Asked)
    monkeypatch.setattr(command, "connect", lambda: asked.append("connect"))
    actor = SimpleNamespace(remote=lambda **options: lambda kind: SimpleNamespace(remote=lambda: (kind, options)))
    monkeypatch.setattr(pruning, "ray", actor)
    monkeypatch.setattr(jobs, "ray", SimpleNamespace(put=len, remote=lambda num_cpus: lambda run: (num_cpus, run)))
    monkeypatch.setattr(Driver, "run", lambda driver: drivers.append(driver) or 0)
    return drivers, asked


def test_a_grid_is_put_together_from_this_repository(repository, started):
    drivers, asked = started
    command.main(["lr=0.1,0.2", "seed=1", "--threads=3", tiny.METRIC])
    [driver] = drivers
    trials = [(f"lr={lr}", "seed=1", "threads=3") for lr in (0.1, 0.2)]
    assert asked == ["connect", "inspect 3 0"]
    assert [(one.overrides, one.study) for one in driver.proposals] == [(trial, None) for trial in trials]
    assert (driver.total, driver.machines.threads) == (2, 3)
    assert (driver.experiments.metric, driver.experiments.watched) == ("val.accuracy", None)
    assert driver.experiments.revision == driver.jobs.job.revision
    assert (driver.jobs.job.apart, driver.jobs.job.watched) == (True, None)  # as no machine has the cache
    assert list(driver.jobs.stages) == ["prepare", "train"]
    assert ("prepare", ()) in driver.jobs.sharing  # twice
    assert ("train", trials[0]) not in driver.jobs.sharing


def test_a_search_is_put_together_from_this_repository(repository, started):
    tiny.make_epochs(repository)
    drivers, asked = started
    searching = ["--search=random", "--trials=2", "--prune=plots/history.csv:accuracy", "--gpus=0.5", tiny.METRIC]
    command.main(["lr=interval(0.1,0.2)", "seed=1", *searching])
    [driver] = drivers
    assert asked == ["connect", "inspect 2 0.5"]
    assert driver.total == 2
    # An actor that takes no trial's place and outlives the machine that it is on.
    watched = Watched("plots/history.csv", "accuracy", (pruning.Progress, {"num_cpus": 0, "max_restarts": -1}))
    assert driver.jobs.job.watched == watched
    assert driver.experiments.watched == replace(watched, progress=None)
    assert driver.jobs.sharing.drawn == {"lr"}
    drawn = list(driver.proposals)
    assert [one.overrides[1:] for one in drawn] == [("seed=1", "threads=2", "device=gpu")] * 2
    assert all(0.1 <= one.trial.params["lr"] <= 0.2 for one in drawn)


def test_a_metric_that_the_commit_lacks_is_refused_before_any_machine_is_asked(repository, started, monkeypatch):
    experiment(repository, "val.accuracy", val_json=VAL)
    monkeypatch.setattr(Repo, "status", lambda _: {})
    with pytest.raises(UserError, match=r"--metric val\.precision: found no such number"):
        command.main(["lr=0.1", "--metric=val.precision"])
    assert started[1] == []


def test_an_experiment_whose_name_begins_with_that_of_a_trial_is_another(repository):
    experiments = experiment(repository, "val.accuracy", val_json=VAL)
    assert (experiments.exists("it"), experiments.exists("i"), experiments.value("i")) == (True, False, None)


def test_outputs_are_fetched_from_the_remote_as_this_repository_has_it(repository, monkeypatch):
    """DVC would take a relative path for one of another folder where it reads a commit."""
    call(repository, "dvc", "remote", "add", "more", "../more")
    fetched: list[Any] = []
    monkeypatch.setattr(Repo, "fetch", lambda repo, **options: fetched.append(options))
    module._fetch_outputs("it", "HEAD")
    assert fetched[0]["config"]["remote"]["more"]["url"] == str(repository.parent / "more")


def test_of_several_remotes_a_job_has_the_default_one(repository):
    for name, options in (("first", ()), ("second", ("--default",))):
        call(repository, "dvc", "remote", "add", "--force", *options, name, f"/nowhere/{name}")
    assert template(Repo(), "0123").remote == "/nowhere/second"
