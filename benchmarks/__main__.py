"""`python -m benchmarks NAME ...` runs a script of benchmarks/run/.

Needs the standard library and psutil; a script's module is imported when it is called. The peers in PyTorch run in an
environment that has little else.
"""

import argparse
import importlib
import sys

from reprocnn.core.startup import run

SCRIPTS = {
    "seeds": "train a setting with several seeds: results/seeds.csv, results/mistakes.csv",
    "bench": "the settings beside their peers: results/bench.csv",
    "end_to_end": "mnist-fast and a peer from the start of the process: results/end_to_end.csv",
    "airbench": "airbench alone, as its authors train it: results/airbench.csv",
    "step": "a training step beside Keras' own layers and PyTorch: results/step.csv",
    "gpu": "CIFAR-10 in Keras on JAX, on a GPU: results/gpu.csv, results/gpu_step.csv",
    "growth": "cost over the number of images and of filters: results/growth.csv",
    "overhead": "the project beside bare DVC and bare imports: results/overhead.csv",
    "sweep": "the cost of a sweep beside its trainings: results/sweep.csv",
    "pruning": "what stopping bad trials of a search saves: results/pruning.csv",
    "waits": "the wait at the end of an epoch: results/waits.csv",
    "search": "one change of the MNIST recipe each: results/search.csv",
    "levers": "one change of the CIFAR-10 recipe each: results/levers.csv",
    "tried": "one change of mnist-fast each: results/tried.csv",
    "insights": "the exercise's insights: results/insights.csv",
    "flaws": "the exercise's flawed network, fixed one flaw at a time: results/flaws.csv",
    "calibration": "how often the calibrated gate is wrong: results/calibration_*.csv",
    "export": "the exported formats beside the evaluation: results/formats.csv",
    "audit": "the seconds of an audit: results/audit.csv",
    "tables": "write the measured tables of README.md and docs/; --check compares them",
    "figures": "draw docs/figures/*.svg",
    "watched": "train as the stage does, and note the test accuracy after each epoch (for seeds)",
    "keras_mnist": "the peers of MNIST in Keras (for bench)",
    "pytorch_mnist": "the peers of MNIST in PyTorch (for bench, step)",
    "pytorch_cifar": "the peer of CIFAR-10 in PyTorch (for airbench, bench, step, gpu)",
}


def main() -> None:
    """Call the `main` of the script that the command line names."""
    listed = "\n".join(f"  {name:14} {line}" for name, line in SCRIPTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure something. `python -m benchmarks NAME --help` says more.",
        epilog=f"NAME is one of\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=SCRIPTS, metavar="NAME")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    options = parser.parse_args(sys.argv[1:])
    importlib.import_module(f"benchmarks.run.{options.name}").main(options.arguments)


if __name__ == "__main__":
    run(main)
