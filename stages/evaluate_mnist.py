"""Measure the trained MNIST network on the test images.

Reads models/mnist/ and data/prepared/mnist/. Writes metrics/mnist.json, plots/mnist/predictions.csv (index, y_true,
y_pred, confidence), evaluation/mnist.json (the test images, per class, calibration, layers, data) and
evaluation/mnist.npz (images, filters and feature maps for the figures; of the test images only those that it got
wrong).
"""

from reprocnn.core.startup import run


def main() -> None:
    """Measure, and write the metrics."""
    from reprocnn.backend import configure_device
    from reprocnn.core.params import Evaluation, Recipe, read
    from reprocnn.evaluation.measure import measure

    params, recipe = read(Evaluation), read(Recipe, "mnist")
    configure_device(params.device, params.threads)
    measure("mnist", recipe, params.seed, params.source)


if __name__ == "__main__":
    run(main)
