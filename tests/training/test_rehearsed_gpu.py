"""What a GPU would train with, on the processor: Keras' own layers and TensorFlow's determinism."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import ROOT, column, environment
from tests.support.training import run

SHAPES = {"mnist_cnn": (28, 28, 1), "cifar_cnn": (32, 32, 3)}
CHANGES = {
    "mnist_cnn": {"network": "mnist_cnn", "epochs": 2, "batch_size": 16},
    "cifar_cnn": {"network": "cifar_cnn", "epochs": 3, "batch_size": 16, "optimizer": "muon", "first_size": 0.6},
}
SCRIPT = """
import json, sys
from reprocnn import backend
from reprocnn.training import loop
from tests.support.training import recipe
backend.tf.config.experimental.enable_op_determinism()
precision, changes = sys.argv[1], json.loads(sys.argv[2])
loop.train("mnist", recipe(**changes), 0.01, 0, backend.Device("gpu", "a rehearsal", 1, precision))
"""


def rehearse(changes: dict[str, object], precision: str) -> tuple[list[float], bytes]:
    """Train; give the losses and the bytes of the weights."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, precision, json.dumps(changes)], env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "gpu, a rehearsal, 1 threads" in done.stdout
    weights = Path("models/mnist/model.weights.h5").read_bytes()
    losses = column(Path("plots/mnist/history.csv"), "loss")
    shutil.rmtree("runs")  # with the finished training
    return losses, weights


@pytest.mark.nightly
@pytest.mark.parametrize("network", SHAPES)
def test_it_has_the_losses_of_the_processor(prepared, network):
    prepared(48, SHAPES[network])
    run(**CHANGES[network])
    alone = column(Path("plots/mnist/history.csv"), "loss")
    losses, _ = rehearse(CHANGES[network], "float32")
    assert len(losses) == CHANGES[network]["epochs"]
    assert losses == pytest.approx(alone, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("network", SHAPES)
def test_with_dropout_and_in_bfloat16_it_gives_the_same_bits_twice(prepared, network):
    """Determinism refuses random numbers without a seed."""
    prepared(48, SHAPES[network])
    changes = CHANGES[network] | {"dropout": 0.2}
    losses, weights = rehearse(changes, "mixed_bfloat16")
    again, same = rehearse(changes, "mixed_bfloat16")
    assert losses == again
    assert weights == same
