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
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}: model.weights.h5 does not fit model.json ({str(error).splitlines()[0][:120]}); "
            f"run `dvc checkout` or `dvc repro -f train_{folder.name}`"
        ) from None
    return model


def environment(folder: Path) -> dict[str, dict[str, object]]:
    """Read which device, settings and library versions made the weights in models/NAME."""
    try:
        return json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"{folder / 'environment.json'}: missing or invalid JSON; run `dvc repro -f train_{folder.name}`"
        ) from None
