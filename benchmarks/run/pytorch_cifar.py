"""Train the PyTorch peer of CIFAR-10: airbench94_muon (arXiv 2404.00498), as its authors train it but on the CPU.

Other scripts run it in an environment of its own; it prints JSON. `step` times training steps, on a GPU if there is
one, with the network compiled. `train` trains once on the images of both splits, with convolutions in PRECISION, and
measures the test accuracy with and without test-time augmentation.
"""

import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.run import command
from benchmarks.run.pytorch_mnist import flops, peak_memory_mib
from reprocnn.images import arrays

DATA = Path("data/prepared/cifar")
BATCH_SIZE = 2000
WHITENING_EPOCHS = 3  # in which the bias of the whitening layer is trained
# Learning rates for a loss that is summed over the batch, and the part of biases and head lost in a step at full rate.
LR, BIAS_LR, HEAD_LR, DECAY = 0.24, 0.053, 0.67, 2e-6 * BATCH_SIZE
MOMENTUM, SGD_MOMENTUM = 0.6, 0.85  # of convolutions, and of biases and head
# Of the pixels of all 50,000 training images, from 0 to 1.
MEAN, DEVIATION = (torch.tensor(rgb).view(3, 1, 1) for rgb in ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]))


def main(arguments: list[str]) -> None:
    """Train or time steps, and print the figures."""
    parser = command.parser("pytorch_cifar", __doc__)
    task = parser.add_subparsers(dest="task", required=True)
    command.add_step_arguments(task.add_parser("step"))
    trained = task.add_parser("train")
    for name in ("filters", "epochs", "seed"):
        trained.add_argument(name, type=int)
    command.add_precision(trained)
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
    head.weight.data /= head.weight.data.std()
    model = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), head, Scale(1 / channels))
    return model.to(memory_format=torch.channels_last)


class Scale(nn.Module):
    """Multiply by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def whitening_kernel(x: torch.Tensor) -> torch.Tensor:
    """Compute the kernel (24, 3, 2, 2) that whitens the 2x2 patches of `x`; its second half is the negative."""
    patches = x.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double()
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    kernel = (directions / (variances + 5e-4).sqrt()).T.flip(0).reshape(12, 3, 2, 2).float()
    return torch.cat([kernel, -kernel])


class Muon(torch.optim.Optimizer):
    """Newton-Schulz steps for convolution kernels, as reprocnn/training/muon.py."""

    def __init__(self, kernels: list[torch.Tensor]) -> None:
        super().__init__(kernels, {"lr": LR})

    def step(self) -> None:  # type: ignore[override]
        """Take a step."""
        with torch.no_grad():
            for kernel in self.param_groups[0]["params"]:
                momentum = self.state[kernel].setdefault("momentum", torch.zeros_like(kernel))
                momentum.mul_(MOMENTUM).add_(kernel.grad)
                kernel.mul_(len(kernel) ** 0.5 / kernel.norm())
                kernel.sub_(self.param_groups[0]["lr"] * orthogonalize(kernel.grad + MOMENTUM * momentum))


class Optimizer:
    """Muon for convolutions and Nesterov momentum for biases and head."""

    def __init__(self, model: nn.Module) -> None:
        whitening, *rest = [parameter for parameter in model.parameters() if parameter.requires_grad]
        kernels, biases, head = ([one for one in rest if one.ndim == ndim] for ndim in (4, 1, 2))
        rates = (([whitening], BIAS_LR), (biases, BIAS_LR), (head, HEAD_LR))
        groups = [{"params": group, "lr": rate, "weight_decay": DECAY / rate} for group, rate in rates]
        self.both = (torch.optim.SGD(groups, momentum=SGD_MOMENTUM, nesterov=True), Muon(kernels))
        self.groups = [group for one in self.both for group in one.param_groups]  # the whitening's bias first
        self.rates = [group["lr"] for group in self.groups]

    def step(self, whitened: float, done: float) -> None:
        """Take a step; `done` is the part of the training that lies behind, `whitened` that of the whitening's bias."""
        for group, rate, part in zip(self.groups, self.rates, (whitened, done, done, done), strict=True):
            group["lr"] = rate * (1 - part)
        for one in self.both:
            one.step()
            one.zero_grad()


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


