"""A data set more, as docs/guides/third-data-set.md adds it."""

import re
import shutil
from pathlib import Path

import pytest

from reprocnn.commands.demo import make_copy
from tests.support.commands import OVERRIDES, ROOT, call, column, ran

DIFF = re.search(r"```diff\n(.*?)```", (ROOT / "docs/guides/third-data-set.md").read_text(encoding="utf-8"), re.DOTALL)


def test_it_takes_at_most_five_files_and_eighty_lines():
    assert DIFF is not None
    assert DIFF[1].count("diff --git") <= 5
    added = [line for line in DIFF[1].splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert 50 < len(added) <= 80


@pytest.mark.nightly
def test_it_trains_on_the_sample(tmp_path):
    assert DIFF is not None
    source = tmp_path / "source"
    for name in call(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    (source / "third.diff").write_text(DIFF[1], encoding="utf-8")
    call(source, "git", "init", "--quiet")
    call(source, "git", "apply", "third.diff")
    call(source, "git", "add", "--all")
    folder = tmp_path / "copy"
    small = {"fashion.epochs": 2, "fashion.batch_size": 64, "fashion.filters": 8}
    make_copy(source, folder, OVERRIDES | small)

    output = call(folder, "dvc", "repro", "train_fashion")
    assert ran(output) == {"download", "prepare", "train_fashion"}
    accuracies = column(folder / "plots/fashion/history.csv", "val_accuracy")
    assert len(accuracies) == 2
    assert accuracies[-1] > 0.3  # three times chance
    assert (folder / "models/fashion/model.weights.h5").exists()
    assert call(folder, "python", "-m", "reprocnn", "lineage").startswith("dvc.yaml")
    assert Path(folder / "data/raw/fashion/train-images-idx3-ubyte.gz").exists()
