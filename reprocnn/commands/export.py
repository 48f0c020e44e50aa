"""Write the trained networks as export/NAME.keras, which keras.models.load_model opens; they take uint8 images."""

import argparse
from pathlib import Path

from reprocnn import backend
from reprocnn.core.errors import UserError
from reprocnn.core.files import atomic_write
from reprocnn.datasets import DATASETS
from reprocnn.evaluation import model_files
from reprocnn.gate import lock


def main(arguments: list[str] | None = None) -> None:
    """Export the network of each data set. Raises UserError for one that is not trained, or damaged."""
    argparse.ArgumentParser(prog="reprocnn export", description=__doc__).parse_args(arguments)
    faults = lock.damaged("models/")
    if faults:
        raise UserError("\n".join(faults))
    backend.configure_device("cpu", threads=0)
    for dataset in DATASETS:
        path = Path("export") / f"{dataset.name}.keras"
        with atomic_write(path) as partial:
            model_files.load(Path("models") / dataset.name).save(partial)
        print(f"{path}: {path.stat().st_size:,} bytes")
