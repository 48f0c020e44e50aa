"""What benchmarks/run/gpu.py trains on JAX is what the pipeline trains; here on a CPU and with small images."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.run.settings import params_of, peak_lr
from reprocnn.commands.demo import change
from reprocnn.core import params
from reprocnn.core.files import write_json
from reprocnn.images.augment import augment, flips, shrink
from reprocnn.training.schedule import WarmupDecay
from tests.support.commands import ROOT, call

CHANGES = {"cifar.filters": 4, "cifar.batch_size": 20, "cifar.epochs": 4, "cifar.lr_factor": 5.0}
WITHOUT_TENSORFLOW = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
"""


@pytest.fixture
def folder(project: Path) -> Path:
    """With prepared images of two classes, dark and bright."""
    values = change(params.load(params.FILE), CHANGES)
    params.FILE.write_text(json.dumps(values), encoding="utf-8")  # which is YAML too
    data = project / "data/prepared/cifar"
    (project / "benchmarks/results").mkdir(parents=True)
    write_json(data / "normalization.json", {"scale": [1 / 255] * 3, "offset": [-0.5] * 3})
    rng = np.random.default_rng(0)
    for part, n in {"train": 130, "val": 40, "test": 30}.items():
        bright = np.arange(n) % 2
        x = rng.integers(0, 160, size=(n, 32, 32, 3)) + 90 * bright[:, None, None, None]
        (data / part).mkdir()
        np.save(data / part / "x.npy", x.astype(np.uint8))
        np.save(data / part / "y.npy", np.eye(10, dtype=np.float32)[bright])
    return project


@pytest.mark.slow
def test_images_and_rates_are_the_pipelines(folder):
    script = """
import numpy as np
from benchmarks.run import gpu
recipe = gpu.params_of("cifar")
rates, *moves = gpu.draw(130, 3, 1, recipe)
x = gpu.vary((32, 32, 3), gpu.on_device(*(recipe[key] for key in gpu.GIVEN))[0], *(part.ravel() for part in moves))
np.savez("drawn.npz", rates=rates, x=x, small=gpu.shrink(x, (20, 20, 3)))
"""
    call(folder, "python", "-c", WITHOUT_TENSORFLOW + script, PYTHONPATH=str(ROOT))
    drawn, recipe = np.load(folder / "drawn.npz"), params_of("cifar")
    rng = np.random.Generator(np.random.PCG64([3, 1]))
    chosen = rng.permutation(130)[:120]
    augmentation = params.fill(params.Augmentation, recipe)
    x = np.load(folder / "data/prepared/cifar/train/x.npy")[chosen]
    x = augment(x, rng, augmentation, flips(130, 3, 1)[chosen])
    assert np.array_equal(drawn["x"], x)
    assert np.abs(drawn["small"].astype(int) - shrink(x, (20, 20)).astype(int)).max() <= 1
    schedule = WarmupDecay(peak_lr(recipe), 4 * 6, recipe["warmup"], recipe["lr_end"])
    assert peak_lr(recipe) == 0.05
    assert drawn["rates"] == pytest.approx([float(schedule(step)) for step in range(6, 12)])


@pytest.mark.nightly
def test_an_epoch_in_one_call_is_that_of_fit(folder):
    script = """
import numpy as np
from benchmarks.run import gpu
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
    moved, apart, steps = call(folder, "python", "-c", WITHOUT_TENSORFLOW + script, PYTHONPATH=str(ROOT)).split()[-3:]
    assert float(moved) > 1
    assert float(apart) < 0.01 * float(moved)
    assert int(steps) == 6


@pytest.mark.nightly
def test_what_is_easy_is_learned(folder):
    script = """
from benchmarks.run import gpu
gpu.matrix_peak = lambda: 1e12
gpu.main(["train", "2", "cifar-plain,lr_factor=5,epochs=4", "cifar,lr_factor=10,epochs=2"])
gpu.main(["train", "1", "cifar,lr_factor=10,epochs=2"])
"""
    call(folder, "python", "-c", WITHOUT_TENSORFLOW + script, PYTHONPATH=str(ROOT))
    table = pd.read_csv(folder / "benchmarks/results/gpu.csv")
    assert table["change"].tolist() == ["lr_factor=5 epochs=4"] * 2 + ["lr_factor=10 epochs=2"]  # replaced
    assert table["judged_on"].tolist() == ["test", "test", "val"]
    assert table["epochs"].tolist() == [4, 4, 2]
    assert table["accuracy_tta"][:2].min() > 0.9


@pytest.mark.slow
def test_another_setting_is_refused(folder):
    refused = {
        "cifar-99": "found cifar-99, expected one of mnist, mnist-fast, ",
        "cifar-94,epoch=9": "unknown key epoch; known: lr, ",
        "cifar-94,epochs": "found cifar-94,epochs, expected changes as KEY=VALUE",
        "mnist": "found mnist, expected cifar_cnn with",
    }
    script = f"""
from benchmarks.run import gpu
print(gpu.changed_setting("cifar-94,epochs=9,lr=0.5")[:2])
for setting in {list(refused)}:
    try:
        gpu.main(["train", "2", setting])
    except SystemExit as stop:
        print(stop.code, flush=True)
"""
    output = call(folder, "python", "-c", script, PYTHONPATH=str(ROOT))
    assert "('cifar-94', 'epochs=9 lr=0.5')" in output
    errors = [line.partition(": error: ")[2] for line in output.splitlines() if ": error: " in line]
    for message, error in zip(refused.values(), errors, strict=True):
        assert error.startswith(f"argument SETTING[,KEY=VALUE]: {message}")
    assert output.splitlines().count("2") == len(refused)
