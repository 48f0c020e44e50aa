"""Copy the repository to train in the copy, so that its own results stay."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from reprocnn.commands.demo import make_copy
from reprocnn.core.errors import UserError
from reprocnn.repository import dvc


@contextmanager
def copy_with_data(changes: dict[str, Any]) -> Iterator[Path]:
    """Give a temporary copy with params changed at dotted keys, with the prepared data and DVC's cache.

    Raises UserError if the cache lacks the data.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        make_copy(Path(), copy, changes)
        shutil.copy("dvc.lock", copy)
        dvc("config", "--local", "cache.dir", str(Repo().cache.local_cache_dir), cwd=copy)
        try:
            dvc("checkout", "--quiet", "download", "prepare", cwd=copy)
        except UserError:
            raise UserError("data: DVC's cache lacks the images of dvc.lock; run `dvc repro prepare` first") from None
        yield copy
