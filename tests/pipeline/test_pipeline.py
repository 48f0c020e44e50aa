"""The pipeline as its users run it: real dvc commands on the sample, in repositories of their own."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.support.commands import (
    QUICK,
    QUICKLY,
    ROOT,
    TRAINED,
    call,
    column,
    commit,
    environment,
    lock,
    ran,
    wait_until_gone,
)


def test_nothing_runs_again(copy):
    assert ran(call(copy, "dvc", "repro")) == set()
    assert call(copy, "git", "status", "--porcelain") == ""


def test_everything_is_there(finished):
    for name, n in (("mnist", 360), ("cifar", 500)):
        metrics = json.loads((finished / "metrics" / f"{name}.json").read_text())
        assert list(metrics) == [name]
        details = json.loads((finished / "evaluation" / f"{name}.json").read_text())
        assert details["source"] == "sample"
        test = metrics[name]["test"] | details["test"]
        rows = list(csv.DictReader((finished / "plots" / name / "predictions.csv").open()))
        hits = sum(row["y_true"] == row["y_pred"] for row in rows)
        assert len(rows) == n == test["n"]
        assert test["accuracy"] == hits / n > 0.3  # three times chance, after three short epochs
        assert test["errors"] == n - hits
        assert test["accuracy_low"] < test["accuracy"] < test["accuracy_high"]
        for kind in ("curves.svg", "confusion.svg", "mistakes.svg", "maps.svg"):
            assert (finished / "report/figures" / f"{name}_{kind}").stat().st_size > 3000
            assert f"{name}_{kind}" in (finished / "report/report.md").read_text()
    # Of the last training alone, since dvc may have been killed before it had the result; the next one removes it.
    [left] = (finished / "runs/checkpoints").iterdir()
    assert (left / "result").exists()


def test_report_is_small_enough_for_git(finished):
    assert sum(path.stat().st_size for path in (finished / "report").rglob("*") if path.is_file()) < 900_000


@pytest.mark.nightly
def test_another_clone_gives_the_same_lock(finished, fresh, tmp_path):
    """Whatever its name, the user's settings and what else the cores have to do."""
    folder = fresh().rename(tmp_path / "two words, ünïcödé 数")
    busy = [
        subprocess.Popen([sys.executable, "-c", "import os; os.nice(10)\nwhile True: pass"])
        for _ in range(os.cpu_count() or 1)
    ]
    umask = os.umask(0o077)
    try:
        call(folder, "dvc", "repro", PYTHONHASHSEED="7", TZ="Asia/Tokyo", LC_ALL="C", LANG="tr_TR.UTF-8")
    finally:
        os.umask(umask)
        for process in busy:
            process.kill()
            process.wait()
    assert (folder / "dvc.lock").read_bytes() == (finished / "dvc.lock").read_bytes()


@pytest.mark.nightly
def test_another_run_gives_the_same_lock(copy):
    """Of what takes no training, in the same folder; trainings run again in other tests."""
    again = ["download", "prepare", "evaluate_mnist", "evaluate_cifar", "plot"]
    assert ran(call(copy, "dvc", "repro", "--force", "--single-item", *again)) == set(again)
    assert call(copy, "git", "status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills process groups")
def test_killed_in_each_training_it_resumes_to_the_same_bits(finished, fresh):
    """First dvc alone, then dvc with its stage."""
    folder = fresh()
    start_and_kill(folder, "train_mnist: epoch 1/", whole_group=False)
    output = start_and_kill(folder, "train_cifar: epoch 2/", whole_group=True)
    assert "train_mnist: resuming after epoch 1 of 3" in output
    assert "train_mnist: epoch 1/" not in output
    assert {"train_mnist", "train_cifar"} <= ran(output) <= TRAINED
    output = call(folder, "dvc", "repro")
    assert "train_cifar: resuming after epoch 2 of 3" in output
    assert "train_cifar: epoch 2/" not in output
    assert not {"download", "prepare", "train_mnist"} & ran(output)
    assert (folder / "dvc.lock").read_bytes() == (finished / "dvc.lock").read_bytes()


