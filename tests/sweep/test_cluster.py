"""Sweeps on clusters of several nodes, each a process here: which may die, fill up, or lack something."""

import json
import os
import re

import psutil
import pytest

pytest.importorskip("ray", reason="the sweep extra is not installed")
from reprocnn.sweep.overrides import experiment_name
from tests.support import tiny
from tests.support.commands import ROOT, call, commit, save


@pytest.mark.nightly
def test_a_worker_that_is_killed(cluster, repository, held):
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    running = tiny.start(cluster, repository, "lr=0.2,0.3")
    tiny.until(lambda: len(tiny.trainings(repository)) == 2)
    worker = next(one for one in psutil.Process(tiny.trainings(repository)[0]).parents() if "ray::" in one.name())
    worker.kill()
    held.unlink()
    output, _ = running.communicate()
    assert running.returncode == 0, output
    assert output.count(" s on ") == 2
    assert len(call(repository, "dvc", "exp", "list", "--name-only").split()) == 2
    assert (repository.parent / "seen.resumed").exists()  # from the checkpoints of its first attempt


@pytest.mark.nightly
def test_a_node_that_is_gone(cluster, repository, held):
    gone = cluster.add_node(num_cpus=1)
    running = tiny.start(cluster, repository, "lr=0.2,0.3")
    tiny.until(lambda: len(tiny.trainings(repository)) == 1)
    cluster.add_node(num_cpus=1)
    cluster.remove_node(gone, allow_graceful=False)
    held.unlink()
    output, _ = running.communicate()
    assert running.returncode == 0, output
    assert output.count(" s on ") == 2


@pytest.mark.nightly
def test_a_driver_that_is_killed(cluster, repository):
    cluster.add_node(num_cpus=1)
    running = tiny.start(cluster, repository, "lr=0.2,0.3,0.4")
    assert running.stdout
    tiny.until(lambda: " s on " in running.stdout.readline())
    running.kill()
    again = tiny.start(cluster, repository, "lr=0.2,0.3,0.4")
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert "exists" in output
    assert output.count("exists") + output.count(" s on ") == 3
    assert len(call(repository, "dvc", "exp", "list", "--name-only").split()) == 3


@pytest.mark.nightly
def test_a_node_whose_disk_is_full(cluster, repository, held, tmp_path):
    """What trials share starts on both nodes, one job each; the trainings wait, so that none can end before."""
    cluster.add_node(num_cpus=1)
    with tiny.full_node(cluster, tmp_path):
        running = tiny.start(cluster, repository, "lr=0.2,0.3", "split=3,4")
        assert running.stdout
        tiny.until(
            lambda: re.search(r"^sweep: \S+: left out: No space left on device$", running.stdout.readline(), re.M)
        )
        held.unlink()
        output, _ = running.communicate()
    assert running.returncode == 0, output
    assert output.count(" s on ") == 4
    assert "left out" not in output  # once is enough
    assert sorted(tiny.seen(repository)) == [*["prepare 0.1 0"] * 2, *["train 0.2 0"] * 2, *["train 0.3 0"] * 2]


@pytest.mark.nightly
def test_the_disks_of_all_nodes_are_full(cluster, repository, tmp_path):
    with tiny.full_node(cluster, tmp_path):
        running = tiny.start(cluster, repository, "lr=0.2,0.3,0.4")
        output, _ = running.communicate()
    assert running.returncode == 1, output
    assert output.count("No space left on device") == 1
    assert output.count("failed: no machine is left") == 3
    assert "error: sweep: 3 of 3 trials failed" in output


@pytest.mark.nightly
def test_a_disk_that_a_stage_fills(cluster, repository):
    """dvc reports it; that is no fault of the trial."""
    text = tiny.STAGE.replace("the loss is nan", "[Errno 28] No space left on device: 'model'")
    (repository / "stage.py").write_text(text)
    commit(repository)
    cluster.add_node(num_cpus=1)
    running = tiny.start(cluster, repository, "lr=0.5")
    output, _ = running.communicate()
    assert running.returncode == 1, output
    assert re.search(r"^sweep: \S+: left out: No space left on device$", output, re.M)
    assert "failed: no machine is left" in output


@pytest.mark.nightly
def test_a_cluster_that_is_not_there_and_a_wrong_token(cluster, repository):
    output = tiny.sweep(repository, "lr=0.2", "--threads=1", code=1, RAY_ADDRESS="127.0.0.1:1")
    assert "error: sweep: no Ray at RAY_ADDRESS=127.0.0.1:1" in output
    assert "Traceback" not in output
    cluster.add_node(num_cpus=1)
    more = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_TOKEN": "0" * 64}
    output = tiny.sweep(repository, "lr=0.2", "--threads=1", code=1, **more)
    assert f"error: sweep: no Ray at RAY_ADDRESS={cluster.address}" in output
    assert "InvalidAuthToken" in output
    assert not (repository.parent / "seen").exists()


