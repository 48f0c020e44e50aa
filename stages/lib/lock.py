"""dvc.lock against what it speaks of: code and params on one side, the results that git keeps on the other."""

import hashlib
import logging
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage

from stages.lib.errors import UserError

MAX_TOLD = 3  # of the reasons why a stage is not of this code


def faults() -> list[str]:
    """A line for each result in git that is not dvc.lock's, and for each stage whose code, deps or params are not.

    Needs no data: what is DVC's to keep may be absent. Raises UserError if dvc.yaml or dvc.lock cannot be read.
    """
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # it would report on stdout
    try:
        with Repo() as repo:
            made = {out.fs_path: out for out in repo.index.outs}
            found = [line for out in made.values() if not out.use_cache for line in _changed_result(out)]
            stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
            found += [line for stage in stages for line in _changed_stage(stage, made)]
            return found or _would_run(repo)
    except DvcException as error:
        raise UserError(f"dvc: {' '.join(str(error).split())}; mend dvc.yaml or restore dvc.lock") from None


def _changed_result(out: Any) -> list[str]:
    path = Path(out.fs_path)
    if out.hash_info.value is None:
        return []  # its stage is told below
    if not path.exists():
        return [f"{out.def_path}: not there, but in dvc.lock; restore it with git checkout, or run `dvc repro`"]
    if path.is_file() and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != out.hash_info.value:
        return [f"{out.def_path}: not what dvc.lock says; restore it with git checkout, or run `dvc repro`"]
    return []


def _changed_stage(stage: Any, made: dict[str, Any]) -> list[str]:
    what = []
    if stage.cmd_changed:
        what.append("cmd changed")
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            what += [f"{key} {how}" for changes in dep.status().values() for key, how in _items(changes)]
        elif dep.fs_path in made:
            if made[dep.fs_path].hash_info != dep.hash_info:
                what.append(f"{dep.def_path} of another run")
        else:
            inside = any(dep.fs_path.startswith(path + "/") for path in made)
            what += [f"{path} {how}" for path, how in dep.status().items() if not (inside and how == "deleted")]
    if not what:
        return []
    if all(dep.hash_info.value is None for dep in stage.deps):
        return [f"dvc.lock: {stage.addressing}: not there; run `dvc repro` and commit"]
    told = ", ".join(what[:MAX_TOLD]) + (f" and {len(what) - MAX_TOLD} more" if len(what) > MAX_TOLD else "")
    return [f"dvc.lock: {stage.addressing}: not of this code ({told}); run `dvc repro` and commit"]


def _items(changes: Any) -> list[tuple[str, str]]:
    """Of one params file: by key, or one word for all of it."""
    return list(changes.items()) if isinstance(changes, dict) else [("params", str(changes))]


def _would_run(repo: Repo) -> list[str]:
    """What DVC itself would run, for whatever is not seen above."""
    try:
        stages = repo.reproduce(dry=True, allow_missing=True)
    except DvcException as error:
        return [f"dvc.lock: {error}: not of this code; run `dvc repro` and commit"]
    return [f"dvc.lock: {stage.addressing}: would run again; run `dvc repro` and commit" for stage in stages]
