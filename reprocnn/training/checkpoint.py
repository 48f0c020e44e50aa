"""Checkpoints of an unfinished training, so that a killed run resumes after its last finished epoch.

Kept in runs/checkpoints/STAGE-DIGEST/, outside what DVC tracks, since DVC deletes a stage's outs when it starts. The
digest covers all that the training is made from, so other params, code, data or versions start from scratch. The
checkpoint of a finished training stays until dvc.lock has its result: dvc may be killed before.
"""

import hashlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import atomic_write, sha256, write_json, write_text

ROOT = Path("runs/checkpoints")
KEPT = 3  # other unfinished trainings of a stage


def folder(stage: str, environment: Any) -> Path:
    """Return this training's folder, named by the deps and params that dvc.yaml gives the stage, and `environment`.

    Reports the unfinished trainings that it does not resume, and removes all of them but the newest `KEPT`. Raises
    UserError if dvc.yaml has no such stage, or params.yaml not its params.
    """
    made_from = _made_from(stage, environment)
    place = _place(stage, made_from)
    others = [other for other in ROOT.glob(f"{stage}-*") if other != place]
    others.sort(key=lambda other: other.stat().st_mtime)
    if not place.exists():
        for other in others:
            if (other / "result").exists():
                continue  # finished; only dvc has not taken it over yet
            what = _differing(other / "made_from.json", made_from)
            print(f"{other}: unfinished, but has other {what}; training starts from scratch", flush=True)
    for other in others[:-KEPT]:
        shutil.rmtree(other)
    write_json(place / "made_from.json", made_from)
    return place


def check_unchanged(stage: str, place: Path, environment: Any) -> None:
    """Raise UserError if deps or params are others than when `folder` gave `place`, as dvc would record them."""
    now = _made_from(stage, environment)
    if _place(stage, now) != place:
        raise UserError(
            f"{stage}: {_differing(place / 'made_from.json', now)} changed while it trained, and dvc would record what "
            f"is there now; put back what was there and run `dvc repro` to keep this training, or run it now to train "
            f"from scratch"
        )


def _made_from(stage: str, environment: Any) -> dict[str, Any]:
    deps, keys = _declared(stage)
    return {
        "deps": {path: sha256(Path(path)) for path in deps},
        "params": _values(stage, keys),
        "environment": environment,
    }


def _place(stage: str, made_from: dict[str, Any]) -> Path:
    return ROOT / f"{stage}-{_digest(made_from)[:16]}"


def _declared(stage: str) -> tuple[list[str], list[str]]:
    """Return the deps and the keys of params.yaml that dvc.yaml gives a stage; a params file of its own is a dep."""
    try:
        declared = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
        deps, keys = declared.get("deps") or [], declared.get("params") or []
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise UserError(f"dvc.yaml: found no stage {stage}; restore it with git checkout") from None
    # With settings, or with the keys of another file, an entry is a mapping.
    deps = [path for dep in deps for path in ([dep] if isinstance(dep, str) else dep)]
    return [*deps, *(file for key in keys if not isinstance(key, str) for file in key)], [
        key for key in keys if isinstance(key, str)
    ]


def _values(stage: str, keys: list[str]) -> dict[str, Any]:
    values = params.load(params.FILE)
    found = {}
    for key in keys:
        try:
            found[key] = params.at(values, key)
        except (KeyError, TypeError):
            raise UserError(f"{params.FILE}: {key}: missing, a param of {stage} in dvc.yaml; add it") from None
    return found


def save(place: Path, model: Any, rows: list[dict[str, Any]]) -> None:
    """Write weights, optimizer and the `rows` of the finished epochs, then remove the previous checkpoint."""
    weights = place / f"epoch-{len(rows):04}.weights.h5"
    save_weights(model, weights)
    # The record comes last and has the digests of the weights and of itself: what differs from them does not count.
    content = {"weights": sha256(weights), "rows": rows}
    write_json(weights.with_suffix("").with_suffix(".json"), content | {"digest": _digest(content)})
    for old in place.glob("epoch-*"):
        if not old.name.startswith(f"epoch-{len(rows):04}."):
            old.unlink()


def save_weights(model: Any, path: Path) -> None:
    """Write a Keras model's weights, and its optimizer's if it is compiled, atomically, or raise OSError."""
    optimizer = getattr(model, "optimizer", None)  # a model that was never compiled has none
    variables = [*model.variables, *(optimizer.variables if optimizer else [])]
    size = sum(4096 + 4 * math.prod(variable.shape) for variable in variables) + (1 << 16)
    with atomic_write(path) as partial:
        # HDF5 crashes the process on a full disk, so reserve the space first.
        partial.write_bytes(bytes(size))
        model.save_weights(partial)


def restore(place: Path, model: Any) -> list[dict[str, Any]]:
    """Load the newest intact checkpoint into the compiled `model`; return the rows of its epochs, if any."""
    for record in sorted(place.glob("epoch-*.json"), reverse=True):
        weights = record.with_suffix(".weights.h5")
        rows = _intact_rows(record, weights)
        if rows:
            model.optimizer.build(model.trainable_variables)
            model.load_weights(weights)
            return rows
        print(f"{weights}: it or its record is damaged; ignored, the record is now {record.name}.damaged", flush=True)
        os.replace(record, record.with_suffix(".json.damaged"))
    return []


def finish(stage: str, place: Path, result: Path) -> None:
    """Remove all checkpoints of `stage` but, if dvc is to take over `result`, those in `place`."""
    for other in ROOT.glob(f"{stage}-*"):
        if other != place or "DVC_STAGE" not in os.environ:
            shutil.rmtree(other)
    if place.exists():
        write_text(place / "result", hashlib.md5(result.read_bytes(), usedforsecurity=False).hexdigest())


def remove_finished() -> None:
    """Remove the checkpoints of the trainings whose results dvc.lock has."""
    lock = Path("dvc.lock")
    locked = lock.read_bytes() if lock.exists() else b""
    for result in ROOT.glob("*/result"):
        digest = result.read_bytes()
        if len(digest) == 32 and digest in locked:
            shutil.rmtree(result.parent)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _intact_rows(record: Path, weights: Path) -> list[dict[str, Any]]:
    """Read the rows of a checkpoint; none if anything of it is missing or other than it was written."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        digest = content.pop("digest")
        if digest == _digest(content) and content["weights"] == sha256(weights):
            return content["rows"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return []


def _differing(path: Path, made_from: dict[str, Any]) -> str:
    try:
        other = json.loads(path.read_text(encoding="utf-8"))
        return ", ".join(
            f"{part} ({', '.join(names)})"
            for part, now in made_from.items()
            if (names := [name for name in now | other[part] if now.get(name) != other[part].get(name)])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "deps, params or environment"
