"""Parse overrides in Hydra's grammar, as `dvc exp run -S` takes them, check their values and combine them."""

import hashlib
import itertools
import json
import math
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvc.exceptions import InvalidArgumentError
from dvc.utils.hydra import apply_overrides
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from reprocnn.core import params
from reprocnn.core.errors import UserError

Overrides = tuple[str, ...]  # of one trial, each as KEY=VALUE
MOST = 100_000  # values of one key, and trials of a grid
LONGEST = 60  # characters of a name without a digest
# What a text raises that is no override, or has no value.
INVALID = (
    HydraException, InvalidArgumentError, OmegaConfBaseException,
    ArithmeticError, AttributeError, TypeError, ValueError,
)  # fmt: skip
READABLE = re.compile(
    r"(?P<key>[a-z_]\w*(?:\.\w+)*)=(?:(?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)|(?P<word>\w+))", re.I | re.A
)


def parse(texts: list[str]) -> list[Override]:
    """Read overrides and check their values against the schema. Raises UserError with a line per fault."""
    params.load(params.FILE)  # which the values are checked against
    parser = OverridesParser.create()
    parsed: list[Override] = []
    faults: list[str] = []
    firsts = [_first(parser, text) for text in texts]  # whether a value is allowed may depend on those of other keys
    for text in texts:
        try:
            override = parser.parse_override(text)
            others = [one for one in firsts if one and key_of(one) != override.key_or_group]
            _check_interval(override, others)
            found = values(override)
            swept: Any = override.value()
            if not 0 < len(found) <= MOST:
                count = f"more than {MOST:,}" if found else "no"
                raise UserError(f"sweep: {text}: found {count} values, expected 1 to {MOST:,}")
            # The values of a range lie between its ends, and are all whole numbers if the second is.
            in_order = override.is_range_sweep() and not swept.shuffle
            for value in [*found[:2], found[-1]] if in_order else found:
                faults += schema_faults(value, others)
        except INVALID as error:
            reason = " ".join(str(error).split())
            raise UserError(f"sweep: {text}: invalid override, expected KEY=VALUES ({reason})") from None
        parsed.append(override)
    counts = Counter(override.key_or_group for override in parsed)
    faults += [f"{key}: given more than once (--threads sets threads)" for key, n in counts.items() if n > 1]
    if faults:
        raise UserError("\n".join(f"sweep: {fault}" for fault in dict.fromkeys(faults)))
    return parsed


def _first(parser: OverridesParser, text: str) -> str:
    """Return the first value of an override, as KEY=VALUE, or "" for one that is reported in its turn."""
    try:
        value = values(parser.parse_override(text))[0]
        _applied([value])
    except (*INVALID, IndexError):
        return ""
    return value


def _check_interval(override: Override, others: list[str]) -> None:
    """Raise UserError for an interval from which Optuna draws nothing, or nothing that fits."""
    if not override.is_interval_sweep():
        return
    interval: Any = override.value()
    low, high = interval.start, interval.end
    text = f"sweep: {override.input_line}: found an interval from {low:g} to {high:g}, expected"
    if not -math.inf < low < high < math.inf:
        raise UserError(f"{text} two finite ends, the lower one first, as in interval(0.001,0.1)")
    if "log" in interval.tags and low <= 0:
        raise UserError(f"{text} one above 0 for a logarithmic scale; raise its lower end, or leave out log")
    between = f"{override.key_or_group}={low + 0.618 * (high - low)}"
    if (
        isinstance(low, float)
        and schema_faults(between, others)
        and not any(schema_faults(end, others) for end in values(override))
    ):
        raise UserError(f"{text} whole numbers; write int(interval({low:g},{high:g}))")


def schema_faults(override: str, others: Sequence[str] = ()) -> list[str]:
    """Apply KEY=VALUE and `others` to a copy of params.yaml and give the complaints of the schema, if there is one."""
    try:
        found = _applied([*others, override])
    except InvalidArgumentError:
        if override.startswith("+") or not params.SCHEMA.exists():
            raise
        found = _applied([*others, f"+{override}"])  # params.yaml lacks the key; the schema reports it as unknown
    return params.check(found) if params.SCHEMA.exists() else []


def _applied(overrides: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(params.FILE, folder))
        apply_overrides(path, list(overrides))
        return params.parse(path.read_text(encoding="utf-8"))


def values(override: Override) -> list[str]:
    """Return each value of a sweep as KEY=VALUE, at most MOST + 1 of them; of an interval its two ends."""
    key = override.get_key_element()  # with its plus, if it adds a key
    if override.is_interval_sweep():
        interval: Any = override.value()
        return [f"{key}={interval.start}", f"{key}={interval.end}"]
    if override.is_sweep_override():
        return [f"{key}={value}" for value in itertools.islice(override.sweep_string_iterator(), MOST + 1)]
    return [str(override.input_line)]


def key_of(override: str) -> str:
    """Return the dotted key of KEY=VALUE, or of +KEY=VALUE, which may add it."""
    return override.partition("=")[0].lstrip("+")


def grid(overrides: list[Override]) -> list[Overrides]:
    """Combine all values with each other. Raises UserError for an interval, and for more than MOST trials."""
    for override in overrides:
        if override.is_interval_sweep():
            raise UserError(f"sweep: {override.input_line}: an interval has no grid; add --search optuna --trials N")
    columns = [list(dict.fromkeys(values(override))) for override in overrides]
    trials = math.prod(map(len, columns))
    if trials > MOST:
        raise UserError(f"sweep: found {trials:,} trials, expected at most {MOST:,}; add --search random --trials N")
    return list(itertools.product(*columns))


def experiment_name(overrides: Overrides) -> str:
    """Name an experiment after its values, whatever their order, such as lr0.003-network=warmup-seed2.

    No two have the same name: what is too long, or has other characters than numbers and words, gets a digest.
    """
    found = [READABLE.fullmatch(override) for override in sorted(overrides)]
    name = "-".join(map(_readable, filter(None, found))) if all(found) else ""
    if 0 < len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(json.dumps(sorted(overrides)).encode()).hexdigest()[:10]
    return f"{name[:LONGEST] or 'sweep'}-{digest}"


def _readable(override: re.Match[str]) -> str:
    key, number, word = override.group("key", "number", "word")
    return f"{key}{number}" if number and not re.search(r"\d", key) else f"{key}={number or word}"
