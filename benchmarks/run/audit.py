"""Seconds of an audit: this project's networks and some of keras.applications, benchmarks/results/audit.csv.

Untrained, on the CPU, with noise as the batch; the median of three, of which the first compiles nothing for the others.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.run import command, results

TABLE = results.FOLDER / "audit.csv"
ROUNDS = 3
APPLICATIONS = {"MobileNetV2": 96, "EfficientNetB0": 128, "ResNet50V2": 128, "DenseNet121": 128}


def main(arguments: list[str]) -> None:
    """Time each audit and write a row for it."""
    command.parser("audit", __doc__).parse_args(arguments)
    from reprocnn.audit import api
    from reprocnn.backend import configure_device, keras

    configure_device("cpu", threads=0)
    builds: dict[str, Callable[[], Any]] = {name: lambda name=name: api.build(name) for name in api.SHAPES}  # type: ignore[misc]
    for name, size in APPLICATIONS.items():
        builds[f"{name}, {size}x{size}"] = lambda name=name, size=size: getattr(keras.applications, name)(  # type: ignore[misc]
            weights=None, input_shape=(size, size, 3), classes=10
        )
    rows = []
    for name, build in builds.items():
        model = build()
        times = [_seconds(lambda model=model: api.audit(model, loss="categorical_crossentropy")) for _ in range(ROUNDS)]  # type: ignore[misc]
        rows.append({"network": name, "layers": len(list(model._flatten_layers())), "parameters": model.count_params(),
                     "seconds": round(statistics.median(times), 2)})  # fmt: skip
        print(rows[-1], flush=True)
        keras.utils.clear_session(free_memory=False)
    results.write(TABLE, rows)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
