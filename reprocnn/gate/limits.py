"""What params.yaml asks of the metrics: `targets`, and `gate` for how far a metric may fall."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json
from reprocnn.gate.values import ANOTHER, flatten, is_number

DIRECTIONS = {"at_least": "≥", "at_most": "≤"}
# What a target may set, and its maximum.
OWN = {"alpha": 0.5, "tolerance": math.inf, "relative_tolerance": math.inf, "noise": math.inf}


@dataclass(frozen=True)
class Tolerated:
    """How far one metric may fall."""

    alpha: float  # a p-value below it makes the metric worse
    tolerance: float  # the largest loss that passes where the test sees nothing, in the metric's unit
    relative_tolerance: float = math.inf  # the same as a share of the baseline's value; the smaller of both counts
    noise: float | None = None  # standard deviation of the metric over seeds, as `gate calibrate` measures it

    def loss(self, then: float) -> float:
        """Return the largest loss that passes from the value `then`."""
        relative = math.inf if self.relative_tolerance == math.inf else self.relative_tolerance * abs(then)
        return min(self.tolerance, relative)


@dataclass(frozen=True)
class Limits:
    """`targets` by metric, as (direction, limit), the two keys of `gate`, and what targets say in their place."""

    targets: dict[str, tuple[str, float]]
    alpha: float
    tolerance: float
    own: dict[str, dict[str, Any]] = field(default_factory=dict)  # of a metric: some of OWN

    def of(self, metric: str) -> Tolerated:
        """Return what a metric's target tolerates, or else `gate`."""
        own = self.own.get(metric, {})
        absolute = math.inf if "relative_tolerance" in own else self.tolerance
        return Tolerated(**{"alpha": self.alpha, "tolerance": absolute, **own})


@dataclass(frozen=True)
class Loosening:
    """A limit or a check that a branch loosens or removes; `accepted` by `--accept NAME`."""

    name: str  # gate.KEY, or the metric's
    what: str
    accepted: bool = False


def read_limits() -> Limits:
    """Read `targets` and `gate` of params.yaml. Raises UserError with a line for each fault."""
    values = params.load(params.FILE)
    faults = _faults_of_schema(values)
    limits, more = _limits(values)
    raise_faults(f"{params.FILE}: {fault}" for fault in dict.fromkeys(faults + more))
    return limits


def _faults_of_schema(values: dict[str, Any]) -> list[str]:
    """Check all of params.yaml where the schema is this project's; one of somebody else says nothing of limits.

    Raises UserError for a schema that cannot be used, or that would have to be fetched.
    """
    schema: Any = read_json(params.SCHEMA) if params.SCHEMA.exists() else None
    known = schema.get("properties") if isinstance(schema, dict) and schema.get("title") == str(params.FILE) else None
    if not isinstance(known, dict) or not {"targets", "gate"} <= known.keys():
        return []
    elsewhere = set(_references({key: value for key, value in schema.items() if key != "$id"}))
    raise_faults(
        f"{params.SCHEMA}: found {reference!a}, expected references within the file, as #/$defs/NAME; restore it with "
        f"git checkout"
        for reference in sorted(elsewhere)
    )
    return params.check(values)


