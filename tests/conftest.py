"""A repository of the sample, run once for all tests that need a result, and small projects."""

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from reprocnn.commands.demo import make_copy
from tests.support import mirror
from tests.support.commands import OVERRIDES, ROOT, call, save
from tests.support.warm import server

TIERS = ("slow", "nightly", "data", "kill", "fuzz")


def pytest_configure(config: pytest.Config) -> None:
    """Start, in the process above all workers, the server from which commands are forked; COLD=1 does without.

    The processes that run tests import Keras as the project does, before a test may do so in another way.
    """
    os.environ |= server.VARIABLES
    if config.getoption("dist", "no") == "no":
        importlib.import_module("reprocnn.backend")
    if hasattr(config, "workerinput") or os.environ.get("COLD") or not hasattr(os, "pidfd_open"):
        return
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    process = server.start(Path(folder.name))
    # The workers are forked from it too: TensorFlow is loaded once.
    config.option.tx = [f"popen//python={folder.name}/bin/python" for _ in config.getoption("tx", [])]

    def stop() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        folder.cleanup()

    config.add_cleanup(stop)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the finished repository first: one worker makes it while the others run what comes after.

    A process that is alone runs them last. They are slow, since that takes a minute. Tests on the real data are skipped
    where it is not.
    """
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    items.sort(key=lambda item: alone == needs_finished(item))
    for item in items:
        if needs_finished(item) and not any(map(item.get_closest_marker, TIERS)):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("data") and not os.environ.get("DATASETS_MIRROR"):
            item.add_marker(pytest.mark.skip(reason="DATASETS_MIRROR names no real data"))


def needs_finished(item: pytest.Item) -> bool:
    return "finished" in getattr(item, "fixturenames", ())


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
    monkeypatch.setattr("reprocnn.sources.fetch.PAUSE_SECONDS", 0.01)
    for name, seconds in (("CONNECT", 1), ("READ", 0.5), ("ANSWER", 1), ("STALL", 0.5)):
        monkeypatch.setattr(f"reprocnn.sources.web.{name}_SECONDS", seconds)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder that has all files of tests/support/mirror.py as they should be."""
    return mirror.fill(tmp_path / "good")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all workers."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def finished(shared: Path) -> Path:
    """The sample's pipeline, run and committed, once for all workers.

    Read only: tests that run a command in it take a `copy`. ../opened/STAGE lists what each stage opened to read.
    FINISHED names a folder that outlives this run of pytest, for the next one: there, as .ci/run has it, each stage is
    a true process of its own.
    """
    shared = Path(os.environ.get("FINISHED", shared))
    folder, done = shared / "finished/repository", shared / "finished/done"
    with FileLock(shared / "finished.lock"):
        if not done.exists():
            shutil.rmtree(folder.parent, ignore_errors=True)  # of a worker that failed
            make_copy(ROOT, folder, OVERRIDES)
            opened = folder.parent / "opened"
            opened.mkdir()
            true_processes = {"WARM": ""} if "FINISHED" in os.environ else {}
            call(folder, "dvc", "repro", PYTHONPATH=server.OPENED, OPENED_FOLDER=str(opened), **true_processes)
            save(folder)
            done.touch()
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


@pytest.fixture
def prepared(project: Path) -> Callable[..., None]:
    """Writes data/prepared/mnist with `n` training images of `shape`, and eight for validation."""
    (project / "dvc.yaml").write_text("stages: {train_mnist: {deps: [], params: [seed]}}")

    def write(n: int, shape: tuple[int, int, int], val_shape: tuple[int, int, int] | None = None) -> None:
        folder = Path("data/prepared/mnist")
        rng = np.random.default_rng(0)
        for split, count, size in (("train", n, shape), ("val", 8, val_shape or shape)):
            (folder / split).mkdir(parents=True)
            np.save(folder / split / "x.npy", rng.integers(0, 256, (count, *size), dtype=np.uint8))
            np.save(folder / split / "y.npy", np.eye(10, dtype=np.float32)[rng.integers(0, 10, count)])
        scale = {"scale": [1 / 255] * shape[-1], "offset": [0.0] * shape[-1]}
        (folder / "normalization.json").write_text(json.dumps(scale))

    return write
