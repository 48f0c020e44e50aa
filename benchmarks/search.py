"""The search behind the MNIST recipe: what one change of it does to the 6,000 validation images.

`python -m benchmarks.search` runs `dvc exp run -S ... train_mnist`, in a copy of the repository, for each change and
seed that benchmarks/search.csv lacks, and adds a row as soon as it ends. The test images are not looked at.
"""

import datetime
import shutil
import tempfile
from pathlib import Path

import pandas as pd
from dvc.repo import Repo

from stages.demo import make_copy
from stages.lib.commands import dvc, git
from stages.lib.errors import run
from stages.lib.files import whole

SEARCH = Path("benchmarks/search.csv")
# In the order of their runs; the second column says with how many seeds.
CHANGES = {
    "": 3,
    "filters=24 epochs=18": 1,
    "elastic=0": 1,
    "depth=1": 1,
    "label_smoothing=0.1": 1,
    "rotation=10 zoom=0.1 shear=0.1": 1,
    "batch_size=128": 1,
    "lr=0.005": 1,
    "dropout=0": 1,
    "weight_decay=0.05": 1,
    "filters=16": 1,
    "filters=40 epochs=11": 1,
    "shift=2": 1,
}


def main() -> None:
    known = (
        set(pd.read_csv(SEARCH, keep_default_na=False)[["change", "seed"]].itertuples(index=False, name=None))
        if SEARCH.exists()
        else set()
    )
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        make_copy(Path(), copy, {})
        shutil.copy("dvc.lock", copy)
        dvc("config", "--local", "cache.dir", str(Repo().cache.local_cache_dir), cwd=copy)
        dvc("checkout", "--quiet", "download", "prepare", cwd=copy)
        for change, n in CHANGES.items():
            for seed in range(n):
                if (change, seed) not in known:
                    _add(measure(copy, change, seed))


def measure(copy: Path, change: str, seed: int) -> pd.DataFrame:
    """Trains with the params that `change` names, space between them; its row of the table."""
    git("checkout", "--quiet", "params.yaml", cwd=copy)
    params = [f"seed={seed}", *(f"mnist.{setting}" for setting in change.split())]
    sets = [argument for setting in params for argument in ("-S", setting)]
    dvc("exp", "run", "--single-item", *sets, "train_mnist", cwd=copy)
    last = pd.read_csv(copy / "plots/mnist/history.csv").iloc[-1]
    row = {
        "change": change,
        "seed": seed,
        "val_accuracy": last["val_accuracy"],
        "val_loss": last["val_loss"],
        "date": datetime.date.today().isoformat(),
    }
    return pd.DataFrame([row])


def _add(row: pd.DataFrame) -> None:
    print(row.iloc[0].to_dict(), flush=True)
    if SEARCH.exists():
        row = pd.concat([pd.read_csv(SEARCH, keep_default_na=False), row])
    with whole(SEARCH) as partial:
        row.to_csv(partial, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(main)
