"""Trains the MNIST network that params.yaml names, on a GPU where there is one.

Reads the training and validation splits of data/prepared/mnist/. Writes models/mnist/ and plots/mnist/history.csv,
and of the run itself, for people, runs/train_mnist.json.
"""

from dataclasses import dataclass

from stages.lib.device import set_up
from stages.lib.errors import run
from stages.lib.params import read
from stages.lib.training import Recipe, train


@dataclass(frozen=True)
class Params:
    device: str
    devices: int
    threads: int
    precision: str
    seed: int
    lr: float | None
    mnist: Recipe


def main() -> None:
    params = read(Params)
    device = set_up(params.device, params.threads, params.precision, params.devices)
    lr = params.mnist.lr if params.lr is None else params.lr
    train("mnist", params.mnist, lr, params.seed, device)


if __name__ == "__main__":
    run(main)
