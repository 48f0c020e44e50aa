"""The tiny repository, and a cluster to sweep it on."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tiny
from tests.support.commands import ROOT

os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # read once, so the same for all clusters of this process
os.environ["RAY_AUTH_MODE"] = "token"  # Ray's default, but not in its tools for tests; read when Ray is imported


@pytest.fixture
def ray_folder(monkeypatch) -> Iterator[Path]:
    """A temporary folder for Ray alone, so that no Ray of the same user is in the way; its token is this process's.

    It names a cluster that is gone, as a killed Ray leaves it.
    """
    # Ray's sockets have room for short paths alone.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r-") as folder:
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray/ray_current_cluster").write_text("127.0.0.1:1")
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        yield Path(folder)


@pytest.fixture
def repository(ray_folder, tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "repository"
    tiny.make(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the clones of its trials
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


@pytest.fixture
def cluster(repository):
    """A head that runs no trials; nodes are added by the tests."""
    from ray.cluster_utils import Cluster

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
