"""Train the PyTorch peers of MNIST. Other scripts run it in an environment of its own; it prints JSON.

`recipe` trains a public one-epoch recipe (github.com/tuomaso/train_mnist_fast, its last step) on all 60,000 images.
`step` times training steps of the network that the project trains on MNIST.
"""

import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.run import command
from reprocnn.images import arrays

DATA = Path("data/prepared/mnist")
BATCH_SIZE = 256


def main(arguments: list[str]) -> None:
    """Train or time steps, and print the figures."""
    parser = command.parser("pytorch_mnist", __doc__)
    task = parser.add_subparsers(dest="task", required=True)
    task.add_parser("recipe").add_argument("seed", type=int)
    command.add_step_arguments(task.add_parser("step"))
    options = vars(parser.parse_args(arguments))
    tasks: dict[str, Any] = {"recipe": recipe, "step": step}
    print(json.dumps(tasks[options.pop("task")](**options)))


def recipe(seed: int) -> dict[str, Any]:
    """Train the one-epoch recipe; return `epochs`, with the test accuracy, and the figures of the training."""
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
    first = 0.0
    for batch in batches:
        train_step(model, optimizer, x[batch], y[batch])
        cycle.step()
        first = first or command.since_start()
    seconds = time.perf_counter() - start
    process = {"process_seconds": command.since_start(), "cpu_seconds": time.process_time()}
    x_test, y_test = load("test")
    model.eval()
    with torch.no_grad():
        correct = sum(
            (model(part).argmax(1) == labels).sum().item()
            for part, labels in zip(x_test.split(1000), y_test.split(1000), strict=True)
        )
    epoch = {"epoch": 1, "images": len(x), "seconds": seconds, **process}
    return {
        "first_step_seconds": first,
        "peak_memory_mib": peak_memory_mib(),
        "tflop": len(x) * 3 * flops(model, x[:1]) / 1e12,
        "epochs": [epoch | {"test_accuracy": correct / len(x_test)}],
    }


def peak_memory_mib() -> int:
    """Return the most memory that the process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def flops(model: nn.Module, x: torch.Tensor) -> int:
    """Count the operations of convolutions and dense layers on one image forward, as reprocnn/evaluation/flops.py."""
    counted: list[int] = []

    def count(layer: Any, _: Any, output: torch.Tensor) -> None:
        positions = output.shape[2:].numel() if output.ndim == 4 else 1
        counted.append(2 * layer.weight.numel() * positions)

    hooks = [
        layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return sum(counted)


def step(precision: str, filters: int, depth: int, images: int, steps: int) -> dict[str, float]:
    """Time training steps of the project's network; return the median of their milliseconds."""
    layers: list[nn.Module] = [
        nn.ZeroPad2d(-2), nn.Conv2d(1, filters, 5, stride=2), nn.ReLU()
    ]  # fmt: skip
    channels = filters
    for factor, norm in ((2, False), (4, True)):
        for index in range(depth):
            layers.append(nn.Conv2d(channels, factor * filters, 3, padding=1, bias=not norm))
            channels = factor * filters
            layers += [nn.MaxPool2d(2, ceil_mode=True)] if index == 0 else []
            layers += [nn.BatchNorm2d(channels), nn.ReLU()] if norm else [nn.ReLU()]
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
    """Take a step on a batch."""
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()


def load(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Load images standardized by the usual mean and deviation of MNIST, (n, 1, 28, 28), and labels."""
    x, y = arrays.load(DATA / part)
    pixels = torch.from_numpy(x).float().permute(0, 3, 1, 2)
    return (pixels / 255 - 0.1307) / 0.3081, torch.from_numpy(y).argmax(1)
