"""Trains a setting of params.yaml with several seeds and measures it on the test images.

`python -m benchmarks.seeds SETTING N` for the seeds 0 to N-1. Each training is the pipeline's own, run by dvc in a copy
of the repository that shares its cache; each row of benchmarks/seeds.csv, and of benchmarks/mistakes.csv (which test
images were wrong), is written as soon as it is known. `python -m benchmarks.seeds SETTING sweep` takes the rows from
the experiments that stages/sweep.py has left of this commit, whatever their seed and threads.
"""

import dataclasses
import datetime
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from dvc.repo import Repo

from benchmarks.settings import SETTINGS
from benchmarks.tables import MISTAKES, SEEDS, training_digest
from benchmarks.watched import FILE as WATCHED
from stages.demo import change, make_copy
from stages.lib.commands import dvc, git
from stages.lib.errors import UserError, run
from stages.lib.files import whole, write_json, write_text
from stages.lib.results import load_json


def main() -> None:
    try:
        setting, n = sys.argv[1], 0 if sys.argv[2] == "sweep" else int(sys.argv[2])
        SETTINGS[setting]
    except (IndexError, KeyError, ValueError):
        raise UserError(
            f"seeds: found {' '.join(sys.argv[1:]) or 'nothing'}, expected a setting ({', '.join(SETTINGS)}) and how "
            f"many seeds, or sweep; try `python -m benchmarks.seeds mnist 3`"
        ) from None
    for seed in range(n):
        measure(setting, seed)
    if sys.argv[2] == "sweep":
        collect(setting)


