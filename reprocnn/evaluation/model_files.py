"""A trained network, read from the files that the training wrote."""

import json
from pathlib import Path

from reprocnn.backend import keras
from reprocnn.core.errors import UserError


def load(folder: Path) -> keras.Model:
    """Load the network in models/NAME, from model.json and model.weights.h5; it takes uint8 images."""
    for name in ("model.json", "model.weights.h5"):
        if not (folder / name).exists():
            raise UserError(f"{folder / name}: missing; run `dvc repro train_{folder.name}`")
    try:
        model = keras.models.model_from_json((folder / "model.json").read_text(encoding="utf-8"))
        model.load_weights(folder / "model.weights.h5")
    except Exception as error:  # Keras and HDF5 have a dozen kinds for damaged files
        raise UserError(
            f"{folder}: model.weights.h5 does not fit model.json ({' '.join(str(error).split())[:120]}); "
            f"run `dvc checkout` or `dvc repro -f train_{folder.name}`"
        ) from None
    return model


def environment(folder: Path) -> dict[str, dict[str, object]]:
    """Read which device, settings and library versions made the weights in models/NAME."""
    path = folder / "environment.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {part: dict(found[part]) for part in ("device", "settings", "versions")}
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        raise UserError(f"{path}: missing or invalid; run `dvc repro -f train_{folder.name}`") from None