def train_step(
    model: nn.Module, optimizer: Optimizer, x: torch.Tensor, y: torch.Tensor, *parts: float, precision: str
) -> None:
    """Take a step on a batch; `parts` are those of `Optimizer.step`."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "mixed_bfloat16"):
        loss = functional.cross_entropy(model(x), y, label_smoothing=0.2, reduction="sum")
    loss.backward()
    optimizer.step(*parts)


def step(precision: str, filters: int, depth: int, images: int, steps: int) -> dict[str, float]:
    """Time training steps; return the median of their milliseconds."""
    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    x, y = load("train")
    model = build(filters, depth, x).to(device)
    optimizer = Optimizer(model)
    model = torch.compile(model) if gpu else model
    x, y = x.to(device), y.to(device)
    seconds = []
    for batch in torch.randperm(len(x), device=device).split(images)[: steps + 1]:
        start = time.perf_counter()
        part = x[batch].contiguous(memory_format=torch.channels_last)
        train_step(model, optimizer, part, y[batch], 0.0, 0.0, precision=precision)
        if gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {"milliseconds": 1000 * statistics.median(seconds[1:])}


def train(filters: int, epochs: int, seed: int, precision: str) -> dict[str, Any]:
    """Train once; return `epochs`, with the test accuracy after each, and the figures of the training as a whole."""
    torch.manual_seed(seed)
    x, y = (torch.cat(parts) for parts in zip(load("train"), load("val"), strict=True))
    model = build(filters, 2, x)
    optimizer = Optimizer(model)
    start = time.perf_counter()
    mirrored = (torch.rand(len(x)) < 0.5).view(-1, 1, 1, 1)
    x = functional.pad(torch.where(mirrored, x.flip(3), x), (2, 2, 2, 2), "reflect")
    per_epoch = len(x) // BATCH_SIZE
    done, first = 0, 0.0
    x_test, y_test = load("test")
    seconds, rows = time.perf_counter() - start, []
    for epoch in range(epochs):
        start = time.perf_counter()
        images = moved(x, torch.randint(0, 5, (len(x), 2)))
        images = images.flip(3) if epoch % 2 else images  # each image mirrored in every other epoch
        for batch in torch.randperm(len(x)).split(BATCH_SIZE)[:per_epoch]:
            model[0].bias.requires_grad_(epoch < WHITENING_EPOCHS)
            parts = done / per_epoch / WHITENING_EPOCHS, done / per_epoch / epochs
            part = images[batch].contiguous(memory_format=torch.channels_last)
            train_step(model, optimizer, part, y[batch], *parts, precision=precision)
            done += 1
            first = first or command.since_start()
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
        "tflop": done * BATCH_SIZE * 3 * flops(model, x_test[:1]) / 1e12,
        "epochs": rows,
    }


def moved(padded: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Cut images out of those with a margin of 2 pixels; `moves` (n, 2), from 0 to 4, say where: down, right."""
    height, width = padded.shape[2] - 4, padded.shape[3] - 4
    images = torch.empty(*padded.shape[:2], height, width)
    for down, right in itertools.product(range(5), repeat=2):
        chosen = (moves == torch.tensor([down, right])).all(1)
        images[chosen] = padded[chosen, :, down : down + height, right : right + width]
    return images


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
    """Load images with mean 0 and deviation 1 per channel of the training images, (n, 3, 32, 32), and labels."""
    x, y = arrays.load(DATA / part)
    return (torch.from_numpy(x).permute(0, 3, 1, 2) / 255 - MEAN) / DEVIATION, torch.from_numpy(y).argmax(1)
