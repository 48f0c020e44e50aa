"""The state of an unfinished training on disk, so that a killed run goes on from its last finished epoch.

Kept in runs/checkpoints/STAGE-DIGEST/, outside what DVC tracks, since DVC deletes a stage's outs when it starts. The
digest covers all that the training is made from, so other params, code, data or versions start anew. A finished
training's state stays until dvc.lock has its result: dvc may be killed before.
"""

import hashlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import keras
import yaml

from stages.lib import params
from stages.lib.files import sha256, whole, write_json, write_text

ROOT = Path("runs/checkpoints")
KEPT = 3  # other unfinished trainings of a stage


def folder(stage: str, environment: Any) -> Path:
    """The place of this training: named by the deps and params that dvc.yaml gives the stage, and `environment`.

    Tells of the unfinished trainings that it does not go on with, and removes all of them but the newest.
    """
    declared = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    values = params.load(params.FILE)
    made_from = {
        "deps": {path: sha256(Path(path)) for path in declared["deps"]},
        "params": {key: params.at(values, key) for key in declared["params"]},
        "environment": environment,
    }
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    place = ROOT / f"{stage}-{digest[:16]}"
    others = [other for other in ROOT.glob(f"{stage}-*") if other != place]
    others.sort(key=lambda other: other.stat().st_mtime)
    if not place.exists():
        for other in others:
            what = _differing(other / "made_from.json", made_from)
            print(f"{other}: unfinished, of other {what}, set aside; training starts anew", flush=True)
    for other in others[:-KEPT]:
        shutil.rmtree(other)
    write_json(place / "made_from.json", made_from)
    return place


def _differing(path: Path, made_from: dict[str, Any]) -> str:
    try:
        other = json.loads(path.read_text(encoding="utf-8"))
        return ", ".join(key for key in made_from if other[key] != made_from[key])
    except (OSError, ValueError, KeyError, TypeError):
        return "deps, params or environment"


def save(place: Path, model: keras.Model, rows: list[dict[str, Any]]) -> None:
    """Writes weights, optimizer and the `rows` of the finished epochs, then removes the epoch before."""
    state = place / f"epoch-{len(rows):04}.weights.h5"
    save_weights(model, state)
    # The record comes last and names the state's digest: a state without it, or another one, does not count.
    write_json(state.with_suffix("").with_suffix(".json"), {"state": sha256(state), "rows": rows})
    for old in place.glob("epoch-*"):
        if not old.name.startswith(f"epoch-{len(rows):04}."):
            old.unlink()


def save_weights(model: keras.Model, path: Path) -> None:
    """Writes the weights, and the optimizer's state if the model is compiled, or raises OSError."""
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer else [])]
    size = sum(4096 + 4 * math.prod(variable.shape) for variable in variables) + (1 << 16)
    with whole(path) as partial:
        # HDF5 crashes the process on a full disk, so the room is taken beforehand.
        partial.write_bytes(bytes(size))
        model.save_weights(partial)


def restore(place: Path, model: keras.Model) -> list[dict[str, Any]]:
    """Loads the newest whole state into the compiled `model`; gives the rows of its epochs, none if there is none."""
    for record in sorted(place.glob("epoch-*.json"), reverse=True):
        state = record.with_suffix(".weights.h5")
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            whole_state = content["state"] == sha256(state)
        except (OSError, ValueError, KeyError):
            whole_state = False
        if whole_state:
            model.optimizer.build(model.trainable_variables)
            model.load_weights(state)
            return content["rows"]
        print(f"{state}: damaged, set aside as {record.name}.damaged", flush=True)
        os.replace(record, record.with_suffix(".json.damaged"))
    return []


def finish(stage: str, place: Path, result: Path) -> None:
    """Removes all states of `stage` but, if dvc is to take over `result`, that in `place`."""
    for other in ROOT.glob(f"{stage}-*"):
        if other != place or "DVC_STAGE" not in os.environ:
            shutil.rmtree(other)
    if place.exists():
        write_text(place / "result", hashlib.md5(result.read_bytes(), usedforsecurity=False).hexdigest())


def remove_finished() -> None:
    """Removes the states of the trainings whose results dvc.lock has."""
    lock = Path("dvc.lock")
    locked = lock.read_text(encoding="utf-8") if lock.exists() else ""
    for result in ROOT.glob("*/result"):
        if result.read_text(encoding="utf-8") in locked:
            shutil.rmtree(result.parent)
