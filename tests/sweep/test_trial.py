"""Machines, the loop and one job of a sweep, where Ray and DVC are replaced by their answers."""

import fcntl
import os
import platform
import re
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

pytest.importorskip("ray", reason="the sweep extra is not installed")
from ray.exceptions import RayError

from reprocnn.core.errors import UserError
from reprocnn.sweep import cluster, command, driver, dvc_process, trial
from reprocnn.sweep.overrides import experiment_name
from reprocnn.sweep.search import Proposal
from tests.support.commands import ROOT, call, save


def node(name: str, cores: float, alive: bool = True, gpus: float = 0) -> dict[str, Any]:
    resources = ({"CPU": cores} if cores else {}) | ({"GPU": gpus} if gpus else {})
    return {"NodeID": name, "NodeManagerHostname": f"host-{name}", "Alive": alive, "Resources": resources}


@pytest.fixture
def machines(monkeypatch) -> cluster.Machines:
    nodes = [node("a", 8.0), node("b", 3.0), node("c", 7.0), node("d", 16.0, alive=False), node("e", 0)]
    monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
    return cluster.Machines(3)


def test_a_machine_has_a_slot_for_every_so_many_cores(machines):
    assert [one["NodeID"] for one in machines.usable()] == ["a", "b", "c"]
    assert machines.slots() == 2 + 1 + 2


@pytest.mark.parametrize(
    ("gpus", "slots"), [(0, 2 + 5 + 1), (1, 2 + 1), (2, 2), (0.5, 2 + 2), (0.3, 2 + 3), (0.6, 2 + 1)]
)
def test_a_trial_takes_its_gpus_from_one_machine(monkeypatch, gpus, slots):
    nodes = [node("a", 8, gpus=4), node("b", 20, gpus=1), node("c", 4)]
    monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
    assert cluster.Machines(4, gpus).slots() == slots
    nodes[:] = [node("a", 100, gpus=4)]
    assert cluster.Machines(1, 0.3).slots() == 12  # three to a GPU, and none on two


def test_a_machine_that_is_left_out_is_reported_once_and_avoided(machines, capsys):
    assert machines.options() == {}
    for _ in range(2):
        machines.leave_out("a", "host-a", "No space left on device")
    assert capsys.readouterr().out == "sweep: host-a: left out: No space left on device\n"
    assert machines.slots() == 3
    assert machines.options() == {"label_selector": {"ray.io/node-id": "!in(a)"}}


@pytest.fixture
def asked(machines, monkeypatch) -> dict[str, Any]:
    """The answers of the machines by id, each a (shortcomings, has the cache) or an error."""
    answers: dict[str, Any] = {name: ([], True) for name in "abc"}

    class Task:
        def options(self, scheduling_strategy: str) -> "Task":
            self.node = scheduling_strategy
            return self

        def remote(self) -> str:
            return self.node

    def get(reference: str) -> Any:
        if isinstance(answers[reference], Exception):
            raise answers[reference]
        return answers[reference]

    monkeypatch.setattr(cluster.ray, "remote", lambda num_cpus: lambda function: Task())
    monkeypatch.setattr(cluster.ray, "get", get)
    monkeypatch.setattr(cluster, "NodeAffinitySchedulingStrategy", lambda name, soft: name if soft is False else None)
    return answers


def test_all_machines_have_the_cache_or_not(machines, asked):
    assert machines.inspect(job()) is True
    asked["b"] = ([], False)
    assert machines.inspect(job()) is False


def test_what_machines_lack_is_a_line_each(machines, asked):
    asked |= {"a": (["numpy: found 1, expected 2"], True), "c": (["x: missing", "y: missing"], False)}
    with pytest.raises(UserError) as error:
        machines.inspect(job())
    assert str(error.value).splitlines() == [
        "host-a: numpy: found 1, expected 2", "host-c: x: missing", "host-c: y: missing",
    ]  # fmt: skip


def test_a_machine_that_does_not_answer_is_left_out(machines, asked, capsys):
    asked["b"] = RayError("it\n  died")
    assert machines.inspect(job()) is True
    assert machines.left_out == {"b"}
    assert capsys.readouterr().out == "sweep: host-b: left out: it died\n"


def test_too_many_threads_for_any_machine_is_an_error(machines):
    machines.threads = 9
    with pytest.raises(UserError, match=r"^sweep: no machine has 9 cores; lower --threads$"):
        machines.inspect(job())
    machines.threads, machines.gpus = 1, 0.5
    with pytest.raises(UserError, match=r"^sweep: no machine has 1 cores and 0\.5 GPUs; lower --threads or --gpus$"):
        machines.inspect(job())


def test_a_head_that_is_gone_for_long_ends_the_sweep(machines, monkeypatch):
    """Before Ray ends the process, which it does after a minute."""
    clock = [1000.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: clock[0])
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    machines.head_seen = 1000.0
    for passed in (0, 20, 9):
        clock[0] += passed
        machines.check_head()
    clock[0] += 2
    with pytest.raises(UserError, match=r"^sweep: the cluster's head at RAY_ADDRESS=127\.0\.0\.1:1 is gone; finished"):
        machines.check_head()
    monkeypatch.delenv("RAY_ADDRESS")
    machines.check_head()
    assert machines.head_seen == clock[0]


@pytest.mark.parametrize(
    ("address", "given"), [(None, "local"), ("", "local"), ("ray://head:10001", None), ("auto", None)]
)
def test_without_an_address_a_cluster_of_this_machine_is_started(monkeypatch, address, given):
    options: dict[str, Any] = {}
    monkeypatch.setattr(cluster.ray, "init", lambda **given: options.update(given))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the user's")
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    cluster.connect()
    assert options["address"] == given
    assert re.fullmatch("[0-9a-f]{64}" if given else "the user's", os.environ["RAY_AUTH_TOKEN"])
    assert options["runtime_env"] == {"py_modules": [str(ROOT / "reprocnn")]}


