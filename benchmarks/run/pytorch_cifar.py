"""Train the PyTorch peer of CIFAR-10: airbench's network, optimizer and augmentation (arXiv 2404.00498).

Other scripts run it in an environment of its own; it prints JSON. `step` times training steps, on a GPU if there is
one, with the network compiled. `train` trains once, in float32 on the CPU, on the images of both splits, and measures
the test accuracy with and without test-time augmentation.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.run import command
from benchmarks.run.pytorch_mnist import flops, peak_memory_mib, since_the_process_began
from reprocnn.images import arrays

DATA = Path("data/prepared/cifar")
BATCH_SIZE = 1000
LR, MOMENTUM, SGD_MOMENTUM, BIAS_RATE, HEAD_RATE = 0.24, 0.6, 0.85, 440.0, 0.085


def main(arguments: list[str]) -> None:
    """Train or time steps, and print the figures."""
    parser = command.parser("pytorch_cifar", __doc__)
    task = parser.add_subparsers(dest="task", required=True)
    command.add_step_arguments(task.add_parser("step"))
    trained = task.add_parser("train")
    for name in ("filters", "epochs", "seed"):
        trained.add_argument(name, type=int)
    options = vars(parser.parse_args(arguments))
    tasks: dict[str, Any] = {"step": step, "train": train}
    print(json.dumps(tasks[options.pop("task")](**options)))


def build(filters: int, depth: int, x: torch.Tensor) -> nn.Module:
    """Build airbench's network, its whitening computed from the first images of `x`."""
    whitening = nn.Conv2d(3, 24, 2)
    whitening.weight.data = whitening_kernel(x[:5000])
    whitening.weight.requires_grad_(False)
    nn.init.zeros_(whitening.bias)
    layers: list[nn.Module] = [whitening, nn.GELU()]
    channels = 24
    for width in (filters, 4 * filters, 4 * filters):
        for index in range(depth):
            convolution = nn.Conv2d(channels, width, 3, padding="same", bias=False)
            nn.init.dirac_(convolution.weight.data[: min(channels, width)])
            norm = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)  # of the new value; Keras' 0.6 is of the old one
            norm.weight.requires_grad_(False)
            pool = [nn.MaxPool2d(2)] if index == 0 else []
            layers += [convolution, *pool, norm, nn.GELU()]
            channels = width
    head = nn.Linear(channels, 10, bias=False)
    nn.init.normal_(head.weight, std=1 / channels)
    model = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), head)
    return model.to(memory_format=torch.channels_last)


def whitening_kernel(x: torch.Tensor) -> torch.Tensor:
    """Compute the kernel (24, 3, 2, 2) that whitens the 2x2 patches of `x`; its second half is the negative."""
    patches = x.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double()
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    kernel = (directions / (variances + 5e-4).sqrt()).T.flip(0).reshape(12, 3, 2, 2).float()
    return torch.cat([kernel, -kernel])


