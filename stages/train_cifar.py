"""Train the CIFAR-10 network that params.yaml names, on a GPU where there is one.

Reads data/prepared/cifar/train/, val/ and normalization.json. Writes models/cifar/, plots/cifar/history.csv and, about
the run itself, runs/train_cifar.json.
"""

from reprocnn.core.startup import run


def main() -> None:
    """Train, and write the model."""
    from reprocnn.backend import configure_device
    from reprocnn.core.params import Recipe, Run, read
    from reprocnn.training.loop import train

    params, recipe = read(Run), read(Recipe, "cifar")
    device = configure_device(params.device, params.threads, params.precision, params.devices)
    train("cifar", recipe, params.lr * recipe.lr_factor, params.seed, device)


if __name__ == "__main__":
    run(main)
