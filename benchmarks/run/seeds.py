"""Train a named setting with several seeds and measure it on the test images.

DVC runs each training in a copy of the repository that shares its cache. Its row of seeds.csv, and those of
mistakes.csv (which test images were wrong), are written as soon as they are known. With --sweep, the rows come from the
experiments that `reprocnn sweep` left at this commit, whatever their seeds and threads.

--carry-over OLD relabels the setting's rows: those with the digest OLD, which were current before, get the digest of
the current training code. Use it after a code change that changes no bit. It refuses unless evaluation/DATASET.json has
the same digest of the weights at --before as now.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.run import command, results
from benchmarks.run.copies import copy_with_data
from benchmarks.run.digests import LOCK, current_digest, training_digest
from benchmarks.run.settings import SETTINGS, dataset_of
from benchmarks.run.tables import MISTAKES, SEEDS
from reprocnn.commands.demo import change
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json, write_json, write_text
from reprocnn.repository import dvc, git


def main(arguments: list[str]) -> None:
    """Train, collect or carry over, as the command line says."""
    parser = command.parser("seeds", __doc__)
    parser.add_argument("setting", choices=SETTINGS)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("n", metavar="N", nargs="?", type=int, help="train with the seeds 0 to N-1")
    task.add_argument("--sweep", action="store_true", help="take the rows from this commit's sweeps")
    task.add_argument("--carry-over", metavar="OLD", help="relabel the rows of this digest of the training code")
    parser.add_argument("--before", metavar="REV", default="HEAD", help="the last commit of the old code (HEAD)")
    options = parser.parse_args(arguments)
    if options.carry_over:
        carry_over(options.setting, options.carry_over, options.before)
    elif options.sweep:
        collect(options.setting)
    else:
        for seed in range(options.n):
            measure(options.setting, seed)


def measure(setting: str, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train once and write both tables; return the row of seeds.csv, and what `watched` noted."""
    dataset = dataset_of(setting)
    with copy_with_data({"seed": seed, **SETTINGS[setting]}) as copy:
        pipeline = (copy / "dvc.yaml").read_text(encoding="utf-8")
        stage, watched = f"cmd: python -m stages.train_{dataset}\n", f"cmd: python -m benchmarks watched {dataset}\n"
        if stage not in pipeline:
            raise UserError(f"dvc.yaml: expected the line `{stage.strip()}`; restore it")
        write_text(copy / "dvc.yaml", pipeline.replace(stage, watched))
        dvc("repro", "prepare", cwd=copy)
        # Forced, since a result from the cache has no time.
        dvc("repro", "--single-item", "--force", f"train_{dataset}", cwd=copy)
        dvc("repro", "--single-item", f"evaluate_{dataset}", cwd=copy)
        return record(copy, setting, seed), read_json(copy / results.WATCHED)


def collect(setting: str) -> None:
    """Write both tables from the experiments of this commit that trained `setting`."""
    dataset, revision = dataset_of(setting), git("rev-parse", "HEAD").strip()
    wanted = _without_seed(change(params.load(params.FILE), SETTINGS[setting]))
    found = 0
    for ref in git("for-each-ref", "--format=%(refname)", f"refs/exps/{revision[:2]}/{revision[2:]}").split():
        values = params.parse(git("show", f"{ref}:{params.FILE}"))
        recorded = Path("runs/sweep") / f"{ref.rpartition('/')[2]}.json"
        training = read_json(recorded)["records"].get(f"train_{dataset}") if recorded.exists() else None
        if _without_seed(values) != wanted or training is None:  # a network from the cache has no record
            continue
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            for path in (params.FILE, LOCK, f"metrics/{dataset}.json", f"plots/{dataset}/predictions.csv"):
                write_text(copy / path, git("show", f"{ref}:{path}"))
            write_json(copy / "runs" / f"train_{dataset}.json", training)
            (copy / "data").symlink_to(Path("data").resolve())
            record(copy, setting, values["seed"])
        found += 1
    if not found:
        raise UserError(
            f"seeds: found no experiment of {setting} that this commit's sweeps recorded; make some with "
            f"`reprocnn sweep 'seed=range(0,3)'`"
        )


