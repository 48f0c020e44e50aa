"""What each design flaw costs: the designs of the benchmark `flaws`, and its table."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from benchmarks.run import flaws
from reprocnn.audit.api import audit
from reprocnn.backend import Device, layers
from tests.support.small_models import CATEGORICAL, by_code, network


def test_the_first_design_is_the_warm_up_but_for_its_width():
    def kinds(model):
        return [(type(layer).__name__, layer.get_config().get("activation")) for layer in model.layers]

    wide = flaws.Design(filters=(512, 128, 32, 8, 8))
    model = flaws.build(wide, (32, 32, 3), 10, layers.Rescaling(1 / 255, -0.5))
    warmup = network("warmup", (32, 32, 3))
    assert kinds(model) == kinds(warmup)
    assert model.count_params() == warmup.count_params()


def test_each_fix_removes_what_the_audit_found():
    found_at_first = {
        "symmetry", "no-gradient", "many-filters", "fewer-filters", "large-kernel", "kernel-over-map",
        "hidden-softmax", "dropout-on-output", "sigmoid-output",
    }  # fmt: skip
    expected = [found_at_first]
    # With a signal to lose, the two softmaxes are seen to lose it.
    expected.append(expected[-1] - {"symmetry", "no-gradient"} | {"broken-signal"})
    expected.append(expected[-1] - {"many-filters"})
    expected.append(expected[-1] - {"fewer-filters", "large-kernel"})
    expected.append(expected[-1] - {"kernel-over-map"})
    expected.append(expected[-1] - {"hidden-softmax", "broken-signal"})
    expected.append(expected[-1] - {"dropout-on-output"})
    expected.append(set())
    design = flaws.Design()
    for changes, codes in zip(flaws.FIXES.values(), expected, strict=True):
        design = dataclasses.replace(design, **changes)
        model = flaws.build(design, (32, 32, 3), 10, layers.Rescaling(1 / 255, -0.5))
        assert set(by_code(audit(model, **CATEGORICAL, num_classes=10))) == codes


@pytest.mark.slow
def test_resumes_the_table_row_by_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flaws, "configure_device", lambda kind, threads: Device("cpu", "a processor", 2))
    for name, value in {"SEEDS": 1, "IMAGES": 20, "VAL_IMAGES": 10, "EPOCHS": 1, "BATCH_SIZE": 10}.items():
        monkeypatch.setattr(flaws, name, value)
    monkeypatch.setattr(flaws, "FIXES", {"as it is": {"hidden": "relu"}, "softmax output": {"output": "softmax"}})
    rng = np.random.default_rng(0)
    flaws.DATA.mkdir(parents=True)
    (flaws.DATA / "normalization.json").write_text('{"scale": [0.004, 0.004, 0.004], "offset": [-0.5, -0.5, -0.5]}')
    for split in ("train", "val"):
        (flaws.DATA / split).mkdir()
        np.save(flaws.DATA / split / "x.npy", rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8))
        np.save(flaws.DATA / split / "y.npy", np.eye(10, dtype="float32")[np.arange(30) % 10])
    trained = []
    train = flaws._train

    def stop_at_the_second(*arguments):
        trained.append(arguments)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(flaws, "_train", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        flaws.main([])
    first = flaws.TABLE.read_text().splitlines()
    assert len(first) == 2
    flaws.main([])
    assert len(trained) == 3
    table = pd.read_csv(flaws.TABLE)
    assert flaws.TABLE.read_text().splitlines()[:2] == first
    assert list(zip(table["step"], table["fix"], table["seed"], table["images"], strict=True)) == [
        (0, "as it is", 0, 20),
        (1, "softmax output", 0, 20),
    ]
    assert table["val_accuracy"].between(0, 1).all()