def _references(schema: Any) -> Iterator[str]:
    """List the references to other files, which a validator would fetch."""
    below = schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
    for key, value in below:
        if key in ("$id", "$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
            yield value
        yield from _references(value)


def limits_at(rev: str, text: str | None) -> Limits | None:
    """Read the limits in a revision's params.yaml, None where it lacks `targets` or `gate`: before the gate.

    Raises UserError with a line for each fault.
    """
    try:
        values = params.parse(text.removeprefix("\ufeff")) if text else {}
    except ValueError as error:
        raise UserError(f"{params.FILE} at {rev}: invalid YAML: {error}; {ANOTHER}") from None
    if not values.get("targets") or "gate" not in values:
        return None
    limits, faults = _limits(values)
    raise_faults(f"{params.FILE} at {rev}: {fault.partition('; ')[0]}; {ANOTHER}" for fault in faults)
    return limits


def judge_by(base: Limits, here: Limits, accept: set[str]) -> tuple[Limits, list[Loosening]]:
    """Return the stricter of both limits, those of `here` where `accept` says so, and what `here` loosened."""
    loosened: list[Loosening] = []

    def choose(name: str, then: Any, now: Any, looser: bool) -> Any:
        if not looser:
            return now
        change = f"{'none' if then is None else _show(then)} -> {'removed' if now is None else _show(now)}"
        loosened.append(Loosening(name, change, name in accept))
        return now if name in accept else then

    alpha = choose("gate.alpha", base.alpha, here.alpha, here.alpha < base.alpha)
    tolerance = choose("gate.tolerance", base.tolerance, here.tolerance, here.tolerance > base.tolerance)
    targets = {}
    for metric in here.targets | base.targets:
        then, now = base.targets.get(metric), here.targets.get(metric)
        chosen = now if then is None else choose(metric, then, now, _is_looser(then, now))
        if chosen is not None:
            targets[metric] = chosen
    own: dict[str, dict[str, Any]] = {}
    here = replace(here, alpha=alpha, tolerance=tolerance)
    # Where a target says nothing of its own, a change of `gate` is reported there, once.
    base = replace(
        base,
        alpha=alpha if "gate.alpha" in accept else base.alpha,
        tolerance=tolerance if "gate.tolerance" in accept else base.tolerance,
    )
    for metric in targets:
        before, after = asdict(base.of(metric)), asdict(here.of(metric))
        if metric in base.targets and metric in here.targets:
            for key, now in after.items():
                after[key] = choose(f"{metric}.{key}", before[key], now, _is_wider(key, before[key], now))
        own[metric] = after if metric in here.targets else before
    return Limits(targets, alpha, tolerance, own), loosened


def _is_wider(key: str, then: float | None, now: float | None) -> bool:
    """Return whether a key of OWN lets more pass; the noise also where it comes or goes, with another test."""
    if then is None or now is None:
        return now != then
    return now < then if key == "alpha" else now > then


def _is_looser(then: tuple[str, float], now: tuple[str, float] | None) -> bool:
    if now is None or now[0] != then[0]:
        return True
    return now[1] < then[1] if then[0] == "at_least" else now[1] > then[1]


def _show(limit: Any) -> str:
    return f"{DIRECTIONS[limit[0]]} {limit[1]:g}" if isinstance(limit, tuple) else f"{limit:g}"


def _limits(values: dict[str, Any]) -> tuple[Limits, list[str]]:
    """Return the limits in the values of a params.yaml, and a line for each fault; with faults, ignore the limits."""
    faults = []
    targets: dict[str, tuple[str, float]] = {}
    own: dict[str, dict[str, float]] = {}
    for key, limit in flatten(values.get("targets") or {}).items():
        metric, _, direction = key.rpartition(".")
        if metric and direction in OWN:
            if is_number(limit) and 0 <= limit <= OWN[direction]:
                own.setdefault(metric, {})[direction] = float(limit)
            else:
                faults.append(f"targets.{key}: found {limit!r}, expected a number from 0 to {OWN[direction]:g}")
        elif direction not in DIRECTIONS or not metric or not is_number(limit):
            beside = "" if direction in DIRECTIONS else f", and beside it at most {', '.join(OWN)}"
            faults.append(
                f"targets.{key}: found {limit!r}, expected METRIC.at_least or METRIC.at_most with a number{beside}"
            )
        elif metric in targets:
            faults.append(f"targets.{metric}: found at_least and at_most, expected one of them; remove the other")
        else:
            targets[metric] = direction, float(limit)
    faults += [f"targets.{name}: found no at_least or at_most; add one" for name in own.keys() - targets.keys()]
    if not targets and not faults:
        faults.append("targets: found none, expected at least one, as targets.NAME.test.accuracy.at_least: 0.99")
    gate: dict[str, Any] = values["gate"] if isinstance(values.get("gate"), dict) else {}
    numbers = {}
    for key, highest in (("alpha", 0.5), ("tolerance", math.inf)):
        value: Any = gate.get(key)
        if not is_number(value) or not 0 <= value <= highest:
            found = "nothing" if value is None else repr(value)
            expected = f"from 0 to {highest:g}" if math.isfinite(highest) else "of at least 0"
            faults.append(f"gate.{key}: found {found}, expected a number {expected}; set it")
        else:
            numbers[key] = float(value)
    return Limits(targets, numbers.get("alpha", 0.0), numbers.get("tolerance", 0.0), own), faults


def raise_faults(faults: Iterable[str]) -> None:
    """Raise UserError with all `faults`, if there are any."""
    lines = list(faults)
    if lines:
        raise UserError("\n".join(lines))
