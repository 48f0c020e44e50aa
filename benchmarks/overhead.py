"""What the project adds to bare DVC and to bare Python where there is nothing to compute.

`python -m benchmarks.overhead`, in a repository whose results are up to date, runs each command and its bare
counterpart in turn, and adds to benchmarks/overhead.csv what it lacks: medians of seconds, and of their ratio. To
measure again, remove rows but leave the file, which the report depends on. The bare repository has six stages that copy
a small file.
"""

import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml

from stages.demo import make_copy
from stages.lib.commands import dvc, git
from stages.lib.errors import run
from stages.lib.files import whole, write_text

TABLE, ROUNDS = Path("benchmarks/overhead.csv"), 7
STAGES = ("download", "prepare", "train_mnist", "train_cifar", "evaluate", "plot")
# What a stage needs at least: those that compute, Keras on TensorFlow; the others, what they are made of.
BARE = {
    "download": "import requests, yaml, jsonschema, tqdm",
    "prepare": "import numpy, sklearn.model_selection, yaml, jsonschema",
    "train_mnist": "import tensorflow, keras, pandas, yaml, jsonschema",
    "train_cifar": "import tensorflow, keras, pandas, yaml, jsonschema",
    "evaluate": "import tensorflow, keras, pandas, sklearn.metrics, scipy.stats, yaml, jsonschema",
    "plot": "import matplotlib.pyplot, pandas, sklearn.metrics, scipy.cluster.hierarchy, PIL.Image, yaml, jsonschema",
}


def main() -> None:
    python = [sys.executable]
    with tempfile.TemporaryDirectory() as folder:
        bare, ours = Path(folder) / "bare", Path(folder) / "ours"
        make_bare(bare)
        make_ours(ours)
        repro, experiment = [*python, "-m", "dvc", "repro"], [*python, "-m", "dvc", "exp", "run", "-S", "seed=1"]
        cases: list[tuple[str, list[str], Path, str, list[str], Path]] = [
            ("`dvc repro`, nothing to do", repro, ours, "the same of bare stages", repro, bare),
            ("`make repro`, nothing to do", ["make", "-s", "repro"], Path(), "`dvc repro`", repro, Path()),
            ("`dvc exp run -S seed=1`, cached", experiment, ours, "the same of bare stages", experiment, bare),
        ]
        cases += [
            (f"start of {stage}", [*python, "-c", f"import stages.{stage}"], Path(), "its libraries",
             [*python, "-c", BARE[stage]], Path())
            for stage in STAGES
        ]  # fmt: skip
        table = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame({"what": []})
        for what, command, place, against, other, other_place in cases:
            if what in set(table["what"]):
                continue
            times: list[tuple[float, float]] = []
            for _ in range(ROUNDS + 1):
                if command == experiment:
                    for repository in (ours, bare):
                        git("restore", ".", cwd=repository)
                        dvc("checkout", "--quiet", cwd=repository)
                times.append((seconds(command, place), seconds(other, other_place)))
            times = times[1:]  # the first fills the caches
            row = {
                "what": what,
                "seconds": statistics.median(mine for mine, _ in times),
                "against": against,
                "bare_seconds": statistics.median(theirs for _, theirs in times),
                "ratio": statistics.median(mine / theirs for mine, theirs in times),
                "rounds": ROUNDS,
                "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
                "date": datetime.date.today().isoformat(),
            }
            print(row, flush=True)
            rows = pd.DataFrame([row])
            table = pd.concat([table, rows]) if len(table) else rows
            with whole(TABLE) as partial:
                table.to_csv(partial, index=False, lineterminator="\n", float_format="%.3g")


def seconds(command: list[str], cwd: Path) -> float:
    start = time.perf_counter()
    environment = os.environ | {"PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])}
    subprocess.run(command, cwd=cwd, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def make_ours(folder: Path) -> None:
    """The pipeline on the sample, trained for an epoch, with an experiment that the cache has."""
    changes = {"source": "sample", "mnist.epochs": 1, "mnist.batch_size": 64}
    make_copy(Path(), folder, changes | {"cifar.epochs": 1, "cifar.batch_size": 100, "cifar.filters": 4})
    run_both(folder)


def make_bare(folder: Path) -> None:
    """Six stages in a row that copy a file."""
    before, pipeline = "params.yaml", {}
    for stage in STAGES:
        pipeline[stage] = {"cmd": f"cat {before} > {stage}.txt", "deps": [before], "params": ["seed"]} | {
            "outs": [f"{stage}.txt"]
        }
        before = f"{stage}.txt"
    write_text(folder / "dvc.yaml", yaml.safe_dump({"stages": pipeline}))
    write_text(folder / "params.yaml", "seed: 0\n")
    git("init", "--quiet", cwd=folder)
    dvc("init", "--quiet", cwd=folder)
    run_both(folder)


def run_both(folder: Path) -> None:
    """The committed state, and once the experiment that is measured."""
    dvc("repro", "--quiet", cwd=folder)
    git("add", "--all", cwd=folder)
    git("-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "--quiet", "--message=Results", cwd=folder)
    dvc("exp", "run", "--quiet", "-S", "seed=1", cwd=folder)


if __name__ == "__main__":
    run(main)