def carry_over(setting: str, old: str, before: str) -> None:
    """Give the rows of `setting` that have the digest `old` the current one.

    Raises UserError if there are none, or if the weights of its data set are not those of the commit `before`.
    """
    path = Path("evaluation") / f"{dataset_of(setting)}.json"
    then, now = json.loads(git("show", f"{before}:{path}"))["weights"], read_json(path)["weights"]
    if then != now:
        raise UserError(
            f"seeds: expected the weights of {before}, {then[:12]}, got {now[:12]}: train again with "
            f"`python -m benchmarks seeds {setting} N`"
        )
    rows: list[dict[str, Any]] = list(results.read(SEEDS))
    carried = [row for row in rows if row["setting"] == setting and row["training"] == old]
    if not carried:
        raise UserError(f"{SEEDS}: found no row of {setting} with {old}; see its column `training`")
    new = current_digest(setting)
    for row in carried:
        row["training"] = new
    results.write(SEEDS, rows)
    print(f"seeds: {len(carried)} rows of {setting}: {old} -> {new}")


def record(copy: Path, setting: str, seed: int) -> dict[str, Any]:
    """Write what was trained in the folder `copy` to both tables; return its row of seeds.csv."""
    predictions = pd.read_csv(copy / "plots" / dataset_of(setting) / "predictions.csv")
    wrong = predictions.loc[predictions["y_true"] != predictions["y_pred"], "index"]
    row = _row(copy, setting, seed)
    mistakes = [{"setting": setting, "seed": seed, "index": index} for index in wrong]
    results.add(SEEDS, [row], keys=("setting", "seed"), order=_order)
    results.add(MISTAKES, mistakes, keys=("setting", "seed"), order=_order)
    return row


def _row(copy: Path, setting: str, seed: int) -> dict[str, Any]:
    dataset = dataset_of(setting)
    metrics = read_json(copy / "metrics" / f"{dataset}.json")[dataset]
    training = read_json(copy / "runs" / f"train_{dataset}.json")
    watched = copy / results.WATCHED  # a sweep leaves none
    return {
        "setting": setting,
        "seed": seed,
        "val_accuracy": metrics["val"]["accuracy"] if "val" in metrics else None,
        "test_accuracy": metrics["test"]["accuracy"],
        "test_accuracy_tta": metrics["test"].get("accuracy_tta"),
        "errors": metrics["test"]["errors"],
        "epochs": training["epochs"],
        "seconds": round(training["seconds"], 1),
        "cpu_seconds": round(read_json(watched)["epochs"][-1]["cpu_seconds"]) if watched.exists() else None,
        "tflop": round(total_flops(copy, dataset) / 1e12, 2),
        "peak_memory_mib": training["peak_memory_bytes"] >> 20,
        "hardware": results.trained_on(training),
        "versions": results.versions(training),
        "python": training["python"],
        "date": results.today(),
        "training": training_digest(copy / LOCK, dataset),
    }


def total_flops(copy: Path, dataset: str) -> int:
    """Count the operations of a whole training, with growing images; only convolutions and dense layers count."""
    from reprocnn.backend import keras
    from reprocnn.evaluation.flops import training_flops
    from reprocnn.images import arrays
    from reprocnn.networks.build import build
    from reprocnn.training.schedule import image_size

    recipe = params.fill(params.Recipe, params.load(copy / params.FILE)[dataset])
    splits = [arrays.load(copy / "data/prepared" / dataset / part) for part in recipe.train_on.split("+")]
    shape, num_classes = splits[0].x.shape[1:], splits[0].y.shape[1]
    images = sum(len(split.x) for split in splits) // recipe.batch_size * recipe.batch_size
    sizes = {key: getattr(recipe, key) for key in ("filters", "depth", "kernel_size", "dropout")}
    total = 0
    for epoch in range(recipe.epochs):
        seen = (*image_size(shape[:2], recipe.first_size, epoch, recipe.epochs), shape[2])
        total += images * training_flops(build(recipe.network, seen, num_classes, keras.layers.Rescaling(1.0), **sizes))
    return total


def _without_seed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in ("seed", "threads")}


def _order(row: dict[str, str]) -> tuple[int, int]:
    return list(SETTINGS).index(row["setting"]), int(row["seed"])
