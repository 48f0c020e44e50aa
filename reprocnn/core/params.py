"""params.yaml, read and checked: the whole file against params.schema.json, then the values that a caller asks for.

One frozen dataclass per section; units and reasons are in params.yaml.
"""

import dataclasses
import difflib
import json
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jsonschema
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json

FILE, SCHEMA = Path("params.yaml"), Path("params.schema.json")
MAX_BYTES = 100_000  # some 50 times the file's size
MAX_FAULTS = 5  # lines
MAX_DEPTH = 20  # of nested keys; a deep target has 5
MAX_VALUES = 100_000  # aliases within aliases can stand for billions
MAX_BITS = 1024  # the largest float; Python does not even show whole numbers of over 4,300 digits
PLAIN = (dict, list, str, int, float, type(None))  # the kinds that DVC takes
View = TypeVar("View")
FillMode = typing.Literal["constant", "reflect"]


@dataclass(frozen=True)
class Source:
    """Whether the real data sets or the embedded sample are used."""

    source: str


@dataclass(frozen=True)
class Run:
    """Where and from which seed a network is trained."""

    device: str
    devices: int
    threads: int
    precision: str
    seed: int
    lr: float


@dataclass(frozen=True)
class Evaluation:
    """Where a network is evaluated, and of what."""

    source: str
    device: str
    threads: int
    seed: int


@dataclass(frozen=True)
class Preparation:
    """How a data set is split and normalized."""

    val_fraction: float
    split_seed: int
    normalization: str


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied."""

    shift: int
    rotation: float
    zoom: float
    shear: float
    elastic: float
    fill_mode: FillMode
    flip: bool


@dataclass(frozen=True)
class Recipe(Preparation, Augmentation):
    """The whole section of a data set: its splits, its network and its training."""

    train_on: str
    network: str
    filters: int
    depth: int
    kernel_size: int
    dropout: float
    epochs: int
    batch_size: int
    optimizer: str
    lr_factor: float
    warmup: float
    lr_end: float
    weight_decay: float
    label_smoothing: float
    first_size: float


def read(view: type[View], section: str = "") -> View:
    """Read the values that the dataclass `view` names, from the top of the file or from `section`.

    Raises UserError with a line for each fault of the whole file.
    """
    values = load(FILE)
    faults = check(values)
    if section and section not in values:
        faults.append(f"{section}: missing; add it")
    if len(faults) > MAX_FAULTS:
        faults = [*faults[: MAX_FAULTS - 1], f"and {len(faults) - MAX_FAULTS + 1} more faults"]
    if faults:
        raise UserError("\n".join(f"{FILE}: {fault}" for fault in faults))
    return fill(view, values[section] if section else values)


def fill(view: type[View], values: dict[str, Any]) -> View:
    """Make a `view` of checked values."""
    types = typing.get_type_hints(view)
    filled = {}
    for field in dataclasses.fields(view):  # type: ignore[arg-type]
        value, kind = values[field.name], types[field.name]
        if kind is float:
            value = float(value)  # so that 1 and 1.0 are the same experiment
        elif kind is int:
            value = int(value)  # JSON Schema takes 3.0 for an integer
        filled[field.name] = value
    return view(**filled)


def load(path: Path) -> dict[str, Any]:
    """Read a YAML mapping as DVC does.

    Raises UserError for repeated keys, deep nesting and values that DVC does not take, such as dates.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run from the top folder, or restore it with git checkout") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: over {MAX_BYTES:,} bytes, expected a few thousand; restore it with git checkout")
    try:
        return parse(content.decode("utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{path}: invalid YAML: {error}; fix that line") from None


def parse(text: str) -> dict[str, Any]:
    """Parse a YAML mapping by DVC's own rules (YAML 1.2 by ruamel.yaml). Raises ValueError for what `load` lists."""
    values = parse_any(text)
    if not isinstance(values, dict):
        raise ValueError(f"found {_show(values)}, expected keys with values")
    for where, value, _ in _walk(values):
        if not isinstance(value, PLAIN):
            raise ValueError(f"{where}: found a {type(value).__name__}, which DVC does not take")
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise ValueError(f"{where}: found a whole number of over {MAX_BITS} bits")
    return values


def parse_any(text: str) -> Any:
    """Parse YAML of any value, as a metrics file may be. Raises ValueError for repeated keys and deep nesting."""
    try:
        return _parse(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())[:300]) from None
    except (AttributeError, LookupError, TypeError) as error:  # of ruamel.yaml
        raise ValueError(f"a value does not fit its tag ({type(error).__name__}: {str(error)[:200]})") from None