def measure(setting: str, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains once and puts the result in both tables; gives its row of benchmarks/seeds.csv, and what was watched."""
    name = setting.split("-")[0]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        make_copy(Path(), copy, {"seed": seed, **SETTINGS[setting]})
        shutil.copy("dvc.lock", copy)
        pipeline = (copy / "dvc.yaml").read_text(encoding="utf-8")
        watched = pipeline.replace(f"python -m stages.train_{name}\n", f"python -m benchmarks.watched train_{name}\n")
        write_text(copy / "dvc.yaml", watched)
        dvc("config", "--local", "cache.dir", str(Repo().cache.local_cache_dir), cwd=copy)
        dvc("checkout", "--quiet", "download", "prepare", cwd=copy)
        dvc("repro", "prepare", cwd=copy)
        # Forced, since a result of the cache has no time.
        dvc("repro", "--single-item", "--force", f"train_{name}", cwd=copy)
        command = f"from benchmarks.seeds import evaluate; evaluate({name!r})"
        subprocess.run([sys.executable, "-c", command], cwd=copy, check=True)
        return record(copy, setting, seed), load_json(copy / WATCHED)


def evaluate(name: str) -> None:
    """What the stage of that name does, for one data set alone: metrics.json then has no other."""
    import_module("stages.lib.device")  # before Keras, which then is quiet
    from stages import evaluate
    from stages.lib import device, params

    values = params.read(evaluate.Params)
    device.set_up(values.device, values.threads)
    write_json(Path("metrics.json"), {name: evaluate.evaluate(name, getattr(values, name), values.seed)})


def collect(setting: str) -> None:
    """Puts the experiments of this commit that are trainings of `setting` in both tables."""
    name, revision = setting.split("-")[0], git("rev-parse", "HEAD").strip()
    wanted = _apart(change(yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")), SETTINGS[setting]))
    found = 0
    for ref in git("for-each-ref", "--format=%(refname)", f"refs/exps/{revision[:2]}/{revision[2:]}").split():
        params = yaml.safe_load(git("show", f"{ref}:params.yaml"))
        told = Path("runs/sweep") / f"{ref.rpartition('/')[2]}.json"
        training = load_json(told)["records"].get(f"train_{name}") if told.exists() else None
        if _apart(params) != wanted or training is None:  # of a network that came from the cache nothing is recorded
            continue
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            for path in ("params.yaml", "metrics.json", "dvc.lock", f"plots/{name}/predictions.csv"):
                write_text(copy / path, git("show", f"{ref}:{path}"))
            write_json(copy / "runs" / f"train_{name}.json", training)
            (copy / "data").symlink_to(Path("data").resolve())
            record(copy, setting, params["seed"])
        found += 1
    if not found:
        raise UserError(
            f"seeds: found no experiment of {setting} that this commit's sweeps recorded; make some with `python -m "
            f"stages.sweep 'seed=range(0,3)'`"
        )


def _apart(params: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if key not in ("seed", "threads")}


def record(copy: Path, setting: str, seed: int) -> dict[str, Any]:
    """Puts what was trained in the folder `copy` in both tables; gives its row of benchmarks/seeds.csv."""
    name = setting.split("-")[0]
    predictions = pd.read_csv(copy / "plots" / name / "predictions.csv")
    wrong = predictions.loc[predictions["y_true"] != predictions["y_pred"], "index"]
    row = _row(copy, setting, name, seed)
    _replace(SEEDS, pd.DataFrame([row]))
    _replace(MISTAKES, pd.DataFrame({"setting": setting, "seed": seed, "index": wrong}))
    return row


def _row(copy: Path, setting: str, name: str, seed: int) -> dict[str, Any]:
    metrics = load_json(copy / "metrics.json")[name]
    training = load_json(copy / "runs" / f"train_{name}.json")
    lock = yaml.safe_load((copy / "dvc.lock").read_text(encoding="utf-8"))["stages"][f"train_{name}"]
    return {
        "setting": setting,
        "seed": seed,
        "val_accuracy": metrics["val"]["accuracy"] if "val" in metrics else None,
        "test_accuracy": metrics["test"]["accuracy"],
        "test_accuracy_tta": metrics["test"].get("accuracy_tta"),
        "errors": metrics["test"]["errors"],
        "epochs": training["epochs"],
        "seconds": round(training["seconds"], 1),
        "tflop": round(total_flops(copy, name) / 1e12, 2),
        "peak_memory_mib": training["peak_memory_bytes"] >> 20,
        "hardware": "{name}, {threads} threads, {precision}".format(**training["device"]),
        "versions": ", ".join(f"{key} {value}" for key, value in training["versions"].items()),
        "python": training["python"],
        "date": datetime.date.today().isoformat(),
        "training": training_digest(lock),
    }


def total_flops(copy: Path, name: str) -> int:
    """Of a whole training, images growing as it lets them; what is neither convolution nor dense counts as none."""
    import_module("stages.lib.device")  # before Keras, which then is quiet
    import keras

    from stages.lib import arrays, networks, training
    from stages.lib.flops import training_flops
    from stages.lib.schedule import image_size

    params = yaml.safe_load((copy / "params.yaml").read_text(encoding="utf-8"))[name]
    recipe = training.Recipe(**{field.name: params[field.name] for field in dataclasses.fields(training.Recipe)})
    parts = ["train"] if recipe.train_on == "train" else ["train", "val"]
    splits = [arrays.load(copy / "data/prepared" / name, part) for part in parts]
    shape = splits[0].x.shape[1:]
    images = sum(len(split.x) for split in splits) // recipe.batch_size * recipe.batch_size
    total = 0
    for epoch in range(recipe.epochs):
        seen = (*image_size(shape[:2], recipe.first_size, epoch, recipe.epochs), shape[2])
        sizes = {key: getattr(recipe, key) for key in ("filters", "depth", "kernel_size", "dropout")}
        model = networks.build(recipe.network, seen, splits[0].y.shape[1], keras.layers.Rescaling(1.0), **sizes)
        total += images * training_flops(model)
    return total


def _replace(path: Path, rows: pd.DataFrame) -> None:
    """Puts the rows of one setting and seed in the place of those that the table has."""
    print(rows.iloc[0].to_dict(), flush=True)
    if path.exists():
        old = pd.read_csv(path)
        known = rows.iloc[0]
        rows = pd.concat([old[(old["setting"] != known["setting"]) | (old["seed"] != known["seed"])], rows])
    with whole(path) as partial:
        rows.sort_values(["setting", "seed"], key=_order, kind="stable").to_csv(
            partial, index=False, lineterminator="\n"
        )


def _order(column: pd.Series) -> pd.Series:
    return column.map(list(SETTINGS).index) if column.name == "setting" else column


if __name__ == "__main__":
    run(main)
