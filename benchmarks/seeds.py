"""Trains both networks of params.yaml with several seeds and measures them on the test images.

`python -m benchmarks.seeds [N]` for the seeds 0 to N-1, 3 unless told. Each training is the pipeline's own, run by dvc
in a copy of the repository that shares its cache; each row of benchmarks/seeds.csv is written as soon as it is known.
"""

import datetime
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.tables import SEEDS, training_digest
from stages.demo import dvc, make_copy
from stages.lib.errors import UserError, run
from stages.lib.files import whole
from stages.lib.results import load_json


def main() -> None:
    try:
        n = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    except ValueError:
        raise UserError(
            f"seeds: found {sys.argv[1]!r}, expected how many; try `python -m benchmarks.seeds 3`"
        ) from None
    for seed in range(n):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy"
            make_copy(Path(), copy, {"seed": seed})
            shutil.copy("dvc.lock", copy)
            dvc("config", "--local", "cache.dir", str(Path(".dvc/cache").resolve()), cwd=copy)
            dvc("checkout", "--quiet", "download", "prepare", cwd=copy)
            dvc("repro", "prepare", cwd=copy)
            for name in ("mnist", "cifar"):
                # Forced, since a result of the cache has no time.
                dvc("repro", "--single-item", "--force", f"train_{name}", cwd=copy)
            dvc("repro", "evaluate", cwd=copy)
            for name in ("mnist", "cifar"):
                _append(_row(copy, name, seed, n))


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
        "command": f"python -m benchmarks.seeds {n}",
        "training": training_digest(lock),
    }


def _append(row: dict[str, Any]) -> None:
    """Adds the row to the table in place of an earlier one of the same data set and seed."""
    rows = pd.DataFrame([row])
    if SEEDS.exists():
        old = pd.read_csv(SEEDS)
        rows = pd.concat([old[(old["data_set"] != row["data_set"]) | (old["seed"] != row["seed"])], rows])
    with whole(SEEDS) as partial:
        rows.sort_values(["data_set", "seed"], ascending=[False, True]).to_csv(
            partial, index=False, lineterminator="\n"
        )
    print({key: row[key] for key in ("data_set", "seed", "test_accuracy", "seconds")}, flush=True)


if __name__ == "__main__":
    run(main)
