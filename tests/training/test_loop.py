"""An epoch's images, a training step by step, and the files that it leaves."""

import csv
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprocnn.backend import Device, keras, record, tf
from reprocnn.core.errors import UserError
from reprocnn.core.files import sha256
from reprocnn.images.arrays import Split, load
from reprocnn.images.augment import shrink
from reprocnn.training import loop
from reprocnn.training.setup import Training
from tests.support.networks import build
from tests.support.training import ONE, recipe, replace_fit, run

MNIST = Path("data/prepared/mnist")


def ready(data: Split, seed: int = 0, device: Device = ONE, **changes: Any) -> Training:
    """A training without a model."""
    changed = recipe(**changes)
    unused: Any = None
    return Training(
        "mnist", changed, seed, device, unused, data, None, len(data.x) // changed.batch_size, unused, unused
    )


def numbered(n: int, height: int = 6, width: int = 5) -> Split:
    """Images whose pixels are 10 times the image's number and the column's; the label is the number."""
    columns = np.arange(width) + 10 * np.arange(n)[:, None, None, None]
    images = np.broadcast_to(columns.transpose(0, 1, 3, 2), (n, height, width, 1))
    return Split(images.astype(np.uint8), np.eye(n, dtype=np.float32))


def numbers(x: np.ndarray) -> list[int]:
    return (x.min(axis=(1, 2, 3)) // 10).tolist()


def order(seed: int, epoch: int) -> list[int]:
    x, y = loop.epoch_images(ready(numbered(10), seed, shift=0), epoch)
    assert np.array_equal(x, numbered(10).x[numbers(x)])
    assert y.argmax(axis=1).tolist() == numbers(x)
    return numbers(x)


def test_each_seed_and_epoch_has_an_order_of_its_own():
    orders = [order(seed, epoch) for seed in range(3) for epoch in range(5)]
    assert len({tuple(one) for one in orders}) == 15
    assert order(2, 3) == orders[13]
    for one in orders:
        assert len(one) == len(set(one)) == 8  # two batches of four; two images are left out
        assert one != sorted(one)
    assert {number for one in orders[:5] for number in one} == set(range(10))


def mirrored(seed: int, epoch: int) -> dict[int, bool]:
    x, _ = loop.epoch_images(ready(numbered(20), seed, shift=0, flip=True), epoch)
    return dict(zip(numbers(x), (x[:, 0, 0, 0] > x[:, 0, -1, 0]).tolist(), strict=True))


def test_an_image_is_mirrored_in_every_other_epoch():
    first, second, third = (mirrored(0, epoch) for epoch in range(3))
    assert {number: not flipped for number, flipped in first.items()} == second
    assert first == third != mirrored(1, 0)
    assert 4 < sum(first.values()) < 16


def test_augmentation_is_drawn_again_for_each_epoch():
    data = Split(np.zeros((40, 9, 9, 1), np.uint8), np.eye(40, dtype=np.float32))
    data.x[:, 4, 4] = 255
    by_position, by_image = [], []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        x, y = loop.epoch_images(ready(data, seed, shift=2), epoch)
        by_position.append(x.reshape(40, 81).argmax(axis=1))
        by_image.append(by_position[-1][y.argmax(axis=1).argsort()])
    assert len(set(by_image[0])) > 12  # of 25
    for places in (by_position, by_image):
        assert (places[0] == places[1]).mean() < 0.2
        assert (places[0] == places[2]).mean() < 0.2


def test_images_of_an_epoch_have_its_size_and_use_the_devices_threads(monkeypatch):
    asked = []

    def note(threads):
        asked.append(threads)
        return ThreadPoolExecutor(threads)

    monkeypatch.setattr("reprocnn.images.augment.ThreadPoolExecutor", note)
    data, device = numbered(9, 32, 24), Device("cpu", "a test", 3)
    training = ready(data, device=device, rotation=5.0, first_size=0.5, epochs=4)
    images = [loop.epoch_images(training, epoch)[0] for epoch in range(4)]
    assert [x.shape for x in images] == [(8, 16, 12, 1), (8, 20, 16, 1), (8, 28, 20, 1), (8, 32, 24, 1)]
    assert asked == [3] * 7  # full size needs no shrinking
    full, _ = loop.epoch_images(ready(data, rotation=5.0), 0)
    assert np.array_equal(images[0], shrink(full, (16, 12)))  # augmented first


def test_dropout_is_seeded_by_seed_epoch_and_layer(prepared, monkeypatch):
    prepared(8, (28, 28, 1))
    fits = replace_fit(monkeypatch)
    run(seed=2, network="assignment", epochs=2)
    model = fits[0].model

    def states(seed: int, epoch: int) -> list[list[int]]:
        loop.reseed_dropout(model, seed, epoch)
        return [variable.numpy().tolist() for variable in model.variables if "seed_generator" in variable.path]

    all_states = [state for seed in range(3) for epoch in range(3) for state in states(seed, epoch)]
    assert len({tuple(state) for state in all_states}) == 18  # two layers
    assert [fit.dropout for fit in fits] == [states(2, 0), states(2, 1)]


def rates(step: int) -> float:
    """Of four steps two rise to 0.02, and the rest falls towards a tenth of it."""
    return 0.02 * [1 / 3, 2 / 3, 1, 0.55][step]


def test_a_training_step_by_step(prepared):
    """Against Adam, its weight decay and the loss of smoothed labels written out, on the images of each epoch."""
    prepared(9, (28, 28, 1))
    (MNIST / "normalization.json").write_text('{"scale": [0.00392156862745098], "offset": [-0.5]}')
    changes: dict[str, Any] = {
        "dropout": 0.5,
        "weight_decay": 0.5,
        "label_smoothing": 0.2,
        "warmup": 0.5,
        "lr_end": 0.1,
        "epochs": 2,
        "flip": True,
    }
    seen: list[tuple[int, float]] = []

    class Note(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, logs["val_accuracy"]))

    run(lr=0.02, seed=3, callbacks=[Note()], **changes)

    keras.utils.set_random_seed(3)
    model = build("mnist_cnn", filters=2, depth=1, dropout=0.5)
    training, val = ready(load(MNIST / "train"), 3, **changes), load(MNIST / "val")
    variables = model.trainable_variables
    means, squares = ([np.zeros(variable.shape) for variable in variables] for _ in range(2))

    def loss(y, predicted):
        return -tf.reduce_mean(tf.reduce_sum((0.8 * y + 0.02) * tf.math.log(predicted), axis=1))

    def accuracy(y, predicted):
        return np.mean(np.argmax(y, axis=1) == np.argmax(predicted, axis=1))

    rows = []
    for epoch in range(2):
        loop.reseed_dropout(model, 3, epoch)
        x, y = loop.epoch_images(training, epoch)
        losses, accuracies = [], []
        for step in range(2):
            part = slice(4 * step, 4 * step + 4)
            with tf.GradientTape() as tape:
                predicted = model(x[part], training=True)
                losses.append(loss(y[part], predicted))
            accuracies.append(accuracy(y[part], predicted))
            gradients = tape.gradient(losses[-1], [variable.value for variable in variables])
            t = 2 * epoch + step + 1
            rate = rates(t - 1)
            for index, variable in enumerate(variables):
                gradient = np.asarray(gradients[index], float)
                means[index] = 0.7 * means[index] + 0.3 * gradient
                squares[index] = 0.9 * squares[index] + 0.1 * gradient**2
                mean, square = means[index] / (1 - 0.7**t), squares[index] / (1 - 0.9**t)
                kept = np.asarray(variable, float) * (1 - 0.5 * rate)
                variable.assign(kept - rate * mean / (np.sqrt(square) + 1e-7))
        predicted = model(val.x, training=False)
        figures = [np.mean(losses), np.mean(accuracies), loss(val.y, predicted), accuracy(val.y, predicted)]
        rows.append([epoch + 1, *map(float, figures), rates(2 * epoch)])

    with Path("plots/mnist/history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert list(history[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr"]
    for found, row in zip(history, rows, strict=True):
        assert [float(value) for value in found.values()] == pytest.approx(row, rel=1e-4)
    assert seen == [(0, rows[0][4]), (1, rows[1][4])]
    expected = model.get_weights()
    model.load_weights("models/mnist/model.weights.h5")
    for found, one in zip(model.get_weights(), expected, strict=True):
        if one.dtype != np.uint32:
            # Adam divides by the size of a gradient, so that rounding shows where it is about 0.
            assert np.abs(found - one).mean() < 2e-5
            assert np.abs(found - one).max() < 2e-3


