"""params.yaml, read and checked: the whole file against params.schema.json, then the values a stage asks for.

A stage names its values in a frozen dataclass, whose fields dvc.yaml repeats as the stage's `params`.
"""

import dataclasses
import difflib
import json
import math
import re
import typing
from pathlib import Path
from typing import Any, TypeVar

import jsonschema
import yaml

from stages.lib.errors import UserError

FILE, SCHEMA = Path("params.yaml"), Path("params.schema.json")
MAX_BYTES = 100_000  # some 50 times the file's size
MAX_FAULTS = 5  # lines
View = TypeVar("View")


def read(view: type[View]) -> View:
    """The values that the dataclass `view` names. Raises UserError with a line for each fault of the whole file."""
    values = load(FILE)
    faults = check(values)
    if len(faults) > MAX_FAULTS:
        faults = [*faults[: MAX_FAULTS - 1], f"and {len(faults) - MAX_FAULTS + 1} more faults"]
    if faults:
        raise UserError("\n".join(f"{FILE}: {fault}" for fault in faults))
    return _fill(view, values)


def load(path: Path) -> dict[str, Any]:
    """The file's content, checked for being one plain YAML mapping without repeated keys, anchors or tags."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{path}: over {MAX_BYTES:,} bytes, expected a few thousand; restore it with git checkout")
        values = yaml.load(content.decode("utf-8-sig"), _Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run from the top folder, or restore it with git checkout") from None
    # The last three are what PyYAML raises on a tag that does not fit its value.
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError, AttributeError, KeyError) as error:
        raise UserError(f"{path}: no plain YAML: {' '.join(str(error).split())[:300]}; mend that line") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: found {_show(values)}, expected keys with values; restore it with git checkout")
    return values


def check(values: dict[str, Any]) -> list[str]:
    """A line for each fault: where, what was found, what is allowed, what to do."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    faults = []
    for error in jsonschema.Draft202012Validator(schema).iter_errors(values):
        where = ".".join(map(str, error.absolute_path))
        prefix = f"{where}." if where else ""
        if error.validator == "additionalProperties":
            for key in sorted(set(error.instance) - set(error.schema["properties"]), key=str):
                near = difflib.get_close_matches(str(key), error.schema["properties"], n=1)
                hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(error.schema['properties'])}"
                faults.append(f"{prefix}{key}: unknown key; {hint}")
        elif error.validator == "required":
            faults += [
                f"{prefix}{key}: missing; add it" for key in error.validator_value if f"'{key}' is a" in error.message
            ]
        else:
            fault = f"{where}: found {_show(error.instance)}, expected {_expected(error.schema)}; set such a value"
            faults += [fault] if fault not in faults else []
    return sorted(faults)


def at(values: Any, key: str) -> Any:
    """The value behind a dotted key."""
    for part in key.split("."):
        values = values[part]
    return values


def _fill(view: type[View], values: dict[str, Any]) -> View:
    types = typing.get_type_hints(view)
    filled = {}
    for field in dataclasses.fields(view):  # type: ignore[arg-type]
        value, kind = values[field.name], types[field.name]
        if dataclasses.is_dataclass(kind):
            value = _fill(kind, value)  # type: ignore[arg-type]
        elif kind in (float, float | None) and value is not None:
            value = float(value)  # so that 1 and 1.0 are the same experiment
        elif kind is int:
            value = int(value)  # JSON Schema takes 3.0 for an integer
        filled[field.name] = value
    return view(**filled)


def _show(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _expected(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    types: list[str] = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    names = {
        "number": "a number",
        "integer": "a whole number",
        "boolean": "true or false",
        "object": "keys with values",
    }
    text = " or ".join(names.get(name, name) for name in types)
    bounds = []
    if "minimum" in schema:
        bounds.append(f"at least {schema['minimum']}")
    if "exclusiveMinimum" in schema:
        bounds.append(f"above {schema['exclusiveMinimum']}")
    if "maximum" in schema:
        bounds.append(f"at most {schema['maximum']}")
    return f"{text}, {' and '.join(bounds)}" if bounds else text


class _Loader(yaml.SafeLoader):
    """Plain YAML with YAML 1.2's numbers and truths: 1e-05, as `dvc exp run -S` writes it, is a number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: anchors and aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: a key has to be a plain word")
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {key.value!r} is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_int(self, node: Any) -> int:
        return int(node.value)

    def construct_float(self, node: Any) -> float:
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {node.value} is not a finite number")
        return value


# As DVC reads them: to YAML 1.1, and so to PyYAML, 010 is 8, 1:30 is 90 and `on` is true.
_PLAIN = {
    "int": (re.compile(r"[-+]?[0-9][0-9_]*$"), "-+0123456789", _Loader.construct_int),
    "float": (
        re.compile(
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.[0-9]+[eE][-+]?[0-9]+"
            r"|\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
        ),
        "-+0123456789.",
        _Loader.construct_float,
    ),
    "bool": (re.compile(r"(true|True|TRUE|false|False|FALSE)$"), "tTfF", _Loader.construct_yaml_bool),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag.rpartition(":")[2] not in _PLAIN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_regexp, _first, _constructor) in _PLAIN.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _regexp, list(_first))
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _constructor)
