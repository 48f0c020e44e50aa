"""data/raw: what is there, what is missing, and how it gets in."""

import os
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
    total = len(_names())
    print(f"download: {total - len(lacking)} of {total} files were in place, {len(lacking)} fetched", flush=True)


def missing() -> list[str]:
    """Name the published files that data/raw lacks, or has with other bytes."""
    return [file.name for dataset in DATASETS for file in dataset.files if not _is_intact(file)]


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
    shutil.rmtree(INCOMING, ignore_errors=True)
    INCOMING.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=INCOMING))
    try:
        yield folder
    except OSError as error:
        error.filename = error.filename2 or error.filename or str(INCOMING)  # the second is what a file was to replace
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another download's folder
            INCOMING.rmdir()


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
    return path.is_file() and path.stat().st_size == file.size and sha256(path) == file.sha256


def _has_source(dataset: Dataset, sources: list[str]) -> bool:
    name = dataset.archive.name if dataset.archive else dataset.files[0].name
    return any(fetch.why_unavailable(name, source) is None for source in sources)


def _folders() -> list[str]:
    """Name the folders of the published files, each before those in it."""
    return sorted({folder.as_posix() for name in _names() for folder in PurePosixPath(name).parents} - {"."})


def _names() -> set[str]:
    return {file.name for dataset in DATASETS for file in dataset.files}
