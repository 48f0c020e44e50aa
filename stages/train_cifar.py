"""Trains the CIFAR-10 network that params.yaml names, on a GPU where there is one.

Reads the training and validation splits of data/prepared/cifar/. Writes models/cifar/ and plots/cifar/history.csv,
and of the run itself, for people, runs/train_cifar.json.
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
    cifar: Recipe


def main() -> None:
    params = read(Params)
    device = set_up(params.device, params.threads, params.precision, params.devices)
    lr = params.cifar.lr if params.lr is None else params.lr
    train("cifar", params.cifar, lr, params.seed, device)


if __name__ == "__main__":
    run(main)
