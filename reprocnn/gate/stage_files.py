"""What stages read and make, and what a branch takes out of dvc.yaml, so that its changes go unseen."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency, read_param_file
from dvc.exceptions import DvcException
from dvc.fs import localfs
from dvc.repo import Repo
from dvc.stage import PipelineStage

from reprocnn.core.params import FILE
from reprocnn.gate.imports import Code
from reprocnn.gate.limits import Loosening
from reprocnn.gate.lineage import is_code, is_local, reads
from reprocnn.repository import git

BESIDE_DATA = (".py", ".md", ".rst")  # what is no data in a folder of code


@dataclass(frozen=True)
class StageFiles:
    """What a stage reads and makes."""

    outs: set[str]
    deps: set[str]
    params: set[tuple[str, str]]  # a file and a key in it, "" for all of the file
    code: set[str]  # the deps that lineage compares with imports; none for a command in which it sees no Python
    may_use: Callable[[str, set[str]], bool]  # whether it may use code at a path, beside declared deps


@dataclass(frozen=True)
class Files:
    """The metrics files at the base (`then`) and `here`, and what .dvc files here keep, data that may be absent."""

    then: list[str]
    here: list[str]
    tracked: set[str]

    def here_of(self, metrics: str) -> list[str]:
        """Return the same file as at the base, or all files here if it is gone."""
        return [metrics] if metrics in self.here else self.here


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
            {path for path, dep in deps.items() if path not in made and is_local(dep) and is_code(code, dep.fs_path)}
            if stage.cmd and code.started(stage.cmd, Path(stage.wdir))
            else set(),
            partial(_may_use, code, stage),
        )
    return found


def read_tracked(repo: Repo) -> set[str]:
    """List what .dvc files keep."""
    return {_path(repo, out) for one in repo.index.stages if not isinstance(one, PipelineStage) for out in one.outs}


def makes(stages: dict[str, StageFiles], path: str | None) -> bool:
    """Return whether a file is an out of a stage, or in one."""
    return path is not None and _is_within(path, _outs(stages))


def writes(stages: dict[str, StageFiles], path: str) -> bool:
    """Return whether a file by itself is an out of a stage."""
    return path in _outs(stages)


def forgotten(before: dict[str, StageFiles], here: dict[str, StageFiles], files: Files) -> list[Loosening]:
    """List what metrics depended on at the base, through all stages, and no longer do here, although it still exists.

    Compared by metrics file, since stages may be renamed, split and joined. A param or a file may go altogether, which
    the list of changed params, or a warning, shows.
    """
    lost: dict[tuple[str, str], list[str]] = {}
    for metrics in files.then:
        was, now = _inputs([metrics], before), _inputs(files.here_of(metrics), here)
        for file, key in sorted(_params(was) - _params(now)):
            kept = _keys(file, {one for path, one in _params(now) if path == file}, here)
            if not _is_within(file, _deps(now)) and _keys(file, {key}, here) - kept:
                name = key if key and file == str(FILE) else f"{file}:{key}".rstrip(":")
                lost.setdefault((name, "param"), []).append(metrics)
        for path in _gone(was, now):
            if _is_there(path, before, here, files) or not (makes(before, path) or _new(was, now, here)):
                lost.setdefault((path, "dep"), []).append(metrics)
    return [Loosening(name, f"no longer a {kind} of {', '.join(paths)}") for (name, kind), paths in lost.items()]


def replaced(before: dict[str, StageFiles], here: dict[str, StageFiles], files: Files) -> list[str]:
    """Return a line for each data file or folder that no longer exists, with what metrics depend on instead."""
    lines = []
    for metrics in files.then:
        was, now = _inputs([metrics], before), _inputs(files.here_of(metrics), here)
        new = _new(was, now, here)
        lines += [
            f"dvc.yaml: {path} is gone; new: {', '.join(sorted(new))}; check what replaces it"
            for path in _gone(was, now)
            if new and not makes(before, path) and not _is_there(path, before, here, files)
        ]
    return list(dict.fromkeys(lines))


def _inputs(paths: Iterable[str], stages: dict[str, StageFiles]) -> list[StageFiles]:
    """List the stages that make these files, and all before them."""
    found: dict[str, StageFiles] = {}
    waiting, seen = list(paths), set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name, stage in stages.items():
            if name not in found and any(_is_within(path, {out}) or _is_within(out, {path}) for out in stage.outs):
                found[name] = stage
                waiting += [*stage.deps, *(file for file, _ in stage.params)]
    return list(found.values())


def _deps(stages: list[StageFiles]) -> set[str]:
    """Join the deps of stages; a params file of which all counts is one."""
    return set().union(*(one.deps | {file for file, key in one.params if not key} for one in stages))


def _params(stages: list[StageFiles]) -> set[tuple[str, str]]:
    return set().union(*(one.params for one in stages))


def _gone(was: list[StageFiles], now: list[StageFiles]) -> list[str]:
    """List the deps that are no longer declared, except code that no stage here can use, as far as all is followed.

    Code that the stage of an out may use is a dep of that stage, whichever others declare it: an out of those may stay
    the same when the code changes, as a pickle does.
    """
    deps = _deps(now)
    code = set().union(*(one.code for one in was))
    gone = {path for one in was for path in one.deps if not _is_within(path, deps)}
    kept = {path for path in gone & code if _holds_data(path, deps) or any(one.may_use(path, deps) for one in now)}
    same = ((one, other) for one in was for other in now if one.outs & other.outs)
    for one, other in same:
        kept |= {path for path in one.code if not _is_within(path, other.deps) and other.may_use(path, other.deps)}
    return sorted(gone - code | kept)


def _new(was: list[StageFiles], now: list[StageFiles], here: dict[str, StageFiles]) -> set[str]:
    """Name the data that no stage makes and that are new deps."""
    return {dep for one in now for dep in one.deps - one.code if not makes(here, dep)} - _deps(was)


def _holds_data(folder: str, deps: set[str]) -> bool:
    """Return whether a folder of code has files beside it that are no deps, and of which imports say nothing."""
    files = (one for one in Path(folder).rglob("*") if one.is_file() and "__pycache__" not in one.parts)
    return any(one.suffix not in BESIDE_DATA and not _is_within(one.as_posix(), deps) for one in files)


def _is_there(path: str, before: dict[str, StageFiles], here: dict[str, StageFiles], files: Files) -> bool:
    """Return whether something may still change: it is here or elsewhere, or a stage or DVC has it.

    What a stage of the base made, and none makes here, is left over, unless git has it.
    """
    kept = any(_is_within(path, {one}) or _is_within(one, {path}) for one in files.tracked)
    if kept or "://" in path or makes(here, path):
        return True
    left_over = makes(before, path) and not git("--literal-pathspecs", "ls-files", "--", path)
    return Path(path).exists() and not left_over


def _keys(file: str, keys: set[str], here: dict[str, StageFiles]) -> set[str]:
    """List the values in a params file that keys, which may be patterns, stand for; "" is the whole file.

    Those of a file that is absent or cannot be read are the keys themselves.
    """
    if not Path(file).exists() and not makes(here, file):
        return set()
    try:
        values = [read_param_file(localfs, file, [key] if key else None) for key in keys]
        return set().union(*(_leaves(one, "") for one in values))
    except (DvcException, OSError, RecursionError, TypeError):
        return keys


def _leaves(value: Any, key: str) -> set[str]:
    """List the keys of nested values, through lists too, in which DVC puts None for what a key does not stand for."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (_leaves(one, f"{key}.{name}") for name, one in below if not (isinstance(value, list) and one is None))
    return set().union(*found) or ({key} if key or value else set())


def _may_use(code: Code, stage: PipelineStage, path: str, deps: set[str]) -> bool:
    declared = [code.root / dep for dep in deps]
    return code.may_use(stage.cmd, Path(stage.wdir), code.place(code.root / path), reads(stage), declared)


def _outs(stages: dict[str, StageFiles]) -> set[str]:
    return set().union(*(stage.outs for stage in stages.values()))


def _is_within(path: str, folders: set[str]) -> bool:
    return any(f"{path}/".startswith(f"{folder}/") for folder in folders)


def _name(repo: Repo, stage: PipelineStage) -> str:
    path = repo.fs.relpath(stage.path, repo.root_dir)  # DVC's own address starts at the working folder
    return str(stage.name) if path == "dvc.yaml" else f"{path}:{stage.name}"


def _path(repo: Repo, one: Any) -> str:
    """Return the path of a dep or out from the top, as dvc.yaml has it where that is elsewhere."""
    inside = is_local(one) and not Path(one.def_path).is_absolute()
    return str(repo.fs.relpath(one.fs_path, repo.root_dir)) if inside else str(one.def_path)
