"""A trained network, as the training wrote it."""

import json
from pathlib import Path

import keras

from stages.lib.errors import UserError


def load(folder: Path) -> keras.Model:
    """The network in models/NAME, from model.json and model.weights.h5; it takes uint8 images."""
    for name in ("model.json", "model.weights.h5"):
        if not (folder / name).exists():
            raise UserError(f"{folder / name}: not there; run `dvc repro train_{folder.name}`")
    model = keras.models.model_from_json((folder / "model.json").read_text(encoding="utf-8"))
    try:
        model.load_weights(folder / "model.weights.h5")
    except (ValueError, OSError, KeyError) as error:
        raise UserError(
            f"{folder}: model.weights.h5 does not fit model.json ({str(error).splitlines()[0][:120]}); "
            f"run `dvc checkout` or `dvc repro -f train_{folder.name}`"
        ) from None
    return model


def environment(folder: Path) -> dict[str, dict[str, object]]:
    """The device, settings and versions of the libraries that the weights in models/NAME came from."""
    try:
        return json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"{folder / 'environment.json'}: not there or no JSON; run `dvc repro -f train_{folder.name}`"
        ) from None
