"""The tiny repository, and a cluster to sweep it on."""

import os
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, call
from tests.sweep import tiny

os.environ["RAY_AUTH_MODE"] = "token"  # Ray's default, but not in its tools for tests; read when Ray is imported


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "repository"
    tiny.make(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the clones of its trials
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # Ray's sockets have room for short paths alone
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return folder


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
