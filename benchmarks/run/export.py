"""The exported formats beside the evaluation, on MNIST's 10,000 test images: benchmarks/results/formats.csv.

Train the setting mnist-fast in a copy, export it in every format, and open each file with its runtime.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.run import command, results
from benchmarks.run.copies import copy_with_data
from benchmarks.run.settings import SETTINGS

TABLE = (results.FOLDER / "formats.csv").resolve()  # the training runs in a folder of its own
BATCH, ROUNDS = 1000, 7
Predict = Callable[[np.ndarray], np.ndarray]  # uint8 images to probabilities


def main(arguments: list[str]) -> None:
    """Train, export, and write a row for each format."""
    command.parser("export", __doc__).parse_args(arguments)
    from reprocnn.backend import configure_device
    from reprocnn.commands import export
    from reprocnn.core.params import Recipe, Run, read
    from reprocnn.evaluation import model_files, tta
    from reprocnn.images import arrays
    from reprocnn.training.loop import train

    export.require_libraries(list(export.FORMATS))
    with copy_with_data(SETTINGS["mnist-fast"]) as copy, contextlib.chdir(copy):
        run, recipe = read(Run), read(Recipe, "mnist")
        device = configure_device("cpu", run.threads)
        train("mnist", recipe, run.lr * recipe.lr_factor, run.seed, device)
        model, test = model_files.load(Path("models/mnist")), arrays.load(Path("data/prepared/mnist/test"))
        expected = tta.predict(model, test.x)
        sides: dict[str, tuple[int, Predict]] = {}
        for kind in export.FORMATS:
            paths = export.export(model, "mnist", kind)
            sides[kind] = sum(export.size(path) for path in paths), OPENERS[kind](paths[0], device.threads)
        rates = measure({kind: predict for kind, (_, predict) in sides.items()}, test.x)
        rows = []
        for kind, (size, predict) in sides.items():
            found = predict(test.x)
            rows.append(
                {
                    "format": kind, "runtime": f"{RUNTIMES[kind]} {version(RUNTIMES[kind])}", "images": len(test.x),
                    "accuracy": float((found.argmax(axis=1) == test.y.argmax(axis=1)).mean()),
                    "other classes": int((found.argmax(axis=1) != expected.argmax(axis=1)).sum()),
                    "largest difference": float(abs(found - expected).max()), "images/s": round(rates[kind]),
                    "bytes": size, "threads": device.threads, "processor": device.name,
                    "date": results.today(),
                }
            )  # fmt: skip
    results.write(TABLE, rows, digits=6)


def measure(sides: dict[str, Predict], x: np.ndarray) -> dict[str, float]:
    """Return the images per second of the fastest of `ROUNDS`, in which the sides take turns."""
    seconds: dict[str, list[float]] = {kind: [] for kind in sides}
    for _ in range(ROUNDS):
        for kind, predict in sides.items():
            start = time.perf_counter()
            for begin in range(0, len(x), BATCH):
                predict(x[begin : begin + BATCH])
            seconds[kind].append(time.perf_counter() - start)
    return {kind: len(x) / min(own) for kind, own in seconds.items()}


def _open_keras(path: Path, threads: int) -> Predict:
    from reprocnn.backend import keras

    return keras.models.load_model(path).predict_on_batch


def _open_onnx(path: Path, threads: int) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options)
    return lambda x: session.run(None, {"images": x})[0]


def _open_litert(path: Path, threads: int) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path), num_threads=threads).get_signature_runner()
    return lambda x: run(images=x)["output_0"]


def _open_openvino(path: Path, threads: int) -> Predict:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # nothing is to leave the machine
    import openvino

    # Without the hint, processors that compute in bfloat16 do so.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda x: compiled(x)[0]


def _open_saved_model(path: Path, threads: int) -> Predict:
    from reprocnn.backend import tf

    loaded = tf.saved_model.load(path)
    return lambda x: loaded.serve(x).numpy()


OPENERS: dict[str, Callable[[Path, int], Predict]] = {
    "keras": _open_keras,
    "onnx": _open_onnx,
    "litert": _open_litert,
    "openvino": _open_openvino,
    "saved_model": _open_saved_model,
}
RUNTIMES = {
    "keras": "keras", "onnx": "onnxruntime", "litert": "ai-edge-litert", "openvino": "openvino",
    "saved_model": "tensorflow",
}  # fmt: skip
