"""dvc.yaml against the code: what it does not declare would stay stale without a word."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests import lineage
from tests.conftest import ROOT, call

STAGES = ["download", "prepare", "train_mnist", "train_cifar", "evaluate", "plot"]


@pytest.fixture
def copy_of_the_code(tmp_path: Path) -> Path:
    for name in ("stages", "dvc.yaml", "params.yaml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_dvc_yaml_says_what_the_code_does():
    assert lineage.differences(ROOT) == []


def test_six_stages_in_their_order_each_described():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == STAGES
    assert all(entry["desc"] and entry["cmd"] == f"python -m stages.{name}" for name, entry in stages.items())
    assert "normalization" in stages["prepare"]["desc"]


@pytest.mark.parametrize(
    "line",
    [
        "from stages.lib import scores",
        "from stages.lib.scores import score",
        "import stages.lib.scores",
        "from .lib import scores",
        "from . import summary",
        "def later() -> None:\n    from stages.lib import scores",
    ],
)
def test_an_undeclared_import_is_found(copy_of_the_code, line):
    path = copy_of_the_code / "stages/prepare.py"
    path.write_text(f"{path.read_text()}\n{line}\n")
    module = "stages/summary.py" if "summary" in line else "stages/lib/scores.py"
    assert f"dvc.yaml: prepare: deps: add      - {module}" in lineage.differences(copy_of_the_code)


def test_an_undeclared_import_behind_another_is_found(copy_of_the_code):
    edit(copy_of_the_code / "stages/lib/augment.py", "import numpy", "import stages.lib.decode\nimport numpy")
    found = lineage.differences(copy_of_the_code)
    stages = ("train_mnist", "train_cifar", "evaluate")
    assert found == [f"dvc.yaml: {stage}: deps: add      - stages/lib/decode.py" for stage in stages]


def test_a_declared_module_that_nothing_imports_is_found(copy_of_the_code):
    edit(
        copy_of_the_code / "dvc.yaml", "      - stages/plot.py", "      - stages/plot.py\n      - stages/lib/decode.py"
    )
    assert lineage.differences(copy_of_the_code) == ["dvc.yaml: plot: deps: remove   - stages/lib/decode.py"]


def test_a_declared_param_that_nothing_uses_is_found(copy_of_the_code):
    edit(copy_of_the_code / "dvc.yaml", "      - mnist.shift", "      - mnist.shift\n      - mnist.split_seed")
    assert lineage.differences(copy_of_the_code) == ["dvc.yaml: train_mnist: params: remove   - mnist.split_seed"]


@pytest.mark.parametrize(
    ("file", "field"),
    [("training.py", "    first_size: float"), ("augment.py", "    flip: bool")],  # the class's own; its base's
)
def test_a_param_that_is_read_into_an_object_but_never_used_is_found(copy_of_the_code, file, field):
    edit(copy_of_the_code / "stages/lib" / file, field, f"{field}\n    colour: str")
    found = lineage.differences(copy_of_the_code)
    assert "dvc.yaml: train_mnist: params: add      - mnist.colour" in found
    assert "stages/train_mnist.py: Params: nothing reads mnist.colour" in found


def test_an_undeclared_param_is_found(copy_of_the_code):
    edit(copy_of_the_code / "dvc.yaml", "      - mnist.shift\n", "")
    assert lineage.differences(copy_of_the_code) == ["dvc.yaml: train_mnist: params: add      - mnist.shift"]


@pytest.mark.parametrize("module", ["download", "prepare", "plot", "summary", "demo", "repro"])
def test_what_does_not_train_or_infer_does_not_load_tensorflow(module):
    code = f"import sys, stages.{module}; print(sorted({{'keras', 'tensorflow'}} & set(sys.modules)))"
    assert call(ROOT, "python", "-c", code) == "[]\n"


def test_tensorflow_is_imported_in_one_module():
    importing = [path.name for path in (ROOT / "stages").rglob("*.py") if '"tensorflow")' in path.read_text()]
    assert importing == ["device.py"]
    assert "import tensorflow" not in "".join(path.read_text() for path in (ROOT / "stages").rglob("*.py"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_opens_its_deps_and_nothing_else(finished, stage):
    opened = (finished.parent / "opened" / stage).read_text().splitlines()
    assert opened
    assert lineage.data_differences(finished, stage, opened) == []


def test_a_data_file_opened_by_its_path_is_found(copy, tmp_path):
    edit(copy / "stages/plot.py", "    params = read(Params)\n", """    params = read(Params)
    name = "".join(["classes", ".json"])
    (Path("data/prepared/mnist") / name).read_text()
""")  # fmt: skip
    call(
        copy,
        "python",
        "-m",
        "stages.plot",
        PYTHONPATH=str(ROOT / "tests/audit"),
        AUDIT_FOLDER=str(tmp_path),
        DVC_STAGE="plot",
    )
    opened = (tmp_path / "plot").read_text().splitlines()
    assert lineage.data_differences(copy, "plot", opened) == [
        "dvc.yaml: plot: deps: add      - data/prepared/mnist/classes.json"
    ]


def test_a_declared_data_file_that_is_never_opened_is_found(finished):
    opened = (finished.parent / "opened/plot").read_text().splitlines()
    opened.remove("metrics.json")
    assert lineage.data_differences(finished, "plot", opened) == ["dvc.yaml: plot: deps: remove   - metrics.json"]
