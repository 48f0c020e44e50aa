"""Sweeps of a repository whose one stage does next to nothing, on clusters of several nodes that are processes here."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from tests.conftest import ROOT, call, commit, environment

os.environ["RAY_AUTH_MODE"] = "token"  # Ray's default, but not in its tools for tests; read when it is imported
pytest.importorskip("ray", reason="the sweep extra is not installed")
from stages import sweep
from stages.lib.errors import UserError

STAGE = """
import json, os, pathlib, sys, time, yaml
params = yaml.safe_load(open("params.yaml"))
with open(os.environ["SEEN"], "a") as seen:
    seen.write(f"{sys.argv[1]} {params['lr']} {params['seed']} {os.getpid()}\\n")
if sys.argv[1] == "prepare":
    pathlib.Path("data.txt").write_text(str(params["split"]))
else:
    state = pathlib.Path("runs/checkpoints")
    if state.exists():
        pathlib.Path(os.environ["SEEN"] + ".resumed").touch()
    state.mkdir(parents=True, exist_ok=True)
    wait = pathlib.Path(os.environ["SEEN"] + ".wait")
    while wait.exists():
        time.sleep(0.05)
    if params["lr"] == 0.5:
        sys.exit("ERROR: the loss is nan")
    pathlib.Path("metrics.json").write_text(json.dumps({"val": {"accuracy": 1 - params["lr"] + params["seed"] / 100}}))
    pathlib.Path("model.txt").write_text(f"{params['lr']} {params['seed']}")
    pathlib.Path("runs/train_it.json").write_text(json.dumps({"threads": params["threads"]}))
