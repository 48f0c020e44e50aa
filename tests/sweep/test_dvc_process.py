"""Processes that run dvc: their output and exit codes, the lock that they hold, and how they are stopped."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from reprocnn.sweep import dvc_process
from tests.support import tiny
from tests.support.commands import ROOT, call

pytestmark = pytest.mark.slow  # dvc is loaded once for each

WAIT = "import os, time\nopen(os.environ['SEEN'], 'w').write(str(os.getpid()))\ntime.sleep(1000)\n"
ORPHAN = """
import os, sys
from pathlib import Path
from reprocnn.sweep import dvc_process
if __name__ == "__main__":
    with open("lock", "w") as lock:
        import fcntl
        fcntl.flock(lock, fcntl.LOCK_EX)
        dvc_process.run(("repro",), Path("repository"), dict(os.environ), Path("log"), lock)
"""


@pytest.fixture
def folder(tmp_path):
    """A repository with a stage that waits until it is killed."""
    repository = tmp_path / "repository"
    repository.mkdir()
    call(repository, "git", "init", "--quiet")
    call(repository, "dvc", "init", "--quiet")
    (repository / "wait.py").write_text(WAIT)
    stages = {"wait": {"cmd": f"{sys.executable} wait.py", "deps": ["wait.py"]}}
    (repository / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    return tmp_path


def run(folder: Path, *arguments: str, stop=None, **more: str) -> int | None:
    environment = os.environ | {"SEEN": str(folder / "seen")} | more
    with (folder / "lock").open("w") as lock:
        return dvc_process.run(arguments, folder / "repository", environment, folder / "log", lock, stop)


def test_dvc_has_the_folder_the_environment_and_the_log(folder):
    assert run(folder, "root") == 0
    assert (folder / "log").read_text() == ".\n"
    assert run(folder, "dag", "nosuch") == 255
    assert "nosuch" in (folder / "log").read_text()
    (folder / "repository/wait.py").write_text("import os\nprint(os.environ['MORE'])\n")
    assert run(folder, "repro", MORE="given") == 0
    assert "given\n" in (folder / "log").read_text()
    assert run(folder, "root") == 0
    assert (folder / "log").read_text() == ".\n"  # of this run alone


def test_dvc_has_no_other_variables_than_those_it_is_given(folder, monkeypatch):
    """Though the process that it is forked from has them, as Ray's OMP_NUM_THREADS."""
    assert os.environ["HOME"]
    (folder / "repository/wait.py").write_text("import os\nprint(os.environ.get('HOME', 'homeless'))\n")
    assert run(folder, "root") == 0  # with the variables of this process, whenever that one started
    monkeypatch.delenv("HOME")
    assert run(folder, "repro") == 0
    assert "homeless\n" in (folder / "log").read_text()


def test_stopping_kills_dvc_and_its_stage(folder):
    seen = folder / "seen"
    assert run(folder, "repro", stop=lambda: bool(started(seen))) is None
    tiny.until(lambda: not psutil.pid_exists(started(seen)))
    seen.unlink()
    with pytest.raises(ZeroDivisionError):
        run(folder, "repro", stop=lambda: started(seen) and 1 / 0)
    tiny.until(lambda: not psutil.pid_exists(started(seen)))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_stopping_kills_what_the_shell_of_a_stage_started(folder):
    stages = {"wait": {"cmd": f"{sys.executable} wait.py & wait", "deps": ["wait.py"]}}
    (folder / "repository/dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert run(folder, "repro", stop=lambda: bool(started(folder / "seen"))) is None
    tiny.until(lambda: not psutil.pid_exists(started(folder / "seen")))


def test_a_signal_is_an_exit_code_below_zero(folder):
    seen = folder / "seen"

    def kill() -> bool:
        if pid := started(seen):
            stage = psutil.Process(pid)
            next(one for one in stage.parents() if "forkserver" in " ".join(one.cmdline())).kill()  # dvc
            stage.kill()
            seen.unlink()
        return False

    assert run(folder, "repro", stop=kill) == -9


def test_dvc_holds_the_lock_when_the_process_that_started_it_is_killed(folder):
    (folder / "orphan.py").write_text(ORPHAN)
    environment = os.environ | {"SEEN": str(folder / "seen"), "PYTHONPATH": str(ROOT)}
    starter = subprocess.Popen([sys.executable, "orphan.py"], cwd=folder, env=environment)
    tiny.until(lambda: started(folder / "seen"))
    starter.kill()
    starter.wait()
    with (folder / "lock").open("w") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        psutil.Process(started(folder / "seen")).kill()
        fcntl.flock(lock, fcntl.LOCK_EX)


def started(seen: Path) -> int:
    """Return the process of the stage, 0 before it runs."""
    text = seen.read_text() if seen.exists() else ""
    return int(text or 0)
