"""Trains a network of params.yaml with several seeds and measures it on the test images.

`python -m benchmarks.seeds NAME N`, mnist or cifar, for the seeds 0 to N-1. Each training is the pipeline's own, run by
dvc in a copy of the repository that shares its cache; each row of benchmarks/seeds.csv, and of benchmarks/mistakes.csv
(which test images were wrong), is written as soon as it is known.
"""

import datetime
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.tables import MISTAKES, SEEDS, training_digest
from stages.demo import make_copy
from stages.lib.commands import dvc
from stages.lib.errors import UserError, run
from stages.lib.files import whole
from stages.lib.results import TITLES, load_json


def main() -> None:
    try:
        name, n = sys.argv[1], int(sys.argv[2])
        TITLES[name]
    except (IndexError, KeyError, ValueError):
        raise UserError(
            f"seeds: found {' '.join(sys.argv[1:]) or 'nothing'}, expected a data set ({', '.join(TITLES)}) and how "
            f"many seeds; try `python -m benchmarks.seeds mnist 3`"
        ) from None
    for seed in range(n):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy"
            make_copy(Path(), copy, {"seed": seed})
            shutil.copy("dvc.lock", copy)
            dvc("config", "--local", "cache.dir", str(Path(".dvc/cache").resolve()), cwd=copy)
            dvc("checkout", "--quiet", "download", "prepare", "train_mnist", "train_cifar", cwd=copy)
            dvc("repro", "prepare", cwd=copy)
            # Forced, since a result of the cache has no time.
            dvc("repro", "--single-item", "--force", f"train_{name}", cwd=copy)
            dvc("repro", "--single-item", "evaluate", cwd=copy)
            predictions = pd.read_csv(copy / "plots" / name / "predictions.csv")
            wrong = predictions.loc[predictions["y_true"] != predictions["y_pred"], "index"]
            _replace(SEEDS, pd.DataFrame([_row(copy, name, seed, n)]))
            _replace(MISTAKES, pd.DataFrame({"data_set": name, "seed": seed, "index": wrong}))


def _row(copy: Path, name: str, seed: int, n: int) -> dict[str, Any]:
    metrics = load_json(copy / "metrics.json")[name]["test"]
    training = load_json(copy / "runs" / f"train_{name}.json")
    lock = yaml.safe_load((copy / "dvc.lock").read_text(encoding="utf-8"))["stages"][f"train_{name}"]
    params = lock["params"]["params.yaml"]
    return {
        "data_set": name,
        "network": params[f"{name}.network"],
        "seed": seed,
        "test_accuracy": metrics["accuracy"],
        "errors": metrics["errors"],
        "epochs": training["epochs"],
        "seconds": round(training["seconds"], 1),
        "peak_memory_mib": training["peak_memory_bytes"] >> 20,
        "hardware": f"{training['device']['name']}, {training['device']['threads']} threads",
        "versions": ", ".join(f"{key} {value}" for key, value in training["versions"].items()),
        "python": training["python"],
        "date": datetime.date.today().isoformat(),
        "command": f"python -m benchmarks.seeds {name} {n}",
        "training": training_digest(lock),
    }


def _replace(path: Path, rows: pd.DataFrame) -> None:
    """Puts the rows of one data set and seed in the place of those that the table has."""
    print(rows.iloc[0].to_dict(), flush=True)
    if path.exists():
        old = pd.read_csv(path)
        known = rows.iloc[0]
        rows = pd.concat([old[(old["data_set"] != known["data_set"]) | (old["seed"] != known["seed"])], rows])
    with whole(path) as partial:
        rows.sort_values(["data_set", "seed"], ascending=[False, True], kind="stable").to_csv(
            partial, index=False, lineterminator="\n"
        )


if __name__ == "__main__":
    run(main)
