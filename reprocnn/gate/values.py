"""Values of metrics and params, by dotted key."""

import math
import sys
from typing import Any

Value = float | str | bool | None


def flatten(values: Any, prefix: str = "") -> dict[str, Value]:
    """Join nested keys by dots."""
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Value] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}.{name}" if prefix else str(name))
    return flat


def is_number(value: Value) -> bool:
    """Tell whether `value` is finite and fits a float: JSON has whole numbers of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def numbers(metrics: dict[str, Value]) -> dict[str, float]:
    """Keep the metrics that are numbers, whole ones as they are."""
    return {key: value for key, value in metrics.items() if is_number(value)}  # type: ignore[misc]


def finite(value: Value) -> Value:
    """Replace NaN and the infinities, which JSON lacks, by their names."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def count(metric: str, metrics: dict[str, Value]) -> int | None:
    """Give the number of images of which `metric` is a share: the `n` beside an accuracy, None for other metrics."""
    section, _, last = metric.rpartition(".")
    n, value = metrics.get(f"{section}.n" if section else "n"), metrics.get(metric)
    if "accuracy" not in last or not isinstance(n, int) or not 0 < n < 2**31:
        return None
    if not is_number(value) or not 0 <= float(value) <= 1:  # type: ignore[arg-type]
        return None
    return int(n)