def start_and_kill(folder: Path, line: str, whole_group: bool, shell: str = "/bin/sh") -> str:
    """Starts `dvc repro`, kills it -9 when `line` begins a line of its output, and waits for its children.

    With `whole_group` they are killed too, else each is to see by itself that dvc is gone. dvc runs stages in `shell`:
    dash, Debian's /bin/sh, stays between the two, bash does not.
    """
    dvc = subprocess.Popen(
        ["dvc", "repro"], cwd=folder,
        env=environment(PYTHONPATH=str(ROOT / "tests/support/hold"), HOLD_AT=line, SHELL=shell),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert dvc.stdout is not None
    seen = []
    for printed in dvc.stdout:
        seen.append(printed)
        if printed.startswith(line):
            break
    else:
        raise AssertionError(f"{line} never came:\n{''.join(seen)}")
    children = psutil.Process(dvc.pid).children(recursive=True)
    if whole_group:
        os.killpg(dvc.pid, signal.SIGKILL)
    else:
        dvc.kill()
    dvc.wait()
    wait_until_gone(children)
    dvc.stdout.close()
    return "".join(seen)


@pytest.mark.nightly
def test_damaged_checkpoints_are_ignored(fresh):
    folder = fresh()
    start_and_kill(folder, "train_mnist: epoch 1/", whole_group=False, shell=shutil.which("bash") or "/bin/sh")
    [state] = (folder / "runs/checkpoints").glob("train_mnist-*/epoch-*.weights.h5")
    state.write_bytes(state.read_bytes()[:-100])
    output = call(folder, "dvc", "repro", "train_mnist")
    assert "is damaged; ignored" in output
    assert "train_mnist: epoch 1/3" in output
    # The finished training's own state waits for a stage that sees it in dvc.lock (test_kill.py: then none is left).
    assert [path.name for path in (folder / "runs/checkpoints").glob("*/result")] == ["result"]
    assert len(list((folder / "runs/checkpoints").iterdir())) == 1


@pytest.mark.nightly
def test_half_the_learning_rate_trains_both_sensibly_and_runs_nothing_before(copy):
    short = ["-S", "mnist.epochs=2", "-S", "cifar.epochs=2"]
    output = call(copy, "dvc", "exp", "run", "-S", "lr=0.005", "-S", "mnist.warmup=0", *short)
    assert ran(output) == TRAINED
    changed = json.loads(call(copy, "dvc", "metrics", "diff", "--json"))
    for name, peak in (("mnist", 0.005), ("cifar", 0.1)):
        rates = column(copy / "plots" / name / "history.csv", "lr")
        assert rates[0] == pytest.approx(peak)
        assert rates == sorted(rates, reverse=True)
        accuracy = changed[f"metrics/{name}.json"][f"{name}.test.accuracy"]
        assert accuracy["old"] != accuracy["new"] > 0.3  # three times chance
    assert json.loads(call(copy, "dvc", "params", "diff", "--json"))["params.yaml"]["lr"]["new"] == 0.005
    assert "0.005" in call(copy, "dvc", "exp", "show", "--csv", "--no-pager")


@pytest.mark.nightly
def test_an_experiment_on_mnist_needs_mnist_alone(copy):
    output = call(copy, "dvc", "exp", "run", *QUICKLY[:4], "evaluate_mnist")
    assert ran(output) == {"train_mnist", "evaluate_mnist"}
    diff = json.loads(call(copy, "dvc", "metrics", "diff", "--json"))
    assert list(diff) == ["metrics/mnist.json"]
    assert "mnist.test.accuracy" in diff["metrics/mnist.json"]


@pytest.mark.parametrize(
    ("key", "value", "stages"),
    [
        ("seed", 3, TRAINED),
        ("lr", 1e-05, {"train_mnist", "train_cifar", "plot"}),
        ("threads", 1, TRAINED - {"plot"}),
        ("cifar.lr_factor", 10.0, {"train_cifar", "evaluate_cifar", "plot"}),
        ("mnist.network", "one_conv", {"train_mnist", "evaluate_mnist", "plot"}),
        ("mnist.epochs", 2, {"train_mnist", "evaluate_mnist", "plot"}),
        ("mnist.split_seed", 1, {"prepare", "train_mnist", "evaluate_mnist", "plot"}),
        ("targets.mnist.test.accuracy", 0.5, {"plot"}),
    ],
)
def test_a_param_marks_just_the_stages_that_use_it(copy, key, value, stages):
    params = yaml.safe_load((copy / "params.yaml").read_text())
    section = params
    for part in key.split(".")[:-1]:
        section = section[part]
    section[key.split(".")[-1]] = value
    (copy / "params.yaml").write_text(yaml.safe_dump(params))
    status = json.loads(call(copy, "dvc", "status", "--json"))
    assert {stage for stage, reasons in status.items() if any("changed deps" in reason for reason in reasons)} == stages


@pytest.mark.nightly
def test_another_split_of_one_data_set_leaves_the_other_alone(copy):
    """Trained on both splits, there are no validation figures."""
    before = {name: lock(copy)[f"train_{name}"]["outs"] for name in ("mnist", "cifar")}
    changes = ["-S", "mnist.split_seed=1", "-S", "mnist.train_on=train+val", *QUICKLY[:4]]
    output = call(copy, "dvc", "exp", "run", *changes)
    assert ran(output) == {"prepare", "train_mnist", "evaluate_mnist", "plot"}
    assert lock(copy)["train_cifar"]["outs"] == before["cifar"]
    assert lock(copy)["train_mnist"]["outs"] != before["mnist"]
    for name, expected in (("mnist", False), ("cifar", True)):
        metrics = json.loads((copy / "metrics" / f"{name}.json").read_text())
        assert ("val" in metrics[name]) is expected
    [row] = csv.DictReader((copy / "plots/mnist/history.csv").open())
    assert (row["val_loss"], row["val_accuracy"]) == ("", "")


def test_a_non_finite_loss_stops_the_training(copy):
    params = yaml.safe_load((copy / "params.yaml").read_text())
    params["mnist"] |= {"network": "one_conv", "lr_factor": 1000.0, "warmup": 0.0}
    (copy / "params.yaml").write_text(yaml.safe_dump(params))
    data = copy / "data/prepared/mnist"
    normalization = json.loads((data / "normalization.json").read_text())
    normalization["scale"] = [1e38]
    (data / "normalization.json").unlink()
    (data / "normalization.json").write_text(json.dumps(normalization))
    weights = (copy / "models/mnist/model.weights.h5").read_bytes()
    output = call(copy, "python", "-m", "stages.train_mnist", code=1)
    message = (
        r"error: train_mnist: the loss is nan in epoch 1, batch \d+, at learning rate 10; no model is written; lower"
    )
    assert re.search(message, output)
    assert "Traceback" not in output
    assert (copy / "models/mnist/model.weights.h5").read_bytes() == weights


def test_a_remote_shares_the_results(copy, tmp_path):
    call(copy, "dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    call(copy, "dvc", "push")
    commit(copy)
    call(tmp_path, "git", "clone", "--quiet", str(copy), "clone")
    call(tmp_path / "clone", "dvc", "pull")
    assert ran(call(tmp_path / "clone", "dvc", "repro")) == set()
    weights = "models/cifar/model.weights.h5"
    assert (tmp_path / "clone" / weights).read_bytes() == (copy / weights).read_bytes()


def test_the_table_names_the_sample_in_every_line(copy):
    lines = call(copy, "python", "-m", "reprocnn", "summary").splitlines()
    assert [line.split("  ")[0] for line in lines[2:4]] == ["sample: digits", "sample: shapes"]
    assert "test accuracy" in lines[0]
    assert "95 % interval" in lines[0]
    assert "trained elsewhere" not in lines[2]
    assert lines[4].startswith("report: ")


@pytest.mark.nightly
def test_without_a_source_the_sample_is_shown_and_said_so(fresh):
    folder = fresh(source="public")
    output = call(folder, "python", "-m", "reprocnn", "repro", DATASETS_MIRROR="/nowhere")
    assert "no source of the real data can be reached; tried /nowhere, https://" in output
    assert "DATASETS_MIRROR=/path/to/files make repro" in output
    assert "sample: digits" in output
    assert (folder / "demo/metrics/mnist.json").exists()
    assert not (folder / "metrics").exists()
    assert call(folder, "git", "status", "--porcelain") == ""


def test_a_copy_without_git_gets_the_advice_to_clone(fresh):
    folder = fresh()
    (folder / ".git").rename(folder / "no-git")
    output = call(folder, "python", "-m", "reprocnn", "repro", code=1)
    assert output.splitlines() == [output.strip()]
    assert "git clone" in output


@pytest.mark.slow
def test_a_gpu_that_is_not_there_stops_before_any_work(copy):
    output = call(copy, "dvc", "exp", "run", "-S", "device=gpu", code=255, CUDA_VISIBLE_DEVICES="-1")
    assert "error: params.yaml: device: found gpu, but TensorFlow sees no GPU here" in output
    assert "epoch" not in output


@pytest.mark.slow
def test_a_wrong_type_from_the_command_line(copy):
    output = call(copy, "dvc", "exp", "run", "-S", "mnist.epochs=abc", code=255)
    assert 'error: params.yaml: mnist.epochs: found "abc", expected a whole number, at least 1' in output
    assert "Traceback" not in output
    call(copy, "git", "restore", ".")
    call(copy, "dvc", "checkout")
    assert call(copy, "git", "status", "--porcelain") == ""
    assert ran(call(copy, "dvc", "repro")) == set()


def test_a_wrong_type_is_found_before_dvc_runs(copy):
    params = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(params.replace("epochs: 3", "epochs: abc"))
    output = call(copy, "python", "-m", "reprocnn", "repro", code=1)
    assert "mnist.epochs" in output
    assert "cifar.epochs" in output
    assert len(output.splitlines()) == 2
    assert (copy / "models/mnist/model.weights.h5").exists()


@pytest.mark.nightly
def test_queued_and_temporary_experiments(copy, fresh):
    call(copy, "dvc", "exp", "run", "--temp", *QUICKLY, "-S", "seed=5", "evaluate_mnist")
    call(copy, "dvc", "exp", "run", "--queue", *QUICKLY, "-S", "seed=range(1,3)", "evaluate_mnist")
    call(copy, "dvc", "queue", "start", "-j", "1")
    while re.search("Running|Queued", status := call(copy, "dvc", "queue", "status")):
        time.sleep(1)
    assert status.count("Success") == 2, status
    shown = call(copy, "dvc", "exp", "show", "--csv", "--no-pager")
    assert len(shown.splitlines()) == 1 + 1 + 1 + 3  # header, workspace, main, three experiments
    assert call(copy, "git", "status", "--porcelain") == ""
    call(copy, "dvc", "plots", "diff", "HEAD")
    assert (copy / "dvc_plots/index.html").exists()

    # Each has the lock of a plain run with its params.
    locks = {}
    for ref in call(copy, "git", "for-each-ref", "refs/exps", "--format=%(refname)").split():
        if "/exec/" not in ref and "/stash" not in ref:
            seed = yaml.safe_load(call(copy, "git", "show", f"{ref}:params.yaml"))["seed"]
            locks[seed] = yaml.safe_load(call(copy, "git", "show", f"{ref}:dvc.lock"))["stages"]
    assert set(locks) >= {1, 2, 5}
    for seed in (1, 5):  # of the queue, and of --temp
        folder = fresh(**QUICK, seed=seed)
        call(folder, "dvc", "repro", "evaluate_mnist")
        assert lock(folder).keys() == {"download", "prepare", "train_mnist", "evaluate_mnist"}
        assert lock(folder).items() <= locks[seed].items()
        shutil.rmtree(folder)


@pytest.mark.data
def test_two_short_trainings_on_the_real_data_give_the_same_lock(tmp_path):
    from reprocnn.commands.demo import make_copy

    folder = tmp_path / "real"
    make_copy(ROOT, folder, {"mnist.epochs": 1, "mnist.filters": 8})
    call(folder, "dvc", "repro", "train_mnist", DATASETS_MIRROR=os.environ["DATASETS_MIRROR"])
    [accuracy] = column(folder / "plots/mnist/history.csv", "val_accuracy")
    assert accuracy > 0.95
    first = (folder / "dvc.lock").read_bytes()
    shutil.rmtree(folder / "runs")  # with the finished training
    assert "train_mnist: epoch 1/1" in call(folder, "dvc", "repro", "--force", "--single-item", "train_mnist")
    assert (folder / "dvc.lock").read_bytes() == first
