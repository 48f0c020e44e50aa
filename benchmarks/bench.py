"""The project's settings and their peers, side by side in one run.

`python -m benchmarks.bench PYTHON`, PYTHON having PyTorch, trains in turn what benchmarks/bench.csv lacks, a row for
each epoch, written as soon as the training has ended; with `quick`, one or three seeds of MNIST's sides alone. Seconds
are of training: no imports, no data loading, no evaluation but of `mnist`'s and `cifar`'s validation images; Keras'
compiling and tracing are in. The project's own are trained by dvc, and get their rows of benchmarks/seeds.csv too.
"""

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import seeds
from benchmarks.settings import SETTINGS
from benchmarks.step import matrix_peak
from stages.lib import device
from stages.lib.errors import UserError, run
from stages.lib.files import whole

TABLE = Path("benchmarks/bench.csv")
# How many seeds of each side, and how many of them are quick.
SEEDS = {
    "the exercise's network": (3, 1),
    "Keras' example": (3, 1),
    "one-epoch recipe, PyTorch": (10, 3),
    "mnist-fast": (10, 3),
    "mnist": (5, 1),
    "airbench, PyTorch": (1, 0),
    "cifar-quick": (3, 0),
    "cifar": (3, 0),
    "cifar-94": (3, 0),
    "cifar-plain": (1, 0),
}
PEERS = {
    "the exercise's network": ["benchmarks.keras_mnist", "exercise"],
    "Keras' example": ["benchmarks.keras_mnist", "example"],
    "one-epoch recipe, PyTorch": ["benchmarks.pytorch_mnist", "recipe"],
    "airbench, PyTorch": ["benchmarks.pytorch_cifar", "train", "64", "8"],
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[2:] not in ([], ["quick"]):
        raise UserError("bench: expected a Python that has PyTorch, and maybe `quick`; try `make bench`")
    table = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame({"side": [], "seed": []})
    known = set(table[["side", "seed"]].itertuples(index=False, name=None))
    used = device.set_up("cpu", 0)
    for seed in range(max(most for most, _ in SEEDS.values())):
        for side, counts in SEEDS.items():
            if seed < counts[sys.argv[2:] == ["quick"]] and (side, seed) not in known:
                peak = matrix_peak("float32")
                told = train(side, seed, sys.argv[1])
                rows = pd.DataFrame(told.pop("epochs"))
                rows.insert(0, "side", side)
                rows.insert(1, "seed", seed)
                rows = rows.assign(
                    data_set="cifar" if "cifar" in PEERS.get(side, [side])[0] else "mnist",
                    **{"test_accuracy_tta": None} | told,
                    matrix_peak_gflops=peak / 1e9,
                    hardware=f"{used.name}, {used.threads} threads",
                    date=datetime.date.today().isoformat(),
                )
                print(rows.iloc[-1].to_dict(), flush=True)
                table = pd.concat([table, rows]) if len(table) else rows
                with whole(TABLE) as partial:
                    table.to_csv(partial, index=False, lineterminator="\n", float_format="%.6g")


def train(side: str, seed: int, python: str) -> dict[str, Any]:
    """Its epochs, and what is one number of all of them."""
    if side in SETTINGS:
        row, watched = seeds.measure(side, seed)
        # As the stage evaluates it, in float32; while it trained, convolutions were in bfloat16.
        watched["epochs"][-1]["test_accuracy"] = row["test_accuracy"]
        return {key: row[key] for key in ("test_accuracy_tta", "tflop", "peak_memory_mib")} | watched
    module, *arguments = PEERS[side]
    command = [sys.executable if "keras" in module else python, "-m", module, *arguments, str(seed)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


if __name__ == "__main__":
    run(main)
