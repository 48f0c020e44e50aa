"""Measure what the project adds to bare DVC and to bare Python where there is nothing to compute.

In a repository whose results are up to date, run each command and its bare counterpart in turn, and add what
benchmarks/results/overhead.csv lacks: medians of the seconds and of their ratio. To measure again, delete rows but keep
the file, which the report depends on. The bare repository has as many stages, each of which copies a small file.
"""

import ast
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.run import command, results
from reprocnn.commands.demo import make_copy
from reprocnn.core.files import write_json, write_text
from reprocnn.repository import dvc, git

TABLE, ROUNDS = results.FOLDER / "overhead.csv", 7
# What a stage needs at least: those that compute, Keras on TensorFlow; the others, what they are made of.
TRAIN = "tensorflow, keras"
EVALUATE = "tensorflow, keras, pandas, sklearn.metrics, scipy.stats"
BARE = {
    "download": "urllib.request, tqdm",
    "prepare": "numpy, sklearn.model_selection",
    "train_mnist": TRAIN,
    "train_cifar": TRAIN,
    "evaluate_mnist": EVALUATE,
    "evaluate_cifar": EVALUATE,
    "plot": "matplotlib.pyplot, pandas, sklearn.metrics, PIL.Image",
}
PYTHON = sys.executable
REPRO, EXPERIMENT = [PYTHON, "-m", "dvc", "repro"], [PYTHON, "-m", "dvc", "exp", "run", "-S", "seed=1"]


class Case(NamedTuple):
    """A command and its baseline, each with the folder that it runs in."""

    what: str
    command: list[str]
    folder: Path
    baseline: str
    baseline_command: list[str]
    baseline_folder: Path


def main(arguments: list[str]) -> None:
    """Measure what the table lacks."""
    command.parser("overhead", __doc__).parse_args(arguments)
    known = results.known(TABLE, "what")
    with tempfile.TemporaryDirectory() as folder:
        bare, ours = Path(folder) / "bare", Path(folder) / "ours"
        make_bare(bare)
        make_ours(ours)
        for case in cases(bare, ours):
            if (case.what,) not in known:
                results.add(TABLE, [measure(case)], digits=3)


def cases(bare: Path, ours: Path) -> list[Case]:
    """List what to compare, in the order of the table."""
    found = [
        Case("`dvc repro`, nothing to do", REPRO, ours, "the same of bare stages", REPRO, bare),
        Case("`make repro`, nothing to do", ["make", "-s", "repro"], Path(), "`dvc repro`", REPRO, Path()),
        Case("`dvc exp run -S seed=1`, cached", EXPERIMENT, ours, "the same of bare stages", EXPERIMENT, bare),
    ]
    for stage, libraries in BARE.items():
        started, minimum = (
            [PYTHON, "-c", imports(stage)],
            [PYTHON, "-c", f"import {libraries}, ruamel.yaml, jsonschema"],
        )
        found.append(Case(f"start of {stage}", started, Path(), "its libraries", minimum, Path()))
    return found


def imports(stage: str) -> str:
    """Extract the import statements of a stage, those inside its `main` too."""
    tree = ast.parse(Path(f"stages/{stage}.py").read_text(encoding="utf-8"))
    return "\n".join(ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def measure(case: Case) -> dict[str, object]:
    """Run the two sides in turn; return the row of the table."""
    times: list[tuple[float, float]] = []
    for _ in range(ROUNDS + 1):
        if case.command == EXPERIMENT:
            for repository in (case.folder, case.baseline_folder):
                git("restore", ".", cwd=repository)
                dvc("checkout", "--quiet", cwd=repository)
        times.append((seconds(case.command, case.folder), seconds(case.baseline_command, case.baseline_folder)))
    times = times[1:]  # the first fills the caches
    return {
        "what": case.what,
        "seconds": statistics.median(own for own, _ in times),
        "against": case.baseline,
        "bare_seconds": statistics.median(bare for _, bare in times),
        "ratio": statistics.median(own / bare for own, bare in times),
        "rounds": ROUNDS,
        **results.conditions(f"{platform.machine()}, {os.cpu_count()} cores"),
    }


def seconds(arguments: list[str], folder: Path) -> float:
    """Time a command. Raises CalledProcessError if it fails."""
    environment = os.environ | {"PATH": os.pathsep.join([os.path.dirname(PYTHON), os.environ["PATH"]])}
    nowhere = subprocess.DEVNULL
    start = time.perf_counter()
    subprocess.run(arguments, cwd=folder, env=environment, check=True, stdout=nowhere, stderr=nowhere)
    return time.perf_counter() - start


def make_ours(folder: Path) -> None:
    """Make the pipeline on the sample, trained for an epoch, with an experiment that the cache has."""
    changes = {"source": "sample", "mnist.epochs": 1, "mnist.batch_size": 64}
    make_copy(Path(), folder, changes | {"cifar.epochs": 1, "cifar.batch_size": 100, "cifar.filters": 4})
    run_both(folder)


def make_bare(folder: Path) -> None:
    """Make as many stages in a row that copy a file."""
    before, pipeline = "params.yaml", {}
    for stage in BARE:
        after = f"{stage}.txt"
        pipeline[stage] = {"cmd": f"cat {before} > {after}", "deps": [before], "params": ["seed"], "outs": [after]}
        before = after
    write_json(folder / "dvc.yaml", {"stages": pipeline})  # JSON is YAML too
    write_text(folder / "params.yaml", "seed: 0\n")
    git("init", "--quiet", cwd=folder)
    dvc("init", "--quiet", cwd=folder)
    run_both(folder)


def run_both(folder: Path) -> None:
    """Make the committed state, and once the experiment that is measured."""
    dvc("repro", "--quiet", cwd=folder)
    git("add", "--all", cwd=folder)
    git("-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "--quiet", "--message=Results", cwd=folder)
    dvc("exp", "run", "--quiet", "-S", "seed=1", cwd=folder)