@pytest.mark.parametrize(("given", "sent"), [(None, "0"), ("1", "1")])
def test_ray_sends_no_statistics_unless_its_user_wants_it(monkeypatch, given, sent):
    monkeypatch.setattr(cluster.ray, "init", lambda **_: None)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", given or "")
    if given is None:
        monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    cluster.connect()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == sent


def test_a_cluster_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(cluster.ray, "init", lambda **_: raise_(RuntimeError("no\n  port " + "x" * 300)))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"^sweep: no Ray at RAY_ADDRESS=127\.0\.0\.1:1 \(.*refused\); start it there"):
        cluster.connect()
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(UserError, match=r"^sweep: Ray did not start \(no port x{192}\); fix that"):
        cluster.connect()


def raise_(error: Exception) -> None:
    raise error


# The loop.


class Fake:
    """Machines, jobs, experiments and Ray at once: each trial ends with the outcome that a test gives it."""

    def __init__(self, slots: int = 2) -> None:
        self.room, self.left_out = slots, set[str]()
        self.found: dict[str, float] = {}
        self.metric = "val.accuracy"
        self.pruned: dict[str, Any] = {}
        self.waits: list[list[float]] = []  # of the trials that run, the epochs' metrics while the driver waits
        self.stopped: list[str] = []
        self.outcomes: dict[str, list[Any]] = {}
        self.submitted: list[str] = []
        self.most = self.running = self.forgotten = 0

    def slots(self) -> int:
        return 0 if self.left_out else self.room

    def leave_out(self, *arguments: str) -> None:
        assert len(arguments) == 3
        self.left_out.add(arguments[0])

    def forget_failed(self) -> None:
        self.forgotten += 1

    def submit(self, overrides: tuple[str, ...]) -> tuple[int, str]:
        self.submitted.append(overrides[0])
        self.running += 1
        self.most = max(self.most, self.running)
        return len(self.submitted), overrides[0]

    def exists(self, name: str) -> bool:
        return name in self.found

    def value(self, name: str) -> float | None:
        return self.found.get(name)

    def receive(self, overrides: tuple[str, ...], outcome: Any) -> None:
        if outcome.pruned is None:
            self.found[experiment_name(overrides)] = float(overrides[0].partition("=")[2])

    def check_head(self) -> None:
        pass

    def stop(self, behind: dict[str, Any]) -> None:
        if self.waits:
            values = self.waits.pop(0)
            self.stopped += [name for name, is_behind in behind.items() if is_behind(values)]

    def wait(self, references: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        assert num_returns == 1
        assert timeout > 0
        if self.waits:
            return [], references
        self.running -= 1
        return references[:1], references[1:]

    def get(self, reference: tuple[int, str]) -> Any:
        outcome = self.outcomes.get(reference[1], [None]).pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return SimpleNamespace(seconds=83.6, node="host-a", pruned=outcome)


class Reporting(Proposal):
    """A proposal that keeps what it is given at the end, and is behind once its metric is 0.2 or less."""

    ends: ClassVar[list[Any]] = []

    def is_behind(self, values: list[float]) -> bool:
        return values[-1] <= 0.2

    def end(self, value: float | None, pruned: bool = False) -> None:
        self.ends.append((value, "pruned") if pruned else value)


@pytest.fixture(autouse=True)
def reported() -> list[Any]:
    Reporting.ends.clear()
    return Reporting.ends


def run(fake: Any, monkeypatch: pytest.MonkeyPatch, *rates: str) -> int:
    monkeypatch.setattr(driver, "ray", fake)
    made = driver.Driver(fake, fake, fake, iter([Reporting((f"lr={rate}",)) for rate in rates]), len(rates))
    failed = made.run()
    assert len(made.ended) == len(rates)
    return failed


def test_trials_run_side_by_side_and_report_their_metric(monkeypatch, capsys, reported):
    fake = Fake()
    assert run(fake, monkeypatch, "0.1", "0.2", "0.3") == 0
    assert fake.submitted == ["lr=0.1", "lr=0.2", "lr=0.3"]
    assert fake.most == 2
    assert reported == [0.1, 0.2, 0.3]
    name = experiment_name(("lr=0.1",))
    assert f"{name}  val.accuracy 0.1000  lr=0.1  84 s on host-a\n" in capsys.readouterr().out


def test_an_experiment_that_exists_is_not_run_again(monkeypatch, capsys):
    fake = Fake()
    fake.found = {experiment_name(("lr=0.2",)): 0.75}
    assert run(fake, monkeypatch, "0.1", "0.2", "0.3") == 0
    assert fake.submitted == ["lr=0.1", "lr=0.3"]
    assert "  val.accuracy 0.7500  lr=0.2  exists\n" in capsys.readouterr().out


def test_a_trial_that_is_behind_is_stopped_and_recorded_as_pruned(monkeypatch, capsys, reported):
    fake = Fake()
    fake.waits = [[0.3], [0.3, 0.2]]
    fake.outcomes = {"lr=0.1": [[0.3, 0.2]]}
    assert run(fake, monkeypatch, "0.1", "0.5") == 0
    assert fake.stopped == ["lr0.1", "lr0.5"]
    assert reported == [(0.2, "pruned"), 0.5]
    printed = capsys.readouterr().out
    assert "lr0.1  val.accuracy 0.2000  lr=0.1  pruned after 2 epochs, 84 s on host-a\n" in printed


def test_a_trial_that_was_pruned_before_costs_nothing(monkeypatch, capsys, reported):
    fake = Fake()
    fake.pruned = {"lr0.1": {"pruned": [0.3, 0.15]}}
    assert run(fake, monkeypatch, "0.1", "0.5") == 0
    assert fake.submitted == ["lr=0.5"]
    assert reported == [(0.15, "pruned"), 0.5]
    assert "lr0.1  val.accuracy 0.1500  lr=0.1  pruned after 2 epochs, exists\n" in capsys.readouterr().out


def test_failed_trials_are_counted_and_the_others_continue(monkeypatch, capsys, reported):
    fake = Fake(slots=1)
    fake.outcomes = {"lr=0.1": [raised(trial.TrialError("host-a: the loss is nan"))], "lr=0.3": [RayError()]}
    assert run(fake, monkeypatch, "0.1", "0.2", "0.3") == 2
    printed = capsys.readouterr().out
    assert "val.accuracy -       lr=0.1  failed: host-a: the loss is nan\n" in printed
    assert "lr=0.3  failed: RayError\n" in printed
    assert reported == [None, 0.2, None]
    assert fake.forgotten == 0


def test_a_trial_that_is_refused_or_has_no_metric_is_a_failed_one(monkeypatch, capsys, reported):
    fake = Fake(slots=1)
    monkeypatch.setattr(fake, "receive", lambda one, _: raise_(UserError("refused")) if one == ("lr=0.1",) else None)
    monkeypatch.setattr(fake, "value", lambda name: raise_(UserError("sweep: --metric x: none")) if "2" in name else 1)
    assert run(fake, monkeypatch, "0.1", "0.2", "0.3") == 2
    printed = capsys.readouterr().out
    assert "lr=0.1  failed: refused\n" in printed
    assert "lr=0.2  failed: --metric x: none\n" in printed
    assert reported == [None, None, 1]


def test_a_head_that_is_gone_ends_the_loop(monkeypatch):
    """Where Ray itself would wait for it."""
    fake = Fake()
    monkeypatch.setattr(fake, "check_head", lambda: raise_(UserError("the cluster's head is gone")))
    with pytest.raises(UserError, match="the cluster's head is gone"):
        run(fake, monkeypatch, "0.1")


def test_a_long_message_with_brackets_is_one_line_as_it_is(monkeypatch, capsys):
    fake = Fake(slots=1)
    message = f"host-a: ERROR: failed to run [red]a.py[/bin/sh] {'in a folder below another ' * 9}with :bug:"
    fake.outcomes = {"lr=0.1": [raised(trial.TrialError(message))]}
    assert run(fake, monkeypatch, "0.1") == 1
    assert f"lr=0.1  failed: {message}\n" in capsys.readouterr().out


def test_a_trial_whose_machine_failed_is_run_elsewhere(monkeypatch, capsys):
    fake = Fake()
    fake.outcomes = {"lr=0.1": [machine_error(), None]}
    monkeypatch.setattr(fake, "slots", lambda: 1)
    assert run(fake, monkeypatch, "0.1", "0.2") == 0
    assert fake.submitted == ["lr=0.1", "lr=0.1", "lr=0.2"]
    assert (fake.left_out, fake.forgotten) == ({"id"}, 1)
    assert "failed" not in capsys.readouterr().out


def test_with_no_machine_left_the_rest_fails(monkeypatch, capsys):
    fake = Fake(slots=1)
    fake.outcomes = {"lr=0.1": [machine_error()]}
    assert run(fake, monkeypatch, "0.1", "0.2") == 2
    assert capsys.readouterr().out.count("failed: no machine is left") == 2


def test_without_a_slot_one_trial_waits_for_a_machine_to_join(monkeypatch):
    fake = Fake(slots=0)
    assert run(fake, monkeypatch, "0.1", "0.2") == 0
    assert fake.most == 1


def raised(cause: Exception) -> RayError:
    """Return what Ray raises for an error of a job."""
    error = RayError()
    error.cause = cause
    return error


def machine_error() -> RayError:
    return raised(trial.MachineError("id", "host", "No space left on device"))


# One job.


def job(**changes: Any) -> trial.Job:
    given: dict[str, Any] = {
        "name": "it", "revision": "0123", "overrides": ("lr=0.1", "seed=2"), "target": None, "cache": "/nowhere/cache",
        "remote": None, "apart": False, "settings": {}, "versions": trial.versions(), "variables": {}, "gpus": 0,
        "watched": None,
    }  # fmt: skip
    return trial.Job(**given | changes)


def test_versions_are_of_what_changes_the_bits():
    found = trial.versions()
    assert found["python"] == platform.python_version()
    assert {name: found[name] for name in ("tensorflow", "keras", "numpy", "h5py", "dvc")} == {
        name: version(name) for name in ("tensorflow", "keras", "numpy", "h5py", "dvc")
    }


def test_a_machine_needs_the_versions_and_the_cache_or_the_remote(tmp_path):
    lacking = "missing, expected DVC's cache or default remote"
    assert trial.shortcomings(job(cache=str(tmp_path))) == []
    assert trial.shortcomings(job(remote=str(tmp_path))) == []
    assert trial.shortcomings(job(remote="s3://bucket")) == []
    assert trial.shortcomings(job())[0].startswith(f"/nowhere/cache: {lacking}")
    assert trial.shortcomings(job(remote="/no"))[0].startswith(f"/nowhere/cache and /no: {lacking}")
    other = {"numpy": "0.1", "nosuch": "2", "dvc": version("dvc")}
    assert trial.shortcomings(job(cache=str(tmp_path), versions=other)) == [
        f"numpy: found {version('numpy')}, expected 0.1 as where the sweep was started; install that",
        "nosuch: found none, expected 2 as where the sweep was started; install that",
    ]


@pytest.mark.parametrize(
    ("cached", "apart", "target", "expected"),
    [
        (True, False, None, ["checkout", "exp run"]),
        (True, False, "prepare", ["checkout", "exp run"]),
        (True, True, None, ["pull --allow-missing", "exp run --pull"]),
        (True, True, "prepare", ["pull --allow-missing", "exp run --pull", "push --run-cache"]),
        (False, True, None, ["pull --allow-missing", "exp run --pull", "push --run-cache"]),
        (False, False, None, ["pull --allow-missing", "exp run --pull", "push --run-cache"]),
    ],
)
def test_a_job_takes_from_cache_or_remote_and_gives_to_the_remote(
    monkeypatch, tmp_path, cached, apart, target, expected
):
    calls = []
    monkeypatch.setattr(trial, "_dvc", lambda place, job, lock, *arguments, **error: calls.append((arguments, error)))
    trial._run_experiment(tmp_path, job(apart=apart, target=target), None, cached, None)
    run = ["exp", "run", "--name", "it", *(["--pull"] if "--pull" in expected[1] else [])]
    run += ["--set-param", "lr=0.1", "--set-param", "seed=2", *([target] if target else [])]
    wanted = [" ".join(run) if words.startswith("exp run") else words for words in expected]
    assert [" ".join(arguments) for arguments, _ in calls] == wanted
    assert calls[1][1] == {"error": trial.TrialError, "stop": None}


@pytest.mark.parametrize("stopped", [True, False])
def test_what_a_stopped_trial_made_is_not_given_to_the_remote(monkeypatch, tmp_path, stopped):
    calls = []
    monkeypatch.setattr(trial, "_dvc", lambda place, job, lock, *arguments, **more: calls.append((arguments, more)))
    history: Any = SimpleNamespace(stop=lambda: stopped, stopped=stopped)
    trial._run_experiment(tmp_path, job(), None, False, history)
    assert [arguments[0] for arguments, _ in calls] == ["pull", "exp", *([] if stopped else ["push"])]
    assert calls[1][1]["stop"] is history.stop


def test_a_cache_that_lacks_something_does_not_stop_the_job(monkeypatch, tmp_path):
    calls = []

    def dvc(place: Path, job: trial.Job, lock: Any, *arguments: str, **_: Any) -> None:
        calls.append(arguments[0])
        if arguments[0] == "checkout":
            raise UserError("missing")

    monkeypatch.setattr(trial, "_dvc", dvc)
    trial._run_experiment(tmp_path, job(), None, True, None)
    assert calls == ["checkout", "exp"]


@pytest.mark.parametrize(
    ("code", "log", "error", "message"),
    [
        (0, "ERROR: but it ended well", None, ""),
        (1, "a\n\nb\nc\nd\n", trial.TrialError, "b\nc\nd"),
        (1, "Error: 1\nnoise\nERROR: 2\nerror: 3\nERROR: 4\nend\n", trial.TrialError, "ERROR: 2\nerror: 3\nERROR: 4"),
        (255, "[Errno 28] No space left on device: 'm'\nERROR: x\n", UserError, "No space left on device"),
        (255, "ERROR: x\n[Errno 28] No space left on device: 'm'\n", UserError, "No space left on device"),
        (-9, "Updating lock file", trial.TrialError, "dvc pull was killed by SIGKILL; was there too little memory?"),
    ],
)
def test_dvc_in_the_clone_and_its_last_words(monkeypatch, tmp_path, code, log, error, message):
    seen: dict[str, Any] = {}

    def run(words: tuple[str, ...], folder: Path, environment: dict[str, str], path: Path, lock: Any, stop: Any) -> int:
        seen.update(words=words, folder=folder, environment=environment, lock=lock, stop=stop)
        path.write_text(log)
        return code

    monkeypatch.setattr(dvc_process, "run", run)
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    monkeypatch.setenv("KEPT", "yes")
    wanted = job(variables={"OMP_NUM_THREADS": None, "MORE": "1"})
    with (tmp_path / "lock").open("w") as lock:
        if error:
            with pytest.raises(error) as raised:
                trial._dvc(tmp_path, wanted, lock, "pull", "-q", error=trial.TrialError)
            assert (type(raised.value), str(raised.value)) == (error, message)
        else:
            trial._dvc(tmp_path, wanted, lock, "pull", "-q")
        assert (seen["lock"], seen["stop"]) == (lock, None)
    assert seen["words"] == ("pull", "-q")
    assert seen["folder"] == tmp_path / "repository"
    variables = seen["environment"]
    assert variables["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert (variables["DVC_NO_ANALYTICS"], variables["MORE"], variables["KEPT"]) == ("1", "1", "yes")
    assert "OMP_NUM_THREADS" not in variables
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in variables


@pytest.mark.parametrize("code", [None, 0, 1])
def test_dvc_that_was_stopped_has_not_failed(monkeypatch, tmp_path, code):
    monkeypatch.setattr(dvc_process, "run", lambda *_: code)
    (tmp_path / "log").write_text("ERROR: it\n")
    if code:
        with pytest.raises(UserError, match=r"^ERROR: it$"):
            trial._dvc(tmp_path, job(), None, "pull")
    else:
        trial._dvc(tmp_path, job(), None, "pull")


@pytest.mark.parametrize(
    ("gpus", "visible", "growth"), [(0, "", None), (1, "7", None), (0.5, "7", "true"), (2, "7", None)]
)
def test_a_trial_sees_its_gpus_and_takes_their_memory_as_it_needs_it(monkeypatch, tmp_path, gpus, visible, growth):
    """Ray has set which they are."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(dvc_process, "run", lambda words, folder, environment, *_: seen.append(environment) or 0)
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH", raising=False)
    trial._dvc(tmp_path, job(gpus=gpus), None, "pull")
    assert (seen[0]["CUDA_VISIBLE_DEVICES"], seen[0].get("TF_FORCE_GPU_ALLOW_GROWTH")) == (visible, growth)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device", "/tmp/x"), "No space left on device"),
        (OSError(13, "Permission denied", "/tmp/x"), "[Errno 13] Permission denied: '/tmp/x'"),
        (UserError("git fetch:\n  refused"), "git fetch: refused"),
    ],
)
def test_a_fault_of_the_machine_names_it(monkeypatch, error, reason):
    monkeypatch.setattr(trial, "_run", lambda job, repository: raise_(error))
    context = SimpleNamespace(get_node_id=lambda: "id")
    monkeypatch.setattr(trial.ray, "get_runtime_context", lambda: context)
    with pytest.raises(trial.MachineError) as raised:
        trial.run_job(job(), b"")
    assert raised.value.args == ("id", platform.node(), reason)


def test_a_fault_of_the_trial_names_where_it_ran(monkeypatch):
    failed = trial.TrialError("ERROR: the loss is nan")
    monkeypatch.setattr(trial, "_run", lambda job, repository: raise_(failed))
    with pytest.raises(trial.TrialError, match=f"^{platform.node()}: ERROR: the loss is nan$"):
        trial.run_job(job(), b"")


@pytest.mark.parametrize("error", [trial.TrialError("ERROR: database is locked"), UserError("git init: failed")])
@pytest.mark.parametrize("full", ["temporary", "cache", None])
def test_a_full_disk_is_seen_whatever_a_library_says(monkeypatch, tmp_path, error, full):
    free = {str(tmp_path): 10_000_000, "/cache": 10_000_000}
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(trial.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[str(folder)]))
    monkeypatch.setattr(trial, "_run", lambda job, repository: raise_(error))
    monkeypatch.setattr(trial.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "id"))
    if full:
        free[{"temporary": str(tmp_path), "cache": "/cache"}[full]] -= 1
        with pytest.raises(trial.MachineError) as raised:
            trial.run_job(job(cache="/cache"), b"")
        assert raised.value.args == ("id", platform.node(), "No space left on device")
    else:
        with pytest.raises((trial.TrialError, trial.MachineError), match=r"database is locked|git init"):
            trial.run_job(job(cache="/cache"), b"")


def test_a_disk_that_cannot_be_asked_is_not_full(monkeypatch):
    monkeypatch.setattr(trial.shutil, "disk_usage", lambda folder: raise_(OSError(5, "Input/output error")))
    monkeypatch.setattr(trial, "_run", lambda job, repository: raise_(trial.TrialError("ERROR: it diverged")))
    with pytest.raises(trial.TrialError, match="ERROR: it diverged"):
        trial.run_job(job(), b"")


def test_a_job_on_a_machine_that_lacks_something_does_not_start(monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: pytest.fail("it started"))
    with pytest.raises(UserError, match=r"^numpy: found .*; install that; /nowhere/cache: missing"):
        trial._run(job(versions={"numpy": "0.1"}), b"")


def test_a_job_has_its_clone_alone_and_does_not_repeat_an_experiment(monkeypatch, tmp_path):
    """The second time it is there already, as the dvc of a killed worker leaves it."""
    ran: list[Any] = []
    locks: list[int] = []
    monkeypatch.setattr(trial, "_places", lambda: tmp_path / "places")
    monkeypatch.setattr(trial, "_clone", lambda place, *_: (place / "repository/runs").mkdir(parents=True))
    monkeypatch.setattr(trial, "_configure", lambda *_: None)
    monkeypatch.setattr(trial, "_run_experiment", lambda place, *_: ran.append(place.name))
    monkeypatch.setattr(trial, "_bundle", lambda *_: b"bundle")
    monkeypatch.setattr(trial.ray, "get_gpu_ids", list)
    monkeypatch.setattr(trial.fcntl, "flock", lambda file, how: locks.append(how))
    for found in ("", "refs/exps/00/it\n"):
        monkeypatch.setattr(trial, "git", lambda *_, cwd, found=found: found)
        assert trial._run(job(cache=str(tmp_path)), b"").bundle == b"bundle"
    assert (ran, locks) == (["it"], [fcntl.LOCK_EX] * 2)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(("watched", "stopped"), [(False, False), (True, False), (True, True)])
def test_what_a_worker_sends_back(monkeypatch, tmp_path, cached, watched, stopped):
    def run(place: Path, job: trial.Job, lock: Any, cached: bool, history: Any) -> None:
        if history:
            history.values, history.stopped = [0.3, 0.2], stopped

    monkeypatch.setattr(trial, "_places", lambda: tmp_path / "places")
    monkeypatch.setattr(trial, "_clone", lambda place, *_: (place / "repository/runs").mkdir(parents=True))
    monkeypatch.setattr(trial, "_configure", lambda *_: None)
    monkeypatch.setattr(trial, "_run_experiment", run)
    monkeypatch.setattr(trial, "_bundle", lambda *_: b"bundle")
    monkeypatch.setattr(trial, "git", lambda *_, cwd: "")
    monkeypatch.setattr(trial.ray, "get_gpu_ids", lambda: [3])
    cache = tmp_path if cached else tmp_path / "nowhere"
    watch = trial.Watched("history.csv", "accuracy") if watched else None
    sent = trial._run(job(cache=str(cache), remote=str(tmp_path), watched=watch), b"")
    assert (sent.bundle, sent.pruned) == ((b"", [0.3, 0.2]) if stopped else (b"bundle", None))
    assert (sent.pushed, sent.node, sent.gpus) == (not cached, platform.node(), ("3",))


@pytest.mark.parametrize("cached", [True, False])
def test_a_clone_is_of_the_revision_and_has_the_settings_of_the_sweep(monkeypatch, tmp_path, cached):
    source, place, bundle = (tmp_path / name for name in ("source", "place", "bundle"))
    (source / ".dvc").mkdir(parents=True)
    place.mkdir()
    call(source, "git", "init", "--quiet")
    for text in ("first", "second"):
        (source / ".dvc/config").write_text(f"# {text}\n")
        save(source)
    call(source, "git", "bundle", "create", "--quiet", str(bundle), "HEAD")
    monkeypatch.setattr(trial, "_places", lambda: tmp_path / "places")
    settings = {"core": {"autostage": True}, "cache": {"dir": "/elsewhere"}}
    revision = call(source, "git", "rev-parse", "HEAD~1").strip()
    trial._clone(place, job(revision=revision), bundle.read_bytes())
    assert (place / "repository/.dvc/config").read_text() == "# first\n"
    assert (place / "ready").exists()
    # A kept clone, too: the settings may have been corrected meanwhile.
    for given in (settings | {"core": {"autostage": False}}, settings):
        trial._configure(place / "repository", job(settings=given, cache="/cache"), cached)
    lines = [line.strip() for line in (place / "repository/.dvc/config.local").read_text().splitlines()]
    assert f"dir = {'/cache' if cached else tmp_path / 'places/cache'}" in lines
    assert {"autostage = True", 'type = "reflink,symlink,copy"'} <= set(lines)


def test_a_users_hooks_are_not_run_in_a_clone(monkeypatch, tmp_path):
    hook = tmp_path / "hooks/post-checkout"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    (tmp_path / "gitconfig").write_text(f"[core]\n    hooksPath = {hook.parent}\n")
    source, place = tmp_path / "source", tmp_path / "place"
    source.mkdir()
    place.mkdir()
    call(source, "git", "init", "--quiet")
    (source / "file").touch()
    save(source)
    call(source, "git", "bundle", "create", "--quiet", "bundle", "HEAD")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    revision = call(source, "git", "rev-parse", "HEAD").strip()
    trial._clone(place, job(revision=revision), (source / "bundle").read_bytes())
    assert (place / "repository/file").exists()


def test_what_json_lacks_in_a_record_is_null(tmp_path):
    (tmp_path / "train_it.json").write_text('{"loss": NaN, "rate": -Infinity, "seconds": 1.5}')
    assert trial._records(tmp_path) == {"train_it": {"loss": None, "rate": None, "seconds": 1.5}}


def test_the_clones_of_two_commits_and_of_two_repositories_are_apart(monkeypatch, tmp_path):
    """An interrupted run leaves its clone, which is of one commit, and its settings of one cache."""
    places: list[Path] = []
    monkeypatch.setattr(trial, "_places", lambda: tmp_path / "places")
    monkeypatch.setattr(trial, "git", lambda *_, cwd: "")

    def interrupted(place: Path, *_: Any) -> None:
        places.append(place)
        raise trial.TrialError

    monkeypatch.setattr(trial, "_clone", interrupted)
    for revision, cache in (("0123", "one"), ("4567", "one"), ("0123", "other"), ("0123", "one")):
        (tmp_path / cache).mkdir(exist_ok=True)
        with pytest.raises(trial.TrialError):
            trial._run(job(revision=revision, cache=str(tmp_path / cache)), b"")
    assert {place.name for place in places} == {"it"}
    assert len(set(places)) == 3
    assert places[3] == places[0]


def test_a_clone_that_an_interrupted_run_left_has_none_of_its_locks(monkeypatch, tmp_path):
    """Those of git alone: DVC's are held by a process, and end with it."""
    found: list[list[str]] = []
    monkeypatch.setattr(trial, "_places", lambda: tmp_path / "places")
    monkeypatch.setattr(trial, "git", lambda *_, cwd: "")

    def clone(place: Path, *_: Any) -> None:
        (place / "repository/.git/objects/ab").mkdir(parents=True)
        for name in ("ready", "repository/.git/objects/ab/cd", "repository/requirements.lock"):
            (place / name).touch()

    def run(place: Path, *_: Any) -> None:
        found.append(sorted(path.name for path in place.rglob("*") if path.is_file()))
        (place / "repository/.git/objects/ab/ef.lock").touch()
        (place / "repository/.git/index.lock").touch()
        raise trial.TrialError

    monkeypatch.setattr(trial, "_clone", clone)
    monkeypatch.setattr(trial, "_run_experiment", run)
    for _ in range(2):
        with pytest.raises(trial.TrialError):
            trial._run(job(cache=str(tmp_path)), b"")
    assert found == [["cd", "config.local", "ready", "requirements.lock"]] * 2


def test_records_are_those_of_the_trainings(tmp_path):
    for name in ("train_mnist", "train_cifar", "other"):
        (tmp_path / f"{name}.json").write_text(f'{{"name": "{name}"}}')
    assert trial._records(tmp_path) == {"train_cifar": {"name": "train_cifar"}, "train_mnist": {"name": "train_mnist"}}


class Progress:
    """A driver's actor that wants a trial to stop from its `most` epochs on; `gone` while it is not there."""

    def __init__(self, most: int) -> None:
        self.most, self.gone, self.report = most, False, self
        self.reported: list[tuple[str, list[float]]] = []

    def remote(self, name: str, values: list[float]) -> bool:
        if self.gone:
            raise RayError
        self.reported.append((name, values))
        return len(values) >= self.most


def test_a_history_is_reported_until_the_driver_says_stop(monkeypatch, tmp_path):
    """That of the commit is not this trial's."""
    monkeypatch.setattr(trial.ray, "get", lambda answer: answer)
    path, progress = tmp_path / "history.csv", Progress(most=2)
    path.write_text("epoch,accuracy\n1,0.9\n2,0.9\n3,0.9\n")
    history = trial.History(tmp_path, job(watched=trial.Watched("history.csv", "accuracy", progress)))
    assert not history.stop()
    path.unlink()
    assert not history.stop()
    assert progress.reported == []
    path.write_text("epoch,accuracy\n1,0.5\n")
    assert not history.stop()
    path.write_text("epoch,accuracy\n1,0.5\n2,0.25\n")
    progress.gone = True
    assert not history.stop()
    progress.gone = False
    assert history.stop()
    assert history.stopped
    assert progress.reported == [("it", [0.5]), ("it", [0.5, 0.25])]
    assert history.values == [0.5, 0.25]


@pytest.mark.parametrize("last", ["2", "2,", "2,0.x", ""])
def test_a_history_is_read_up_to_a_row_that_is_not_whole(last):
    assert trial.Watched("history.csv", "accuracy").column_of(f"epoch,accuracy\n1,0.5\n{last}") == [0.5]


def test_a_history_that_is_empty_has_no_column():
    with pytest.raises(UserError, match=r"^history\.csv: found no column accuracy; known: $"):
        trial.Watched("history.csv", "accuracy").column_of("")


def test_a_history_without_the_column_is_a_fault_of_the_trial(tmp_path):
    history = trial.History(tmp_path, job(watched=trial.Watched("history.csv", "accuracy", Progress(1))))
    (tmp_path / "history.csv").write_text("epoch,loss\n1,0.5\n")
    with pytest.raises(trial.TrialError, match=r"^history\.csv: found no column accuracy; known: epoch, loss$"):
        history.stop()


# The command.


@pytest.mark.parametrize("trials", ["0", "-1", "1.5", "x", "²"])
def test_a_number_of_trials_or_threads_is_at_least_one(trials, capsys):
    for option in ("--trials", "--threads"):
        with pytest.raises(SystemExit) as ended:
            command.main(["lr=0.1", "--search=random", f"{option}={trials}"])
        assert ended.value.code == 2
        assert f"found {trials}, expected a whole number, at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--search=optuna"], ["--trials=3"]])