def test_each_epoch_is_one_of_keras_on_whole_validation_images(prepared, monkeypatch):
    prepared(8, (32, 32, 3))
    fits = replace_fit(monkeypatch)
    run(network="cifar_cnn", first_size=0.5, epochs=4)
    assert [fit.epochs for fit in fits] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    val = load(MNIST / "val")
    for fit, size in zip(fits, (16, 20, 28, 32), strict=True):
        assert [batch.shape for batch in fit.x] == [(4, size, size, 3)] * 2
        assert fit.val
        assert np.array_equal(fit.val[0], val.x)
        assert np.array_equal(fit.val[1], val.y)
        assert fit.model.input_shape == (None, None, None, 3)
    # Each size has a graph of its own, so that a resumed training has the same ones.
    assert len({id(fit.function) for fit in fits}) == 4
    assert None not in [fit.function for fit in fits]
    config = json.loads(Path("models/mnist/model.json").read_text())["config"]
    assert config["layers"][0]["config"]["batch_shape"] == [None, 32, 32, 3]


def test_validation_takes_no_part_if_both_splits_are_trained_on(prepared, monkeypatch, capsys):
    prepared(8, (28, 28, 1))
    fits = replace_fit(monkeypatch)
    run(train_on="train+val", shift=0)
    assert [fit.val for fit in fits] == [None]
    seen = {image.tobytes() for batch in fits[0].x for image in batch}
    assert seen == {image.tobytes() for split in ("train", "val") for image in load(MNIST / split).x}
    assert Path("plots/mnist/history.csv").read_bytes() == (
        b"epoch,loss,accuracy,val_loss,val_accuracy,lr\n1,1.5,0.25,,,0.009999999776482582\n"
    )
    printed = capsys.readouterr().out
    assert "16 images" in printed
    assert "epoch 1/1  loss 1.5000  accuracy 0.2500  0 s left" in printed


