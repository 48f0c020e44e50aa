"""Train the Keras peers of MNIST; print JSON.

`exercise` is the exercise's network as written: raw pixels, from_logits=True on a softmax, batch size 500, Adam, 20
epochs. `example` is the network of Keras' own example for MNIST (keras.io, "Simple MNIST convnet"): pixels from 0 to 1,
batch size 128, Adam, 15 epochs. Both train on all 60,000 images and are fed like the project's own
(reprocnn/images/batches.py).
"""

import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.run import command
from reprocnn.backend import configure_device, keras, layers
from reprocnn.evaluation.flops import training_flops
from reprocnn.images import arrays
from reprocnn.images.batches import batches
from reprocnn.networks.build import assignment

DATA = Path("data/prepared/mnist")


def main(arguments: list[str]) -> None:
    """Train once and print the figures."""
    parser = command.parser("keras_mnist", __doc__)
    parser.add_argument("peer", choices=("exercise", "example"))
    parser.add_argument("seed", type=int)
    options = parser.parse_args(arguments)
    print(json.dumps(train(options.peer, options.seed)))


def example() -> keras.Model:
    """Build the network of Keras' example."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def train(peer: str, seed: int) -> dict[str, Any]:
    """Train once; return `epochs`, with the test accuracy after each, and the figures of the training as a whole."""
    configure_device("cpu", 0)
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    splits = [arrays.load(DATA / part) for part in ("train", "val", "test")]
    x, y = (np.concatenate(parts) for parts in zip(*splits[:2], strict=True))
    if peer == "exercise":
        model, from_logits = assignment((28, 28, 1), 10, layers.Rescaling(1.0)), True
        batch_size, count = 500, 20
    else:
        model, from_logits, batch_size, count = example(), False, 128, 15
    ends: list[float] = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(command.since_start()))
    seconds, epochs = 0.0, []
    for epoch in range(1, count + 1):
        start = time.perf_counter()
        if epoch == 1:
            loss = keras.losses.CategoricalCrossentropy(from_logits=from_logits)
            model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"], jit_compile=False)
        order = rng.permutation(len(x))
        model.fit(batches((x[order], y[order]), batch_size), shuffle=False, verbose=0, callbacks=[note])
        seconds += time.perf_counter() - start
        accuracy = model.evaluate(batches((splits[2].x, splits[2].y), 1000), verbose=0)[1]
        epochs.append({"epoch": epoch, "images": epoch * len(x), "seconds": seconds, "test_accuracy": accuracy})
    return {
        "first_step_seconds": ends[0],
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "tflop": len(x) * count * training_flops(model) / 1e12,
        "epochs": epochs,
    }
