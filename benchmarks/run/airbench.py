"""Train airbench in PyTorch as its authors do, with the seeds 0 to N-1: benchmarks/airbench/seeds.csv.

`bench` trains it too, beside the project's settings. Here it is alone, for what its accuracy is on another machine.
"""

from pathlib import Path

from benchmarks.run import bench, command, results
from reprocnn import backend

TABLE = Path("benchmarks/airbench/seeds.csv")
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
            last = measured.pop("epochs")[-1]
            row = {"seed": seed, "precision": device.precision, **last, **measured}
            results.add(TABLE, [row | results.conditions(results.processor(device))], digits=6)
