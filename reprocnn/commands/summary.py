"""Print the table that a run ends with: accuracy, target and training time of each network."""

import argparse
from pathlib import Path
from typing import Any

from tabulate import tabulate

from reprocnn.core.files import read_json, sha256
from reprocnn.core.params import Recipe, read
from reprocnn.datasets import DATASETS, Dataset
from reprocnn.report.results import SAMPLE, target, title


def main(arguments: list[str] | None = None) -> None:
    """Print a row for each data set. Raises UserError for a result that is missing."""
    argparse.ArgumentParser(prog="reprocnn summary", description=__doc__).parse_args(arguments)
    print(tabulate([_row(dataset) for dataset in DATASETS], headers="keys", disable_numparse=True))
    print(f"report: {Path('report/report.md').resolve()}")


def _row(dataset: Dataset) -> dict[str, Any]:
    name = dataset.name
    recipe = read(Recipe, name)
    metrics = read_json(Path("metrics") / f"{name}.json")[name]
    details = read_json(Path("evaluation") / f"{name}.json")
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
        record = read_json(path)
        if record["weights"] == sha256(weights):
            device = record["device"]
            return {"training": f"{record['seconds']:.0f} s", "device": f"{device['kind']}, {device['name']}"}
    return {"training": "-", "device": "trained elsewhere"}
