"""dvc.lock against what it speaks of: code and params on one side, the results that git keeps on the other."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo
from dvc.repo.brancher import switch
from dvc.stage import PipelineStage

from stages.lib.errors import UserError

MAX_TOLD = 3  # of the reasons why a stage is not of this code


def faults() -> list[str]:
    """A line for each result in git that is not dvc.lock's, and for each stage whose code, deps or params are not.

    Needs no data: what is DVC's to keep may be absent. Raises UserError if dvc.yaml or dvc.lock cannot be read.
    """
    with _open("workspace") as repo:
        found = _changed_results(repo)
        stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
        made = {out.fs_path: out for out in repo.index.outs}
        found += [line for stage in stages for line in _changed_stage(stage, made)]
        return found or _would_run(repo)


def changed_results(rev: str) -> list[str]:
    """A line for each result in git that, at the revision, is not what its dvc.lock says."""
    with _open(rev) as repo:
        return _changed_results(repo)


@contextmanager
def _open(rev: str) -> Iterator[Repo]:
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # it would report on stdout
    try:
        with Repo() as repo, switch(repo, rev):
            yield repo
    except NotDvcRepoError:
        raise UserError("this folder is no DVC repository; run from the top folder, or `dvc init` first") from None
    except DvcException as error:
        raise UserError(f"dvc: {' '.join(str(error).split())}; mend dvc.yaml or restore dvc.lock") from None


def _changed_results(repo: Repo) -> list[str]:
    lines = []
    for out in repo.index.outs:
        if out.use_cache or out.hash_info.value is None:
            continue  # DVC keeps it, or its stage never ran, which is told of the stage
        if not repo.fs.exists(out.fs_path):
            lines.append(
                f"{out.def_path}: not there, but in dvc.lock; restore it with git checkout, or run `dvc repro`"
            )
        elif repo.fs.isfile(out.fs_path):
            digest = hashlib.md5(repo.fs.cat_file(out.fs_path), usedforsecurity=False).hexdigest()
            if digest != out.hash_info.value:
                lines.append(
                    f"{out.def_path}: not what dvc.lock says; restore it with git checkout, or run `dvc repro`"
                )
    return lines


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