def test_search_and_trials_go_together(arguments):
    with pytest.raises(UserError, match="--search and --trials go together"):
        command.main(["lr=0.1", *arguments])


def test_options_and_their_defaults():
    options = command._options(["lr=0.1"])
    assert (options.metric, options.minimize, options.threads, options.dry) == ("mnist.val.accuracy", False, 2, False)
    assert command._options(["lr=0.1", "--threads=1"]).threads == 1


@pytest.mark.parametrize("gpus", ["0", "-1", "1.5", "x", "nan", "inf"])
def test_gpus_are_whole_or_a_share_of_one(gpus, capsys):
    with pytest.raises(SystemExit):
        command.main(["lr=0.1", f"--gpus={gpus}"])
    assert f"found {gpus}, expected a whole number, or a share of one GPU such as 0.5" in capsys.readouterr().err


def test_pruning_needs_a_search():
    with pytest.raises(UserError, match="--prune needs --search"):
        command.main(["lr=0.1,0.2", "--prune"])


def test_trials_with_gpus_have_the_gpu_as_their_device(in_repository, capsys):
    command.main(["lr=0.1", "--gpus=0.5", "--threads=1", "--dry"])
    assert capsys.readouterr().out.splitlines() == [
        "sweep: 1 trial of 1 thread and 0.5 GPUs each", "device=gpu-lr0.1-threads1 lr=0.1 threads=1 device=gpu",
    ]  # fmt: skip
    with pytest.raises(UserError, match="device: given more than once"):
        command.main(["lr=0.1", "device=cpu", "--gpus=1", "--dry"])


