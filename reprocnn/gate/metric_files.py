"""The metrics files that DVC knows, checked before DVC reads them: its readers let odd values through."""

import json
import math
import tomllib
from dataclasses import dataclass, field
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from dvc.repo.metrics.show import _collect_metrics
from dvc.stage import PipelineStage

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.gate import lock
from reprocnn.gate.values import flatten

MAX_BYTES = 1_000_000  # a metrics file has some numbers
MAX_DEPTH = 20


@dataclass(frozen=True)
class MetricFiles:
    """What the metrics files of one revision hold; paths are relative to the top of the DVC repository."""

    contents: dict[str, bytes] = field(default_factory=dict)
    file_of: dict[str, str] = field(default_factory=dict)  # by metric
    made: frozenset[str] = frozenset()  # the outs of stages, metrics or not
    inputs: dict[str, set[str]] = field(default_factory=dict)  # by stage: deps, and params as FILE:KEY


def read_files(rev: str | None) -> MetricFiles:
    """Read the metrics files of a revision, None for the workspace, whose numbers have to be finite.

    Raises UserError for a file that is missing or malformed, or that names a metric twice.
    """
    side = "here" if rev is None else f"at {rev}"
    contents: dict[str, bytes] = {}
    file_of: dict[str, str] = {}
    lines = []
    with lock.open_repository(rev or "workspace") as repo:
        stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
        made = frozenset(_relative(repo, out) for stage in stages for out in stage.outs)
        inputs = {_name(repo, stage): _inputs(repo, stage) for stage in stages}
        for place in _collect_metrics(repo):
            path = place.lstrip("/")
            try:
                with repo.dvcfs.open(place, "rb") as file:
                    content = file.read(MAX_BYTES + 1)
                metrics = flatten(parse(path, content, finite=rev is None))
            except FileNotFoundError:
                if rev is None:
                    lines.append(f"{path}: missing; run `dvc repro` or `dvc pull`")
            except (ValueError, RecursionError, UserError, AttributeError, KeyError, TypeError) as error:
                lines.append(f"{path} {side}: {' '.join(str(error).split())[:300]}; run `dvc repro`")
            else:
                contents[path] = content
                file_of |= dict.fromkeys(metrics, path)
    if lines:
        raise UserError("\n".join(lines))
    return MetricFiles(contents, file_of, made, inputs)


def _relative(repo: Repo, one: Any) -> str:
    return str(repo.fs.relpath(one.fs_path, repo.root_dir))


def _name(repo: Repo, stage: PipelineStage) -> str:
    path = repo.fs.relpath(stage.path, repo.root_dir)  # DVC's own address starts at the working folder
    return str(stage.name) if path == "dvc.yaml" else f"{path}:{stage.name}"


def _inputs(repo: Repo, stage: PipelineStage) -> set[str]:
    names: set[str] = set()
    for dep in stage.deps:
        path = _relative(repo, dep) if dep.protocol == "local" or not dep.protocol else dep.def_path
        names |= {f"{path}:{key}" for key in dep.params or [""]} if isinstance(dep, ParamsDependency) else {path}
    return names


def parse(path: str, content: bytes, *, finite: bool = True) -> Any:
    """Parse a metrics file by its ending, as DVC does. Raises ValueError for what two readers may read differently."""
    if len(content) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES:,} bytes, expected some numbers")
    text = content.decode("utf-8")
    ending = path.rpartition(".")[2].lower()
    if ending == "py":
        raise ValueError("Python, expected JSON, YAML or TOML")
    if ending == "toml":
        values: Any = tomllib.loads(text)
    elif ending == "json":
        values = json.loads(text, object_pairs_hook=_unique)
    else:
        values = params.parse(text)
    _refuse_odd(values, "", finite, 0)
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!a} is there twice")
    return values


def _refuse_odd(values: Any, where: str, finite: bool, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(values, dict):
        for key, value in values.items():
            _refuse_odd(str(key), where, finite, depth)
            _refuse_odd(value, f"{where}.{key}".removeprefix("."), finite, depth + 1)
    elif isinstance(values, list):
        for value in values:
            _refuse_odd(value, where, finite, depth + 1)
    elif isinstance(values, str) and any("\ud800" <= character <= "\udfff" for character in values):
        raise ValueError(f"{where or 'a key'}: found a lone surrogate, expected text")
    elif finite and isinstance(values, float) and not math.isfinite(values):
        raise ValueError(f"{where}: found {values}, expected a finite number")