"""
PIPELINE = {
    "stages": {
        "prepare": {"cmd": "python stage.py prepare", "deps": ["stage.py"], "params": ["split"], "outs": ["data.txt"]},
        "train": {
            "cmd": "python stage.py train",
            "deps": ["stage.py", "data.txt"],
            "params": ["lr", "seed", "threads"],
            "outs": ["model.txt"],
            "metrics": [{"metrics.json": {"cache": False}}],
        },
    }
}
PARAMS = {"lr": 0.1, "seed": 0, "split": 1, "threads": 0}
SCHEMA = {
    "type": "object",
    "properties": {
        "lr": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "seed": {"type": "integer"},
        "split": {"type": "integer"},
        "threads": {"type": "integer"},
    },
    "required": [*PARAMS],
    "additionalProperties": False,
}


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "stage.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (folder / "params.schema.json").write_text(json.dumps(SCHEMA))
    (folder / ".gitignore").write_text("runs/\n/data.txt\n/model.txt\n")
    call(folder, "git", "init", "--quiet", "--initial-branch=main")
    call(folder, "dvc", "init", "--quiet")
    call(folder, "git", "add", "--all")
    commit(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the places of its trials
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # its sockets have room for short paths alone
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def sweep_it(folder: Path, *arguments: str, check: bool = True, **more: str) -> str:
    return call(folder, sys.executable, "-m", "stages.sweep", *arguments, "--metric=val.accuracy", check=check, **more)


def seen(folder: Path) -> list[str]:
    return [line.rsplit(" ", 1)[0] for line in (folder.parent / "seen").read_text().splitlines()]


def test_overrides_are_those_of_dvc(repository):
    parsed = sweep.parse(["lr=0.1,0.2", "seed=range(0,3)", "threads=1"])
    trials = sweep.grid(parsed)
    assert len(trials) == 6
    assert trials[1] == ("lr=0.1", "seed=1", "threads=1")
    assert len({sweep.name(trial) for trial in trials}) == 6
    assert sweep.name(trials[1]) == sweep.name(tuple(reversed(trials[1])))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["lr=0.1,2"], "lr: found 2, expected a number, above 0 and at most 1"),
        (["lr=0"], "lr: found 0, expected"),
        (["lrr=0.1"], "lrr: unknown key; did you mean lr?"),
        (["seed=one,2"], 'seed: found "one", expected a whole number'),
        (["lr=interval(0.1,3)"], "lr: found 3"),
        (["lr"], "lr: found no override"),
        (["lr=0.1", "lr=0.2"], "lr: given more than once"),
    ],
)
def test_bad_overrides_are_refused_before_anything_starts(repository, overrides, told):
    with pytest.raises(UserError) as error:
        sweep.parse(overrides)
    assert told in str(error.value)


def test_an_interval_has_no_grid(repository):
    with pytest.raises(UserError, match="an interval has no grid; add --search"):
        sweep.grid(sweep.parse(["lr=interval(0.1,0.2)"]))


def test_uncommitted_changes_are_refused(repository):
    (repository / "params.yaml").write_text("lr: 0.2\nseed: 0\nsplit: 1\nthreads: 0\n")
    assert "changes that are not committed" in sweep_it(repository, "lr=0.1", check=False)


def test_dry_lists_the_trials_and_starts_nothing(repository):
    output = sweep_it(repository, "lr=0.1,0.2", "seed=range(0,2)", "--threads=1", "--dry")
    assert "4 trials of 1 threads each" in output
    assert output.count("threads=1") == 4
    assert not (repository.parent / "seen").exists()


@pytest.mark.slow
def test_a_sweep_leaves_experiments_and_starting_it_again_runs_what_is_missing(repository):
    """One trial fails: the others go on, it is reported, and alone it runs again."""
    arguments = ["lr=0.2,0.5", "seed=1,2", "split=3", "--threads=1"]
    output = sweep_it(repository, *arguments, check=False)
    assert output.count("failed: ") == 2
    assert "the loss is nan" in output
    assert "error: sweep: 2 of 4 trials failed" in output
    assert "val.accuracy 0.8100" in output  # 1 - 0.2 + 1 / 100
    assert sorted(seen(repository)) == [
        "prepare 0.1 0", "train 0.2 1", "train 0.2 2", "train 0.5 1", "train 0.5 2",
    ]  # fmt: skip
    listed = json.loads(call(repository, "dvc", "exp", "show", "--json"))
    names = [one["name"] for one in listed[1]["experiments"]] if listed[1].get("experiments") else []
    assert len(names) == 2
    assert call(repository, "git", "status", "--porcelain") == ""

    (repository.parent / "seen").write_text("")
    again = sweep_it(repository, *arguments, check=False)
    assert again.count("is there") == 2
    assert sorted(seen(repository)) == ["train 0.5 1", "train 0.5 2"]

    name = sweep.name(("lr=0.2", "seed=2", "split=3", "threads=1"))
    assert json.loads((repository / f"runs/sweep/{name}.json").read_text())["records"]["train_it"] == {"threads": 1}
    call(repository, "dvc", "exp", "apply", name)
    assert yaml.safe_load((repository / "params.yaml").read_text())["seed"] == 2
    assert json.loads((repository / "metrics.json").read_text())["val"]["accuracy"] == pytest.approx(0.82)
    assert (repository / "data.txt").read_text() == "3"
    assert "up to date" in call(repository, "dvc", "status")


def test_a_trial_is_what_dvc_exp_run_gives(repository):
    sweep_it(repository, "lr=0.2", "--threads=1")
    name = sweep.name(("lr=0.2", "threads=1"))
    call(repository, "dvc", "exp", "run", "--name", "by-hand", "-S", "lr=0.2", "-S", "threads=1")
    refs = call(repository, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    own, by_hand = (next(ref for ref in refs if ref.endswith(f"/{one}")) for one in (name, "by-hand"))
    assert call(repository, "git", "diff", own, by_hand) == ""


@pytest.mark.slow
def test_optuna_learns_from_the_trials_and_from_those_that_are_there(repository):
    arguments = ["lr=tag(log, interval(0.001,0.4))", "seed=choice(0,1,2)", "--threads=1", "--search=optuna"]
    output = sweep_it(repository, *arguments, "--trials=4")
    assert output.count("train") == 0
    assert output.count(" s on ") == 4
    again = sweep_it(repository, *arguments, "--trials=6")
    assert again.count(" s on ") == 2
    rates = [float(line.split()[1]) for line in seen(repository) if line.startswith("train")]
    assert len(set(rates)) == 6
    assert all(0.001 <= rate <= 0.4 for rate in rates)


# ------------------------------------------------- several machines, each a process here


@pytest.fixture
def cluster(repository):
    """A head that runs no trials; nodes are added by the tests."""
    from ray.cluster_utils import Cluster

    call(repository, sys.executable, "-m", "ray.scripts.scripts", "get-auth-token", "--generate")
    quick = {"health_check_period_ms": 1000}  # a third: dead nodes are noticed sooner
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    )
    yield made
    made.shutdown()


@pytest.fixture
def held(repository):
    """Trainings wait until this file is gone."""
    wait = repository.parent / "seen.wait"
    wait.touch()
    yield wait
    wait.unlink(missing_ok=True)


@contextmanager
def odd_node(cluster, before: str = "true", **more: str):
    """A node of one core, in a file system of its own that `before` changes."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare, to give a node other files")
    before_it = alive(cluster)
    start = f"{sys.executable} -m ray.scripts.scripts start --address={cluster.address} --num-cpus=1 --block"
    node = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"{before} && exec {start}"],
        env=os.environ | more,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: alive(cluster) == before_it + 1)
        yield
    finally:
        os.killpg(node.pid, signal.SIGKILL)


def alive(cluster) -> int:
    return sum(node["Alive"] for node in cluster.global_state.node_table())


