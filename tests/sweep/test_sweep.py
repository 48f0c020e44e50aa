"""The command on this machine alone: what it refuses, what it leaves, what it does when started again."""

import json
import os
import re
import shutil
import sys

import pandas as pd
import pytest
import yaml

pytest.importorskip("ray", reason="the sweep extra is not installed")
from reprocnn.sweep.overrides import experiment_name
from tests.support import tiny
from tests.support.commands import call, commit

CONNECT = """
import ray
from reprocnn.sweep.cluster import connect
connect()
print(len(ray.nodes()))
print(ray.get(ray.remote(lambda: __import__("reprocnn").__file__).remote()))
"""


TERMINATED = """
import signal, sys
from reprocnn.sweep.cluster import connect
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
connect()
signal.raise_signal(signal.SIGTERM)
"""


def test_sigterm_ends_a_sweep_without_a_word_from_ray(repository):
    assert call(repository, sys.executable, "-c", TERMINATED, code=143) == ""


def test_uncommitted_changes_are_refused(repository):
    (repository / "params.yaml").write_text("lr: 0.2\nseed: 0\nsplit: 1\nthreads: 0\n")
    assert "found uncommitted changes" in tiny.sweep(repository, "lr=0.1", code=1)


def test_what_git_sets_for_hooks_is_not_passed_on(repository, tmp_path):
    """In the clones of the trials it would lead git to this repository."""
    more = {"GIT_DIR": str(tmp_path / "nowhere"), "GIT_INDEX_FILE": str(tmp_path / "index")}
    assert "lr0.1-threads1" in call(repository, *tiny.SWEEP, "lr=0.1", "--threads=1", "--dry", **more)
    assert not (tmp_path / "index").exists()


def test_a_faulty_pipeline_and_none_are_named(repository):
    (repository / "dvc.yaml").write_text("stages: 3\n")
    commit(repository)
    assert re.search(r"^error: sweep: '\./dvc\.yaml' validation failed", tiny.sweep(repository, "lr=0.1", code=1), re.M)
    shutil.rmtree(repository / ".dvc")
    commit(repository)
    output = tiny.sweep(repository, "lr=0.1", code=1)
    assert "error: sweep: you are not inside of a DVC repository" in output
    assert "Traceback" not in output


@pytest.mark.nightly
def test_a_sweep_leaves_experiments_and_starting_it_again_runs_what_is_missing(repository):
    """One trial fails: the others continue, it is reported, and it alone runs again."""
    arguments = ["lr=0.2,0.5", "seed=1,2", "split=3", "--threads=1"]
    output = tiny.sweep(repository, *arguments, code=1)
    assert output.count("failed: ") == 2
    assert "the loss is nan" in output
    assert "error: sweep: 2 of 4 trials failed" in output
    assert "val.accuracy 0.8100" in output  # 1 - 0.2 + 1 / 100
    assert sorted(tiny.seen(repository)) == [
        "prepare 0.1 0", "train 0.2 1", "train 0.2 2", "train 0.5 1", "train 0.5 2",
    ]  # fmt: skip
    listed = json.loads(call(repository, "dvc", "exp", "show", "--json"))
    names = [one["name"] for one in listed[1]["experiments"]] if listed[1].get("experiments") else []
    assert len(names) == 2
    assert call(repository, "git", "status", "--porcelain") == ""

    (repository.parent / "seen").write_text("")
    again = tiny.sweep(repository, *arguments, code=1)
    assert again.count("exists") == 2
    assert sorted(tiny.seen(repository)) == ["train 0.5 1", "train 0.5 2"]

    name = experiment_name(("lr=0.2", "seed=2", "split=3", "threads=1"))
    assert json.loads((repository / f"runs/sweep/{name}.json").read_text())["records"]["train_it"] == {"threads": 1}
    call(repository, "dvc", "exp", "apply", name)
    assert yaml.safe_load((repository / "params.yaml").read_text())["seed"] == 2
    assert json.loads((repository / "metrics/val.json").read_text())["val"]["accuracy"] == pytest.approx(0.82)
    assert (repository / "data.txt").read_text() == "3"
    assert "up to date" in call(repository, "dvc", "status")


@pytest.mark.nightly
def test_a_sweep_on_this_machine_has_its_own_token_and_ships_this_package(repository, ray_folder, tmp_path):
    """The user's token is broken, and stays as it is."""
    token = tmp_path / "home/.ray/auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("")
    output = call(repository, "python", "-c", CONNECT, HOME=str(tmp_path / "home"), RAY_AUTH_TOKEN="")
    nodes, package = output.splitlines()[-2:]
    assert nodes == "1"
    assert package.startswith(str(ray_folder))
    assert package.endswith("/reprocnn/__init__.py")
    assert token.read_text() == ""


