"""What params.yaml asks of the metrics: `targets`, and `gate` for how far a metric may fall."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.gate.values import flatten, is_number

DIRECTIONS = {"at_least": "≥", "at_most": "≤"}


@dataclass(frozen=True)
class Limits:
    """`targets` by metric, as (direction, limit), and the two keys of `gate`."""

    targets: dict[str, tuple[str, float]]
    alpha: float  # a p-value below it makes a metric worse
    tolerance: float  # the largest loss that passes where the test sees nothing, in the metric's unit


def read_limits() -> Limits:
    """Read `targets` and `gate` of params.yaml. Raises UserError with a line for each fault."""
    values = params.load(params.FILE)
    faults = params.check(values) if params.SCHEMA.exists() else []
    targets: dict[str, tuple[str, float]] = {}
    for key, limit in flatten(values.get("targets") or {}).items():
        metric, _, direction = key.rpartition(".")
        if direction not in DIRECTIONS or not metric or not is_number(limit):
            faults.append(f"targets.{key}: found {limit!r}, expected METRIC.at_least or METRIC.at_most with a number")
        else:
            targets[metric] = direction, float(limit)  # type: ignore[arg-type]
    if not targets:
        faults.append("targets: found none, expected at least one, as targets.NAME.test.accuracy.at_least: 0.99")
    gate: dict[str, Any] = values["gate"] if isinstance(values.get("gate"), dict) else {}
    for key, highest in (("alpha", 0.5), ("tolerance", math.inf)):
        value: Any = gate.get(key)
        if not is_number(value) or not 0 <= value <= highest:
            faults.append(f"gate.{key}: found {value!r}, expected a number from 0 to {highest:g}; add it")
    raise_faults(f"{params.FILE}: {fault}" for fault in dict.fromkeys(faults))
    return Limits(targets, float(gate["alpha"]), float(gate["tolerance"]))


def raise_faults(faults: Iterable[str]) -> None:
    """Raise UserError with all `faults`, if there are any."""
    lines = list(faults)
    if lines:
        raise UserError("\n".join(lines))
