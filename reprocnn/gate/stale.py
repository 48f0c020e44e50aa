"""Why a stage is not as dvc.lock has it: its command, its params, its deps, and what else DVC would run it for."""

import os
from pathlib import Path
from typing import Any

from dvc.dependency.dataset import DatasetDependency
from dvc.dependency.param import ParamsDependency
from dvc.dvcfile import LOCK_FILE, PROJECT_FILE
from dvc.repo import Repo
from dvc.repo.metrics.show import _collect_top_level_metrics
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import PipelineStage
from dvc_data.hashfile.build import build
from dvc_data.hashfile.tree import Tree

from reprocnn.gate import lineage
from reprocnn.gate.values import Value, flatten, repro

MAX_REASONS = 3  # named for a stage


def changed(stage: Any, outs: dict[str, Any]) -> list[str]:
    """Return a line if the stage's command, params or deps are not those of dvc.lock."""
    reasons = ["cmd changed"] if stage.cmd_changed else []
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            reasons += _changed_params(dep)
        else:
            reasons += _changed_dep(dep, outs)
    if not reasons:
        return []
    if all(one.hash_info.value is None for one in [*stage.deps, *stage.outs]):
        return [f"dvc.lock: {stage.addressing}: missing; {_again(stage)}"]
    named = ", ".join(reasons[:MAX_REASONS])
    if len(reasons) > MAX_REASONS:
        named += f" and {len(reasons) - MAX_REASONS} more"
    return [f"dvc.lock: {stage.addressing}: out of date ({named}); {_again(stage)}"]


def removed(stage: Any, locked: dict[str, Any]) -> list[str]:
    """Return a line if dvc.lock has deps, params or outs that dvc.yaml no longer has: DVC itself ignores them."""
    declared = {dep.def_path for dep in [*stage.deps, *stage.outs]}
    whole: set[tuple[str, str]] = set()  # params files of which all counts
    keys: set[tuple[str, str]] = set()
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            (keys if dep.params else whole).update((dep.def_path, key) for key in dep.params or [""])
    gone = [entry["path"] for kind in ("deps", "outs") for entry in locked.get(kind) or []]
    gone = [path for path in gone if path not in declared]
    for file, values in (locked.get("params") or {}).items():
        gone += [key for key in values if (file, "") not in whole and (file, key) not in keys]
    if not gone:
        return []
    again = _again(stage, f"dvc repro --force {stage.addressing}")
    return [f"dvc.lock: {stage.addressing}: out of date ({', '.join(gone)} removed from dvc.yaml); {again}"]


def _again(stage: Any, command: str = "") -> str:
    unfreeze = f"it is frozen: run `dvc unfreeze {stage.addressing}`, then " if stage.frozen else ""
    return f"{unfreeze}run `{command or repro(stage.addressing)}` and commit"


def _changed_params(dep: Any) -> list[str]:
    """Name what changed in the params of one file; of a section, the keys in it."""
    reasons = []
    for changes in dep.status().values():
        if not isinstance(changes, dict):
            reasons.append(f"params {changes}")  # one word for the whole file
            continue
        now = dep.read_params()
        for key, change in changes.items():
            before, after = (dep.hash_info.value or {}).get(key), now.get(key)
            if isinstance(before, dict) and isinstance(after, dict):
                reasons += _changed_keys(flatten(before, key), flatten(after, key)) or [f"{key} {change}"]
            else:
                reasons.append(f"{key} {change}")
    return reasons


def _changed_keys(before: dict[str, Value], after: dict[str, Value]) -> list[str]:
    reasons = []
    for key in before | after:
        if key not in before:
            reasons.append(f"{key} new")
        elif key not in after:
            reasons.append(f"{key} deleted")
        elif before[key] != after[key]:
            reasons.append(f"{key} modified")
    return reasons


def _changed_dep(dep: Any, outs: dict[str, Any]) -> list[str]:
    """Name what changed of a dep, judging the outs of other stages by dvc.lock, since their files may be absent.

    Of a dep on a server, dvc.lock has to know something: the server is not asked.
    """
    if isinstance(dep, DatasetDependency):  # dvc.lock alone says its version
        return [f"{path} {change}" for path, change in dep.status().items()]
    if not lineage.is_local(dep):
        known = (getattr(dep.meta, name, None) for name in ("etag", "md5", "checksum"))  # by the kind of server
        return [] if any(known) else [f"{dep.def_path} new"]
    if dep.fs_path in outs:
        same = outs[dep.fs_path].hash_info == dep.hash_info
        return [] if same else [f"{dep.def_path} from another run"]
    inner = outs_inside(dep, outs)
    if inner:
        tree = _folder_of_lock(dep, inner)
        same = tree is None or tree.hash_info == dep.hash_info
        return [] if same else [f"{dep.def_path} modified"]
    status = dep.status()
    for around in outs_around(dep, outs):
        status = {path: change for path, change in status.items() if change != "deleted"}
        if not status and _part_of_lock(dep, around) not in (None, dep.hash_info.value):
            return [f"{dep.def_path} from another run"]
    cause = ", perhaps only by __pycache__: list it in .dvcignore" if status and _has_bytecode(dep) else ""
    return [f"{path} {change}{cause}" for path, change in status.items()]