class Muon:
    """Newton-Schulz steps for convolutions, Nesterov momentum for the rest, as reprocnn/training/muon.py."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.momenta = [torch.zeros_like(parameter) for parameter in self.parameters]

    def step(self, rate: float) -> None:
        """Take a step with the learning rate `rate`."""
        with torch.no_grad():
            self._step(rate)

    def _step(self, rate: float) -> None:
        for parameter, momentum in zip(self.parameters, self.momenta, strict=True):
            gradient = parameter.grad
            assert gradient is not None
            if parameter.ndim == 4:
                momentum.mul_(MOMENTUM).add_(gradient)
                parameter.mul_(len(parameter) ** 0.5 / (parameter.norm() + 1e-7))
                parameter.add_(orthogonalize(gradient + MOMENTUM * momentum), alpha=-rate)
            else:
                momentum.mul_(SGD_MOMENTUM).add_(gradient)
                factor = BIAS_RATE if parameter.ndim == 1 else HEAD_RATE
                parameter.add_(gradient + SGD_MOMENTUM * momentum, alpha=-rate * factor)
            parameter.grad = None


def orthogonalize(kernel: torch.Tensor) -> torch.Tensor:
    """Approximate the orthogonal matrix nearest to a kernel."""
    x = kernel.reshape(len(kernel), -1)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(3):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.T if tall else x).reshape(kernel.shape)


def train_step(model: nn.Module, optimizer: Muon, x: torch.Tensor, y: torch.Tensor, rate: float) -> None:
    """Take a step on a batch."""
    functional.cross_entropy(model(x), y, label_smoothing=0.2).backward()
    optimizer.step(rate)


def step(precision: str, filters: int, depth: int, images: int, steps: int) -> dict[str, float]:
    """Time training steps; return the median of their milliseconds."""
    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    x, y = load("train")
    model = build(filters, depth, x).to(device)
    optimizer = Muon(model)
    model = torch.compile(model) if gpu else model
    x, y = x.to(device), y.to(device)
    seconds = []
    for batch in torch.randperm(len(x), device=device).split(images)[: steps + 1]:
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "mixed_bfloat16"):
            train_step(model, optimizer, x[batch].contiguous(memory_format=torch.channels_last), y[batch], 0.01)
        if gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {"milliseconds": 1000 * statistics.median(seconds[1:])}


def train(filters: int, epochs: int, seed: int) -> dict[str, Any]:
    """Train once; return `epochs`, with the test accuracy after each, and the figures of the training as a whole."""
    torch.manual_seed(seed)
    x, y = (torch.cat(parts) for parts in zip(load("train"), load("val"), strict=True))
    model = build(filters, 2, x)
    optimizer = Muon(model)
    start = time.perf_counter()
    mirrored = torch.rand(len(x)) < 0.5
    padded = functional.pad(x, (2, 2, 2, 2), "reflect")
    steps = epochs * (len(x) // BATCH_SIZE)
    done, first = 0, 0.0
    x_test, y_test = load("test")
    seconds, rows = time.perf_counter() - start, []
    for epoch in range(epochs):
        start = time.perf_counter()
        for batch in torch.randperm(len(x)).split(BATCH_SIZE)[: len(x) // BATCH_SIZE]:
            images = torch.stack(
                [
                    padded[index, :, down : down + 32, right : right + 32]
                    for index, (down, right) in zip(
                        batch.tolist(), torch.randint(0, 5, (len(batch), 2)).tolist(), strict=True
                    )
                ]
            )
            flipped = mirrored[batch] ^ bool(epoch % 2)
            images[flipped] = images[flipped].flip(3)
            images = images.contiguous(memory_format=torch.channels_last)
            train_step(model, optimizer, images, y[batch], LR * (1 - done / steps))
            done += 1
            first = first or since_the_process_began()
        seconds += time.perf_counter() - start
        model.eval()
        right = accuracy(model, x_test, y_test, 0)
        rows.append({"epoch": epoch + 1, "images": done * BATCH_SIZE, "seconds": seconds, "test_accuracy": right})
        averaged = accuracy(model, x_test, y_test, 1) if epoch + 1 == epochs else 0.0
        model.train()
    return {
        "test_accuracy_tta": averaged,
        "first_step_seconds": first,
        "peak_memory_mib": peak_memory_mib(),
        "tflop": steps * BATCH_SIZE * 3 * flops(model, x[:1]) / 1e12,
        "epochs": rows,
    }


def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor, shift: int) -> float:
    """Measure the accuracy; with a `shift` of 1, of views moved by a pixel and mirrored, averaged."""
    with torch.no_grad():
        return _accuracy(model, x, y, shift)


def _accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor, shift: int) -> float:
    correct = 0
    for images, labels in zip(x.split(1000), y.split(1000), strict=True):
        if not shift:
            correct += int((model(images).argmax(1) == labels).sum())
            continue
        padded = functional.pad(images, (1, 1, 1, 1), "reflect")
        total = torch.zeros(len(images), 10)
        for offset, weight in ((1, 0.5), (0, 0.25), (2, 0.25)):
            view = padded[:, :, offset : offset + 32, offset : offset + 32]
            total += weight * (model(view) + model(view.flip(3)))
        correct += int((total.argmax(1) == labels).sum())
    return correct / len(x)


def load(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Load images from -0.5 to 0.5, (n, 3, 32, 32), and labels."""
    x, y = arrays.load(DATA / part)
    return torch.from_numpy(x).float().permute(0, 3, 1, 2) / 255 - 0.5, torch.from_numpy(y).argmax(1)
