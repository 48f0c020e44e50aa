import json
import math
from pathlib import Path

import numpy as np
import pytest

from reprocnn.core.errors import UserError
from reprocnn.core.files import sha256
from reprocnn.evaluation import measure, metrics, model_files
from reprocnn.images import arrays

# Four images of three classes: right, right but second, wrong and last, right.
Y_TRUE = np.array([0, 1, 2, 2])
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1], [0.0, 0.1, 0.9]], np.float32)


def test_scores_by_hand():
    figures = metrics.score(Y_TRUE, PROBABILITIES)
    assert figures["n"] == 4
    assert figures["accuracy"] == 0.5
    assert figures["errors"] == 2
    assert figures["top2_accuracy"] == 0.75
    assert figures["loss"] == pytest.approx(-(math.log(0.7) + math.log(0.4) + math.log(0.1) + math.log(0.9)) / 4)
    # Each image is alone in its bin: |1 - 0.7|, |0 - 0.5|, |0 - 0.6|, |1 - 0.9|.
    assert figures["calibration_error"] == pytest.approx((0.3 + 0.5 + 0.6 + 0.1) / 4)


def test_a_probability_of_zero_costs_a_finite_loss():
    assert metrics.cross_entropy(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-math.log(2**-23))


def test_calibration_of_a_bin_is_that_of_its_images_together():
    hit, confidence = np.array([True, False]), np.array([0.61, 0.65])  # both in 9/15 to 10/15
    assert metrics.reliability(hit, confidence) == [{"n": 2, "confidence": pytest.approx(0.63), "accuracy": 0.5}]
    assert metrics.calibration_error(hit, confidence) == pytest.approx(0.13)
    assert metrics.reliability(np.array([True]), np.array([1.0]))[0]["confidence"] == 1


def test_per_class_by_hand():
    rows = metrics.per_class(np.array([0, 0, 1]), np.array([0, 1, 1]), ["a", "b", "c"])
    assert rows[0] == {"class": "a", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "n": 2}
    assert rows[1]["precision"] == 0.5
    assert rows[2]["recall"] is None
    assert rows[2]["n"] == 0


def test_the_most_confident_mistakes_come_first():
    y_true, y_pred = np.array([0, 1, 2, 3]), np.array([0, 0, 0, 0])
    assert measure.most_confident_mistakes(y_true, y_pred, np.array([0.99, 0.5, 0.9, 0.7])).tolist() == [2, 3, 1]


def test_the_digest_differs_between_test_sets():
    x, y = np.zeros((2, 1, 1, 1), np.uint8), np.eye(2, dtype=np.float32)
    other = x.copy()
    other[1] = 1
    digests = {measure.digest(arrays.Split(*data)) for data in ((x, y), (other, y), (x, y[::-1]))}
    assert len(digests) == 3
    assert measure.digest(arrays.Split(x, y)) == measure.digest(arrays.Split(x.copy(), y.copy()))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda path: path.joinpath("model.json").unlink(), r"model\.json: missing; run `dvc repro train_mnist`"),
        (lambda path: path.joinpath("model.weights.h5").write_bytes(b"no weights"), "does not fit model.json"),
        (
            lambda path: path.joinpath("model.weights.h5").write_bytes(
                (path.parent / "cifar/model.weights.h5").read_bytes()
            ),
            "does not fit model.json",
        ),
    ],
)
def test_weights_that_do_not_belong_are_refused(copy, edit, message):
    folder = copy / "models/mnist"
    for file in folder.iterdir():  # the cache may link them
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
    edit(folder)
    with pytest.raises(UserError, match=message):
        model_files.load(folder)


def test_a_network_for_other_images_is_refused(copy, monkeypatch):
    monkeypatch.chdir(copy)
    for name in ("model.json", "model.weights.h5"):
        target = Path("models/mnist") / name
        target.unlink()
        target.write_bytes((Path("models/cifar") / name).read_bytes())
    with pytest.raises(UserError, match=r"takes images \(32, 32, 3\) for 10 classes, but .* has \(28, 28, 1\)"):
        measure.load_model("mnist", arrays.load(Path("data/prepared/mnist/test")))


def test_predictions_are_those_of_the_model(finished):
    test = arrays.load(finished / "data/prepared/mnist/test")
    model = model_files.load(finished / "models/mnist")
    measured = json.loads((finished / "metrics/mnist.json").read_text())["mnist"]["test"]
    loss = metrics.cross_entropy(test.y.argmax(axis=1), np.asarray(model.predict(test.x, verbose=0)))
    assert measured["loss"] == pytest.approx(loss, rel=1e-4)


def test_details_are_those_of_the_data_and_the_model(finished):
    folder = finished / "data/prepared/cifar"
    details = json.loads((finished / "evaluation/cifar.json").read_text())
    splits = {split: arrays.load(folder / split) for split in ("train", "val", "test")}
    names = {"train": "training", "val": "validation", "test": "test"}
    for split, data in splits.items():
        assert details["images"][names[split]] == np.bincount(data.y.argmax(axis=1), minlength=10).tolist()
    assert details["weights"] == sha256(finished / "models/cifar/model.weights.h5")
    assert details["normalization"] == json.loads((folder / "normalization.json").read_text())
    with np.load(finished / "evaluation/cifar.npz") as images:
        labels = splits["train"].y.argmax(axis=1).tolist()
        for label, image in enumerate(images["examples"]):
            assert (image == splits["train"].x[labels.index(label)]).all()
        assert images["variations"].shape == (measure.VARIATIONS, *images["examples"].shape)
        assert images["filters"].shape == (24, 2, 2, 3)
        for i, shape in enumerate(details["block_shapes"]):
            assert images[f"maps_{i}"].shape == (10, *shape[:2])
