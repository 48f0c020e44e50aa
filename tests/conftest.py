"""A repository of the sample, run once for all tests that need a result, and ways to run commands in copies of it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reprocnn.backend  # noqa: F401, before any test imports Keras
from reprocnn.commands.demo import make_copy
from tests.support import mirror

ROOT = Path(__file__).parent.parent
OVERRIDES = {
    "source": "sample",
    "mnist.epochs": 3,
    "mnist.batch_size": 64,
    "mnist.filters": 8,
    "cifar.epochs": 3,
    "cifar.batch_size": 100,
    "cifar.filters": 8,
}


def environment(**more: str) -> dict[str, str]:
    """Give the variables of a user who has activated the environment, on a machine without a network."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # A proxy that refuses at once: an attempt to leave this machine fails, and fast.
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
    kept = {key: value for key, value in os.environ.items() if key not in ("DATASETS_MIRROR", "CI")}
    return {**kept, **nowhere, "PATH": path, **more}


def call(folder: Path, *command: str, check: bool = True, **more: str) -> str:
    """Give what `command` prints in `folder`, stdout and stderr; a failure fails the test unless `check` is off."""
    done = subprocess.run(
        command, cwd=folder, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
    return done.stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a project with the repository's params and nothing else."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("params.yaml", "params.schema.json"):
        shutil.copy(ROOT / name, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def small_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the download stage expect the files of tests/support/mirror.py, and wait a hundredth of the real times."""
    mirror.declare(monkeypatch)
    for name, seconds in (
        ("CONNECT_SECONDS", 1),
        ("READ_SECONDS", 0.5),
        ("STALL_SECONDS", 0.5),
        ("PAUSE_SECONDS", 0.01),
    ):
        monkeypatch.setattr(f"reprocnn.sources.fetch.{name}", seconds)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder that has all files of tests/support/mirror.py as they should be."""
    return mirror.fill(tmp_path / "good")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The sample's pipeline, run and committed. Read only: tests that change something take a `copy`.

    opened/STAGE lists what each stage opened to read.
    """
    folder = tmp_path_factory.mktemp("finished") / "repository"
    make_copy(ROOT, folder, OVERRIDES)
    opened = folder.parent / "opened"
    opened.mkdir()
    call(folder, "dvc", "repro", PYTHONPATH=str(ROOT / "tests/support/audit"), AUDIT_FOLDER=str(opened))
    call(folder, "git", "add", "--all")
    commit(folder)
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished repository with its cache, for one test alone."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    return folder


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., Path]:
    """Makes a repository of the sample in which nothing has run."""

    def make(**overrides: Any) -> Path:
        folder = tmp_path / "fresh"
        make_copy(ROOT, folder, OVERRIDES | overrides)
        return folder

    return make


def commit(folder: Path) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    call(folder, "git", *identity, "commit", "--quiet", "--all", "--message=A result")
