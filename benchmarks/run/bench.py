"""Compare the project's settings with their peers in one run.

Train in turn what benchmarks/results/bench.csv lacks, and add a row per epoch when a training ends. Seconds cover
training, with Keras' compilation and tracing, and for `mnist` and `cifar` the evaluation of the validation images; they
exclude imports, data loading and any other evaluation. DVC trains the project's own settings, which also get rows in
seeds.csv.
"""

import sys
from typing import Any

from benchmarks.run import command, results, seeds
from benchmarks.run.settings import SETTINGS
from benchmarks.run.step import matrix_peak
from reprocnn import backend

TABLE = results.FOLDER / "bench.csv"
# How many seeds of each side, and how many with --quick.
SEEDS = {
    "the exercise's network": (3, 1),
    "Keras' example": (3, 1),
    "one-epoch recipe, PyTorch": (10, 3),
    "mnist-fast": (10, 3),
    "mnist": (5, 1),
    "airbench, PyTorch": (3, 0),
    "cifar-quick": (3, 0),
    "cifar": (3, 0),
    "cifar-94": (3, 0),
    "cifar-plain": (1, 0),
}
PEERS = {
    "the exercise's network": ["keras_mnist", "exercise"],
    "Keras' example": ["keras_mnist", "example"],
    "one-epoch recipe, PyTorch": ["pytorch_mnist", "recipe"],
    "airbench, PyTorch": ["pytorch_cifar", "train", "64", "8"],
}


def main(arguments: list[str]) -> None:
    """Train what the table lacks."""
    parser = command.parser("bench", __doc__)
    parser.add_argument("python", metavar="PYTHON", help="a Python that has PyTorch")
    parser.add_argument("--quick", action="store_true", help="only MNIST, with one to three seeds")
    options = parser.parse_args(arguments)
    known = results.known(TABLE, "side", "seed")
    device = backend.configure_device("cpu", 0, "auto")
    for seed in range(max(most for most, _ in SEEDS.values())):
        for side, (most, quick) in SEEDS.items():
            if seed < (quick if options.quick else most) and (side, str(seed)) not in known:
                peak = matrix_peak("float32")
                measured = train(side, seed, options.python, device.precision)
                dataset = "cifar" if "cifar" in PEERS.get(side, [side])[0] else "mnist"
                columns = {"data_set": dataset, "test_accuracy_tta": None} | measured
                del columns["epochs"]
                columns |= {"matrix_peak_gflops": peak / 1e9} | results.conditions(results.processor(device))
                rows = [{"side": side, "seed": seed, **epoch, **columns} for epoch in measured["epochs"]]
                results.add(TABLE, rows, digits=6)


def train(side: str, seed: int, python: str, precision: str) -> dict[str, Any]:
    """Train once; return `epochs`, a list with a row each, and the figures of the training as a whole.

    `precision` is that of airbench's convolutions: the project's settings and the other peers have their own.
    """
    if side in SETTINGS:
        row, watched = seeds.measure(side, seed)
        # The stage evaluates in float32; during training, convolutions were in bfloat16.
        watched["epochs"][-1]["test_accuracy"] = row["test_accuracy"]
        return {key: row[key] for key in ("test_accuracy_tta", "tflop", "peak_memory_mib")} | watched
    script, *arguments = PEERS[side]
    arguments += [str(seed), precision] if script == "pytorch_cifar" else [str(seed)]
    return command.ask(sys.executable if "keras" in script else python, script, *arguments)
