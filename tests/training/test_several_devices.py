"""One batch on several devices: the processor twice, since GPUs cannot be counted on."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reprocnn import backend
from reprocnn.core.errors import UserError
from tests.support.commands import ROOT, environment
from tests.support.training import run

# Without dropout, whose masks each device draws for its own half.
CHANGES: dict[str, Any] = {"network": "mnist_cnn", "batch_size": 16, "epochs": 2}
SCRIPT = f"""
from reprocnn import backend
from reprocnn.core.params import Recipe
from reprocnn.training import loop
from tests.support.training import RECIPE
found = backend.configure_device("cpu", 1, "float32", devices=2)
assert str(found).startswith("2 x cpu, "), found
recipe = Recipe(**{{**vars(RECIPE), **{CHANGES}}})
loop.train("mnist", recipe, 0.01, seed=0, device=found)
"""


def history() -> list[list[float]]:
    with Path("plots/mnist/history.csv").open() as file:
        return [[float(value) for value in row.values()] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_devices_have_the_losses_of_one(prepared):
    prepared(48, (28, 28, 1))
    run(**CHANGES)
    one = history()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "2 x cpu" in done.stdout
    assert len(one) == 2
    for alone, shared in zip(one, history(), strict=True):
        assert shared == pytest.approx(alone, abs=1e-5)


def test_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr(backend.tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    with pytest.raises(UserError, match="devices: found 2, but TensorFlow sees 1 GPUs here"):
        backend.configure_device("gpu", 0, devices=2)
