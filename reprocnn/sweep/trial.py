"""Run one job of a sweep, on any machine: the committed pipeline in a clone of its own."""

import csv
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import ray
from dvc.config import Config
from ray.exceptions import RayError

from reprocnn.core.errors import UserError
from reprocnn.repository import git
from reprocnn.sweep import dvc_process

LIBRARIES = ("tensorflow", "keras", "numpy", "h5py", "dvc")
DISK_FULL = os.strerror(errno.ENOSPC)
FREE_BYTES = 10_000_000  # with less, a disk is full


class MachineError(Exception):
    """A failure of the machine, not of the job; args: Ray's id of the machine, its host name, and the reason."""


class TrialError(Exception):
    """A trial that failed, with the message of DVC."""


@dataclass(frozen=True)
class Watched:
    """A metric of each epoch, by which the driver may stop a trial."""

    file: str  # a CSV file with a row per epoch, an output of the pipeline
    column: str
    progress: Any = None  # the driver's `pruning.Progress`, as a Ray actor

    def column_of(self, text: str) -> list[float]:
        """Read the metric of each epoch from the file's text, up to a row that is not whole. Raises UserError."""
        rows = csv.DictReader(text.splitlines())
        if self.column not in (rows.fieldnames or []):
            raise UserError(f"{self.file}: found no column {self.column}; known: {', '.join(rows.fieldnames or [])}")
        values: list[float] = []
        with suppress(TypeError, ValueError):
            values.extend(float(row[self.column]) for row in rows)
        return values


@dataclass(frozen=True)
class Job:
    """What a worker needs to know to run the pipeline."""

    name: str  # of the experiment
    revision: str
    overrides: tuple[str, ...]
    target: str | None  # the last stage to run, if not the whole pipeline
    gpus: float  # that Ray reserves for it
    watched: Watched | None
    cache: str  # DVC's, a folder
    remote: str | None  # the URL of DVC's default remote
    apart: bool  # whether some machine lacks that folder; shared results then go through the remote
    settings: dict[str, Any]  # of DVC, where the sweep was started, with absolute paths
    versions: dict[str, str]  # of the libraries that change the bits, where the sweep was started
    variables: dict[str, str | None]  # environment variables that Ray would change for its workers


@dataclass(frozen=True)
class Outcome:
    """What a worker sends back."""

    bundle: bytes  # the experiment, as a git bundle; empty if the trial was pruned
    records: dict[str, Any]  # runs/train_*.json, by stage
    pushed: bool  # whether the outputs are in the remote instead of the cache
    node: str
    seconds: float
    gpus: tuple[str, ...] = ()  # Ray's ids of those that it had
    pruned: list[float] | None = None  # the watched metric up to the epoch after which it was stopped


def versions() -> dict[str, str]:
    """Return the versions of Python and of those LIBRARIES that are installed here."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def shortcomings(job: Job) -> list[str]:
    """Return a line for each reason why `job` cannot run on this machine."""
    here, remote = versions(), job.remote or ""
    lines = [
        f"{name}: found {here.get(name, 'none')}, expected {wanted} as where the sweep was started; install that"
        for name, wanted in job.versions.items()
        if here.get(name) != wanted
    ]
    if not (has_cache(job) or "://" in remote or (remote and Path(remote).is_dir())):
        lines.append(
            f"{' and '.join(filter(None, [job.cache, remote]))}: missing, expected DVC's cache or default remote; "
            f"mount it here, or give the repository a remote for all with `dvc remote add --default NAME URL`"
        )
    return lines


def has_cache(job: Job) -> bool:
    """Check whether this machine has the folder of DVC's cache."""
    return Path(job.cache).is_dir()


def run_job(job: Job, repository: bytes, *needed: Any) -> Outcome:
    """Run `job` in a clone of `repository`, a git bundle; Ray calls this when the jobs `needed` have ended.

    Raises TrialError if the pipeline fails, MachineError if anything else does.
    """
    try:
        return _run(job, repository)
    except (TrialError, OSError, UserError) as error:
        full = DISK_FULL in str(error) or _is_disk_full(job)
        if isinstance(error, TrialError) and not full:
            raise TrialError(f"{platform.node()}: {error}") from None
        reason = DISK_FULL if full else " ".join(str(error).split())
        raise MachineError(ray.get_runtime_context().get_node_id(), platform.node(), reason) from None


def _is_disk_full(job: Job) -> bool:
    """Return whether a disk that a job writes to is full, which not every library's message says."""
    free = []
    for folder in (os.environ.get("TMPDIR", "/tmp"), job.cache):
        with suppress(OSError):
            free.append(shutil.disk_usage(folder).free)
    return min(free, default=FREE_BYTES) < FREE_BYTES


def _run(job: Job, repository: bytes) -> Outcome:
    faults = shortcomings(job)
    if faults:
        raise UserError("; ".join(faults))
    start = time.perf_counter()
    place = _places() / hashlib.sha256(f"{job.cache} {job.revision}".encode()).hexdigest()[:12] / job.name
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{place}.lock", "w", encoding="utf-8") as lock:
        # If a worker is killed, its dvc continues and holds the lock until it ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        place.mkdir(exist_ok=True)
        cached = has_cache(job)
        if not (place / "ready").exists():
            _clone(place, job, repository)
        _configure(place / "repository", job, cached)
        _remove_stale_locks(place / "repository/.git")
        ref = f"refs/exps/{job.revision[:2]}/{job.revision[2:]}/{job.name}"
        history = History(place / "repository", job) if job.watched else None
        if not git("for-each-ref", ref, cwd=place / "repository"):
            _run_experiment(place, job, lock, cached, history)
        stopped = history is not None and history.stopped
        bundle = b"" if stopped else _bundle(place, ref, job.revision)
        records = _records(place / "repository/runs")
        shutil.rmtree(place)
    gpus = tuple(str(gpu) for gpu in ray.get_gpu_ids())
    pruned = history.values if history and stopped else None
    return Outcome(bundle, records, not cached, platform.node(), time.perf_counter() - start, gpus, pruned)


