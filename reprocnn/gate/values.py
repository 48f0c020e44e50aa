"""Values of metrics and params, by dotted key."""

import math
import re
import sys
from collections import Counter
from contextlib import suppress
from typing import Any, TypeGuard

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

from reprocnn.core.errors import UserError

FILE = re.compile(r".*?\.(?:json|ya?ml|toml|py):", re.IGNORECASE)
ANOTHER = "name another revision with --against"
MAX_DEPTH = 100  # of nested keys and lists; a dvc.lock has some ten
Value = float | str | bool | None


def flatten(values: Any, prefix: str = "") -> dict[str, Value]:
    """Join nested keys by dots. Raises UserError for a key that is there twice, nested and with a dot in its name."""
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Value] = {}
    for name, value in values.items():
        below = flatten(value, f"{prefix}.{name}" if prefix else str(name))
        twice = flat.keys() & below.keys()
        if twice:
            raise UserError(f"{min(twice)!a}: there twice, nested and with a dot in a name; keep one")
        flat |= below
    return flat


def name(files: dict[str, dict[str, Any]]) -> dict[str, dict[str, Value]]:
    """Name the metrics of each file as DVC does: a first key that several files have begins with its file."""
    counts = Counter(key for values in files.values() for key in values)
    return {
        path: flatten({key if counts[key] == 1 else f"{path}:{key}": value for key, value in values.items()})
        for path, values in files.items()
    }


def split(metric: str) -> tuple[str, str]:
    """Split a metric's name into the file and colon that it may begin with, and its dotted key."""
    found = FILE.match(metric)
    return (found[0], metric[found.end() :]) if found else ("", metric)


def first_key(metric: str) -> str:
    """Return a metric's name without the keys below the first one."""
    file, key = split(metric)
    return file + key.partition(".")[0]


def named(path: str, values: Any) -> dict[str, Any]:
    """Name what a file holds by its path, as DVC does, where that is a number and no mapping of names."""
    return values if isinstance(values, dict) else {path: values}


def decode(content: bytes, where: str, remedy: str) -> str:
    """Return the text of a file, which the message names by `where`. Raises UserError if it is not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: expected text in UTF-8 ({error}); {remedy}") from None


def nests_deep(text: str) -> bool:
    """Return whether YAML nests more than MAX_DEPTH deep: at some thousands, the parser that DVC uses would crash."""
    depth = 0
    with suppress(YAMLError):  # which DVC reports
        for event in YAML(typ="safe").parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > MAX_DEPTH:
                return True
    return False


def one_line(text: object) -> str:
    """Return a text, such as an error's, without line breaks and not too long."""
    return " ".join(str(text).split())[:300]


def is_number(value: Value) -> TypeGuard[float]:
    """Return whether `value` is finite and fits a float: JSON has whole numbers of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def numbers(metrics: dict[str, Value]) -> dict[str, float]:
    """Keep the metrics that are numbers, whole ones as they are."""
    return {key: value for key, value in metrics.items() if is_number(value)}


def finite(value: Any) -> Any:
    """Replace NaN and the infinities, which JSON lacks, by their names, also inside lists and mappings."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def is_share(metric: str, metrics: dict[str, Value]) -> bool:
    """Return whether `metric` is to lie in 0 to 1: an `accuracy`, or of that kind with its `n` beside it."""
    last = metric.rpartition(".")[2]
    return last == "accuracy" or ("accuracy" in last and _n(metric, metrics) is not None)


def count(metric: str, metrics: dict[str, Value]) -> int | None:
    """Return the number of images of which `metric` is a share: the `n` beside an accuracy, None for other metrics."""
    value = metrics.get(metric)
    if "accuracy" not in metric.rpartition(".")[2]:
        return None
    if not is_number(value) or not 0 <= value <= 1:
        return None
    return _n(metric, metrics)


def _n(metric: str, metrics: dict[str, Value]) -> int | None:
    section = metric.rpartition(".")[0]
    n = metrics.get(f"{section}.n" if section else "n")
    return int(n) if is_number(n) and n == int(n) and 0 < n < 2**31 else None


def repro(stage: str) -> str:
    """Return the command that runs a stage: without a target, dvc runs the dvc.yaml of the working folder alone."""
    return f"dvc repro {stage}" if ":" in stage else "dvc repro"
