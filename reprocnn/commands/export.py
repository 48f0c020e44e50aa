"""Write the trained networks for other programs, each with a model card: export/NAME.keras and export/NAME.md.

The networks take uint8 images, in batches of any size, and give probabilities.
"""

import argparse
import importlib.util
import logging
import math
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from reprocnn import backend
from reprocnn.backend import keras, ops
from reprocnn.commands.model_card import model_card
from reprocnn.core.errors import UserError
from reprocnn.core.files import write_text
from reprocnn.datasets import DATASETS
from reprocnn.evaluation import model_files
from reprocnn.gate import lock
from reprocnn.gate.values import one_line

FOLDER = Path("export")


class Format(NamedTuple):
    """Say how a format's file ends, what Keras calls it, and what converts to it: libraries of the extra."""

    ending: str  # none of a folder
    keras_name: str
    libraries: tuple[str, ...] = ()


FORMATS = {
    "keras": Format(".keras", "keras"),
    "onnx": Format(".onnx", "onnx", ("onnx", "tf2onnx")),
    "litert": Format(".tflite", "litert"),
    "openvino": Format(".xml", "openvino", ("openvino",)),  # and .bin, with the weights
    "saved_model": Format("", "tf_saved_model"),
}


def main(arguments: list[str]) -> None:
    """Export the network of each data set. Raises UserError for one that is not trained and evaluated, or damaged."""
    parser = argparse.ArgumentParser(
        prog="reprocnn export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--format",
        nargs="+",
        action="extend",
        choices=FORMATS,
        help="onnx and openvino need the extra of that name (default: keras)",
    )
    formats = list(dict.fromkeys(parser.parse_args(arguments).format or ["keras"]))
    require_libraries(formats)
    faults = lock.damaged("models/")
    faults += [line for line in lock.changed_results("workspace") if line.startswith(("metrics/", "evaluation/"))]
    if faults:
        raise UserError("\n".join(faults))
    backend.configure_device("cpu", threads=0)
    for dataset in DATASETS:
        model = model_files.load(Path("models") / dataset.name)
        files = {name: f"{dataset.name}{FORMATS[name].ending}" for name in formats}
        card = model_card(dataset, model.input_shape[1:], files)
        for name in formats:
            for path in export(model, dataset.name, name):
                print(f"{path}: {size(path):,} bytes", flush=True)
        path = FOLDER / f"{dataset.name}.md"
        write_text(path, card)
        print(f"{path}: {size(path):,} bytes", flush=True)


def require_libraries(formats: list[str]) -> None:
    """Raise UserError if a library is missing, before any work."""
    for name in formats:
        for library in FORMATS[name].libraries:
            if importlib.util.find_spec(library) is None:
                raise UserError(
                    f"reprocnn export --format {name} needs the extra \"{name}\": pip install 'reprocnn[{name}]' "
                    f"({sys.executable} lacks {library})"
                )


def export(model: keras.Model, name: str, kind: str) -> list[Path]:
    """Write `model` as export/NAME in a format; give what was written. Raises UserError if the format cannot."""
    form = FORMATS[kind]
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=FOLDER) as partial:
        path = Path(partial) / f"{name}{form.ending}"
        if kind == "keras":
            model.save(path)
        else:
            _convert(model, kind, path)
        return publish(path)


def _convert(model: keras.Model, kind: str, path: Path) -> None:
    if kind == "openvino":
        # Its converter would send statistics of use; without this module it sends none.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    images = keras.InputSpec(shape=model.input_shape, dtype="uint8", name="images")
    try:
        with warnings.catch_warnings(action="ignore"):
            (with_erf(model) if kind == "onnx" else model).export(
                str(path), FORMATS[kind].keras_name, verbose=False, input_signature=[images]
            )
    except (RuntimeError, backend.tf.errors.OpError) as error:  # also of a full disk
        raise UserError(f"export/{path.name}: cannot be written as {kind} ({one_line(error)})") from None
    if kind == "onnx":
        _check_onnx(path, model.name)


def with_erf(model: keras.Model) -> keras.Model:
    """Copy `model` with GELU computed by erf: Keras' own calls erfc, which ONNX does not have."""

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if getattr(layer, "activation", None) is keras.activations.gelu:
            config["activation"] = _gelu
        return type(layer).from_config(config)

    same = keras.models.clone_model(model, clone_function=copy)
    same.set_weights(model.get_weights())
    return same


def _gelu(x: Any) -> Any:
    return x * (1 + ops.erf(x / math.sqrt(2))) / 2


def _check_onnx(path: Path, network: str) -> None:
    """Raise UserError for an operation that ONNX does not have: the converter copies it and reports nothing."""
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise UserError(f"{network}: cannot be written as ONNX ({one_line(error)}); choose another format") from None


def publish(path: Path) -> list[Path]:
    """Move what lies in `path`'s folder to the folder above, `path` last: it is there only with all that belongs to it.

    What it replaces goes first.
    """
    made = path.parent
    for file in made.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    others = sorted(other for other in made.iterdir() if other != path)
    target = made.parent / path.name
    if target.exists():
        os.replace(target, made / ".replaced")
    for source in (*others, path):
        os.replace(source, made.parent / source.name)
    return [target, *(made.parent / other.name for other in others)]


def size(path: Path) -> int:
    """Count the bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
