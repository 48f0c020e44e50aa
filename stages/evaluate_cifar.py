"""Measure the trained CIFAR-10 network on the test images.

Reads models/cifar/ and data/prepared/cifar/. Writes metrics/cifar.json, plots/cifar/predictions.csv (index, y_true,
y_pred, confidence), evaluation/cifar.json (the test images, per class, calibration, layers, data) and
evaluation/cifar.npz (images, filters and feature maps for the figures; of the test images only those that it got
wrong).
"""

from reprocnn.core.startup import run


def main() -> None:
    """Measure, and write the metrics."""
    from reprocnn.backend import configure_device
    from reprocnn.core.params import Evaluation, Recipe, read
    from reprocnn.evaluation.measure import measure

    params, recipe = read(Evaluation), read(Recipe, "cifar")
    configure_device(params.device, params.threads)
    measure("cifar", recipe, params.seed, params.source)


if __name__ == "__main__":
    run(main)
