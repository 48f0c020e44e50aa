"""What stages read and make, and what a branch takes out of dvc.yaml, so that its changes go unseen."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.fs import localfs
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.utils.serialize import load_path

from reprocnn.gate.imports import Code
from reprocnn.gate.limits import Loosening
from reprocnn.gate.lineage import is_code
from reprocnn.gate.values import flatten


@dataclass(frozen=True)
class StageFiles:
    """What a stage reads and makes."""

    outs: set[str]
    deps: set[str]
    params: set[tuple[str, str]]  # a file and a key in it, "" for all of the file
    code: set[str] | None  # the deps that lineage compares with imports; None for a command in which it sees no Python


def read_stages(repo: Repo) -> dict[str, StageFiles]:
    """Read the stages of an open repository, by name."""
    stages = {_name(repo, stage): stage for stage in repo.index.stages if isinstance(stage, PipelineStage)}
    outs = {name: {_path(repo, out) for out in stage.outs} for name, stage in stages.items()}
    made = set().union(*outs.values())
    code = Code(Path(repo.root_dir), repo.fs)
    found = {}
    for name, stage in stages.items():
        params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
        deps = {_path(repo, dep): dep for dep in stage.deps if dep not in params}
        found[name] = StageFiles(
            outs[name],
            set(deps),
            {(_path(repo, dep), key) for dep in params for key in dep.params or [""]},
            {path for path, dep in deps.items() if path not in made and _is_local(dep) and is_code(code, dep.fs_path)}
            if stage.cmd and code.started(stage.cmd, Path(stage.wdir))
            else None,
        )
    return found


def makes(stages: dict[str, StageFiles], path: str | None) -> bool:
    """Return whether a file is an out of a stage, or in one."""
    return path is not None and any(Path(path).is_relative_to(out) for out in _outs(stages))


def writes(stages: dict[str, StageFiles], path: str) -> bool:
    """Return whether a file by itself is an out of a stage."""
    return path in _outs(stages)


def forgotten(before: dict[str, StageFiles], here: dict[str, StageFiles]) -> Iterator[Loosening]:
    """Give what a stage depended on and does no more: what changes of it would go unseen.

    A param or a file may go altogether, which the list of changed params, or a warning, shows.
    """
    for name, was in before.items():
        now = _heirs(name, before, here)
        params = set().union(*(one.params for one in now))
        for file, key in sorted(was.params - params):
            if any(not _is_declared(file, leaf, params) for leaf in _keys_here(file, key)):
                yield Loosening(f"{name}:{key or file}", "no longer a param of the stage")
        yield from (
            Loosening(f"{name}:{path}", "no longer a dep")
            for path in _gone(was, now)
            if not _replacing(was, now) or Path(path).exists() or makes(here, path)
        )


def replaced(before: dict[str, StageFiles], here: dict[str, StageFiles]) -> Iterator[str]:
    """Give a line for each data file or folder that is gone, of a stage with others in its place."""
    for name, was in before.items():
        now = _heirs(name, before, here)
        for path in _gone(was, now):
            if _replacing(was, now) and not Path(path).exists() and not makes(here, path):
                new = ", ".join(sorted(_replacing(was, now)))
                yield f"dvc.yaml: {name}: deps: {path} is gone, {new} new; see that the one replaces the other"


def _outs(stages: dict[str, StageFiles]) -> set[str]:
    return set().union(*(stage.outs for stage in stages.values()))


def _gone(was: StageFiles, now: list[StageFiles]) -> list[str]:
    """List the deps that are declared no more; code, where here too imports say what a stage depends on, is not."""
    deps = set().union(*(one.deps for one in now))
    known = was.code if was.code and all(one.code is not None for one in now) else set()
    return sorted(
        path for path in was.deps - deps - known if not any(Path(path).is_relative_to(folder) for folder in deps)
    )


def _replacing(was: StageFiles, now: list[StageFiles]) -> set[str]:
    """List the deps that are new and not code."""
    return set().union(*(one.deps - (one.code or set()) for one in now)) - was.deps


def _heirs(name: str, before: dict[str, StageFiles], here: dict[str, StageFiles]) -> list[StageFiles]:
    """Give the stages that make what a stage of the base made; without one, that of its name, or else all."""
    outs = before[name].outs
    heirs = [stage for stage in here.values() if stage.outs & outs]
    return heirs or [here[one] for one in [name] if one in here] or [*here.values()]


def _keys_here(file: str, section: str) -> list[str]:
    """List the keys of a params file in a section, or that key itself; "" is the whole file."""
    if not Path(file).exists():
        return []
    keys = flatten(load_path(file, localfs))
    return [key for key in keys if not section or f"{key}.".startswith(f"{section}.")]


def _is_declared(file: str, key: str, params: set[tuple[str, str]]) -> bool:
    sections = {"", *(key.rsplit(".", count)[0] for count in range(key.count(".") + 1))}
    return any((file, section) in params for section in sections)


def _name(repo: Repo, stage: PipelineStage) -> str:
    path = repo.fs.relpath(stage.path, repo.root_dir)  # DVC's own address starts at the working folder
    return str(stage.name) if path == "dvc.yaml" else f"{path}:{stage.name}"


def _path(repo: Repo, one: Any) -> str:
    """Give the path of a dep or out, as dvc.yaml has it where it is elsewhere than in this file system."""
    return str(repo.fs.relpath(one.fs_path, repo.root_dir)) if _is_local(one) else str(one.def_path)


def _is_local(one: Any) -> bool:
    return one.protocol in ("local", "", None)
