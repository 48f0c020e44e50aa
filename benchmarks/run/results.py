"""Read and write the CSV files of benchmarks/results/, as text, so that rows that stay keep their bytes."""

import csv
import datetime
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprocnn.core.files import atomic_write

if TYPE_CHECKING:
    from reprocnn.backend import Device

FOLDER = Path("benchmarks/results")
WATCHED = Path("runs/watched.json")  # what the script `watched` writes


def read(path: Path) -> list[dict[str, str]]:
    """Read the rows; none if there is no file yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def known(path: Path, *keys: str) -> set[tuple[str, ...]]:
    """Collect the values, as text, that the rows have in the columns `keys`."""
    return {tuple(row[key] for key in keys) for row in read(path)}


def add(
    path: Path,
    rows: list[dict[str, Any]],
    *,
    keys: Iterable[str] = (),
    order: Callable[[dict[str, str]], Any] | None = None,
    digits: int | None = None,
) -> None:
    """Add rows, replacing those with the same values of `keys`, and print the last one.

    The file is sorted by `order` if given. Floats are rounded to `digits` significant digits if given.
    """
    print(rows[-1], flush=True)
    new = [_as_text(row, digits) for row in rows]
    keys = list(keys)
    replaced = {tuple(row[key] for key in keys) for row in new}
    kept = [row for row in read(path) if not keys or tuple(row[key] for key in keys) not in replaced]
    columns = _columns(kept + new)
    _write(path, columns, sorted(kept + new, key=order) if order else kept + new)


def write(path: Path, rows: list[dict[str, Any]], digits: int | None = None) -> None:
    """Write the rows as the whole file, atomically; floats rounded to `digits` significant digits if given."""
    _write(path, _columns(rows), [_as_text(row, digits) for row in rows])


def today() -> str:
    """Return the date for the column `date`."""
    return datetime.date.today().isoformat()


def conditions(hardware: str) -> dict[str, str]:
    """Return the columns `hardware` and `date`."""
    return {"hardware": hardware, "date": today()}


def processor(device: "Device") -> str:
    """Describe a device by its name and threads, and a CPU by the instructions that it has for the convolutions."""
    return _hardware(asdict(device))


def trained_on(training: dict[str, Any]) -> str:
    """Describe the device of a training that runs/train_NAME.json records."""
    return f"{_hardware(training['device'])}, {training['device']['precision']}"


def versions(training: dict[str, Any]) -> str:
    """List the versions of the libraries that `backend.record` recorded."""
    return ", ".join(f"{name} {version}" for name, version in training["versions"].items())


def _hardware(device: dict[str, Any]) -> str:
    instructions = device["instructions"] if device["kind"] == "cpu" else ""
    return ", ".join(filter(None, (device["name"], instructions, f"{device['threads']} threads")))


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _write(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _as_text(row: dict[str, Any], digits: int | None) -> dict[str, str]:
    return {key: _text(value, digits) for key, value in row.items()}


def _text(value: Any, digits: int | None) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return ""
    return f"{value:.{digits}g}" if digits else repr(float(value))
