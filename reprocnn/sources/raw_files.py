"""data/raw: what is there, what is missing, and how it gets in."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from reprocnn.core.errors import UserError
from reprocnn.core.files import sha256
from reprocnn.datasets import DATASETS, Dataset, File
from reprocnn.sources import fetch
from reprocnn.sources.web import without_password

RAW, INCOMING = Path("data/raw"), Path("data/.incoming")


def write_sample() -> None:
    """Write the embedded sample into data/raw, in the published formats."""
    from reprocnn.sources import sample  # imports scikit-learn, which the published files do not need

    with _incoming() as folder:
        for dataset in DATASETS:
            sample.write(dataset, folder)
        _move_in(folder)


def fetch_missing() -> None:
    """Fetch the published files that data/raw lacks, each kept only if its digest is the published one.

    Raises UserError if no source has one of them.
    """
    lacking = missing()
    with _incoming() as folder:
        for dataset in DATASETS:
            wanted = [file for file in dataset.files if file.name in lacking]
            sources = fetch.mirrors(dataset.addresses)
            if dataset.archive and wanted:
                fetch.fetch_members(dataset.archive, dataset.files, sources, folder)
                _move_in(folder)
            elif wanted:
                for file in wanted:
                    fetch.fetch_file(file, sources, folder)
                    _move_in(folder)
    if lost := missing():
        raise UserError(f"{RAW / lost[0]}: another process changed it after the download; run `dvc repro -f download`")
    total = len(_names())
    print(f"download: {total - len(lacking)} of {total} files were in place, {len(lacking)} fetched", flush=True)


def check_declared() -> None:
    """Raise UserError for files in datasets.py that data/raw cannot all have, and for fields of a wrong type."""
    seen: dict[str, str] = {}
    for dataset in DATASETS:
        where = f"reprocnn/datasets.py: {dataset.name}"
        if isinstance(dataset.addresses, str):
            raise UserError(f"{where}: addresses: found text, expected a tuple; write ({dataset.addresses!r},)")
        if not isinstance(dataset.files, tuple | list):
            raise UserError(f"{where}: files: found {dataset.files!r}, expected a tuple; write (File(...),)")
        for name, digest in ((file.name, file.sha256) for file in dataset.files):
            path = PurePosixPath(name)
            if not path.name or path.is_absolute() or ".." in path.parts or path.as_posix() != name:
                raise UserError(f"{where}: files: found {name!r}, expected a name below data/raw; correct it there")
            for other, owner in seen.items():
                if PurePosixPath(other) in (path, *path.parents) or path in PurePosixPath(other).parents:
                    raise UserError(
                        f"{where}: files: found {name}, which is in the way of {other} of {owner}; write "
                        f"another folder, as {dataset.name}/{path.name}"
                    )
            if not re.fullmatch("[0-9a-f]{64}", digest):
                raise UserError(f"{where}: {name}: sha256: found {digest!r}, expected 64 digits of 0-9 and a-f")
            seen[name] = dataset.name


def missing() -> list[str]:
    """Name the published files that data/raw lacks, or has with other bytes."""
    return [file.name for dataset in DATASETS for file in dataset.files if not _is_intact(file)]


def remove_wrong() -> None:
    """Remove files whose bytes are not the published ones, as a damaged cache gives them: DVC would not look again."""
    for name in missing():
        if (RAW / name).is_file():
            (RAW / name).unlink()


def unreachable_sources() -> list[str]:
    """Return the sources of a data set that is missing here and that none of them has; empty if the run can start.

    They are for a message: without passwords.
    """
    lacking = set(missing())
    for dataset in DATASETS:
        sources = fetch.mirrors(dataset.addresses)
        if lacking & {file.name for file in dataset.files} and not _has_source(dataset, sources):
            return [without_password(source) for source in sources]
    return []


def replace_links() -> None:
    """Put real folders in the place of links, whose targets stay: nothing is to be read, written or removed there."""
    for folder in (RAW, *(RAW / name for name in _folders())):
        if folder.is_symlink():
            folder.unlink()
            folder.mkdir()


def check_complete() -> None:
    """Raise UserError if a published name is not a file of data/raw."""
    absent = [name for name in sorted(_names()) if not (RAW / name).is_file()]
    if absent:
        raise UserError(
            f"{RAW / absent[0]}: expected a file after the download, found none; run `dvc repro -f download`"
        )


def remove_unexpected() -> None:
    """Leave in data/raw nothing but the published names."""
    names = _names()
    for path in sorted(RAW.rglob("*"), reverse=True):  # a folder's content before the folder
        name = path.relative_to(RAW).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(known.startswith(f"{name}/") for known in names):
                path.rmdir()
        elif name not in names:
            path.unlink()


@contextmanager
def _incoming() -> Iterator[Path]:
    """Give a folder for what is not checked yet, removed at the end; a full disk's error names it.

    It is this process's own: a download whose dvc was killed may still run, and write files of the same names.
    """
    INCOMING.mkdir(parents=True, exist_ok=True)
    for left in INCOMING.iterdir():
        with suppress(OSError):  # a download that still runs has locked it
            os.close(_lock(left))
            shutil.rmtree(left, ignore_errors=True)
            left.unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp(dir=INCOMING))
    lock = _lock(folder)
    try:
        yield folder
    except OSError as error:
        error.filename = error.filename2 or error.filename or str(INCOMING)  # the second is what a file was to replace
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        with suppress(OSError):  # another download's folder
            INCOMING.rmdir()


def _lock(folder: Path) -> int:
    """Lock a folder until the file descriptor returned is closed. Raises OSError if another process has locked it."""
    lock = os.open(folder, os.O_RDONLY | os.O_NONBLOCK)  # not waiting for the other end of a fifo
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _move_in(folder: Path) -> None:
    """Rename what is complete and checked from `folder` into data/raw; what is in its way does not belong there."""
    for path in sorted(folder.rglob("*")):  # a folder before its content
        target = RAW / path.relative_to(folder)
        if path.is_dir():
            if not target.is_dir():
                target.unlink(missing_ok=True)
            target.mkdir(parents=True, exist_ok=True)
        else:
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


def _is_intact(file: File) -> bool:
    path = RAW / file.name
    try:
        return path.is_file() and path.stat().st_size == file.size and sha256(path) == file.sha256
    except OSError:  # a worn disk, or no permission: it is fetched again
        return False


def _has_source(dataset: Dataset, sources: list[str]) -> bool:
    name = dataset.archive.name if dataset.archive else dataset.files[0].name
    return any(fetch.why_unavailable(name, source) is None for source in sources)


def _folders() -> list[str]:
    """Name the folders of the published files, each before those in it."""
    return sorted({folder.as_posix() for name in _names() for folder in PurePosixPath(name).parents} - {"."})


def _names() -> set[str]:
    return {file.name for dataset in DATASETS for file in dataset.files}