@pytest.mark.nightly
def test_a_node_without_the_data(cluster, repository):
    """Nor the folder that is the default remote."""
    call(repository, "dvc", "remote", "add", "--local", "--default", "storage", "../storage")
    cluster.add_node(num_cpus=1)
    with tiny.odd_node(cluster, f"mount -t tmpfs none {repository}"):
        output, _ = tiny.start(cluster, repository, "lr=0.2").communicate()
    assert f"/cache and {repository.parent}/storage: missing, expected DVC's cache or default" in output
    assert not (repository.parent / "seen").exists()


@pytest.mark.nightly
@pytest.mark.parametrize("level", ["--local", "--project"])
def test_a_node_that_has_the_remote_alone(cluster, repository, level):
    """A relative path, which is to be the same folder for the clone of a trial."""
    call(repository, "dvc", "remote", "add", level, "--default", "storage", "../storage")
    call(repository, "dvc", "repro", "prepare")
    save(repository)
    call(repository, "dvc", "push")
    with tiny.odd_node(cluster, f"mount -t tmpfs none {repository}"):
        output, _ = tiny.start(cluster, repository, "lr=0.2", "seed=1,2").communicate()
    assert output.count(" s on ") == 2, output
    assert sorted(tiny.seen(repository)) == ["prepare 0.1 0", "train 0.2 1", "train 0.2 2"]  # prepared above
    call(repository, "dvc", "exp", "apply", experiment_name(("lr=0.2", "seed=2", "threads=1")))
    assert (repository / "model.txt").read_text() == "0.2 2"
    assert "up to date" in call(repository, "dvc", "status")


@pytest.mark.nightly
def test_a_node_that_has_the_cache_and_one_that_has_the_remote(cluster, repository, held):
    """What trials share is made once for both, whichever makes it."""
    call(repository, "dvc", "remote", "add", "--local", "--default", "storage", "../storage")
    (repository.parent / "storage").mkdir()
    cluster.add_node(num_cpus=1)
    with tiny.odd_node(cluster, f"mount -t tmpfs none {repository}"):
        running = tiny.start(cluster, repository, "lr=0.2,0.3", "split=3")
        tiny.until(lambda: len(tiny.trainings(repository)) == 2)
        held.unlink()
        output, _ = running.communicate()
    assert output.count(" s on ") == 2, output
    assert sorted(tiny.seen(repository)) == ["prepare 0.1 0", "train 0.2 0", "train 0.3 0"]
    for rate in (0.2, 0.3):
        call(repository, "dvc", "exp", "apply", experiment_name((f"lr={rate}", "split=3", "threads=1")))
        assert (repository / "model.txt").read_text() == f"{rate} 0"
        assert "up to date" in call(repository, "dvc", "status")
        call(repository, "git", "restore", ".")


@pytest.mark.nightly
def test_trials_share_the_gpus_of_a_node(cluster, repository):
    """Which here are no more than numbers, as Ray counts them."""
    tiny.make_epochs(repository)
    cluster.add_node(num_cpus=4, num_gpus=1)
    output, _ = tiny.start(cluster, repository, "lr=0.2,0.3", "--gpus=2").communicate()
    assert "error: sweep: no machine has 1 cores and 2 GPUs; lower --threads or --gpus" in output
    output, _ = tiny.start(cluster, repository, "lr=0.2,0.3", "--gpus=0.5").communicate()
    assert output.count(" s on ") == 2, output
    assert (repository.parent / "seen.gpus").read_text().splitlines() == ["gpu 0"] * 2
    record = json.loads((repository / "runs/sweep/device=gpu-lr0.2-threads1.json").read_text())
    assert record["gpus"] == ["0"]
    output, _ = tiny.start(cluster, repository, "lr=0.2").communicate()
    assert (repository.parent / "seen.gpus").read_text().splitlines()[2:] == ["cpu "]


@pytest.mark.nightly
def test_a_head_that_is_gone(cluster, repository, held):
    cluster.add_node(num_cpus=1)
    running = tiny.start(cluster, repository, "lr=0.2,0.3")
    tiny.until(lambda: len(tiny.trainings(repository)) == 1)
    cluster.head_node.kill_gcs_server()
    output, _ = running.communicate()
    assert running.returncode == 1
    assert "finished trials are kept; start Ray there and run the same command again" in output
    assert "gcs" not in output


@pytest.mark.nightly
def test_a_node_with_another_environment(cluster, repository, tmp_path):
    info = tmp_path / "other/numpy-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    with tiny.odd_node(cluster, PYTHONPATH=os.pathsep.join([str(info.parent), str(ROOT)])):
        output, _ = tiny.start(cluster, repository, "lr=0.2").communicate()
    assert re.search(r"numpy: found 0\.1, expected \d\S* as where the sweep was started; install that", output)
    assert not (repository.parent / "seen").exists()
