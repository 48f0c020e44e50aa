"""Prints the table that a run ends with: what each network reached, and what it took."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from stages.lib.errors import run
from stages.lib.files import sha256
from stages.lib.params import read
from stages.lib.results import Targets, load_json, title


@dataclass(frozen=True)
class Training:
    network: str
    epochs: int


@dataclass(frozen=True)
class Params:
    mnist: Training
    cifar: Training
    targets: Targets


def main() -> None:
    params = read(Params)
    metrics = load_json(Path("metrics.json"))
    sample = metrics["source"] == "sample"  # the targets are not for it
    rows = [
        {
            "data set": title(metrics, name),
            "network": training.network,
            "parameters": f"{load_json(Path('evaluation') / f'{name}.json')['parameters']:,}",
            **_accuracy(metrics[name]["test"], None if sample else params.targets.accuracy(name)),
            "epochs": training.epochs,
            **_training_run(name),
        }
        for name, training in (("mnist", params.mnist), ("cifar", params.cifar))
    ]
    print(tabulate(rows, headers="keys", disable_numparse=True))
    print(f"report: {Path('report/report.md').resolve()}")


def _accuracy(test: dict[str, Any], target: float | None) -> dict[str, str]:
    verdict = "none" if target is None else f"{target:.1%} {'met' if test['accuracy'] >= target else 'MISSED'}"
    return {
        "test accuracy": f"{test['accuracy']:.2%}",
        "95 % interval": f"{test['accuracy_low']:.2%} to {test['accuracy_high']:.2%}",
        "target": verdict,
    }


def _training_run(name: str) -> dict[str, str]:
    """Time and device, known only where these very weights were trained: they are no part of the result."""
    path, weights = Path("runs") / f"train_{name}.json", Path("models") / name / "model.weights.h5"
    if path.exists() and weights.exists():
        record = load_json(path)
        if record["weights"] == sha256(weights):
            return {
                "training": f"{record['seconds']:.0f} s",
                "device": f"{record['device']['kind']}, {record['device']['name']}",
            }
    return {"training": "-", "device": "trained elsewhere"}


if __name__ == "__main__":
    run(main)