def _has_bytecode(dep: Any) -> bool:
    """Return whether __pycache__ counts in a folder of code, and it is or was there when dvc.lock was written."""
    if not dep.isdir():
        return False
    files = list(dep.dvcignore.find(dep.fs, dep.fs_path))
    code = [file for file in files if "__pycache__" not in Path(file).parts]
    hidden = dep.dvcignore.is_ignored_dir(os.path.join(dep.fs_path, "__pycache__"))
    locked = dep.meta.nfiles or 0
    return not hidden and any(file.endswith(".py") for file in code) and (locked > len(code) or len(files) > len(code))


def outs_inside(dep: Any, outs: dict[str, Any]) -> list[Any]:
    return [out for path, out in outs.items() if _is_inside(path, dep.fs_path)]


def outs_around(dep: Any, outs: dict[str, Any]) -> list[Any]:
    return [out for path, out in outs.items() if _is_inside(dep.fs_path, path)]


def _part_of_lock(dep: Any, around: Any) -> str | None:
    """Return the digest that a dep has in the out around it as in dvc.lock, None if what is in it is not known here."""
    content = around.get_obj() if around.hash_name == dep.hash_name else None
    if content is None:
        return None
    top = dep.fs.relparts(dep.fs_path, around.fs_path)
    files = {key[len(top) :]: digest for key, _, digest in content if key[: len(top)] == top}
    return _tree(files).hash_info.value if () not in files else str(files[()].value)


def _is_inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def _folder_of_lock(dep: Any, inner: list[Any]) -> Tree | None:
    """List the dep's folder with the outs in it as in dvc.lock, None if what is in one of them is not known here."""
    files: dict[tuple[str, ...], Any] = {}
    if dep.exists:
        folder: Any
        _, _, folder = build(dep.local_cache, dep.fs_path, dep.fs, dep.hash_name, ignore=dep.dvcignore, dry_run=True)
        files = {key: digest for key, _, digest in folder}
    for out in inner:
        top = dep.fs.relparts(out.fs_path, dep.fs_path)
        files = {key: digest for key, digest in files.items() if key[: len(top)] != top}
        if out.is_dir_checksum:
            content = out.get_obj()
            if content is None:
                return None
            files |= {top + key: digest for key, _, digest in content}
        else:
            files[top] = out.hash_info
    return _tree(files)


def _tree(files: dict[tuple[str, ...], Any]) -> Tree:
    tree = Tree()
    for key, digest in files.items():
        tree.add(key, None, digest)
    tree.digest()
    return tree


def would_run(repo: Repo, outs: dict[str, Any]) -> list[str]:
    """Name what `dvc repro` itself would run, for whatever is not seen above."""
    graph = get_active_graph(repo.index.graph)
    stages = [one for one in graph if isinstance(one, PipelineStage)]
    pipeline = stages or any(Path(repo.root_dir, name).exists() for name in (PROJECT_FILE, LOCK_FILE))
    if not pipeline and any(_collect_top_level_metrics(repo)):
        return []  # DVCLive's dvc.yaml, in a folder below, lists metrics and no stage
    with repo.lock:
        changed = [
            stage
            for stage in plan_repro(graph, stages or repo.stage.collect(PROJECT_FILE))
            if _is_changed(stage, list(graph.successors(stage)), outs)
        ]
    return [f"dvc.lock: {stage.addressing}: {_why(stage)}" for stage in changed if stage.outs]


def _why(stage: Any) -> str:
    if stage.always_changed:
        return "would always run again, so nothing says whether it is up to date; remove always_changed from dvc.yaml"
    return f"would run again; after switching branches run `dvc checkout`, otherwise {_again(stage)}"


def _is_changed(stage: Any, upstream: list[Any], outs: dict[str, Any]) -> bool:
    local = [dep for dep in stage.deps if lineage.is_local(dep)]
    if local != stage.deps or any(not out.exists for dep in local for out in outs_inside(dep, outs)):
        # DVC would ask servers, and takes a folder that lacks some of its files for a changed one; `_changed_dep` has
        # judged both.
        return bool(stage.always_changed or stage.changed_outs(allow_missing=True))
    return bool(stage.changed(allow_missing=True, upstream=upstream))
