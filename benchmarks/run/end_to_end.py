"""Time `mnist-fast` and the one-epoch recipe in PyTorch from the start of the process to the end of the training.

Imports and data are included. Record the seconds of the training alone and the CPU seconds, too. Each side is run in
turn with the seeds 0 to N-1, after a warm-up round.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.run import command, results
from benchmarks.run.copies import copy_with_data
from benchmarks.run.settings import SETTINGS
from reprocnn import backend
from reprocnn.commands.demo import change
from reprocnn.core import params
from reprocnn.core.files import read_json, write_json

TABLE = results.FOLDER / "end_to_end.csv"
OURS, PEER = "mnist-fast", "one-epoch recipe, PyTorch"


def main(arguments: list[str]) -> None:
    """Time both and replace the rows of this processor."""
    parser = command.parser("end_to_end", __doc__)
    parser.add_argument("python", metavar="PYTHON", help="a Python that has PyTorch")
    parser.add_argument("n", metavar="N", type=int, help="how many seeds")
    options = parser.parse_args(arguments)
    conditions = results.conditions(results.processor(backend.configure_device("cpu", 0, "auto")))
    rows: list[dict[str, Any]] = []
    with copy_with_data(SETTINGS[OURS]) as copy:
        for seed in range(-1, options.n):
            ours, peer = train(copy, max(seed, 0)), command.ask(options.python, "pytorch_mnist", "recipe", max(seed, 0))
            for side, trained in ((OURS, ours), (PEER, peer)):
                epoch = trained["epochs"][-1]
                row = {
                    "side": side,
                    "seed": seed,
                    "seconds": epoch["process_seconds"],
                    "training_seconds": epoch["seconds"],
                    "cpu_seconds": epoch["cpu_seconds"],
                    "test_accuracy": epoch["test_accuracy"],
                }
                rows.append(row | conditions)
                print(rows[-1], flush=True)
    rows = [row for row in rows if row["seed"] >= 0]
    results.add(TABLE, rows, keys=("side", "seed", "hardware"), digits=4)


def train(copy: Path, seed: int) -> Any:
    """Train in the folder `copy`; return what `watched` noted."""
    write_json(copy / params.FILE, change(params.load(copy / params.FILE), {"seed": seed}))  # JSON is YAML too
    ran = [sys.executable, "-m", "benchmarks", "watched", "mnist"]
    subprocess.run(ran, cwd=copy, check=True, stdout=subprocess.DEVNULL)
    return read_json(copy / results.WATCHED)
