"""Writes the trained networks as export/NAME.keras, which keras.models.load_model opens; they take uint8 images."""

from pathlib import Path

from stages.lib import device, trained
from stages.lib.errors import run
from stages.lib.files import whole


def main() -> None:
    device.set_up("cpu", threads=0)
    for name in ("mnist", "cifar"):
        path = Path("export") / f"{name}.keras"
        with whole(path) as partial:
            trained.load(Path("models") / name).save(partial)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    run(main)
