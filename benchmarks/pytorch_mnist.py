"""The peers of MNIST in PyTorch. Run by other modules here in an environment of its own; prints JSON.

`recipe SEED` trains a public one-epoch recipe (github.com/tuomaso/train_mnist_fast, its last step) on all 60,000
images; `step PRECISION FILTERS DEPTH IMAGES STEPS` times training steps of the network that the project trains on
MNIST, its convolutions in float32 or mixed_bfloat16.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

DATA = Path("data/prepared/mnist")
BATCH_SIZE = 256


def recipe(seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    x, y = (torch.cat(parts) for parts in zip(load("train"), load("val"), strict=True))
    model = nn.Sequential(
        nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip
    start = time.perf_counter()
    batches = torch.randperm(len(x)).split(BATCH_SIZE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.7, 0.9))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=len(batches), cycle_momentum=False)
    for batch in batches:
        train_step(model, optimizer, x[batch], y[batch])
        cycle.step()
    seconds = time.perf_counter() - start
    x, y = load("test")
    model.eval()
    with torch.no_grad():
        correct = sum(
            (model(part).argmax(1) == labels).sum().item()
            for part, labels in zip(x.split(1000), y.split(1000), strict=True)
        )
    return {"seconds": seconds, "test_accuracy": correct / len(x)}


def step(precision: str, filters: int, depth: int, images: int, steps: int) -> dict[str, float]:
    layers: list[nn.Module] = [
        nn.Conv2d(1, filters, 5, stride=2, bias=False), nn.BatchNorm2d(filters), nn.ReLU()
    ]  # fmt: skip
    channels = filters
    for factor in (2, 4):
        for index in range(depth):
            layers.append(nn.Conv2d(channels, factor * filters, 3, padding=1, bias=False))
            channels = factor * filters
            layers += [nn.MaxPool2d(2)] if index == 0 else []
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(9 * channels, 10))
    model = model.to(memory_format=torch.channels_last)
    x, y = load("train")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    seconds = []
    for batch in torch.randperm(len(x)).split(images)[: steps + 1]:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16"):
            train_step(model, optimizer, x[batch].contiguous(memory_format=torch.channels_last), y[batch])
        seconds.append(time.perf_counter() - start)
    return {"milliseconds": 1000 * statistics.median(seconds[1:])}


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()


def load(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images standardized by the usual mean and deviation of MNIST, (n, 1, 28, 28), and labels."""
    x, y = np.load(DATA / f"x_{part}.npy"), np.load(DATA / f"y_{part}.npy")
    pixels = torch.from_numpy(x).float().permute(0, 3, 1, 2)
    return (pixels / 255 - 0.1307) / 0.3081, torch.from_numpy(y).argmax(1)


if __name__ == "__main__":
    figures = recipe(int(sys.argv[2])) if sys.argv[1] == "recipe" else step(sys.argv[2], *map(int, sys.argv[3:]))
    print(json.dumps(figures))
