"""Train airbench in PyTorch as its authors do, with the seeds 0 to N-1: benchmarks/results/airbench.csv.

`bench` times it beside the project's settings. Here it is alone, for its accuracy: other work may run beside it.
"""

from benchmarks.run import bench, command, results
from reprocnn import backend

TABLE = results.FOLDER / "airbench.csv"
SIDE = "airbench, PyTorch"


def main(arguments: list[str]) -> None:
    """Train the seeds that the table lacks, and add a row for each."""
    parser = command.parser("airbench", __doc__)
    parser.add_argument("python", metavar="PYTHON", help="a Python that has PyTorch")
    parser.add_argument("n", metavar="N", type=int, help="how many seeds")
    options = parser.parse_args(arguments)
    device = backend.configure_device("cpu", 0, "auto")
    known = results.known(TABLE, "seed")
    for seed in range(options.n):
        if (str(seed),) not in known:
            measured = bench.train(SIDE, seed, options.python, device.precision)
            last = measured["epochs"][-1]
            row = {"seed": seed, "precision": device.precision, "epochs": last["epoch"]}
            row |= {"test_accuracy": last["test_accuracy"], "test_accuracy_tta": measured["test_accuracy_tta"]}
            row |= {key: measured[key] for key in ("tflop", "peak_memory_mib")}
            results.add(TABLE, [row | results.conditions(results.processor(device))], digits=6)