def test_what_is_left_of_a_batch_is_not_trained_on_alone(prepared, monkeypatch):
    """Five images in batches of four: batch norm would see a batch of one."""
    prepared(5, (28, 28, 1))
    fits = replace_fit(monkeypatch)
    run()
    assert [len(batch) for batch in fits[0].x] == [4]
    assert [len(batch) for batch in fits[0].y] == [4]


def test_files_and_lines_of_a_training(prepared, monkeypatch, capsys):
    prepared(8, (28, 28, 1))
    replace_fit(monkeypatch)
    signalled: list[int] = []
    monkeypatch.setattr(loop, "signal_step", signalled.append)
    ticks = iter([100.0, 103.0, 110.0, 115.0])  # start and end of each epoch
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    run(epochs=2, warmup=0.5)
    assert signalled == [1, 2]
    weights = sha256(Path("models/mnist/model.weights.h5"))
    about = record(ONE)
    written = json.loads(Path("runs/train_mnist.json").read_text())
    del about["peak_memory_bytes"], written["peak_memory_bytes"]
    assert written == {"weights": weights, "seconds": 8.0, "epochs": 2, "epoch_seconds": [3.0, 5.0], **about}
    environment = json.loads(Path("models/mnist/environment.json").read_text())
    assert environment == {"device": asdict(ONE), "settings": about["settings"], "versions": about["versions"]}
    figures = "loss 1.5000, val 2.5000  accuracy 0.2500, val 0.7500"
    assert capsys.readouterr().out.splitlines() == [
        "train_mnist: mnist_cnn, 1,178 parameters, 8 images, cpu, a test, 2 threads, float32",
        f"train_mnist: epoch 1/2  {figures}  3 s left",
        f"train_mnist: epoch 2/2  {figures}  0 s left",
        f"train_mnist: 8 s of training, weights {weights[:12]}",
    ]


def test_params_that_change_meanwhile_are_not_recorded(prepared, monkeypatch):
    """Put back, they give what the training was made from: nothing is trained again."""
    prepared(8, (28, 28, 1))
    Path("dvc.yaml").write_text("stages: {train_mnist: {params: [lr]}}")
    fits, params = replace_fit(monkeypatch), Path("params.yaml")

    def edited(text: str) -> keras.callbacks.Callback:
        params.write_text("lr: 0.01\nnote: 1\n")
        return keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: params.write_text(text))

    run(epochs=1, callbacks=[edited("lr: 0.01\nnote: 2\n")])  # no param of the stage
    assert Path("models/mnist/model.weights.h5").exists()
    shutil.rmtree("models")
    shutil.rmtree("runs")
    with pytest.raises(UserError, match=r"^train_mnist: params \(lr\) changed while it trained"):
        run(epochs=1, callbacks=[edited("lr: 0.02\nnote: 1\n")])
    assert not Path("models").exists()
    params.write_text("lr: 0.01\nnote: 3\n")
    trained = len(fits)
    run(epochs=1)
    assert len(fits) == trained
    assert Path("models/mnist/model.weights.h5").exists()