def _parse(text: str) -> Any:
    depth = 0
    for event in YAML(typ="safe").parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:  # the parser in C would crash at some thousands
            raise ValueError(f"line {event.start_mark.line + 1}: nested more than {MAX_DEPTH} deep")
    values = YAML(typ="safe").load(text)
    for number, (where, _, depth) in enumerate(_walk(values)):
        if number == MAX_VALUES or depth > MAX_DEPTH:
            raise ValueError(f"{where}: aliases within aliases stand for too many values")
    return values


def _walk(values: Any, where: str = "", depth: int = 0) -> Iterator[tuple[str, Any, int]]:
    """Yield keys, mappings, lists and single values, each with the dotted key that leads there and its depth."""
    yield where, values, depth
    if isinstance(values, dict):
        for key, value in values.items():
            yield where, key, depth
            yield from _walk(value, f"{where}.{key}".removeprefix("."), depth + 1)
    elif isinstance(values, list):
        for value in values:
            yield from _walk(value, where, depth + 1)


def check(values: dict[str, Any]) -> list[str]:
    """Return a line for each fault: where, what was found, what is allowed, what to do.

    The schema may be of another project. Raises UserError for one that cannot be used.
    """
    if not SCHEMA.exists():
        raise UserError(f"{SCHEMA}: missing; restore it with git checkout")
    schema = read_json(SCHEMA)
    is_ours = isinstance(schema, dict) and schema.get("title") == str(FILE)
    sections = schema.get("properties", {}) if isinstance(schema, dict) else {}
    endless = [
        f"{where}: found {value}, expected a finite number; change it"
        for where, value, _ in _walk(values)
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if endless and is_ours:  # which the schema would take
        return endless
    faults = []
    for error in _errors(values, schema):
        where = ".".join(map(str, error.absolute_path))
        prefix = f"{where}." if where else ""
        said = error.schema if isinstance(error.schema, dict) else {}  # or true or false
        known = said.get("properties", {})
        if error.validator == "additionalProperties" and "patternProperties" not in said:
            faults += [_unknown(f"{prefix}{key}", known) for key in sorted(set(error.instance) - set(known), key=str)]
        elif error.validator == "required":
            faults += [
                f"{prefix}{key}: missing; add it" for key in error.validator_value if f"'{key}' is a" in error.message
            ]
        elif len(error.absolute_path) == 1 and said.get("type") == "object" and where not in sections:
            # The section of a further data set is checked as one; anything else up there is a mistake.
            faults.append(_unknown(where, sections))
        else:
            expected = _expected(said, error.validator) or f"what {SCHEMA} says ({error.message[:150]})"
            fault = f"{where or 'all of it'}: found {_show(error.instance)}, expected {expected}; change it"
            faults += [fault] if fault not in faults else []
    return sorted(faults) or (_uneven_batches(values) if is_ours else [])


def _errors(values: dict[str, Any], schema: Any) -> list[Any]:
    try:
        return list(jsonschema.Draft202012Validator(schema).iter_errors(values))
    except Exception as error:  # a schema that is none has a dozen ways to fail
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UserError(f"{SCHEMA}: invalid ({why}); restore it with git checkout") from None


def _uneven_batches(values: dict[str, Any]) -> list[str]:
    """Find the batches that devices cannot share evenly; seen in a training only, it would be after another one."""
    devices = values.get("devices")
    sizes = {key: section.get("batch_size") for key, section in values.items() if isinstance(section, dict)}
    return [
        f"{key}.batch_size: found {size}, expected a multiple of devices, {devices}; change it"
        for key, size in sizes.items()
        if isinstance(devices, int | float) and devices > 0 and isinstance(size, int | float) and size % devices
    ]


def at(values: Any, key: str) -> Any:
    """Return the value behind a dotted key. Raises KeyError or TypeError where there is none."""
    for part in key.split("."):
        values = values[part]
    return values


def _unknown(key: str, known: dict[str, Any]) -> str:
    above, _, name = key.rpartition(".")
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"{key}: unknown key; did you mean {f'{above}.{near[0]}'.removeprefix('.')}?"
    return f"{key}: unknown key; known: {', '.join(known)}"


def _show(value: Any) -> str:
    try:
        text = json.dumps(value, default=str)
    except TypeError:  # a key that JSON has not, such as a date
        text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _expected(schema: dict[str, Any], keyword: str) -> str:
    """Put into words what `keyword` of a schema demands, "" for what is not in use here."""
    if "expected" in schema:  # a keyword of ours, where the standard ones do not say why
        return str(schema["expected"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}
    if keyword not in ("type", *words) or not isinstance(schema.get("type"), str):
        return ""
    names = {
        "number": "a number",
        "integer": "a whole number",
        "boolean": "true or false",
        "object": "keys with values",
    }
    bounds = [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
    kind = names.get(schema["type"], schema["type"])
    return f"{kind}, {' and '.join(bounds)}" if bounds else kind
