"""What pruning saves: a search of MNIST's learning rate, dropout and label smoothing, in full and pruned.

Both draw the same 30 trials at random, with a small network on 12,000 images. Writes benchmarks/results/pruning.csv.
Needs the extra "sweep".
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from benchmarks.run import command, results
from benchmarks.run.copies import copy_with_data
from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json
from reprocnn.repository import dvc, git

TABLE, ROOT = results.FOLDER / "pruning.csv", Path(__file__).parents[2]
TRIALS, EPOCHS = 30, 8
CHANGES: dict[str, Any] = {
    "mnist.val_fraction": 0.8, "mnist.filters": 4, "mnist.depth": 1, "mnist.epochs": EPOCHS,
    **{f"mnist.{key}": 0 for key in ("shift", "rotation", "zoom", "shear", "elastic")},
    # Trained once for all trials, since no value that they draw reaches it.
    "cifar.network": "one_conv", "cifar.epochs": 1, "cifar.first_size": 1, "cifar.optimizer": "adam",
    "cifar.lr_factor": 1,
}  # fmt: skip
SPACE = (
    "mnist.lr_factor=tag(log, interval(0.01, 10))",
    "mnist.dropout=interval(0.0, 0.7)",
    "mnist.label_smoothing=interval(0.0, 0.3)",
)
SIDES: dict[str, tuple[str, ...]] = {"in full": (), "pruned": ("--prune",)}


def main(arguments: list[str]) -> None:
    """Run both searches and write a row for each."""
    command.parser("pruning", __doc__).parse_args(arguments)
    with copy_with_data(CHANGES) as prepared, tempfile.TemporaryDirectory() as folder:
        dvc("repro", "prepare", cwd=prepared)
        git("add", "--all", cwd=prepared)
        identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
        git(*identity, "commit", "--quiet", "--message=Data", cwd=prepared)
        rows = [{"side": side} | search(prepared, folder, more) for side, more in SIDES.items()]
    results.write(TABLE, rows, digits=6)


def search(prepared: Path, folder: str, more: tuple[str, ...]) -> dict[str, Any]:
    """Run the search in a clone; return how many epochs it trained and the best metric."""
    clone = Path(tempfile.mkdtemp(dir=folder))
    git("clone", "--quiet", str(prepared), str(clone))
    # The data alone, in a cache of its own: else the second search would find the trainings of the first.
    dvc("remote", "add", "--quiet", "--local", "--default", "prepared", Repo().cache.local_cache_dir, cwd=clone)
    dvc("pull", "download", "prepare", cwd=clone)
    sweep = [*SPACE, "--search=random", f"--trials={TRIALS}", "--threads=1", "--metric=mnist.val.accuracy"]
    start = time.perf_counter()
    code = subprocess.run(
        [sys.executable, "-m", "reprocnn", "sweep", *sweep, *more],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": folder},
    ).returncode
    if code:
        raise UserError(f"pruning: the sweep ended with exit code {code}; its message is above")
    records = [read_json(path) for path in (clone / "runs/sweep").glob("*.json")]
    epochs = [len(one["pruned"]) if "pruned" in one else one["records"]["train_mnist"]["epochs"] for one in records]
    return {
        "trials": len(records), "pruned": sum("pruned" in one for one in records), "epochs": sum(epochs),
        "best": best(clone), "seconds": time.perf_counter() - start, "cores": os.cpu_count(),
        "date": results.today(),
    }  # fmt: skip


def best(clone: Path) -> float:
    """Return the highest validation accuracy of the last epoch over all experiments."""
    refs = git("for-each-ref", "--format=%(refname)", "refs/exps", cwd=clone).split()
    histories = [git("show", f"{ref}:plots/mnist/history.csv", cwd=clone).splitlines() for ref in refs]
    return max(float(rows[-1].split(",")[rows[0].split(",").index("val_accuracy")]) for rows in histories)
