"""Edit results as someone may by hand."""

import json
from pathlib import Path
from typing import Any

GONE: Any = object()


def edit(path: str | Path, old: str, new: str) -> None:
    """Replace the first such text of a file, which must be there."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def put(path: str | Path, key: str, value: Any) -> None:
    """Set a dotted key of a JSON file, or remove it if the value is GONE; a number is an index."""
    path = Path(path)
    values = json.loads(path.read_text(encoding="utf-8"))
    *above, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    place = values
    for part in above:
        place = place[part]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    path.write_text(json.dumps(values), encoding="utf-8")