@pytest.fixture
def in_repository(project, monkeypatch):
    """In a project whose git says what a test wants."""
    answers = {"status": "", "--is-shallow-repository": "false\n", "--show-prefix": "\n"}
    monkeypatch.setattr(command, "git", lambda name, *rest: answers[rest[0] if name == "rev-parse" else name])
    return answers


def test_dry_lists_every_trial_with_its_name(in_repository, monkeypatch, capsys):
    monkeypatch.setattr(command, "_sweep", lambda *_: pytest.fail("it started"))
    command.main(["lr=0.1,0.2", "seed=3", "--threads=4", "--dry"])
    trials = [("lr=0.1", "seed=3", "threads=4"), ("lr=0.2", "seed=3", "threads=4")]
    assert capsys.readouterr().out.splitlines() == [
        "sweep: 2 trials of 4 threads each", *(f"{experiment_name(one)} {' '.join(one)}" for one in trials),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        ("status", " M a.py\n?? b\n", "found uncommitted changes, which no worker would see: a.py, b; commit them, or"),
        ("status", " M a\n M b\n M c\n M d\n", "see: a, b, c and more; commit"),
        ("--is-shallow-repository", "true\n", "this clone is shallow"),
        ("--show-prefix", "sub/\n", "the git repository begins in a folder above"),
    ],
)
def test_what_workers_would_not_get_is_refused(in_repository, question, answer, message):
    in_repository[question] = answer
    with pytest.raises(UserError, match=message):
        command.main(["lr=0.1", "--dry"])


