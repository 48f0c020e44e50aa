"""Disks and rights: full, read-only, no home, the cache elsewhere, two runs at once."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import ROOT, call, environment

TRAIN = "train_mnist"


def can_mount() -> bool:
    try:
        return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


mounts = pytest.mark.skipif(not can_mount(), reason="full and read-only disks need root and Linux (unshare -m)")


def on_a_disk(project: Path, folder: str, options: str, *command: str) -> tuple[int, str, list[str]]:
    """Runs `command` with a small disk mounted at `folder`: its exit code, its stderr and the files left there."""
    (project / folder).mkdir(parents=True, exist_ok=True)
    listing = project.parent / "left"
    script = (
        f'mount -t tmpfs -o {options} tmpfs "{folder}" || exit 99; "$@"; code=$?; '
        f'find "{folder}" -type f > "$0"; exit $code'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(listing), *command], cwd=project, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return done.returncode, done.stderr, listing.read_text().split()


FULL = [
    ("download", "data", "200k", "data/.incoming"),
    ("prepare", "data/prepared", "500k", "data/prepared/mnist/train/x.npy"),
    ("train_mnist", "runs", "20k", "runs/checkpoints/train_mnist-"),
    ("train_mnist", "models", "20k", "models/mnist/model.weights.h5"),
    ("evaluate_mnist", "evaluation", "8k", "evaluation/"),
    ("plot", "report", "8k", "report/figures/mnist_network.svg"),
]


@pytest.mark.slow
@mounts
@pytest.mark.parametrize(("stage", "folder", "size", "named"), FULL)
def test_a_full_disk(copy, stage, folder, size, named):
    metrics = (copy / "metrics/mnist.json").read_bytes()
    code, message, left = on_a_disk(copy, folder, f"size={size}", "python", "-m", f"stages.{stage}")
    assert code == 1
    assert f"error: {named}" in message
    assert "No space left on device" in message
    assert len(message.splitlines()) <= 5, message
    assert "Traceback" not in message
    # What is there is complete: all of the stage's files but the one that found no room, and no part of it.
    assert [path for path in left if ".partial" in path or ".incoming" in path or named == path] == []
    assert (copy / "metrics/mnist.json").read_bytes() == metrics


@mounts
def test_read_only_data(copy):
    code, message, _ = on_a_disk(copy, "data", "ro", "python", "-m", "stages.download")
    assert code == 1
    assert "error: data/.incoming: Read-only file system" in message
    assert len(message.splitlines()) == 1


@pytest.mark.slow
def test_without_a_home(copy):
    output = call(copy, "dvc", "repro", "--single-item", "--force", "plot", HOME="/proc/nowhere")
    assert "plot: report/report.md" in output
    assert call(copy, "git", "status", "--porcelain") == ""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs another file system at /dev/shm")
def test_the_cache_on_another_file_system(copy):
    elsewhere = Path("/dev/shm") / f"cache-of-{copy.parent.name}-{os.getpid()}"
    try:
        shutil.copytree(copy / ".dvc/cache", elsewhere)
        shutil.rmtree(copy / ".dvc/cache")
        call(copy, "dvc", "config", "--local", "cache.dir", str(elsewhere))
        shutil.rmtree(copy / "models")
        shutil.rmtree(copy / "data/prepared")
        assert "Running stage" not in call(copy, "dvc", "repro")
        assert (copy / "models/mnist/model.weights.h5").exists()
        assert (copy / "data/prepared/cifar/train/x.npy").exists()
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)


@pytest.mark.slow
def test_two_at_once(copy):
    first = subprocess.Popen(
        ["dvc", "repro", "--single-item", "--force", TRAIN], cwd=copy, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert first.stdout is not None
    while "epoch 1/" not in (line := first.stdout.readline()):
        assert line, "ended before its first epoch"
    second = subprocess.run(
        ["dvc", "repro", "--single-item", "--force", TRAIN], cwd=copy, env=environment(), capture_output=True, text=True
    )
    rest = first.stdout.read()
    assert first.wait() == 0, rest
    # Whichever way dvc takes, waiting for its lock or refusing with a line, the results are the first one's.
    if second.returncode:
        assert "lock" in second.stderr.lower() or "is busy" in second.stderr.lower()
        assert "Traceback" not in second.stderr
    assert call(copy, "git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_before_its_inputs_exist(project):
    environment_here = environment(PYTHONPATH=str(ROOT))
    for stage, named in (
        ("prepare", "data/raw/train-images-idx3-ubyte.gz"),
        ("train_mnist", "data/prepared/mnist/train/x.npy"),
        ("evaluate_mnist", "data/prepared/mnist/train/x.npy"),
        ("plot", "metrics/mnist.json"),
    ):
        done = subprocess.run(
            ["python", "-m", f"stages.{stage}"], cwd=project, env=environment_here, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert f"error: {named}" in done.stderr
        assert len(done.stderr.splitlines()) == 1
