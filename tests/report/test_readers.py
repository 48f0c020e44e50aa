"""Results that were edited, cut or put in the place of others: each is named, and nothing is drawn."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reprocnn.core.errors import UserError
from reprocnn.datasets import MNIST
from reprocnn.report import readers, results
from tests.report.test_plot import write_stage_outputs
from tests.support.commands import ROOT, call
from tests.support.edits import GONE, put

METRICS, DETAILS, IMAGES = Path("metrics/mnist.json"), Path("evaluation/mnist.json"), Path("evaluation/mnist.npz")
HISTORY, PREDICTIONS = Path("plots/mnist/history.csv"), Path("plots/mnist/predictions.csv")
RESTORE = "; restore it with git checkout, or run `dvc repro`"
RESTORE_KEPT = "; delete it, then run `dvc checkout` or `dvc repro`"


@pytest.fixture(autouse=True)
def written(project):
    write_stage_outputs(project)
    assert results.load(MNIST)


def refused() -> str:
    with pytest.raises(UserError) as refusal:
        results.load(MNIST)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("path", "key", "value", "line"),
    [
        (METRICS, "mnist", GONE, "mnist: missing"),
        (METRICS, "mnist", 3, "mnist: found 3, expected keys with values"),
        (METRICS, "mnist.test.accuracy", GONE, "mnist.test.accuracy: missing"),
        (METRICS, "mnist.test.accuracy_tta", GONE, "mnist.test.accuracy_tta: missing"),
        (METRICS, "mnist.test.accuracy", 1.5, "mnist.test.accuracy: found 1.5, expected a number from 0 to 1"),
        (METRICS, "mnist.test.accuracy", "0.9", "mnist.test.accuracy: found '0.9', expected a number from 0 to 1"),
        (METRICS, "mnist.test.loss", float("nan"), "mnist.test.loss: found nan, expected a finite number"),
        (METRICS, "mnist.test.loss", 10**400, "mnist.test.loss: found 1000"),
        (METRICS, "mnist.test.errors", 10**400, "mnist.test.errors: found 1000"),
        (DETAILS, "test.n", 2**53 + 1, "test.n: found 9007199254740993, expected a whole number above 0"),
        (METRICS, "mnist.test.errors", 1.5, "mnist.test.errors: found 1.5, expected a whole number, not negative"),
        (METRICS, "mnist.test.errors", True, "mnist.test.errors: found True, expected a whole number, not negative"),
        (METRICS, "mnist.test.errors", -1, "mnist.test.errors: found -1, expected a whole number, not negative"),
        (DETAILS, "source", "other", "source: found 'other', expected public or sample"),
        (DETAILS, "test.n", 0, "test.n: found 0, expected a whole number above 0"),
        (DETAILS, "test.accuracy_low", None, "test.accuracy_low: found None, expected a number from 0 to 1"),
        (DETAILS, "classes.1.class", GONE, "classes.1.class: missing"),
        (DETAILS, "classes.1.class", "$x", "classes.1.class: found '$x', expected a short text"),
        (DETAILS, "classes.1.class", "\ud800", "classes.1.class: found '\\ud800', expected a short text"),
        (DETAILS, "classes.0.recall", "x", "classes.0.recall: found 'x', expected a number from 0 to 1, or null"),
        (DETAILS, "classes", [], "classes: found [], expected a list of 2 to 100"),
        (DETAILS, "reliability", [], "reliability: found [], expected a list of 1 to 1000"),
        (DETAILS, "images.training.1", 0, "images.training.1: found 0, expected a whole number above 0"),
        (DETAILS, "images.validation", [1], "images.validation: found 1 classes, expected 2"),
        (DETAILS, "validation_images", 0, "validation_images: found 0, expected a whole number above 0, or null"),
        (DETAILS, "normalization.method", "none", "normalization.method: found 'none', expected center or standard"),
        (DETAILS, "normalization.check.std.0", "a", "normalization.check.std.0: found 'a', expected a finite number"),
        (DETAILS, "block_shapes.0", [1, 2], "block_shapes.0: found [1, 2], expected a list of 3 to 3"),
        (DETAILS, "device.kind", GONE, "device.kind: missing"),
        (DETAILS, "device.name", GONE, "device.name: missing"),
        (DETAILS, "versions.keras", 3, "versions.keras: found 3, expected a short text"),
        (DETAILS, "layers.0.shape", [], "layers.0.shape: found [], expected a list of 1 to 1000"),
        (DETAILS, "layers.1.inputs", ["none"], "layers.1.inputs: found none, expected names of layers above"),
    ],
)
def test_a_key_that_is_not_right_is_named(path, key, value, line):
    put(path, key, value)
    message = refused()
    assert message.startswith(f"{path}: {line}")
    assert message.endswith(RESTORE)


@pytest.mark.parametrize(("kind", "detail"), [("Conv2D", ""), ("Conv2D", "3×3, stride x"), ("Dropout", "half")])
def test_a_layer_whose_detail_cannot_be_read_is_named(kind, detail):
    layers = json.loads(DETAILS.read_text())["layers"]
    number = next(i for i, layer in enumerate(layers) if layer["kind"] == kind)
    put(DETAILS, f"layers.{number}.detail", detail)
    assert refused().startswith(f"{DETAILS}: layers.{number}.detail: found {detail!r}, expected ")


def test_the_interval_of_another_accuracy_is_refused():
    put(DETAILS, "test.accuracy_high", 0.9)
    assert refused().startswith(f"{DETAILS}: test: found 30.00% to 90.00%, expected the interval of 99.64% in metrics/")


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_an_accuracy_may_be_an_end_of_its_interval(accuracy):
    """As where all or none of the test images are right."""
    put(METRICS, "mnist.test.accuracy", accuracy)
    for end, value in (("low", min(accuracy, 0.9)), ("high", max(accuracy, 0.1))):
        put(DETAILS, f"test.accuracy_{end}", value)
    assert readers.read_test("mnist")[0]["test"]["accuracy"] == accuracy


def test_several_keys_have_a_line_each_but_no_more_than_three():
    for key in ("accuracy", "errors", "top2_accuracy", "loss"):
        put(METRICS, f"mnist.test.{key}", "x")
    keys = [line.split(": ")[1] for line in refused().splitlines()]
    assert keys == ["mnist.test.accuracy", "mnist.test.errors", "mnist.test.loss"]


@pytest.mark.parametrize(
    ("path", "old", "new", "line"),
    [
        (PREDICTIONS, "y_pred", "predicted", "y_pred: missing column"),
        (PREDICTIONS, "3,1,1,0.6\n", "", "found 3 rows, expected 4, the test.n of evaluation/mnist.json"),
        (PREDICTIONS, "3,1,1,0.6\n", "3,1,1,0.6\n4,1,1,0.6\n", "found 5 rows, expected 4"),
        (PREDICTIONS, "3,1,1", "3,1,2", "y_pred: row 3: found 2, expected a number from 0 to 1"),
        (PREDICTIONS, "3,1,1", "3,-1,1", "y_true: row 3: found -1, expected a number from 0 to 1"),
        (
            PREDICTIONS,
            "3,1,1",
            "3,cat,1",
            "y_true: found other values, expected classes from 0 to 1, whole numbers",
        ),
        (PREDICTIONS, "3,1,1", "3,,1", "y_true: found other values, expected classes from 0 to 1, whole numbers"),
        (PREDICTIONS, "0.6", "nan", "confidence: row 3: found nan, expected a number from 0 to 1"),
        (PREDICTIONS, "0.6", "high", "confidence: found other values, expected numbers from 0 to 1"),
        (PREDICTIONS, "2,1,1", "3,1,1", "index: found other numbers, expected 0 to 3 in this order"),
        (PREDICTIONS, "3,1,1,0.6", "3,1,1,0.6,1,2", "invalid CSV ("),
        (PREDICTIONS, "index,", "", "invalid CSV (Length of header"),
        (HISTORY, "val_loss", "loss_val", "val_loss: missing column"),
        (HISTORY, "2,0.5", "3,0.5", "epoch: found other numbers, expected 1 to 2"),
        (HISTORY, "0.5,0.8", "0.5,8", "accuracy: row 1: found 8.0, expected a number from 0 to 1"),
        (HISTORY, "0.5,0.8", "inf,0.8", "loss: row 1: found inf, expected a number from 0 to "),
        (HISTORY, "0.7,0.7", ",0.7", "val_loss: row 1: found nan, expected a number from 0 to "),
    ],
)
def test_a_column_that_is_not_right_is_named(path, old, new, line):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    message = refused()
    assert message.startswith(f"{path}: {line}")
    assert message.endswith(RESTORE)


def test_predictions_in_another_order_are_refused():
    """The figure of the mistakes looks them up by their place."""
    header, *rows = PREDICTIONS.read_text().splitlines()
    PREDICTIONS.write_text("\n".join([header, *rows[::-1], ""]))
    assert refused() == f"{PREDICTIONS}: index: found other numbers, expected 0 to 3 in this order{RESTORE}"


@pytest.mark.parametrize("column", ["val_loss", "val_accuracy"])
def test_a_history_with_half_of_its_validation_is_refused(column):
    pd.read_csv(HISTORY).assign(**{column: None}).to_csv(HISTORY, index=False)
    assert refused().startswith(f"{HISTORY}: {column}: row 0: found nan, expected a number from 0 to ")


def test_epochs_that_are_missing_at_the_end_are_noticed():
    HISTORY.write_text(HISTORY.read_text().rpartition("2,0.5")[0])
    assert refused() == f"{HISTORY}: found 1 rows, expected 2, the mnist.epochs of params.yaml{RESTORE}"


def test_a_history_without_validation_is_one():
    pd.read_csv(HISTORY).assign(val_loss=None, val_accuracy=None).to_csv(HISTORY, index=False)
    assert results.load(MNIST).history["val_loss"].isna().all()


@pytest.mark.parametrize("path", [METRICS, DETAILS, HISTORY, PREDICTIONS, IMAGES])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{", b"[]", b"null", b"PK\x03\x04"])
def test_something_else_in_its_place_is_refused(path, content):
    path.write_bytes(content)
    message = refused()
    assert message.startswith(f"{path}: ")
    assert "run `dvc repro`" in message or "or `dvc repro`" in message
    assert len(message.splitlines()) <= 3


def arrays() -> dict[str, Any]:
    with np.load(IMAGES) as images:
        return dict(images)


@pytest.mark.parametrize(
    ("key", "change", "line"),
    [
        ("x", None, "x: missing"),
        ("maps_2", None, "maps_2: missing"),
        ("x", lambda a: a.astype(np.float32), "x: found float32 (1, 8, 8, 1), expected uint8 (any, any, any, any)"),
        ("x", lambda a: a[..., 0], "x: found uint8 (1, 8, 8), expected uint8 (any, any, any, any)"),
        ("x", lambda a: a[..., [0, 0]], "x: found uint8 (1, 8, 8, 2), expected uint8 (any, any, any, any)"),
        ("x", lambda a: a[:, :0], "x: found uint8 (1, 0, 8, 1), expected uint8 (any, any, any, any)"),
        ("examples", lambda a: a[:1], "examples: found uint8 (1, 8, 8, 1), expected uint8 (2, any, any, any)"),
        ("variations", lambda a: a[0], "variations: found uint8 (2, 8, 8, 1), expected uint8 (any, 2, any, any, any)"),
        ("maps_0", lambda a: a[:, 1:], "maps_0: found uint8 (2, 13, 12), expected uint8 (2, 14, 12)"),
        ("index", lambda a: a + 3, "index: expected the number of a test image for each of x"),
        ("index", lambda a: a - 2, "index: expected the number of a test image for each of x"),
        ("index", lambda a: a[:0], "index: expected the number of a test image for each of x"),
        ("x", lambda a: np.array([{}]), "invalid NumPy archive (Object arrays cannot be loaded"),
    ],
)
def test_an_array_that_is_not_right_is_named(key: str, change: Callable[[Any], Any] | None, line):
    images = arrays()
    array = images.pop(key)
    if change is not None:
        images[key] = change(array)
    np.savez(IMAGES, **images)
    message = refused()
    assert message.startswith(f"{IMAGES}: {line}")
    assert message.endswith(RESTORE_KEPT)


def test_an_archive_that_was_cut_or_claims_too_much_is_refused(monkeypatch):
    content = IMAGES.read_bytes()
    IMAGES.write_bytes(content[:-100])
    assert refused().startswith(f"{IMAGES}: invalid NumPy archive (")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**15,)})
    with zipfile.ZipFile(IMAGES, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    assert refused().startswith(f"{IMAGES}: invalid NumPy archive (")
    with zipfile.ZipFile(IMAGES, "w", zipfile.ZIP_DEFLATED) as archive:  # a bomb
        archive.writestr("x.npy", bytes(100_000_001))
    assert refused().startswith(f"{IMAGES}: invalid NumPy archive (100,000,")


@pytest.mark.slow
def test_the_stage_ends_in_a_line(project):
    write_stage_outputs(project, "cifar")
    PREDICTIONS.write_text("")
    output = call(project, "python", "-m", "stages.plot", code=1, PYTHONPATH=str(ROOT))
    assert re.fullmatch(rf"error: {PREDICTIONS}: invalid CSV \(.*\){re.escape(RESTORE)}\n", output)
    assert not Path("report").exists()


@pytest.mark.parametrize("number", [1, 2])
def test_a_layer_reads_neither_itself_nor_one_below(number):
    put(DETAILS, f"layers.{number}.name", "late")
    put(DETAILS, "layers.1.inputs", ["late"])
    assert refused().startswith(f"{DETAILS}: layers.1.inputs: found late, expected names of layers above")