@pytest.mark.parametrize("failed", [0, 1, 3])
def test_a_failed_trial_is_an_error(in_repository, monkeypatch, failed, capsys):
    given = []

    def sweep(overrides: Any, search: Any, trials: Any, options: Any) -> SimpleNamespace:
        given.append((search and (search.sampler, search.trials, search.minimize, search.prune), trials))
        return SimpleNamespace(run=lambda: failed, ended=[None] * 2)  # a search may draw no more

    monkeypatch.setattr(command, "_sweep", sweep)
    searching = ["--search=optuna", "--trials=5", "--minimize"]
    for more, total in ([], 2), (searching, 5), ([*searching, "--prune"], 5):
        if failed:
            with pytest.raises(UserError, match=f"^sweep: {failed} of {total} trials failed; fix that and run"):
                command.main(["lr=0.1,0.2", "--threads=1", *more])
        else:
            command.main(["lr=0.1,0.2", "--threads=1", *more])
        printed = capsys.readouterr().out
        assert "Trials have threads=1, params.yaml has threads: 0 (all cores): other threads give other" in printed
        assert ("sweep: 2 trials; further draws only repeated them\n" in printed) is (total == 5)
    assert given == [
        (None, [("lr=0.1", "threads=1"), ("lr=0.2", "threads=1")]),
        (("optuna", 5, True, False), []),
        (("optuna", 5, True, True), []),
    ]


