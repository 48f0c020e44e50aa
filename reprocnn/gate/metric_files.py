"""The metrics files that DVC knows, checked before DVC reads them: its readers let odd values through.

Beside the metrics of NAME, evaluation/NAME.json may say on which images they were measured.
"""

import json
import math
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dvc.repo import Repo
from dvc.repo.metrics.show import _collect_metrics

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.gate import lock
from reprocnn.gate.limits import raise_faults
from reprocnn.gate.stage_files import StageFiles, read_stages, read_tracked, writes
from reprocnn.gate.values import ANOTHER, FILE, Value, first_key, flatten, name, named, one_line, split

MAX_BYTES = 1_000_000  # a metrics file has some numbers
MAX_DEPTH = 20
MALFORMED = (ValueError, RecursionError, UserError, AttributeError, KeyError, TypeError)  # of `parse` and `flatten`
OF_IMAGES = ("source", "test.n", "test.digest")  # keys of evaluation/NAME.json, if it has them


@dataclass(frozen=True)
class MetricFiles:
    """What the metrics files of one revision hold; paths are relative to the top of the DVC repository."""

    contents: dict[str, bytes] = field(default_factory=dict)
    file_of: dict[str, str] = field(default_factory=dict)  # by metric
    stages: dict[str, StageFiles] = field(default_factory=dict)
    tracked: set[str] = field(default_factory=set)  # by .dvc files
    of_images: dict[str, Value] = field(default_factory=dict)  # as NAME.KEY, of all OF_IMAGES that are there

    def first_keys(self) -> dict[tuple[str, str], str]:
        """Return how the metrics below a file's first key begin, by file and key."""
        firsts = {metric: first_key(metric) for metric in self.file_of}
        return {(path, split(firsts[metric])[1]): firsts[metric] for metric, path in self.file_of.items()}

    def metrics_files(self) -> list[str]:
        """List the files that have metrics."""
        return list(dict.fromkeys(self.file_of.values()))


def read_files(rev: str | None) -> MetricFiles:
    """Read the metrics files of a revision, None for the workspace, whose numbers have to be finite.

    Raises UserError for a file that is missing or malformed, or that names a metric twice.
    """
    side, remedy = ("here", "run `dvc repro`") if rev is None else (f"at {rev}", ANOTHER)
    absent = ": missing; run `dvc repro` or `dvc pull`"
    if rev is not None:
        absent = (
            f" {side}: not available in this clone, although a stage wrote it; run `dvc fetch --all-commits`, or "
            f"{ANOTHER}"
        )
    contents: dict[str, bytes] = {}
    parsed: dict[str, dict[str, Any]] = {}
    lines = []
    with lock.open_repository(rev or "workspace") as repo:
        stages, tracked = read_stages(repo), read_tracked(repo)
        for place in _collect_metrics(repo):
            path = place.lstrip("/")
            content = _read(repo, path)
            if content is None:
                if rev is None or lock.was_written(repo, place):
                    lines.append(f"{path}{absent}")
                continue
            try:
                values = named(path, parse(path, content, finite=rev is None))
                flatten(values)
            except MALFORMED as error:
                lines.append(f"{path} {side}: {one_line(error)}; {remedy}")
            else:
                contents[path], parsed[path] = content, values
        file_of = {metric: path for path, metrics in name(parsed).items() for metric in metrics}
        beside, of_images = read_images(file_of, partial(_read, repo))
        lines += [
            f"{path}{absent}"
            for path in sorted(set(map(evaluation_of, file_of)))
            if writes(stages, path) and lock.was_written(repo, path) and _read(repo, path) is None
        ]
    raise_faults(lines)
    return MetricFiles(contents | beside, file_of, stages, tracked, of_images)


def evaluation_of(metric: str) -> str:
    """Return the place of what is said of the images that a metric was measured on."""
    return f"evaluation/{split(metric)[1].partition('.')[0]}.json"


def read_images(
    metrics: Iterable[str], read: Callable[[str], bytes | None]
) -> tuple[dict[str, bytes], dict[str, Value]]:
    """Read what the files beside the metrics say of the images: those files by path, and their values as NAME.KEY.

    `read` gives at most MAX_BYTES + 1 bytes of a path, None where there is no such file. One that is larger, or no
    JSON, is another kind of file.
    """
    contents: dict[str, bytes] = {}
    values: dict[str, Value] = {}
    files_and_keys = [(file, key.partition(".")[0]) for file, key in map(split, metrics) if "." in key]
    for file, data_set in dict.fromkeys(files_and_keys):
        path, content = evaluation_of(data_set), None
        with suppress(OSError, ValueError):  # a name that is no file's
            content = read(path)
        if content is None or len(content) > MAX_BYTES:
            continue
        flat: dict[str, Value] = {}
        with suppress(*MALFORMED):  # another kind of file
            flat = flatten(parse(path, content, finite=False))
        found = {f"{file}{data_set}.{key}": flat[key] for key in OF_IMAGES if key in flat}
        if found:
            contents[path] = content
            values |= found
    return contents, values


def _read(repo: Repo, path: str) -> bytes | None:
    try:
        with repo.dvcfs.open(f"/{path}", "rb") as file:
            return bytes(file.read(MAX_BYTES + 1))
    except FileNotFoundError:
        return None


def parse(path: str, content: bytes, *, finite: bool = True) -> Any:
    """Parse a metrics file by its ending, as DVC does. Raises ValueError for what two readers may read differently."""
    if len(content) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES:,} bytes, expected some numbers")
    if content.startswith(b"version https://git-lfs.github.com/"):
        raise ValueError("a pointer of Git LFS, whose file is not in this clone; run `git lfs fetch --all`")
    text = content.decode("utf-8")
    ending = path.rpartition(".")[2].lower()
    if text.startswith("\ufeff") and ending in ("json", "toml"):
        raise ValueError("begins with a byte-order mark, expected UTF-8 without one")
    if ending == "py":
        raise ValueError("Python, expected JSON, YAML or TOML")
    if ending == "toml":
        values: Any = tomllib.loads(text)
    elif ending == "json":
        values = json.loads(text, object_pairs_hook=_unique)
    else:
        values = params.parse_any(text)
        values = {} if values is None else values  # an empty file
    _refuse_odd(values, "", finite, 0)
    odd = next((key for key in map(str, values) if FILE.match(key)), None) if isinstance(values, dict) else None
    if finite and odd is not None:
        raise ValueError(f"the key {odd!a} begins with a file's name, as metrics of another file do; rename it")
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"the key {next(name for name, n in counts.items() if n > 1)!a} is there twice")
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