def test_the_time_left_is_that_of_the_pixels_left(prepared, monkeypatch, capsys):
    prepared(8, (32, 32, 3))
    replace_fit(monkeypatch)
    ticks = iter([0.0, 10.0, 10.0, 30.0, 30.0, 100.0, 100.0, 260.0])  # 10, 20, 70 and 160 seconds
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    run(network="cifar_cnn", first_size=0.5, epochs=4)  # 16, 20, 28 and 32 pixels wide
    printed = capsys.readouterr().out.splitlines()[1:-1]
    left = [10 * (400 + 784 + 1024) / 256, 20 * (784 + 1024) / 400, 70 * 1024 / 784]  # 86.25, 90.4 and 91.4 seconds
    assert [line.rpartition("  ")[2] for line in printed] == [f"{seconds:.0f} s left" for seconds in (*left, 0)]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99.4, "99 s"), (99.6, "100 s"), (100, "2 min"), (1393, "23 min")]
)
def test_a_duration_is_in_seconds_or_minutes(seconds, text):
    assert loop._duration(seconds) == text


def test_augmentation_is_timed_and_callbacks_are_not(prepared, monkeypatch):
    prepared(8, (28, 28, 1))
    replace_fit(monkeypatch)
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def slow_images(*arguments):
        clock[0] += 3
        return images(*arguments)

    images = loop.epoch_images
    monkeypatch.setattr(loop, "epoch_images", slow_images)

    class Slow(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            clock[0] += 2

        def on_epoch_end(self, epoch, logs=None):
            clock[0] += 10_000

    run(callbacks=[Slow()])
    # The stand-in for `fit` calls one callback after the other.
    assert json.loads(Path("runs/train_mnist.json").read_text())["epoch_seconds"] == [3]
    assert clock == [10_005]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "float32"])
def test_the_model_that_is_written_is_float32(prepared, monkeypatch, precision):
    """Whatever it was trained in: its predictions are the same on a processor without bfloat16."""
    prepared(8, (28, 28, 1))
    fits = replace_fit(monkeypatch)
    run(Device("cpu", "a test", 2, precision), optimizer="muon", network="cifar_cnn")
    policies = {layer.dtype_policy.name for layer in fits[0].model.layers}
    assert policies == {"float32", precision}
    assert "bfloat16" not in Path("models/mnist/model.json").read_text()
    written = keras.models.model_from_json(Path("models/mnist/model.json").read_text())
    written.load_weights("models/mnist/model.weights.h5")
    for one, other in zip(written.get_weights(), fits[0].model.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_the_exercises_networks_train_in_float32_and_say_so(prepared, monkeypatch, capsys):
    prepared(8, (28, 28, 1))
    fits = replace_fit(monkeypatch)
    run(Device("cpu", "a test", 2, "mixed_bfloat16"), network="one_conv")
    assert {layer.dtype_policy.name for layer in fits[0].model.layers} == {"float32"}
    assert json.loads(Path("models/mnist/environment.json").read_text())["device"]["precision"] == "float32"
    assert "2 threads, float32" in capsys.readouterr().out


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_non_finite_loss_stops_the_training(prepared, monkeypatch, loss):
    prepared(8, (28, 28, 1))
    replace_fit(monkeypatch, loss)
    with pytest.raises(UserError, match=f"train_mnist: the loss is {loss} in epoch 1, batch 1, at learning rate"):
        run()
    assert not Path("models").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["trainable_variables", "non_trainable_variables"])
def test_non_finite_weights_that_the_loss_does_not_show_stop_the_training(prepared, monkeypatch, value, kind):
    """On some processors a ReLU turns NaN into 0; batch norm's statistics are not used while training."""
    prepared(8, (28, 28, 1))
    replace_fit(monkeypatch)

    class Poison(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                weights = getattr(self.model, kind)[-1]
                weights.assign([value] + [0] * (weights.shape[0] - 1))

    message = "train_mnist: some weights are non-finite after epoch 2; no model is written; lower lr"
    with pytest.raises(UserError, match=message):
        run(epochs=3, callbacks=[Poison()])
    assert not Path("models").exists()
