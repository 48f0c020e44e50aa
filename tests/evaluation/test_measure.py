"""Every number that a measured network leaves, computed once more another way."""

import contextlib
import csv
import hashlib
import importlib
import math
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_score, recall_score, top_k_accuracy_score

from reprocnn.backend import keras
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.params import Recipe
from reprocnn.evaluation import feature_maps, measure, model_files
from reprocnn.images import arrays
from reprocnn.images.augment import augment, flips
from tests.support import measured
from tests.support.training import RECIPE

SHAPE = (6, 5, 3)
FLIPPED = replace(RECIPE, flip=True, shift=2)
SEED = 4


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A folder in which a network named cifar was measured, and the network."""
    folder = tmp_path_factory.mktemp("measured")
    with contextlib.chdir(folder):
        model = measured.write("cifar", SHAPE)
        measure.measure("cifar", FLIPPED, SEED, "sample")
    return folder, model


@pytest.fixture
def model(result, monkeypatch):
    """The network, in the folder of its results."""
    monkeypatch.chdir(result[0])
    return result[1]


@pytest.fixture
def scores(model):
    return measured.read_json("metrics/cifar.json")["cifar"]


@pytest.fixture
def details(model):
    return measured.read_json("evaluation/cifar.json")


@pytest.fixture
def pictures(model):
    with np.load("evaluation/cifar.npz") as file:
        return dict(file)


def cross_entropy(y: np.ndarray, p: np.ndarray) -> float:
    return sum(-math.log(max(float(row[label]), 2**-23)) for row, label in zip(p, y, strict=True)) / len(y)


def view(image: np.ndarray, down: int, right: int, mirrored: bool) -> np.ndarray:
    """Move an image by pixels, reflected at its edges, then mirror it, pixel by pixel."""
    height, width = image.shape[:2]
    seen = np.empty_like(image)
    for i in range(height):
        for j in range(width):
            row = abs(i + down)
            row = row if row < height else 2 * (height - 1) - row
            source = width - 1 - j if mirrored else j
            column = abs(source + right)
            seen[i, j] = image[row, column if column < width else 2 * (width - 1) - column]
    return seen


def averaged_accuracy(model, x: np.ndarray, y: np.ndarray, flip: bool) -> float:
    logs = np.zeros((len(x), len(measured.CLASSES)))
    for down, right, weight in ((0, 0, 2), (-1, -1, 1), (1, 1, 1)):
        for mirrored in (False, True)[: 1 + flip]:
            views = np.stack([view(image, down, right, mirrored) for image in x])
            logs += weight * np.log(measured.probabilities(model, views).astype(float))
    return float((logs.argmax(axis=1) == y).mean())


def test_the_scores_of_the_test_images(model, scores, details):
    x, y = measured.load("cifar", "test")
    p = measured.probabilities(model, x)
    found = scores["test"]
    assert list(found) == [
        "accuracy", "errors", "top2_accuracy", "loss", "calibration_error", "accuracy_tta",
    ]  # fmt: skip
    share, n = accuracy_score(y, p.argmax(axis=1)), len(x)
    of_images = details["test"]
    assert (of_images["n"], found["errors"]) == (n, sum(p.argmax(axis=1) != y))
    assert found["accuracy"] == share
    z = 1.959963984540054  # Wilson's interval, written out
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert (of_images["accuracy_low"], of_images["accuracy_high"]) == pytest.approx((middle - half, middle + half))
    assert found["top2_accuracy"] == pytest.approx(top_k_accuracy_score(y, p, k=2, labels=range(5)))
    assert found["loss"] == pytest.approx(cross_entropy(y, p), rel=1e-5)
    assert of_images["digest"] == hashlib.sha256(x.tobytes() + np.eye(5, dtype=np.float32)[y].tobytes()).hexdigest()


def test_calibration_over_fifteen_bins(model, scores, details):
    x, y = measured.load("cifar", "test")
    p = measured.probabilities(model, x)
    error, rows = 0.0, []
    for number in range(15):
        above = 2 if number == 14 else (number + 1) / 15  # the last bin has 1 too
        inside = [i for i, row in enumerate(p) if number / 15 <= row.max() < above]
        if inside:
            confidence = sum(float(p[i].max()) for i in inside) / len(inside)
            hits = sum(p[i].argmax() == y[i] for i in inside) / len(inside)
            rows.append({"n": len(inside), "confidence": pytest.approx(confidence, rel=1e-5), "accuracy": hits})
            error += len(inside) / len(x) * abs(hits - confidence)
    assert len({row["n"] for row in rows}) > 4
    assert details["reliability"] == rows
    assert scores["test"]["calibration_error"] == pytest.approx(error, rel=1e-5)


def test_the_views_of_test_time_augmentation(model, scores):
    x, y = measured.load("cifar", "test")
    expected = averaged_accuracy(model, x, y, flip=True)
    assert scores["test"]["accuracy_tta"] == expected != averaged_accuracy(model, x, y, flip=False)
    assert expected != scores["test"]["accuracy"]


def test_the_scores_of_the_validation_images(model, scores):
    x, y = measured.load("cifar", "val")
    p = measured.probabilities(model, x)
    assert scores["val"] == {
        "accuracy": accuracy_score(y, p.argmax(axis=1)),
        "loss": pytest.approx(cross_entropy(y, p), rel=1e-5),
    }


def test_a_row_for_each_prediction(model):
    x, y = measured.load("cifar", "test")
    p = measured.probabilities(model, x)
    with Path("plots/cifar/predictions.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["index", "y_true", "y_pred", "confidence"]
    assert [[int(value) for value in row[:3]] for row in rows] == [[i, y[i], int(p[i].argmax())] for i in range(len(x))]
    assert [float(row[3]) for row in rows] == pytest.approx(p.max(axis=1).tolist(), abs=2e-6)
    assert {len(row[3].partition(".")[2]) for row in rows} == {6}


def test_precision_recall_and_f1_of_each_class(model, details):
    x, y = measured.load("cifar", "test")
    y_pred = measured.probabilities(model, x).argmax(axis=1)
    precision, recall = (
        f(y, y_pred, labels=range(5), average=None, zero_division=0) for f in (precision_score, recall_score)
    )
    for label, row in enumerate(details["classes"]):
        both = int((y == label).sum() + (y_pred == label).sum())
        assert row == {
            "class": measured.CLASSES[label],
            "precision": None if label == measured.NEVER else pytest.approx(precision[label]),
            "recall": None if label == measured.ABSENT else pytest.approx(recall[label]),
            "f1": pytest.approx(2 * int(((y == label) & (y_pred == label)).sum()) / both),
            "n": int((y == label).sum()),
        }
    assert len(details["classes"]) == 5


def test_what_the_data_and_the_training_were(details):
    assert details["source"] == "sample"
    counts = {split: np.bincount(measured.load("cifar", split)[1], minlength=5).tolist() for split in measured.SIZES}
    assert details["images"] == {"training": counts["train"], "validation": counts["val"], "test": counts["test"]}
    assert details["validation_images"] == 37
    weights = Path("models/cifar/model.weights.h5").read_bytes()
    assert details["weights"] == hashlib.sha256(weights).hexdigest()
    assert details["normalization"] == {"method": "by hand", "scale": [0]}
    assert {key: details[key] for key in measured.ENVIRONMENT} == measured.ENVIRONMENT


def test_parameters_and_operations_by_hand(details):
    # (height, width, channels) after each layer, weights, and twice the products of kernel and map.
    expected = [
        ("pixels", "InputLayer", [], [6, 5, 3], 0, 0, ""),
        ("normalization", "Rescaling", ["pixels"], [6, 5, 3], 0, 0, ""),
        ("wide", "Conv2D", ["normalization"], [4, 4, 4], 3 * 2 * 3 * 4 + 4, 2 * 16 * 72, "3×2"),
        ("norm", "BatchNormalization", ["wide"], [4, 4, 4], 4 * 4, 0, ""),
        ("relu", "ReLU", ["norm"], [4, 4, 4], 0, 0, ""),
        ("pool", "MaxPooling2D", ["relu"], [2, 4, 4], 0, 0, "2×1"),
        ("narrow", "Conv2D", ["pool"], [2, 4, 2], 4 * 2, 2 * 8 * 8, "1×1"),
        ("flat", "Flatten", ["narrow"], [16], 0, 0, ""),
        ("dropout", "Dropout", ["flat"], [16], 0, 0, "0.5"),
        ("head", "Dense", ["dropout"], [5], 16 * 5 + 5, 2 * 80, "softmax"),
    ]
    keys = ("name", "kind", "inputs", "shape", "parameters", "flops", "detail")
    assert details["layers"] == [dict(zip(keys, row, strict=True)) for row in expected]
    assert details["parameters"] == 76 + 16 + 8 + 85


def test_pictures_of_mistakes_and_examples(model, pictures):
    x, y = measured.load("cifar", "test")
    p = measured.probabilities(model, x)
    wrong = sorted((i for i in range(len(x)) if p[i].argmax() != y[i]), key=lambda i: -p[i].max())
    assert len(wrong) > 20
    assert pictures["index"].tolist() == wrong[:20]
    assert (pictures["x"] == x[wrong[:20]]).all()
    x, y = measured.load("cifar", "train")
    firsts = x[[y.tolist().index(label) for label in range(5)]]
    assert (pictures["examples"] == firsts).all()
    for epoch in (0, 1):
        rng = np.random.Generator(np.random.PCG64([SEED, epoch]))
        assert (pictures["variations"][epoch] == augment(firsts, rng, FLIPPED, flips(5, SEED, epoch))).all()
    assert len(pictures["variations"]) == 2


def test_pictures_of_filters_and_maps(model, pictures, details):
    kernel = model.get_layer("wide").kernel.value.numpy()
    for number in range(4):
        one = kernel[..., number]
        assert abs(pictures["filters"][number] - (127.5 + 127.5 * one / abs(one).max())).max() <= 0.51
    assert pictures["filters"].shape == (4, 3, 2, 3)
    shown = feature_maps.feature_maps(model, pictures["examples"])
    assert [block["shape"] for block in shown] == details["block_shapes"] == [[2, 4, 4], [2, 4, 4], [2, 4, 2]]
    assert [name for name in pictures if name.startswith("maps")] == ["maps_0", "maps_1", "maps_2"]
    for number, block in enumerate(shown):
        assert (pictures[f"maps_{number}"] == block["maps"]).all()


def test_drawing_maps_leaves_the_network_as_it_is(model):
    x, _ = measured.load("cifar", "train")
    before = [weight.numpy() for weight in model.variables]
    p = measured.probabilities(model, x)
    pooled = model.get_layer("pool").output
    [first, *_] = feature_maps.feature_maps(model, x)
    assert all((weight.numpy() == old).all() for weight, old in zip(model.variables, before, strict=True))
    assert (measured.probabilities(model, x) == p).all()
    values = keras.Model(model.inputs, pooled)([x], training=False).numpy()[..., first["channel"]]
    scaled = 255 * (values - values.min()) / (values.max() - values.min())
    assert abs(first["maps"] - scaled).max() <= 0.51


@pytest.mark.parametrize(("name", "shape", "train_on"), [("mnist", (5, 6, 1), "train+val"), ("cifar", SHAPE, "train")])
def test_a_stage_measures_its_own_network(project, monkeypatch, capsys, name, shape, train_on):
    model = measured.write(name, shape, seed=10)
    text = Path("params.yaml").read_text()
    for old, new in (
        ("source: public", "source: sample"), ("device: auto", "device: cpu"), ("threads: 0", "threads: 3"),
        ("\nseed: 0", "\nseed: 9"),
    ):  # fmt: skip
        text = text.replace(old, new, 1)
    head, mnist, cifar = text.partition("\nmnist:")[0], *text.partition("\nmnist:")[2].split("\ncifar:")
    if name == "mnist":
        mnist = mnist.replace("train_on: train ", "train_on: train+val ")
    Path("params.yaml").write_text(f"{head}\nmnist:{mnist}\ncifar:{cifar}")
    asked = []
    monkeypatch.setattr("reprocnn.backend.configure_device", lambda *given: asked.append(given))
    importlib.import_module(f"stages.evaluate_{name}").main()
    assert asked == [("cpu", 3)]
    [(key, found)] = measured.read_json(f"metrics/{name}.json").items()
    assert (key, "val" in found) == (name, train_on == "train")
    x, y = measured.load(name, "test")
    flip = name == "cifar"
    assert found["test"]["accuracy_tta"] == averaged_accuracy(model, x, y, flip)
    assert found["test"]["accuracy_tta"] != averaged_accuracy(model, x, y, not flip)
    details = measured.read_json(f"evaluation/{name}.json")
    assert details["validation_images"] == (37 if train_on == "train" else None)
    assert details["source"] == "sample"
    with np.load(f"evaluation/{name}.npz") as pictures:
        expected = measure.vary(pictures["examples"], params.read(Recipe, name), 9)
        assert (pictures["variations"] == expected).all()
    accuracy = accuracy_score(y, measured.probabilities(model, x).argmax(axis=1))
    assert f"evaluate: {name}: test accuracy {accuracy:.4f}" in capsys.readouterr().out


def test_a_network_for_other_images_or_classes_is_refused(model):
    x, y = measured.load("cifar", "test")
    labels = np.eye(5, dtype=np.float32)[y]
    with pytest.raises(UserError, match=r"takes images \(6, 5, 3\) for 5 classes, but .* has \(5, 5, 3\) for 5; run"):
        measure.load_model("cifar", arrays.Split(x[:, 1:], labels))
    with pytest.raises(UserError, match=r"for 5 classes, but data/prepared/cifar has \(6, 5, 3\) for 4"):
        measure.load_model("cifar", arrays.Split(x, labels[:, 1:]))


@pytest.fixture
def copied(result, tmp_path, monkeypatch):
    """A copy of the network and its data, for one test alone, as the working folder; gives the network's folder."""
    for name in ("models", "data"):
        shutil.copytree(result[0] / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return Path("models/cifar")


def test_a_network_that_is_not_that_of_the_lock_is_refused(copied, monkeypatch):
    out = f"{{path: models/cifar, md5: {'0' * 32}.dir}}"
    Path("dvc.lock").write_text(f"stages: {{train_cifar: {{outs: [{out}]}}}}")
    monkeypatch.setenv("DVC_STAGE", "evaluate_cifar")
    with pytest.raises(UserError, match=r"^models/cifar: other files than dvc\.lock has"):
        measure.measure("cifar", RECIPE, SEED, "sample")
    assert not Path("metrics").exists()


def test_probabilities_of_which_some_are_not_finite_are_refused(copied):
    model = measured.network(SHAPE, 0)
    kernel = np.zeros((16, 5))
    kernel[0, 0] = -2e38  # overflows where the feature is far below zero
    model.get_layer("head").kernel.assign(kernel)
    model.save_weights(copied / "model.weights.h5")
    finite = np.isfinite(measured.probabilities(model, measured.load("cifar", "test")[0])).all(axis=1)
    assert finite.any()
    assert not finite.all()
    with pytest.raises(UserError, match="models/cifar: gives non-finite probabilities; run `dvc repro -f train_cifar`"):
        measure.measure("cifar", RECIPE, SEED, "sample")
    assert not any(Path(folder).exists() for folder in ("metrics", "plots", "evaluation"))


@pytest.mark.parametrize("name", ["model.json", "model.weights.h5"])
def test_a_missing_file_of_a_network_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(UserError, match=f"^models/cifar/{name}: missing; run `dvc repro train_cifar`$"):
        model_files.load(copied)


def test_weights_that_do_not_belong_are_refused(copied):
    path, architecture = copied / "model.weights.h5", (copied / "model.json").read_text()
    path.write_bytes(b"no weights")
    message = r"^models/cifar: model\.weights\.h5 does not fit model\.json \(.*\); run .* `dvc repro -f train_cifar`$"
    with pytest.raises(UserError, match=message):
        model_files.load(copied)
    measured.network((6, 6, 3), 0).save_weights(path)
    with pytest.raises(UserError, match=message):
        model_files.load(copied)
    for text in (architecture[:-10], "[]", "[" * 100_000):
        (copied / "model.json").write_text(text)
        with pytest.raises(UserError, match=message):
            model_files.load(copied)


def test_damage_of_any_kind_is_refused(copied, monkeypatch):
    """HDF5 raises RuntimeError for some flipped bytes, with nothing or several lines in it."""
    for words in ("", "wrong signature\nin two lines"):
        monkeypatch.setattr(keras.Model, "load_weights", Mock(side_effect=RuntimeError(words)))
        with pytest.raises(UserError, match=rf"does not fit model\.json \({words.replace(chr(10), ' ')}\); run"):
            model_files.load(copied)


@pytest.mark.parametrize("content", ["null", "{}", '["a"]', "[0, 1]", '"ab"', '["a", "b", "c"]'])
def test_class_names_are_a_word_for_each_class(tmp_path, content):
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(UserError, match=r"classes\.json: expected a list of 2 names; run `dvc repro -f prepare`$"):
        measure.read_class_names(tmp_path, 2)
    (tmp_path / "classes.json").write_text('["a", "b"]')
    assert measure.read_class_names(tmp_path, 2) == ["a", "b"]


def test_a_list_of_classes_that_is_cut_off_is_refused(tmp_path):
    (tmp_path / "classes.json").write_text('["zero", "o')
    with pytest.raises(UserError, match=r"classes\.json: invalid JSON"):
        measure.read_class_names(tmp_path, 2)


def test_a_training_without_its_environment_is_refused(copied):
    message = r"^models/cifar/environment\.json: missing or invalid; run `dvc repro -f train_cifar`$"
    for text in (
        "{",
        "[]",
        "[" * 100_000,
        '{"device": {}, "settings": {}}',
        '{"device": 1, "settings": 2, "versions": 3}',
    ):
        (copied / "environment.json").write_text(text)
        with pytest.raises(UserError, match=message):
            model_files.environment(copied)
    (copied / "environment.json").unlink()
    with pytest.raises(UserError, match=message):
        model_files.environment(copied)
