"""Name the settings: what each changes in params.yaml. docs/guides/experiments.md has them as `-S` options."""

from typing import Any

from reprocnn.core import params

SETTINGS: dict[str, dict[str, Any]] = {
    "mnist": {},
    "mnist-fast": {"mnist.train_on": "train+val", "mnist.filters": 16, "mnist.depth": 1, "mnist.epochs": 1}
    | {"mnist.batch_size": 512, "mnist.lr_factor": 2.0, "mnist.dropout": 0.0}
    | {f"mnist.{key}": 0 for key in ("shift", "rotation", "zoom", "shear", "elastic")},
    # The smallest network tried that reaches 99.4 % of the validation images.
    "mnist-tiny": {"mnist.network": "cifar_cnn", "mnist.filters": 3, "mnist.epochs": 30, "mnist.batch_size": 128}
    | {"mnist.dropout": 0.0, "mnist.rotation": 10.0, "mnist.zoom": 0.1, "mnist.shear": 0.1, "mnist.elastic": 0.4},
    "cifar": {},
    "cifar-quick": {"cifar.train_on": "train+val", "cifar.filters": 32, "cifar.epochs": 8, "cifar.first_size": 0.5},
    "cifar-94": {"cifar.train_on": "train+val", "cifar.epochs": 11, "cifar.weight_decay": 0.06},
    "cifar-95": {"cifar.train_on": "train+val", "cifar.filters": 112, "cifar.epochs": 14, "cifar.weight_decay": 0.06},
    # The baseline of cifar-94: airbench's epochs, rate and size of the images, without what makes it cheaper.
    "cifar-plain": {"cifar.train_on": "train+val", "cifar.epochs": 8, "cifar.lr_factor": 24.0, "cifar.first_size": 1.0}
    | {"precision": "float32"},
}


def dataset_of(setting: str) -> str:
    """Name the data set that the setting trains on."""
    return setting.split("-")[0]


def params_of(setting: str) -> dict[str, Any]:
    """Read its data set's section of params.yaml, changed as the setting says, and `lr`."""
    values = params.load(params.FILE)
    section = f"{dataset_of(setting)}."
    changes = {key.removeprefix(section): new for key, new in SETTINGS[setting].items() if key.startswith(section)}
    return {"lr": values["lr"], **values[dataset_of(setting)], **changes}


def peak_lr(values: dict[str, Any]) -> float:
    """Compute the peak learning rate of what `params_of` gives."""
    return values["lr"] * values["lr_factor"]
