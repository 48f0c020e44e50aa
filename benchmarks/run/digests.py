"""Digest what a training was made from: a row with another digest is of older code."""

import hashlib
import json
from pathlib import Path

from benchmarks.run.settings import SETTINGS, dataset_of
from reprocnn.commands.demo import change
from reprocnn.core import params

LOCK = Path("dvc.lock")


def training_digest(lock: Path, dataset: str, changes: dict[str, object] | None = None) -> str:
    """Digest what a dvc.lock says that the training was made from: code, data and params, without seed and threads.

    `changes` are other params, at dotted keys.
    """
    stage = params.load(lock)["stages"][f"train_{dataset}"]
    values = change(stage["params"]["params.yaml"], changes or {})
    kept = {key: value for key, value in values.items() if key not in ("seed", "threads")}
    made_from = {"deps": {dep["path"]: dep["md5"] for dep in stage["deps"]}, "params": kept}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]


def current_digest(setting: str) -> str:
    """Compute the digest that a training of `setting` has if its code and data are those of dvc.lock."""
    return training_digest(LOCK, dataset_of(setting), SETTINGS[setting])