def until(true, seconds=60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def start(cluster, folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "stages.sweep", *arguments, "--metric=val.accuracy", "--threads=1"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(RAY_ADDRESS=cluster.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def trainings(folder: Path) -> list[int]:
    """The processes of those that have started."""
    path = folder.parent / "seen"
    lines = path.read_text().splitlines() if path.exists() else []
    return [int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("train")]


@pytest.mark.slow
def test_a_worker_that_is_killed(cluster, repository, held):
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    running = start(cluster, repository, "lr=0.2,0.3")
    until(lambda: len(trainings(repository)) == 2)
    worker = next(one for one in psutil.Process(trainings(repository)[0]).parents() if "ray::" in one.name())
    worker.kill()
    held.unlink()
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 0, output
    assert output.count(" s on ") == 2
    assert len(call(repository, "dvc", "exp", "list", "--name-only").split()) == 2
    assert (repository.parent / "seen.resumed").exists()  # it went on from the states of its first attempt


@pytest.mark.slow
def test_a_node_that_is_gone(cluster, repository, held):
    gone = cluster.add_node(num_cpus=1)
    running = start(cluster, repository, "lr=0.2,0.3")
    until(lambda: len(trainings(repository)) == 1)
    cluster.add_node(num_cpus=1)
    cluster.remove_node(gone, allow_graceful=False)
    held.unlink()
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 0, output
    assert output.count(" s on ") == 2


@pytest.mark.slow
def test_a_driver_that_is_killed(cluster, repository):
    cluster.add_node(num_cpus=1)
    running = start(cluster, repository, "lr=0.2,0.3,0.4")
    assert running.stdout
    until(lambda: " s on " in running.stdout.readline())
    running.kill()
    again = start(cluster, repository, "lr=0.2,0.3,0.4")
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "is there" in output
    assert output.count("is there") + output.count(" s on ") == 3
    assert len(call(repository, "dvc", "exp", "list", "--name-only").split()) == 3


@contextmanager
def full_node(cluster, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    with odd_node(cluster, f"mount -t tmpfs -o size=40k none {full}", TMPDIR=str(full)):
        yield


@pytest.mark.slow
def test_a_node_whose_disk_is_full(cluster, repository, held, tmp_path):
    """What trials share starts on both nodes, one job each; the trainings wait, so that none can end before."""
    cluster.add_node(num_cpus=1)
    with full_node(cluster, tmp_path):
        running = start(cluster, repository, "lr=0.2,0.3", "split=3,4")
        assert running.stdout
        until(lambda: re.search(r"^sweep: \S+: left out: No space left on device$", running.stdout.readline(), re.M))
        held.unlink()
        output, _ = running.communicate(timeout=120)
    assert running.returncode == 0, output
    assert output.count(" s on ") == 4
    assert "left out" not in output  # once is enough
    assert sorted(seen(repository)) == [*["prepare 0.1 0"] * 2, *["train 0.2 0"] * 2, *["train 0.3 0"] * 2]


@pytest.mark.slow
def test_the_disks_of_all_nodes_are_full(cluster, repository, tmp_path):
    with full_node(cluster, tmp_path):
        running = start(cluster, repository, "lr=0.2,0.3,0.4")
        output, _ = running.communicate(timeout=120)
    assert running.returncode == 1, output
    assert output.count("No space left on device") == 1
    assert output.count("failed: no machine is left") == 3
    assert "error: sweep: 3 of 3 trials failed" in output


@pytest.mark.slow
def test_a_disk_that_a_stage_fills(cluster, repository):
    """dvc tells of it; that is no fault of the trial."""
    text = STAGE.replace("the loss is nan", "[Errno 28] No space left on device: 'model'")
    (repository / "stage.py").write_text(text)
    commit(repository)
    cluster.add_node(num_cpus=1)
    running = start(cluster, repository, "lr=0.5")
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 1, output
    assert re.search(r"^sweep: \S+: left out: No space left on device$", output, re.M)
    assert "failed: no machine is left" in output


@pytest.mark.slow
def test_a_cluster_that_is_not_there_and_a_wrong_token(cluster, repository):
    output = sweep_it(repository, "lr=0.2", "--threads=1", check=False, RAY_ADDRESS="127.0.0.1:1")
    assert "error: sweep: no Ray at RAY_ADDRESS=127.0.0.1:1" in output
    assert "Traceback" not in output
    cluster.add_node(num_cpus=1)
    more = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_TOKEN": "0" * 64}
    output = sweep_it(repository, "lr=0.2", "--threads=1", check=False, **more)
    assert f"error: sweep: no Ray at RAY_ADDRESS={cluster.address}" in output
    assert "InvalidAuthToken" in output
    assert not (repository.parent / "seen").exists()


@pytest.mark.slow
def test_a_node_without_the_data(cluster, repository):
    """Nor the folder that is the default remote."""
    call(repository, "dvc", "remote", "add", "--local", "--default", "storage", "../storage")
    cluster.add_node(num_cpus=1)
    with odd_node(cluster, f"mount -t tmpfs none {repository}"):
        output, _ = start(cluster, repository, "lr=0.2").communicate(timeout=120)
    assert f"/cache and {repository.parent}/storage: found no such folder, expected DVC's cache or default" in output
    assert not (repository.parent / "seen").exists()


@pytest.mark.slow
@pytest.mark.parametrize("level", ["--local", "--project"])
def test_a_node_that_has_the_remote_alone(cluster, repository, level):
    """A relative path, which is to be the same folder for the clone of a trial."""
    call(repository, "dvc", "remote", "add", level, "--default", "storage", "../storage")
    call(repository, "dvc", "repro", "prepare")
    call(repository, "git", "add", "--all")
    commit(repository)
    call(repository, "dvc", "push")
    with odd_node(cluster, f"mount -t tmpfs none {repository}"):
        output, _ = start(cluster, repository, "lr=0.2", "seed=1,2").communicate(timeout=120)
    assert output.count(" s on ") == 2, output
    assert sorted(seen(repository)) == ["prepare 0.1 0", "train 0.2 1", "train 0.2 2"]  # prepared above
    call(repository, "dvc", "exp", "apply", sweep.name(("lr=0.2", "seed=2", "threads=1")))
    assert (repository / "model.txt").read_text() == "0.2 2"
    assert "up to date" in call(repository, "dvc", "status")


@pytest.mark.slow
def test_a_node_that_has_the_cache_and_one_that_has_the_remote(cluster, repository, held):
    """What trials share is made once for both, whichever makes it."""
    call(repository, "dvc", "remote", "add", "--local", "--default", "storage", "../storage")
    (repository.parent / "storage").mkdir()
    cluster.add_node(num_cpus=1)
    with odd_node(cluster, f"mount -t tmpfs none {repository}"):
        running = start(cluster, repository, "lr=0.2,0.3", "split=3")
        until(lambda: len(trainings(repository)) == 2)
        held.unlink()
        output, _ = running.communicate(timeout=120)
    assert output.count(" s on ") == 2, output
    assert sorted(seen(repository)) == ["prepare 0.1 0", "train 0.2 0", "train 0.3 0"]
    for rate in (0.2, 0.3):
        call(repository, "dvc", "exp", "apply", sweep.name((f"lr={rate}", "split=3", "threads=1")))
        assert (repository / "model.txt").read_text() == f"{rate} 0"
        assert "up to date" in call(repository, "dvc", "status")
        call(repository, "git", "restore", ".")


@pytest.mark.slow
def test_a_node_with_another_environment(cluster, repository, tmp_path):
    info = tmp_path / "other/numpy-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    with odd_node(cluster, PYTHONPATH=os.pathsep.join([str(info.parent), str(ROOT)])):
        output, _ = start(cluster, repository, "lr=0.2").communicate(timeout=120)
    assert re.search(r"numpy: found 0\.1, expected \d\S* as where the sweep was started; install that", output)
    assert not (repository.parent / "seen").exists()


@pytest.mark.slow
def test_the_seeds_of_a_sweep_become_the_table_over_seeds(copy, tmp_path, monkeypatch):
    """The real pipeline, on the sample: a trial has the bits of a training by hand with as many threads."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    output = call(copy, sys.executable, "-m", "stages.sweep", "seed=1,2", "--threads=1")
    assert output.count(" s on ") == 2
    name = sweep.name(("seed=1", "threads=1"))
    weights = json.loads((copy / f"runs/sweep/{name}.json").read_text())["records"]["train_mnist"]["weights"]
    call(copy, "dvc", "repro", "--quiet")  # nothing of the sweep's is in the way
    params = copy / "params.yaml"
    params.write_text(params.read_text().replace("seed: 0", "seed: 1", 1).replace("threads: 0", "threads: 1", 1))
    call(copy, "dvc", "repro", "--single-item", "--force", "train_mnist")
    assert json.loads((copy / "runs/train_mnist.json").read_text())["weights"] == weights
    call(copy, "git", "restore", ".")

    call(copy, sys.executable, "-m", "benchmarks.seeds", "mnist", "sweep")
    rows = pd.read_csv(copy / "benchmarks/seeds.csv").query("setting == 'mnist' and seed in [1, 2]")
    assert len(rows) == 2
    assert rows["hardware"].str.contains("1 threads").all()
    ref = next(one for one in call(copy, "git", "for-each-ref", "--format=%(refname)").split() if one.endswith(name))
    metrics = json.loads(call(copy, "git", "show", f"{ref}:metrics.json"))
    assert rows.set_index("seed").loc[1, "test_accuracy"] == pytest.approx(metrics["mnist"]["test"]["accuracy"])
