"""Stale results are found without data; what is run again is compared."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from stages import verify
from stages.lib import lock
from stages.lib.errors import UserError
from tests.conftest import ROOT, call, commit


@pytest.fixture
def clone(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is in git of the finished repository: no data, no models."""
    folder = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(finished), str(folder))
    monkeypatch.chdir(folder)
    return folder


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    assert old in text
    Path(path).write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_clone_without_data_is_current(clone):
    assert not (clone / "data/raw").exists()
    assert lock.faults() == []
    assert verify.other_versions() == []
    assert "verify: dvc.lock is of this code" in call(clone, "python", "-m", "stages.verify")


def test_with_data_it_is_current_too(finished, monkeypatch):
    monkeypatch.chdir(finished)
    assert lock.faults() == []


@pytest.mark.parametrize(
    "path",
    [
        "metrics.json",
        "evaluation/mnist.json",
        "plots/cifar/history.csv",
        "plots/mnist/predictions.csv",
        "report/report.md",
        "report/cifar_confusion.svg",
        "report/index.html",
    ],
)
def test_a_result_that_is_gone_or_edited_is_told(clone, path):
    content = Path(path).read_bytes()
    Path(path).write_bytes(content + b" ")
    assert lock.faults()[0].startswith(f"{path}: not what dvc.lock says")
    Path(path).unlink()
    assert lock.faults() == [f"{path}: not there, but in dvc.lock; restore it with git checkout, or run `dvc repro`"]


@pytest.mark.parametrize(
    ("path", "old", "new", "told"),
    [
        ("stages/lib/networks.py", '"""', '""" ', "train_mnist: not of this code (stages/lib/networks.py modified)"),
        ("params.yaml", "seed: 0", "seed: 1", "train_mnist: not of this code (seed modified)"),
        ("dvc.yaml", "python -m stages.plot", "python -m stages.plot -x", "plot: not of this code (cmd changed)"),
        ("dvc.yaml", "- mnist.batch_size\n", "- mnist.batch_size\n      - mnist.split_seed\n", "mnist.split_seed new"),
    ],
)
def test_a_lock_that_is_not_of_this_code_is_told(clone, path, old, new, told):
    edit(path, old, new)
    assert any(told in line for line in lock.faults())
    assert told in call(clone, "python", "-m", "stages.verify", check=False)


def test_halves_of_two_locks_do_not_pass_for_one(clone):
    locked = yaml.safe_load(Path("dvc.lock").read_text())
    model = locked["stages"]["train_mnist"]["outs"][0]
    assert model["path"] == "models/mnist"
    model["md5"] = "0" * 32 + ".dir"
    Path("dvc.lock").write_text(yaml.safe_dump(locked))
    assert (
        "dvc.lock: evaluate: not of this code (models/mnist of another run); run `dvc repro` and commit"
        in lock.faults()
    )


def test_a_lock_that_is_gone_or_broken_is_told(clone):
    text = Path("dvc.lock").read_text()
    Path("dvc.lock").unlink()
    assert "dvc.lock: train_mnist: not there; run `dvc repro` and commit" in lock.faults()
    Path("dvc.lock").write_text(text[:300] + "<<<<")
    with pytest.raises(UserError, match=r"restore dvc\.lock"):
        lock.faults()
    output = call(clone, "python", "-m", "stages.verify", check=False)
    assert "Traceback" not in output
    assert "restore dvc.lock" in output


def test_other_versions_are_told(clone):
    details = json.loads(Path("evaluation/mnist.json").read_text())
    assert set(details["device"]) == {"kind", "name", "threads", "precision", "instructions", "count"}
    assert set(details["versions"]) == {"h5py", "keras", "numpy", "tensorflow"}
    details["versions"] |= {"keras": "2.0.0", "nosuch": "1.0"}
    Path("evaluation/mnist.json").write_text(json.dumps(details))
    first, second = verify.other_versions()
    assert first.startswith("evaluation/mnist.json: trained with keras 2.0.0, installed is ")
    assert "trained with nosuch 1.0, installed is none" in second


def test_in_full_the_same_bytes_come_again(copy, monkeypatch, capsys):
    """The real command on the sample: everything runs in a clone, and equals the lock."""
    output = call(copy, "python", "-m", "stages.verify", "--full")
    assert "Running stage 'train_cifar'" in output
    assert "every output is the same again, byte for byte" in output
    assert call(copy, "git", "status", "--porcelain") == ""


