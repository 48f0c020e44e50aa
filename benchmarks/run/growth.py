"""Measure how the cost of a training grows with the number of images and with the width of the network.

Train two epochs of each network in a copy of the repository, on parts of its training images (MNIST's repeated up to
ten times) and at other widths. Add what benchmarks/results/growth.csv lacks: the seconds of the second epoch (the first
includes tracing) and the peak memory of the process.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.run import command, results
from reprocnn.commands.demo import make_copy
from reprocnn.core.files import read_json
from reprocnn.images import arrays

TABLE, DATA = results.FOLDER / "growth.csv", Path("data/prepared")
# CIFAR-10 at a quarter of its convolutions' cost, so that its largest part takes half a minute.
IMAGES = {"mnist": [6750, 13500, 27000, 54000, 108000, 216000, 540000], "cifar": [5000, 10000, 20000, 50000]}
WIDTHS = {"mnist": [8, 16, 32, 64], "cifar": [16, 32, 64]}
AT = {"mnist": (54000, 32), "cifar": (10000, 32)}  # images and filters where the other one grows
VALIDATION = 250  # images: few, since the seconds of an epoch include validation


def main(arguments: list[str]) -> None:
    """Measure what the table lacks."""
    command.parser("growth", __doc__).parse_args(arguments)
    known = results.known(TABLE, "data_set", "images", "filters")
    for dataset, images, filters in cases():
        if (dataset, str(images), str(filters)) not in known:
            row = {"data_set": dataset, "images": images, "filters": filters, **measure(dataset, images, filters)}
            results.add(TABLE, [row], digits=5)


def cases() -> Iterator[tuple[str, int, int]]:
    """Return data set, images and filters of each training."""
    for dataset, (images, filters) in AT.items():
        yield from ((dataset, n, filters) for n in IMAGES[dataset])
        yield from ((dataset, images, width) for width in WIDTHS[dataset] if width != filters)


def measure(dataset: str, images: int, filters: int) -> dict[str, Any]:
    """Train two epochs in a copy; return the other columns of the row."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        # Images of one size: with another one, the second epoch would be traced too.
        changes = {"epochs": 2, "filters": filters, "batch_size": 250, "first_size": 1.0}
        make_copy(Path(), copy, {f"{dataset}.{key}": value for key, value in changes.items()})
        write_data(copy / DATA / dataset, DATA / dataset, images)
        subprocess.run([sys.executable, "-m", f"stages.train_{dataset}"], cwd=copy, check=True)
        training = read_json(copy / f"runs/train_{dataset}.json")
    return {
        "seconds": training["epoch_seconds"][1],
        "peak_memory_mib": training["peak_memory_bytes"] >> 20,
        **results.conditions(results.trained_on(training)),
    }


def write_data(target: Path, source: Path, images: int) -> None:
    """Write prepared data with so many training `images`, taken from both splits and repeated if there are fewer."""
    train, val = (arrays.load(source / part) for part in ("train", "val"))
    for part in ("train", "val"):
        (target / part).mkdir(parents=True)
    for key in ("x", "y"):
        both = np.concatenate([getattr(train, key), getattr(val, key)])
        np.save(target / "train" / f"{key}.npy", repeated(both, images))
        np.save(target / "val" / f"{key}.npy", getattr(val, key)[:VALIDATION])
    (target / "normalization.json").symlink_to((source / "normalization.json").resolve())


def repeated(x: np.ndarray, n: int) -> np.ndarray:
    """Take the first `n` of `x`, starting over if there are fewer."""
    return np.concatenate([x] * (n // len(x)) + [x[: n % len(x)]])
