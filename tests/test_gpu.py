"""What benchmarks/gpu.py trains on JAX is what the pipeline trains; here on a CPU and with small images."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.settings import params_of
from stages.demo import change
from stages.lib import params
from stages.lib.augment import Variation, augment, flips, shrink
from stages.lib.files import write_json
from stages.lib.schedule import WarmupDecay
from tests.conftest import ROOT, call

CHANGES = {"cifar.filters": 4, "cifar.batch_size": 20, "cifar.epochs": 4, "cifar.lr": 0.05}


@pytest.fixture
def folder(project: Path) -> Path:
    """With prepared images of two classes, dark and bright."""
    values = change(params.load(params.FILE), CHANGES)
    params.FILE.write_text(json.dumps(values), encoding="utf-8")  # which is YAML too
    data = project / "data/prepared/cifar"
    data.mkdir(parents=True)
    (project / "benchmarks").mkdir()
    write_json(data / "normalization.json", {"scale": [1 / 255] * 3, "offset": [-0.5] * 3})
    rng = np.random.default_rng(0)
    for part, n in {"train": 130, "val": 40, "test": 30}.items():
        bright = np.arange(n) % 2
        x = rng.integers(0, 160, size=(n, 32, 32, 3)) + 90 * bright[:, None, None, None]
        np.save(data / f"x_{part}.npy", x.astype(np.uint8))
        np.save(data / f"y_{part}.npy", np.eye(10, dtype=np.float32)[bright])
    return project


def test_images_and_rates_are_the_pipelines(folder):
    script = """
import numpy as np
from benchmarks import gpu
recipe = gpu.params_of("cifar")
rates, *moves = gpu.draw(130, 3, 1, recipe)
x = gpu.vary((32, 32, 3), gpu.on_device(*(recipe[key] for key in gpu.GIVEN))[0], *(part.ravel() for part in moves))
np.savez("told.npz", rates=rates, x=x, small=gpu.shrink(x, (20, 20, 3)))
"""
    call(folder, "python", "-c", script, PYTHONPATH=str(ROOT))
    told, recipe = np.load(folder / "told.npz"), params_of("cifar")
    rng = np.random.Generator(np.random.PCG64([3, 1]))
    chosen = rng.permutation(130)[:120]
    variation = Variation(**{key: recipe[key] for key in Variation.__dataclass_fields__})
    x = augment(np.load(folder / "data/prepared/cifar/x_train.npy")[chosen], rng, variation, flips(130, 3, 1)[chosen])
    assert np.array_equal(told["x"], x)
    assert np.abs(told["small"].astype(int) - shrink(x, (20, 20)).astype(int)).max() <= 1
    schedule = WarmupDecay(recipe["lr"], 4 * 6, recipe["warmup"], recipe["lr_end"])
    assert told["rates"] == pytest.approx([float(schedule(step)) for step in range(6, 12)])


@pytest.mark.slow
def test_an_epoch_in_one_call_is_that_of_fit(folder):
    script = """
import numpy as np
from benchmarks import gpu
gpu.PRECISION = "float32"  # bfloat16 is rounded too coarsely to compare six steps
keras, recipe = gpu.keras, gpu.params_of("cifar") | {"lr_end": 1.0}  # of fit the rate is the same in all steps
images, given = gpu.load("train"), gpu.on_device(*(recipe[key] for key in gpu.GIVEN))
keras.utils.set_random_seed(0)
model = gpu.build(recipe, (32, 32, 3), "float32")
gpu.set_whitening(model, images.x)
model.compile(gpu.Muon(0.05), keras.losses.CategoricalCrossentropy(label_smoothing=recipe["label_smoothing"]))
model.optimizer.build(model.trainable_variables)
batches, before = gpu.draw(130, 0, 0, recipe), model.get_weights()
state = gpu.state_of(model, model.optimizer)
state, _ = gpu.epoch_of((32, 32, 3), recipe, model.optimizer, state, given, batches)(state, *given, batches)
x = np.asarray(gpu.vary((32, 32, 3), given[0], *(part.ravel() for part in batches[1:])))
model.fit(x, images.y[batches[1].ravel()], batch_size=20, shuffle=False, verbose=0)
fitted = model.get_weights()
gpu.keep(state, model, model.optimizer)
norm = lambda parts, others: sum(float(np.square(a - b).sum()) for a, b in zip(parts, others)) ** 0.5
print(norm(fitted, before), norm(fitted, model.get_weights()), int(model.optimizer.iterations))
"""
    moved, apart, steps = call(folder, "python", "-c", script, PYTHONPATH=str(ROOT)).split()[-3:]
    assert float(moved) > 1
    assert float(apart) < 0.01 * float(moved)
    assert int(steps) == 6


@pytest.mark.slow
def test_what_is_easy_is_learned(folder):
    script = """
import sys
from benchmarks import gpu
gpu.matrix_peak = lambda: 1e12
sys.argv = ["gpu", "2", "cifar-plain,lr=0.05,epochs=4", "cifar,lr=0.1,epochs=2"]
gpu.main()
"""
    call(folder, "python", "-c", script, PYTHONPATH=str(ROOT))
    table = pd.read_csv(folder / "benchmarks/gpu.csv")
    assert table["judged_on"].tolist() == ["test", "test", "val", "val"]
    assert table["epochs"].tolist() == [4, 4, 2, 2]
    assert table["accuracy_tta"][:2].min() > 0.9


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("cifar-95", "expected how many seeds and settings (mnist, "),
        ("cifar-94,epoch=9", "expected how many seeds and settings (mnist, "),
        ("mnist", "found mnist, expected cifar_cnn with"),
    ],
)
def test_another_setting_is_told(folder, setting, message):
    told = call(folder, "python", "-m", "benchmarks.gpu", "2", setting, check=False, PYTHONPATH=str(ROOT))
    assert told.startswith(f"error: gpu: {message}")
