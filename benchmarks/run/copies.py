"""Copy the repository to train in the copy, so that its own results stay."""

import shutil
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from reprocnn.commands.demo import make_copy
from reprocnn.repository import dvc


def copy_with_data(target: Path, changes: dict[str, Any]) -> None:
    """Copy the repository to `target` with params changed at dotted keys, with its prepared data and its DVC cache."""
    make_copy(Path(), target, changes)
    shutil.copy("dvc.lock", target)
    dvc("config", "--local", "cache.dir", str(Repo().cache.local_cache_dir), cwd=target)
    dvc("checkout", "--quiet", "download", "prepare", cwd=target)