def run_again(clone: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, object]) -> None:
    """Lets `dvc repro` in verify's clone give another model, of a device with what is `changed`."""

    def repro(*_: str, cwd: Path) -> None:
        locked = yaml.safe_load((cwd / "dvc.lock").read_text())
        locked["stages"]["train_mnist"]["outs"][0]["md5"] = "0" * 32
        (cwd / "dvc.lock").write_text(yaml.safe_dump(locked))
        details = json.loads((cwd / "evaluation/mnist.json").read_text())
        details["device"] |= changed
        (cwd / "evaluation/mnist.json").write_text(json.dumps(details))

    monkeypatch.setattr(verify, "dvc", repro)
    (clone / "data/raw").mkdir()
    verify.verify_full()


def test_in_full_another_device_explains_other_bytes(clone, monkeypatch, capsys):
    device = json.loads(Path("evaluation/mnist.json").read_text())["device"]
    run_again(clone, monkeypatch, {"threads": 63, "precision": "float16"})
    told = capsys.readouterr().out
    assert f"the committed results are of device.threads {device['threads']}, these of 63; other bits are to" in told
    assert f"of device.precision {device['precision']}, these of float16" in told
    assert "cifar" not in told


def test_in_full_other_bytes_without_a_reason_are_a_fault(clone, monkeypatch):
    with pytest.raises(UserError, match="other bytes from the same processor, threads"):
        run_again(clone, monkeypatch, {})


@pytest.mark.slow
def test_in_full_another_instruction_set_is_told(copy):
    """The real command where oneDNN may use one thread and AVX2 alone, which cannot multiply in bfloat16."""
    one = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))] if shutil.which("taskset") else []
    output = call(copy, *one, "python", "-m", "stages.verify", "--full", check=False, ONEDNN_MAX_CPU_ISA="AVX2")
    assert "other bytes than in dvc.lock" in output
    assert "of settings.ONEDNN_MAX_CPU_ISA none, these of AVX2" in output
    assert bool(one) == ("these of 1; other bits" in output)
    assert "without a reason" not in output
    assert "Traceback" not in output
    assert "from the same processor" not in output


def test_in_full_uncommitted_changes_are_refused(clone):
    edit("README.md", "MNIST", "MNIST ")
    with pytest.raises(UserError, match="commit them first"):
        verify.verify_full()


def test_in_full_what_differs_is_told_with_its_metrics(clone, tmp_path, capsys):
    locked = yaml.safe_load(Path("dvc.lock").read_text())
    locked["stages"]["evaluate"]["outs"][0]["md5"] = "0" * 32
    other = tmp_path / "other.lock"
    other.write_text(yaml.safe_dump(locked))
    assert verify.different_outputs(Path("dvc.lock"), Path("dvc.lock")) == []
    path = locked["stages"]["evaluate"]["outs"][0]["path"]
    assert verify.different_outputs(Path("dvc.lock"), other) == [path]

    metrics = {"mnist": {"test": {"accuracy": 0.95, "loss": 0.1}}}
    Path("benchmarks/seeds.csv").write_text(
        "setting,test_accuracy\nmnist,0.94\nmnist,0.96\nmnist-fast,0.5\ncifar,0.9\n"
    )
    noise = 1.96 * 0.02  # the standard deviation of 0.94 and 0.96 is 0.02 / √2
    assert verify.seed_noise("mnist") == pytest.approx(noise)
    assert verify.compare_metrics(metrics, {"mnist": {"test": {"accuracy": 0.95 - 0.99 * noise, "loss": 0.2}}}) == []
    printed = capsys.readouterr().out
    assert "mnist.test.loss: 0.1 -> 0.2" in printed
    assert "within seed noise" in printed
    (line,) = verify.compare_metrics(metrics, {"mnist": {"test": {"accuracy": 0.95 - 1.01 * noise, "loss": 0.1}}})
    assert line.startswith("mnist.test.accuracy: 0.95 -> 0.91")
    assert "BEYOND seed noise" in line
    assert verify.compare_metrics(metrics, metrics) == []


def test_no_data_and_no_model_is_in_git():
    tracked = call(ROOT, "git", "ls-files").splitlines()
    assert "metrics.json" in tracked
    assert not [path for path in tracked if path.endswith((".npy", ".npz", ".h5", ".gz", ".keras"))]


def test_verify_needs_neither_tensorflow_nor_much_time(clone):
    code = "import sys, stages.verify, stages.gate; print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    assert call(clone, "python", "-c", code) == "[]\n"


def test_a_commit_without_its_results_is_found(clone):
    """As after a merge that took the code of one side and the results of the other."""
    edit("params.yaml", "label_smoothing: 0.2", "label_smoothing: 0.1")
    commit(clone)
    assert "cifar.label_smoothing modified" in call(clone, "python", "-m", "stages.verify", check=False)