def test_only_other_threads_than_those_of_params_yaml_have_a_note(project):
    params_file = project / "params.yaml"
    params_file.write_text(params_file.read_text().replace("threads: 0", "threads: 2"))
    assert command._threads_note(2) == ""
    assert "params.yaml has threads: 2: other" in command._threads_note(3)


@pytest.mark.parametrize("minimize", [False, True])
def test_the_summary_lists_the_best_trial_first(in_repository, monkeypatch, tmp_path, minimize):
    ended = [driver.Ended(f"lr{lr}", lr, (f"lr={lr}", "threads=2"), "5 s", pruned=False) for lr in (0.1, 0.3, 0.2)]
    monkeypatch.setattr(command, "_sweep", lambda *_: SimpleNamespace(run=lambda: 0, ended=ended))
    command.main(["lr=0.1,0.2,0.3", f"--summary={tmp_path / 'page.html'}", *["--minimize"][:minimize]])
    names = re.findall(r"<tr><td>(.*?)</td>", (tmp_path / "page.html").read_text())
    assert names == (["lr0.1", "lr0.2", "lr0.3"] if minimize else ["lr0.3", "lr0.2", "lr0.1"])


@pytest.mark.parametrize(("name", "found"), [("", "a folder"), ("file/page.html", "the file .*/file in place of a")])
def test_a_summary_that_cannot_be_written_is_refused_before_the_first_trial(
    in_repository, monkeypatch, tmp_path, name, found
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(command, "_sweep", lambda *_: pytest.fail("it started"))
    with pytest.raises(UserError, match=rf"^sweep: --summary .*: found {found}.*, expected the name of a file"):
        command.main(["lr=0.1", f"--summary={tmp_path / name}"])
    command.main(["lr=0.1", f"--summary={tmp_path / 'new/page.html'}", "--dry"])
    assert not (tmp_path / "new").exists()


def test_a_summary_replaces_an_earlier_one_and_no_other_file(in_repository, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "_sweep", lambda *_: SimpleNamespace(run=lambda: 0, ended=[]))
    path = tmp_path / "page.html"
    path.touch()
    for trials in ("lr=0.1", "lr=0.1,0.2"):
        command.main([trials, f"--summary={path}"])
    path.write_text("<title>A sweep of mine</title>")
    with pytest.raises(UserError, match=r"^sweep: --summary .*page\.html: found a file that is no page of a sweep"):
        command.main(["lr=0.1", f"--summary={path}", "--dry"])
    assert path.read_text() == "<title>A sweep of mine</title>"


@pytest.mark.parametrize("more", [[], ["--dry"]])
def test_an_interval_from_which_nothing_is_drawn_starts_nothing(in_repository, monkeypatch, more):
    monkeypatch.setattr(command, "_sweep", lambda *_: pytest.fail("it started"))
    with pytest.raises(UserError, match=r"^sweep: lr=interval\(1,0\.1\): found an interval from 1 to 0\.1, expected"):
        command.main(["lr=interval(1,0.1)", "--search=optuna", "--trials=1", *more])


def test_the_clones_of_a_user_are_apart_from_those_of_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / f"sweep-{os.getuid()}"
    for _ in range(2):
        assert trial._places() == folder
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o755)


def test_clones_are_in_no_folder_that_others_could_change(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"sweep-{os.getuid()}").symlink_to(tmp_path)
    other = os.getuid() + 1
    (tmp_path / f"sweep-{other}").mkdir()
    for uid in (os.getuid(), other):
        monkeypatch.setattr(os, "getuid", lambda uid=uid: uid)
        with pytest.raises(UserError, match=f"sweep-{uid}: expected a folder of this user, got a link or another"):
            trial._places()


def test_a_pruned_trial_that_diverged_has_no_metric(monkeypatch, capsys, reported):
    fake = Fake(slots=1)
    fake.outcomes = {"lr=0.1": [[0.3, float("nan")]]}
    assert run(fake, monkeypatch, "0.1", "0.5") == 0
    assert reported == [(None, "pruned"), 0.5]
    assert "val.accuracy -       lr=0.1  pruned after 2 epochs, 84 s on host-a\n" in capsys.readouterr().out