def _places() -> Path:
    """Make the folder of this user's clones on this machine. Raises UserError if others could change what is in it.

    Not at import, since gettempdir raises OSError on a full disk.
    """
    folder = Path(tempfile.gettempdir()) / f"sweep-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder}: expected a folder of this user, got a link or another user's; remove it")
    folder.chmod(0o700)  # one that was there may be open to others
    return folder


def _remove_stale_locks(folder: Path) -> None:
    """Remove git's locks that an interrupted run left: whoever holds the clone's own lock is alone in it."""
    for path in folder.rglob("*.lock"):  # no branch may be called so
        path.unlink()


def _clone(place: Path, job: Job, repository: bytes) -> None:
    shutil.rmtree(place)
    folder = place / "repository"
    folder.mkdir(parents=True)
    bundle = place / "bundle"
    bundle.write_bytes(repository)
    git("init", "--quiet", cwd=folder)
    git("fetch", "--quiet", str(bundle), "HEAD", cwd=folder)
    git("config", "core.hooksPath", os.devnull, cwd=folder)  # a user's hooks are for the user's commits
    git("checkout", "--quiet", "--detach", job.revision, cwd=folder)
    git("config", "user.name", "sweep", cwd=folder)
    git("config", "user.email", "sweep@localhost", cwd=folder)
    (place / "ready").touch()


def _configure(folder: Path, job: Job, cached: bool) -> None:
    """Give a clone the driver's settings of DVC, which may have changed since it was made."""
    with Config(str(folder / ".dvc")).edit("local") as settings:
        settings |= job.settings
        settings["cache"] |= {"dir": job.cache if cached else str(_places() / "cache"), "type": "reflink,symlink,copy"}


class History:
    """The metric that a trial's training has written so far, in `values`; the driver may have `stopped` it."""

    def __init__(self, repository: Path, job: Job) -> None:
        assert job.watched
        self.name, self.watched, self.path = job.name, job.watched, repository / job.watched.file
        self.known = self._read()  # of the commit, or of an attempt that was interrupted
        self.values: list[float] = []
        self.stopped = False

    def stop(self) -> bool:
        """Send the driver the values, and return whether it wants the trial to stop. Raises TrialError."""
        text = self._read()
        if text and text != self.known:
            try:
                self.values = self.watched.column_of(text)
            except UserError as error:
                raise TrialError(str(error)) from None
            with suppress(RayError):  # the next call asks again
                self.stopped = ray.get(self.watched.progress.report.remote(self.name, self.values))
        return self.stopped

    def _read(self) -> str:
        with suppress(OSError):
            return self.path.read_text(encoding="utf-8")
        return ""


def _run_experiment(place: Path, job: Job, lock: IO[str], cached: bool, history: History | None) -> None:
    """Run `dvc exp run`, starting from what the cache or the remote has, until `history` says stop."""
    command = ["exp", "run", "--name", job.name]
    if cached and not job.apart:
        with suppress(UserError):  # the run makes what the cache lacks
            _dvc(place, job, lock, "checkout")
    else:
        _dvc(place, job, lock, "pull", "--allow-missing")
        command.append("--pull")  # the remote's run cache saves runs too
    for override in job.overrides:
        command += ["--set-param", override]
    if job.target:
        command.append(job.target)
    _dvc(place, job, lock, *command, error=TrialError, stop=history.stop if history else None)
    if history and history.stopped:
        return
    if not cached or (job.apart and job.target):
        _dvc(place, job, lock, "push", "--run-cache")


def _bundle(place: Path, ref: str, revision: str) -> bytes:
    path = place / "experiment"
    git("bundle", "create", "--quiet", str(path), ref, f"^{revision}", cwd=place / "repository")
    return path.read_bytes()


def _records(folder: Path) -> dict[str, Any]:
    """Read what trainings say of themselves, NaN as null, which JSON has."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        for path in sorted(folder.glob("train_*.json"))
    }


def _dvc(
    place: Path,
    job: Job,
    lock: IO[str],
    *arguments: str,
    error: type[Exception] = UserError,
    stop: Callable[[], bool] | None = None,
) -> None:
    """Run dvc in the clone until it ends or `stop` becomes true.

    Raise `error` with its last lines if it fails, UserError if they say that the disk is full.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # A process that outlives dvc sends the analytics, and writes to the clone while that is being removed.
    changed = {"PATH": path, "DVC_NO_ANALYTICS": "1"} | job.variables
    if not job.gpus:
        changed["CUDA_VISIBLE_DEVICES"] = ""  # else all trials would take the first GPU; not every Ray hides it
    if job.gpus % 1:
        changed["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # else the first trial takes the memory of all that share a GPU
    environment = {key: value for key, value in (os.environ | changed).items() if value is not None}
    log = place / "log"
    code = dvc_process.run(arguments, place / "repository", environment, log, lock, stop)
    if code is not None and code < 0:
        raise error(f"dvc {arguments[0]} was killed by {signal.Signals(-code).name}; was there too little memory?")
    if code:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        if any(DISK_FULL in line for line in lines):
            raise UserError(DISK_FULL)
        errors = [line for line in lines if line.lower().startswith("error")] or lines[-3:]
        raise error("\n".join(errors[-3:]))
