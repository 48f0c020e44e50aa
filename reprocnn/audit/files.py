"""The model of a .keras or .h5 file, loaded without running code of the file and within bounds of memory."""

import io
import json
import math
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py

from reprocnn.audit.graph import one_line
from reprocnn.audit.noise import BATCH, FREE_AXIS_DEFAULT
from reprocnn.backend import keras
from reprocnn.core.errors import UserError

MAX_CONFIG = 64 * 2**20  # bytes
MAX_GROWTH, SMALL = 10, 64 * 2**20  # an archive of Keras' is not compressed
MAX_PARAMETERS = 500_000_000  # 2 GB in float32, and gradients of the same size
LEGACY = (".h5", ".hdf5")  # Keras' own format before .keras
WEIGHTS = "model.weights.h5"
STATES, SPARE = 4, 1_000_000  # an optimizer keeps up to three numbers for each weight
MAX_VALUES = 1_000_000_000  # of all activations of the batch


def load(path: Path) -> keras.Model:
    """Load a model; raises UserError if the file holds none, code, layers that Keras does not know, or too much."""
    if path.is_dir():
        raise UserError(f"{path}: a folder, expected a file. In Keras, load it and save it as a .keras file.")
    if not path.is_file():
        raise UserError(f"{path}: missing, expected a .keras or .h5 file. Correct the path.")
    config = _read_legacy_config(path) if path.suffix in LEGACY else _read_config(path)
    try:
        outline = _outline(config, path.suffix in LEGACY)
    except Exception as error:  # the content decides what Keras raises
        raise _unreadable(path, error) from None
    try:
        _check_size(path, outline)
    except OSError as error:  # of the weights' file
        raise _unreadable(path, error) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an optimizer that has not trained yet
        try:
            model = keras.models.load_model(path, safe_mode=True)
        except Exception as error:
            reason = error
            try:
                # With an optimizer or a loss that is not Keras', the layers can still be judged.
                model = keras.models.load_model(path, compile=False, safe_mode=True)
            except Exception:
                raise _unreadable(path, reason) from None
    if not model.compiled:
        print(f"{path}: no loss and optimizer that Keras can load; the rules about them are skipped", file=sys.stderr)
    return model


def _read_config(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > max(SMALL, MAX_GROWTH * path.stat().st_size):
                raise UserError(f"{path}: {path.stat().st_size:,} bytes unpack to {size:,}. Save the model again.")
            if "config.json" not in archive.namelist():
                raise UserError(f"{path}: no config.json, so it has no model. Save it again with model.save().")
            with archive.open("config.json") as file:
                text = file.read(MAX_CONFIG + 1)
        config = json.loads(text) if len(text) <= MAX_CONFIG else None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError):
        raise UserError(f"{path}: invalid .keras archive. Save the model again with model.save().") from None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{path}: config.json does not describe a model. Save the model again with model.save().")
    return config


def _read_legacy_config(path: Path) -> dict[str, Any]:
    try:
        with h5py.File(path, "r") as file:
            config = json.loads(file.attrs.get("model_config", "null"))
    except (OSError, ValueError, TypeError, RecursionError):
        raise UserError(f"{path}: invalid HDF5 file. Save the model again with model.save().") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: no model_config: weights without a model. Save it with model.save().")
    return config


def _outline(config: dict[str, Any], is_legacy: bool) -> Any:
    """Build the model without values for its weights."""
    source = keras.src
    with source.backend.common.stateless_scope.StatelessScope(initialize_variables=False):
        if is_legacy:
            legacy = source.legacy.saving.saving_options.keras_option_scope(use_legacy_config=True)
            with legacy, source.saving.serialization_lib.SafeModeScope(True):
                return source.legacy.saving.saving_utils.model_from_config(config)
        return keras.saving.deserialize_keras_object({**config, "compile_config": None}, safe_mode=True)


def _check_size(path: Path, model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise UserError(f"{path}: expected a model, got {type(model).__name__}.")
    parameters = sum(math.prod(weight.shape) for weight in model.weights)
    if parameters > MAX_PARAMETERS:
        raise UserError(f"{path}: {parameters:,} parameters, more than the {MAX_PARAMETERS:,} that the audit takes.")
    values = sum(
        math.prod(size or FREE_AXIS_DEFAULT for size in output.shape[1:])
        for layer in model._flatten_layers()
        for node in layer._inbound_nodes
        for output in node.outputs
    )
    if BATCH * values > MAX_VALUES:
        raise UserError(f"{path}: {BATCH * values:,} values for {BATCH} images, more than the audit takes.")
    stored = _stored_numbers(path)
    if stored > STATES * parameters + SPARE:
        raise UserError(f"{path}: {stored:,} stored numbers for {parameters:,} parameters. Save the model again.")


def _stored_numbers(path: Path) -> int:
    """Count what the weights' file unpacks to: HDF5 compresses on its own."""
    if path.suffix in LEGACY:
        return _count(path)
    with zipfile.ZipFile(path) as archive:
        return _count(io.BytesIO(archive.read(WEIGHTS))) if WEIGHTS in archive.namelist() else 0


def _count(file: Any) -> int:
    sizes: list[int | None] = []
    with h5py.File(file, "r") as opened:
        opened.visititems(lambda _, item: sizes.append(item.size) if isinstance(item, h5py.Dataset) else None)
    return sum(size or 0 for size in sizes)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = one_line(error)
    if "could not be loaded" in reason or "weights" in reason or isinstance(error, OSError):
        return UserError(f"{path}: its weights do not fit its layers ({reason}). Save the model again.")
    # Lambda layers, and classes that are not Keras'.
    return UserError(
        f"{path}: cannot be loaded without running its code ({reason}); build it from Keras' own layers and save it"
    )
