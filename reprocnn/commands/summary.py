"""Print the table that a run ends with: accuracy, target and training time of each network."""

import argparse
import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

from reprocnn.core.errors import UserError
from reprocnn.core.files import sha256
from reprocnn.core.params import Recipe, read
from reprocnn.datasets import DATASETS, Dataset
from reprocnn.gate.values import flatten, is_number
from reprocnn.report.readers import read_test
from reprocnn.report.results import SAMPLE, target, title

# Of the file that a training writes about itself.
RECORDED = {"weights": "a digest", "seconds": "a number", "device.kind": "cpu or gpu", "device.name": "a name"}


def main(arguments: list[str]) -> None:
    """Print a row for each data set. Raises UserError for a result that is missing or damaged."""
    argparse.ArgumentParser(prog="reprocnn summary", description=__doc__).parse_args(arguments)
    print(tabulate([_row(dataset) for dataset in DATASETS], headers="keys", disable_numparse=True))
    print(f"report: {Path('report/report.md').resolve()}")


def _row(dataset: Dataset) -> dict[str, Any]:
    name = dataset.name
    recipe = read(Recipe, name)
    metrics, details = read_test(name)
    return {
        "data set": title(dataset, details["source"]),
        "network": recipe.network,
        "parameters": f"{details['parameters']:,}",
        "test accuracy": f"{metrics['test']['accuracy']:.2%}",
        "95 % interval": f"{details['test']['accuracy_low']:.2%} to {details['test']['accuracy_high']:.2%}",
        "target": _verdict(name, details["source"], metrics["test"]["accuracy"]),
        "epochs": recipe.epochs,
        **_training_run(name),
    }


def _verdict(name: str, source: str, accuracy: float) -> str:
    if source == SAMPLE:
        return "none"  # the targets are not for it
    aim = target(name)
    return f"{aim:.1%} {'met' if accuracy >= aim else 'MISSED'}"


def _training_run(name: str) -> dict[str, str]:
    """Return time and device, which are not part of the results: known only where these weights were trained."""
    path, weights = Path("runs") / f"train_{name}.json", Path("models") / name / "model.weights.h5"
    if path.exists() and weights.exists():
        record = _read_record(path)
        if record["weights"] == sha256(weights):
            device = f"{record['device.kind']}, {record['device.name']}"
            return {"training": f"{record['seconds']:.0f} s", "device": device}
    return {"training": "-", "device": "trained elsewhere"}


def _read_record(path: Path) -> dict[str, Any]:
    """Read runs/train_NAME.json, by dotted key. Raises UserError, naming a key that is not right."""
    advice = "delete the file; the table then shows neither time nor device"  # which nothing else needs
    try:
        record = flatten(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, got something else ({error}); {advice}") from None
    for key, expected in RECORDED.items():
        value = record.get(key)
        if not (is_number(value) if key == "seconds" else isinstance(value, str)):
            got = repr(value)[:60] if key in record else "none"
            raise UserError(f"{path}: {key}: expected {expected}, got {got}; {advice}")
    return record
