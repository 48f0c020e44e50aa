"""The stages that train: what they take from params.yaml, and how they end."""

import importlib
import runpy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from reprocnn import backend
from reprocnn.core.params import Recipe, read
from reprocnn.training import loop
from tests.support.commands import ROOT


@pytest.mark.parametrize(("dataset", "lr"), [("mnist", 0.02 * 1.5), ("cifar", 0.02 * 3)])
def test_a_stage_trains_its_own_recipe(project, monkeypatch, dataset, lr):
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params |= {"device": "cpu", "devices": 5, "threads": 3, "precision": "mixed_bfloat16", "seed": 7, "lr": 0.02}
    params["mnist"] |= {"lr_factor": 1.5, "batch_size": 250, "epochs": 11}
    params["cifar"] |= {"lr_factor": 3.0, "batch_size": 875, "epochs": 12}
    yaml.dump(params, Path("params.yaml"))
    called: list[tuple[object, ...]] = []

    def configure(*given: object) -> str:
        called.append(given)
        return "the device"

    monkeypatch.setattr(backend, "configure_device", configure)
    monkeypatch.setattr(loop, "train", lambda *given: called.append(given))
    importlib.import_module(f"stages.train_{dataset}").main()
    recipe = read(Recipe, dataset)
    assert recipe.epochs == (11 if dataset == "mnist" else 12)
    assert called == [("cpu", 3, "mixed_bfloat16", 5), (dataset, recipe, pytest.approx(lr), 7, "the device")]


@pytest.mark.parametrize("dataset", ["mnist", "cifar"])
def test_a_mistake_ends_a_stage_with_a_line(project, dataset):
    Path("params.yaml").write_text("lr: abc")
    with pytest.raises(SystemExit) as error:
        runpy.run_path(str(ROOT / f"stages/train_{dataset}.py"), run_name="__main__")
    assert str(error.value.code).startswith("error: params.yaml: ")
