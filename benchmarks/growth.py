"""How the cost of a training grows with the number of images and with the width of the network.

`python -m benchmarks.growth` trains two epochs of each network in a copy of the repository on parts of its training
images, MNIST's repeated up to ten times, and at other widths; it adds what benchmarks/growth.csv lacks: the seconds of
the second epoch, tracing being in the first, and the peak memory of the process.
"""

import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.watched import FILE as WATCHED
from stages.demo import make_copy
from stages.lib import arrays
from stages.lib.errors import run
from stages.lib.files import whole

TABLE, DATA = Path("benchmarks/growth.csv"), Path("data/prepared")
# CIFAR-10 at a quarter of its convolutions' cost, so that its largest part takes half a minute.
IMAGES = {"mnist": [6750, 13500, 27000, 54000, 108000, 216000, 540000], "cifar": [5000, 10000, 20000, 50000]}
WIDTHS = {"mnist": [8, 16, 32, 64], "cifar": [16, 32, 64]}
AT = {"mnist": (54000, 32), "cifar": (10000, 32)}  # images and filters where the other one grows
VALIDATION = 250  # images, few, since an epoch's seconds have their evaluation too


def main() -> None:
    table = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame({"data_set": [], "images": [], "filters": []})
    known = set(table[["data_set", "images", "filters"]].itertuples(index=False, name=None))
    for name, images, filters in cases():
        if (name, images, filters) not in known:
            row = {"data_set": name, "images": images, "filters": filters, **measure(name, images, filters)}
            print(row, flush=True)
            rows = pd.DataFrame([row])
            table = pd.concat([table, rows]) if len(table) else rows
            with whole(TABLE) as partial:
                table.to_csv(partial, index=False, lineterminator="\n", float_format="%.5g")


def cases() -> Iterator[tuple[str, int, int]]:
    for name, (images, filters) in AT.items():
        yield from ((name, n, filters) for n in IMAGES[name])
        yield from ((name, images, width) for width in WIDTHS[name] if width != filters)


def measure(name: str, images: int, filters: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        # Images of one size: of another one, the second epoch would be traced too.
        changes = {"epochs": 2, "filters": filters, "batch_size": 250, "first_size": 1.0}
        make_copy(Path(), copy, {f"{name}.{key}": value for key, value in changes.items()})
        data = copy / DATA / name
        data.mkdir(parents=True)
        for path in (DATA / name).iterdir():
            (data / path.name).symlink_to(path.resolve())
        splits = [arrays.load(DATA / name, part) for part in ("train", "val")]
        for key, parts in zip("xy", zip(*splits, strict=True), strict=True):
            for part, values in (("train", repeated(np.concatenate(parts), images)), ("val", parts[1][:VALIDATION])):
                (data / f"{key}_{part}.npy").unlink()
                np.save(data / f"{key}_{part}.npy", values)
        subprocess.run([sys.executable, "-m", "benchmarks.watched", f"train_{name}"], cwd=copy, check=True)
        first, second = (one["seconds"] for one in json.loads((copy / WATCHED).read_text())["epochs"])
        training = json.loads((copy / f"runs/train_{name}.json").read_text())
    return {
        "seconds": second - first,
        "peak_memory_mib": training["peak_memory_bytes"] >> 20,
        "hardware": "{name}, {threads} threads, {precision}".format(**training["device"]),
        "date": datetime.date.today().isoformat(),
    }


def repeated(x: np.ndarray, n: int) -> np.ndarray:
    """Its first `n`, from the start again where there are fewer."""
    return np.concatenate([x] * (n // len(x)) + [x[: n % len(x)]])


if __name__ == "__main__":
    run(main)
