"""Fetches the published files, from DATASETS_MIRROR or the public addresses, or writes the embedded sample.

Writes data/raw/: MNIST's four .gz files and the seven members of cifar-10-batches-py/, each there only if it has the
digest of the published one. What is there and right is not fetched again; what does not belong is removed.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from stages.lib import fetch, published
from stages.lib.errors import run
from stages.lib.files import sha256
from stages.lib.params import read

RAW, INCOMING = Path("data/raw"), Path("data/.incoming")


@dataclass(frozen=True)
class Params:
    source: str


def main() -> None:
    params = read(Params)
    shutil.rmtree(INCOMING, ignore_errors=True)
    INCOMING.mkdir(parents=True)
    try:
        if params.source == "sample":
            from stages.lib import sample  # needs scikit-learn, which the public files do not

            sample.write(INCOMING)
            move_in()
        else:
            fetch_missing()
    except OSError as error:
        error.filename = error.filename or str(INCOMING)  # a full disk names no file
        raise
    finally:
        shutil.rmtree(INCOMING, ignore_errors=True)
    remove_strangers(RAW)


def missing() -> list[str]:
    """The published files that data/raw lacks, or has with other bytes."""
    return [file.name for file in published.MNIST + published.CIFAR.members if not _is_there(file)]


def fetch_missing() -> None:
    lacking = missing()
    for file in published.MNIST:
        if file.name in lacking:
            fetch.fetch_file(file, fetch.mirrors(published.MNIST_ADDRESSES), INCOMING)
            move_in()
    if any(member.name in lacking for member in published.CIFAR.members):
        fetch.fetch_members(published.CIFAR, fetch.mirrors(published.CIFAR_ADDRESSES), INCOMING)
        move_in()
    there = len(published.NAMES) - len(lacking)
    print(f"download: {there} of {len(published.NAMES)} files were in place, {len(lacking)} fetched", flush=True)


def move_in() -> None:
    """Renames what is whole and checked into data/raw."""
    for path in sorted(INCOMING.rglob("*")):
        if path.is_file():
            target = RAW / path.relative_to(INCOMING)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


def remove_strangers(raw: Path) -> None:
    """Leaves in `raw` the published names alone."""
    for path in sorted(raw.rglob("*"), reverse=True):  # a folder's content before the folder
        name = path.relative_to(raw).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(known.startswith(f"{name}/") for known in published.NAMES):
                path.rmdir()
        elif name not in published.NAMES:
            path.unlink()


def _is_there(file: published.File) -> bool:
    path = RAW / file.name
    return path.is_file() and path.stat().st_size == file.size and sha256(path) == file.sha256


if __name__ == "__main__":
    run(main)
