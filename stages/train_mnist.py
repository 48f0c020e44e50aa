"""Train the MNIST network that params.yaml names, on a GPU where there is one.

Reads data/prepared/mnist/train/, val/ and normalization.json. Writes models/mnist/, plots/mnist/history.csv and, about
the run itself, runs/train_mnist.json.
"""

from reprocnn.core.startup import run


def main() -> None:
    """Train, and write the model."""
    from reprocnn.backend import configure_device
    from reprocnn.core.params import Recipe, Run, read
    from reprocnn.training.loop import train

    params, recipe = read(Run), read(Recipe, "mnist")
    device = configure_device(params.device, params.threads, params.precision, params.devices)
    train("mnist", recipe, params.lr * recipe.lr_factor, params.seed, device)


if __name__ == "__main__":
    run(main)
