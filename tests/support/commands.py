"""Run commands as users do, in a folder, and read what they left."""

import contextlib
import csv
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parents[2]
# The sample's pipeline in seconds; the rest of params.yaml holds.
OVERRIDES = {
    "source": "sample",
    "mnist.epochs": 3,
    "mnist.batch_size": 64,
    "mnist.filters": 8,
    "cifar.epochs": 3,
    "cifar.batch_size": 100,
    "cifar.filters": 8,
}
# What is trained where only that it is trained matters.
QUICK = {
    "mnist.network": "one_conv", "mnist.epochs": 1,
    "cifar.network": "one_conv", "cifar.epochs": 1, "cifar.first_size": 1,
}  # fmt: skip
QUICKLY = [part for key, value in QUICK.items() for part in ("-S", f"{key}={value}")]
TRAINED = {"train_mnist", "train_cifar", "evaluate_mnist", "evaluate_cifar", "plot"}
STAGES = {"download", "prepare", *TRAINED}


def environment(**more: str) -> dict[str, str]:
    """Return the variables of a user who has activated the environment, on a machine without a network.

    With WARM, `dvc` and `python -m stages.NAME` start as forks of a process with their libraries loaded
    (tests/support/warm); with WARM="" they do not.
    """
    warm = [str(Path(os.environ["WARM"]).parent / "bin")] if os.environ.get("WARM") else []
    path = os.pathsep.join([*warm, str(Path(sys.executable).parent), os.environ["PATH"]])
    # A proxy that refuses at once: an attempt to leave this machine fails, and fast.
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
    kept = {key: value for key, value in os.environ.items() if key not in ("DATASETS_MIRROR", "CI")}
    return {**kept, **nowhere, "PATH": path, **more}


def call(folder: Path, *command: str, code: int = 0, **more: str) -> str:
    """Return what `command` prints in `folder`, stdout and stderr; fail the test unless it exits with `code`."""
    done = subprocess.run(
        command, cwd=folder, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == code, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def commit(folder: Path) -> None:
    """Commit what has changed of the files that git tracks."""
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    call(folder, "git", *identity, "commit", "--quiet", "--all", "--message=A result")


def save(folder: Path = Path()) -> None:
    """Commit all files that git does not ignore."""
    call(folder, "git", "add", "--all")
    commit(folder)


def ran(output: str) -> set[str]:
    """Name the stages that dvc says it ran; fetching from its cache is not running."""
    return set(re.findall(r"Running stage '(\w+)'", output))


def lock(folder: Path) -> dict[str, Any]:
    """Read the stages of dvc.lock."""
    return yaml.safe_load((folder / "dvc.lock").read_text())["stages"]


def column(path: Path, name: str) -> list[float]:
    """Read a column of numbers from a CSV file."""
    with path.open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def wait_until_gone(processes: list[psutil.Process]) -> None:
    """Wait until each has ended; one that nobody has asked how stays as a zombie."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.05)
