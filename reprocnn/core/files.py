"""Files that are either complete or absent, and digests of files and folders."""

import glob
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reprocnn.core.errors import UserError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a name beside `path`, with its ending, to write to; it becomes `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".partial-*-{glob.escape(path.name)}"):
        left.unlink(missing_ok=True)  # by a killed process
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")  # nobody else writes to it
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        # The second is what was to be replaced; on a full disk there is none.
        error.filename = str(error.filename2 or error.filename or path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with newlines as they are, atomically."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, atomically. Raises ValueError for NaN, which a reader of JSON would refuse."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a file that a stage wrote. Raises UserError if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run `dvc repro`") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: invalid JSON ({error}); restore it with git checkout, or run `dvc repro`") from None


def sha256(path: Path) -> str:
    """Digest a file's bytes, or of a folder the names and bytes of all files below it but Python's bytecode."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    listed = [[file.relative_to(path).as_posix(), sha256(file)] for file in files]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
