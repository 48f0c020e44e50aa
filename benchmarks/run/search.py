"""Search around the MNIST recipe: count errors on the 6,000 validation images after single changes.

Run `dvc exp run -S ... train_mnist` in a copy of the repository for each change and seed that
benchmarks/results/search.csv lacks, and add a row when it ends. The test images are not used.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.run import command, results
from benchmarks.run.copies import copy_with_data
from reprocnn.core import params
from reprocnn.report.evidence import describe
from reprocnn.repository import dvc, git

TABLE = results.FOLDER / "search.csv"
# Changes of the section mnist and of lr, in the order of their runs, and the number of their seeds.
CHANGES = {
    "": 3,
    "filters=24 epochs=18": 1,
    "elastic=0": 1,
    "depth=1": 1,
    "label_smoothing=0.1": 1,
    "rotation=10 zoom=0.1 shear=0.1": 1,
    "batch_size=128": 1,
    "lr=0.005": 1,
    "dropout=0": 1,
    "weight_decay=0.05": 1,
    "filters=16": 1,
    "filters=40 epochs=11": 1,
    "shift=2": 1,
}


def main(arguments: list[str]) -> None:
    """Train what the table lacks."""
    command.parser("search", __doc__).parse_args(arguments)
    known = results.known(TABLE, "change", "seed")
    with copy_with_data({}) as copy:
        for change, n in CHANGES.items():
            for seed in range(n):
                if (change, str(seed)) not in known:
                    results.add(TABLE, [measure(copy, change, seed)])


def measure(copy: Path, change: str, seed: int) -> dict[str, Any]:
    """Train with the params that `change` names, separated by spaces; return its row."""
    git("checkout", "--quiet", "params.yaml", cwd=copy)
    values = params.load(copy / params.FILE)
    recipe = params.fill(params.Recipe, values["mnist"])
    sets = ["-S", f"seed={seed}"]
    for setting in change.split():
        sets += ["-S", setting if setting.startswith("lr=") else f"mnist.{setting}"]
    dvc("exp", "run", "--single-item", *sets, "train_mnist", cwd=copy)
    last = pd.read_csv(copy / "plots/mnist/history.csv").iloc[-1]
    return {
        "change": change,
        "seed": seed,
        "val_accuracy": float(last["val_accuracy"]),
        "val_loss": float(last["val_loss"]),
        "date": results.today(),
        "recipe": describe(recipe, values["lr"] * recipe.lr_factor),
    }
