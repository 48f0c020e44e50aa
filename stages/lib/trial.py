"""One job of a sweep, on whatever machine it falls to: the committed pipeline in a place of its own."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import ray
from dvc.config import Config

from stages.lib.commands import git
from stages.lib.errors import UserError

LIBRARIES = ("tensorflow", "keras", "numpy", "h5py", "dvc")
FULL = os.strerror(errno.ENOSPC)


class MachineError(Exception):
    """Not the job's fault: the id that Ray has for the machine, its name, and what is wrong there."""


class TrialError(Exception):
    """What dvc says of a trial that failed."""


@dataclass(frozen=True)
class Job:
    name: str  # of the experiment
    revision: str
    overrides: tuple[str, ...]
    target: str | None  # the last stage to run, if not the whole pipeline
    cache: str  # DVC's, a folder
    remote: str | None  # the URL of DVC's default remote
    apart: bool  # whether some machine has not that folder: what trials share then goes through the remote
    settings: dict[str, Any]  # DVC's where the sweep was started, with absolute paths
    versions: dict[str, str]  # of what changes the bits, where the sweep was started
    variables: dict[str, str | None]  # of the environment, which Ray sets for its workers


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def shortcomings(job: Job) -> list[str]:
    """Why `job` cannot run on this machine, if so."""
    here, remote = versions(), job.remote or ""
    lines = [
        f"{name}: found {here[name]}, expected {wanted} as where the sweep was started; install that"
        for name, wanted in job.versions.items()
        if here[name] != wanted
    ]
    if not (has_cache(job) or "://" in remote or (remote and Path(remote).is_dir())):
        lines.append(
            f"{' and '.join(filter(None, [job.cache, remote]))}: found no such folder, expected DVC's cache or default "
            f"remote; mount it here, or give the repository a remote for all with `dvc remote add --default NAME URL`"
        )
    return lines


def has_cache(job: Job) -> bool:
    return Path(job.cache).is_dir()


def run_job(job: Job, repository: bytes, *needed: Any) -> dict[str, Any]:
    """Runs it, after those `needed`; gives the experiment as a git bundle and what its trainings recorded.

    `repository` is a git bundle of the revision. Raises TrialError if the trial fails, MachineError if anything else.
    """
    try:
        return _run(job, repository)
    except TrialError as error:
        raise TrialError(f"{platform.node()}: {error}") from None
    except (OSError, UserError) as error:
        what = FULL if FULL in str(error) else " ".join(str(error).split())
        raise MachineError(ray.get_runtime_context().get_node_id(), platform.node(), what) from None


def _run(job: Job, repository: bytes) -> dict[str, Any]:
    lacking = shortcomings(job)
    if lacking:
        raise UserError("; ".join(lacking))
    start = time.perf_counter()
    place = _places() / hashlib.sha256(f"{job.cache} {job.revision}".encode()).hexdigest()[:12] / job.name
    place.mkdir(parents=True, exist_ok=True)
    with open(f"{place}.lock", "w", encoding="utf-8") as lock:
        # The dvc of an attempt whose worker was killed goes on, and has this until it ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        shared = has_cache(job)
        if not (place / "ready").exists():
            _clone(place, job, repository, shared)
        ref = f"refs/exps/{job.revision[:2]}/{job.revision[2:]}/{job.name}"
        if not git("for-each-ref", ref, cwd=place / "repository"):
            pull = []
            if job.apart or not shared:
                _dvc(place, job, lock, "pull", "--allow-missing")
                pull = ["--pull"]  # what the remote's run cache knows is not made again
            else:
                with suppress(UserError):  # what the cache has not is made
                    _dvc(place, job, lock, "checkout")
            sets = [argument for override in job.overrides for argument in ("--set-param", override)]
            run = ["exp", "run", "--name", job.name, *pull, *sets, *([job.target] if job.target else [])]
            _dvc(place, job, lock, *run, error=TrialError)
            if not shared or (job.apart and job.target):
                _dvc(place, job, lock, "push", "--run-cache")
        outcome = {"bundle": _bundle(place, ref, job.revision), "records": _records(place / "repository/runs")}
        shutil.rmtree(place)
    return outcome | {"pushed": not shared, "node": platform.node(), "seconds": time.perf_counter() - start}


def _places() -> Path:
    return Path(tempfile.gettempdir()) / f"sweep-{os.getuid()}"  # not at import: raises OSError where the disk is full


def _bundle(place: Path, ref: str, revision: str) -> bytes:
    path = place / "experiment"
    git("bundle", "create", "--quiet", str(path), ref, f"^{revision}", cwd=place / "repository")
    return path.read_bytes()


def _records(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("train_*.json"))}


def _clone(place: Path, job: Job, repository: bytes, shared: bool) -> None:
    shutil.rmtree(place)
    folder = place / "repository"
    folder.mkdir(parents=True)
    bundle = place / "bundle"
    bundle.write_bytes(repository)
    git("init", "--quiet", cwd=folder)
    git("fetch", "--quiet", str(bundle), "HEAD", cwd=folder)
    git("checkout", "--quiet", "--detach", job.revision, cwd=folder)
    git("config", "user.name", "sweep", cwd=folder)
    git("config", "user.email", "sweep@localhost", cwd=folder)
    with Config(str(folder / ".dvc")).edit("local") as settings:
        settings |= job.settings
        settings["cache"] |= {"dir": job.cache if shared else str(_places() / "cache"), "type": "reflink,symlink,copy"}
    (place / "ready").touch()


def _dvc(place: Path, job: Job, lock: IO[str], *arguments: str, error: type[Exception] = UserError) -> None:
    changed = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])} | job.variables
    environment = {key: value for key, value in (os.environ | changed).items() if value is not None}
    log = place / "log"
    with log.open("wb") as output:
        code = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=place / "repository",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno()],
        ).returncode
    if code:
        told = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        if any(FULL in line for line in told):
            raise UserError(FULL)
        errors = [line for line in told if line.lower().startswith("error")] or told[-3:]
        raise error("\n".join(errors[-3:]))