@pytest.mark.nightly
def test_a_trial_is_what_dvc_exp_run_gives(repository, ray_folder):
    """Although Ray's temporary folder names a cluster that is gone."""
    assert (ray_folder / "ray/ray_current_cluster").exists()
    tiny.sweep(repository, "lr=0.2", "--threads=1")
    name = experiment_name(("lr=0.2", "threads=1"))
    call(repository, "dvc", "exp", "run", "--name", "by-hand", "-S", "lr=0.2", "-S", "threads=1")
    refs = call(repository, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    own, by_hand = (next(ref for ref in refs if ref.endswith(f"/{one}")) for one in (name, "by-hand"))
    assert call(repository, "git", "diff", own, by_hand) == ""


@pytest.mark.nightly
def test_optuna_learns_from_the_trials_and_from_those_that_are_there(repository):
    arguments = ["lr=tag(log, interval(0.001,0.4))", "seed=choice(0,1,2)", "--threads=1", "--search=optuna"]
    output = tiny.sweep(repository, *arguments, "--trials=4")
    assert output.count("train") == 0
    assert output.count(" s on ") == 4
    again = tiny.sweep(repository, *arguments, "--trials=6")
    assert again.count(" s on ") == 2
    rates = [float(line.split()[1]) for line in tiny.seen(repository) if line.startswith("train")]
    assert len(set(rates)) == 6
    assert all(0.001 <= rate <= 0.4 for rate in rates)


@pytest.mark.nightly
def test_a_trial_that_falls_behind_is_pruned_and_not_run_again(repository, tmp_path):
    """After five that finished: the last one's first epoch is below all of theirs, and would take forever."""
    tiny.make_epochs(repository)
    rates = ["lr=0.1,0.11,0.12,0.13,0.14", f"--threads={os.cpu_count()}", "--search=random", METRIC_OF_EPOCHS]
    tiny.sweep(repository, *rates, "--trials=30")
    arguments = [rates[0] + ",0.4", *rates[1:], "--trials=40", f"--summary={tmp_path}/page.html"]
    output = tiny.sweep(repository, *arguments, SLOW="0.4")
    threads = f"threads{os.cpu_count()}"
    assert re.search(rf"^lr0\.4-{threads}  val\.accuracy 0\.6000  .* pruned after 1 epochs, \d+ s on ", output, re.M)
    experiments = call(repository, "dvc", "exp", "list", "--name-only").split()
    assert sorted(experiments) == [f"lr0.{rate}-{threads}" for rate in (1, 11, 12, 13, 14)]
    record = json.loads((repository / f"runs/sweep/lr0.4-{threads}.json").read_text())
    assert record["pruned"] == [0.6]
    started = len(tiny.trainings(repository))
    again = tiny.sweep(repository, *arguments, SLOW="0.4")
    assert "pruned after 1 epochs, exists" in again
    assert len(tiny.trainings(repository)) == started
    page = (tmp_path / "page.html").read_text()
    assert f"<td>lr0.4-{threads}</td>" in page
    assert "5 of them finished" in page


METRIC_OF_EPOCHS = "--prune=plots/history.csv:accuracy"


@pytest.mark.nightly
def test_a_search_of_few_values_runs_each_once(repository):
    arguments = ["seed=choice(0,1)", "--threads=1", "--search=random", "--trials=4"]
    for outcome in (" s on ", "exists"):
        output = tiny.sweep(repository, *arguments)
        assert output.count(outcome) == 2
        assert "sweep: 2 trials; further draws only repeated them" in output
    assert len(tiny.trainings(repository)) == 2


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_the_seeds_of_a_sweep_become_the_table_over_seeds(copy, ray_folder, tmp_path, monkeypatch):
    """The real pipeline, on the sample: a trial has the bits of a training by hand with as many threads."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    params = copy / "params.yaml"
    for old, new in (
        ("epochs: 3", "epochs: 1"),
        ("network: .*", "network: one_conv"),
        ("first_size: .*", "first_size: 1"),
    ):
        params.write_text(re.sub(old, new, params.read_text()))
    commit(copy)
    output = call(copy, "python", "-m", "reprocnn", "sweep", "seed=1,2", "--threads=1")
    assert output.count(" s on ") == 2
    name = experiment_name(("seed=1", "threads=1"))
    weights = json.loads((copy / f"runs/sweep/{name}.json").read_text())["records"]["train_mnist"]["weights"]
    call(copy, "dvc", "repro", "--quiet", "train_mnist")  # nothing of the sweep's is in the way
    params.write_text(params.read_text().replace("seed: 0", "seed: 1", 1).replace("threads: 0", "threads: 1", 1))
    call(copy, "dvc", "repro", "--single-item", "--force", "train_mnist")
    assert json.loads((copy / "runs/train_mnist.json").read_text())["weights"] == weights
    call(copy, "git", "restore", ".")

    call(copy, "python", "-m", "benchmarks", "seeds", "mnist", "--sweep")
    rows = pd.read_csv(copy / "benchmarks/results/seeds.csv").query("setting == 'mnist' and seed in [1, 2]")
    assert len(rows) == 2
    assert rows["hardware"].str.contains("1 threads").all()
    ref = next(one for one in call(copy, "git", "for-each-ref", "--format=%(refname)").split() if one.endswith(name))
    metrics = json.loads(call(copy, "git", "show", f"{ref}:metrics/mnist.json"))
    assert rows.set_index("seed").loc[1, "test_accuracy"] == pytest.approx(metrics["mnist"]["test"]["accuracy"])
