"""Edit the deps lists of a dvc.yaml in its text, so that everything else in the file stays as it is."""

import json
import re
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


def edit(text: str, stage_name: str, action: Literal["add", "remove"], path: str) -> str:
    """Return the text of a dvc.yaml with one dep added or removed, in its list alone.

    Unchanged for a stage of foreach or matrix, for a list or stage that another shares by an alias, and for a list that
    cannot be edited line by line.
    """
    edited = _edit(text, stage_name, action, path)
    if edited == text:
        return text
    try:
        (others, deps), (others_now, deps_now) = _read(text, stage_name), _read(edited, stage_name)
    except YAMLError:
        return text
    longer, shorter = (deps_now, deps) if action == "add" else (deps, deps_now)
    expected = path in longer and [dep for dep in longer if dep != path] == shorter
    return edited if expected and others == others_now else text


def _read(text: str, stage_name: str) -> tuple[Any, list[Any]]:
    """Return a dvc.yaml without the deps of one stage, and those deps."""
    values = YAML(typ="safe").load(text)
    stages = values["stages"]
    deps = stages[stage_name].get("deps") or []
    return values | {"stages": stages | {stage_name: stages[stage_name] | {"deps": None}}}, deps


def _edit(text: str, stage_name: str, action: str, path: str) -> str:
    _, stages = _entry(YAML().compose(text), "stages")
    _, stage = _entry(stages, stage_name)
    if _entry(stage, "cmd")[1] is None or _entry(stage, "matrix")[1] is not None:
        return text
    key, deps = _entry(stage, "deps")
    paths = [item.value for item in deps.value] if deps is not None else []
    if action == "add" and path not in paths:
        plain = re.fullmatch(r"[\w./-]+", path)
        return _add(text, stage, deps, path if plain else json.dumps(path))
    if action == "remove" and path in paths:
        return _remove(text, key, deps, paths.index(path))
    return text


def _add(text: str, stage: Any, deps: Any, item: str) -> str:
    """Add an item at the end of the list, or begin a list."""
    if deps is None:
        return _begin(text, stage, item)
    if not deps.value:
        return f"{text[: deps.start_mark.index]}[{item}]{text[deps.end_mark.index :]}"
    last = deps.value[-1]
    if deps.flow_style:
        return f"{text[: last.end_mark.index]}, {item}{text[last.end_mark.index :]}"
    end = _line(text, last)[1]
    if not isinstance(last.value, str):  # a path with settings, which may take several lines
        end = _line(text, deps.value[0])[0]
    (start, _), first = _line(text, deps.value[0]), deps.value[0].start_mark.index
    newline = _newline(text, first)
    before = text[:end].removesuffix(newline)  # which the last line of a file may lack
    return f"{before}{newline}{text[start:first]}{item}{newline}{text[end:]}"


def _begin(text: str, stage: Any, item: str) -> str:
    """Put a list above the stage's first key."""
    first = stage.value[0][0].start_mark
    if stage.flow_style:
        return f"{text[: first.index]}deps: [{item}], {text[first.index :]}"
    indent, newline = " " * first.column, _newline(text, first.index)
    return f"{text[: first.index]}deps:{newline}{indent}  - {item}{newline}{indent}{text[first.index :]}"


def _remove(text: str, key: Any, deps: Any, index: int) -> str:
    """Remove an item with its line, or from a flow list with the comma beside it."""
    items, item = deps.value, deps.value[index]
    if not deps.flow_style:
        start, end = _line(text, item)
        if len(items) > 1:
            return text[:start] + text[end:]
        colon = text.index(":", key.end_mark.index) + 1
        return f"{text[:colon]} []{text[colon:start]}{text[end:]}"
    if index + 1 < len(items):
        return text[: item.start_mark.index] + text[items[index + 1].start_mark.index :]
    start = items[index - 1].end_mark.index if index else item.start_mark.index
    return text[:start] + text[item.end_mark.index :]


def _entry(mapping: Any, key: str) -> tuple[Any, Any]:
    """Return the nodes of a mapping's key and value, None twice where there is no such key."""
    entries = mapping.value if mapping is not None and isinstance(mapping.value, list) else []
    return next(((name, value) for name, value in entries if name.value == key), (None, None))


def _line(text: str, node: Any) -> tuple[int, int]:
    """Return where the line begins that a node begins on, and where the next one does."""
    end = text.find("\n", node.start_mark.index)
    return text.rfind("\n", 0, node.start_mark.index) + 1, len(text) if end < 0 else end + 1


def _newline(text: str, place: int) -> str:
    """Return how the line at a place ends, or the one before the last."""
    end = text.find("\n", place)
    end = text.rfind("\n") if end < 0 else end
    return "\r\n" if end > 0 and text[end - 1] == "\r" else "\n"
