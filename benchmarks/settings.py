"""Named settings: what each changes of params.yaml. The README has them as `-S` for `dvc exp run`."""

from pathlib import Path
from typing import Any

import yaml

SETTINGS: dict[str, dict[str, Any]] = {
    "mnist": {},
    "mnist-fast": {"mnist.train_on": "train+val", "mnist.filters": 16, "mnist.depth": 1, "mnist.epochs": 1}
    | {"mnist.batch_size": 512, "mnist.lr": 0.02, "mnist.dropout": 0.0}
    | {f"mnist.{key}": 0 for key in ("shift", "rotation", "zoom", "shear", "elastic")},
    "cifar": {},
    "cifar-quick": {"cifar.filters": 32},
    "cifar-94": {"cifar.train_on": "train+val"},
    # What cifar-94 is measured against: the recipe it comes from, without what makes it cheaper.
    "cifar-plain": {"cifar.train_on": "train+val", "cifar.epochs": 8, "cifar.lr": 0.24, "cifar.first_size": 1.0}
    | {"precision": "float32"},
}


def params_of(setting: str) -> dict[str, Any]:
    """Those of its data set in params.yaml, changed as the setting says."""
    name = setting.split("-")[0]
    params: dict[str, Any] = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))[name]
    return params | {
        key.removeprefix(f"{name}."): value for key, value in SETTINGS[setting].items() if key.startswith(f"{name}.")
    }
