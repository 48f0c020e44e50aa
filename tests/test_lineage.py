"""dvc.yaml against the code: what it does not declare would stay stale without a word."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests import lineage
from tests.conftest import ROOT, call

STAGES = ["download", "prepare", "train_mnist", "train_cifar", "evaluate", "plot"]
# They can stop a stage, and say where to go on, but not change what it makes.
ALWAYS_READ = {"params.yaml", "params.schema.json", "dvc.yaml"}


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
    assert found == [f"dvc.yaml: train_{name}: deps: add      - stages/lib/decode.py" for name in ("mnist", "cifar")]


def test_a_declared_module_that_nothing_imports_is_found(copy_of_the_code):
    edit(
        copy_of_the_code / "dvc.yaml", "      - stages/plot.py", "      - stages/plot.py\n      - stages/lib/decode.py"
    )
    assert lineage.differences(copy_of_the_code) == ["dvc.yaml: plot: deps: remove   - stages/lib/decode.py"]


def test_a_declared_param_that_nothing_uses_is_found(copy_of_the_code):
    edit(copy_of_the_code / "dvc.yaml", "      - mnist.shift", "      - mnist.shift\n      - mnist.split_seed")
    assert lineage.differences(copy_of_the_code) == ["dvc.yaml: train_mnist: params: remove   - mnist.split_seed"]


def test_a_param_that_is_read_into_an_object_but_never_used_is_found(copy_of_the_code):
    edit(copy_of_the_code / "stages/lib/training.py", "    flip: bool", "    flip: bool\n    colour: str")
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
    entry = yaml.safe_load((finished / "dvc.yaml").read_text())["stages"][stage]
    lines = (finished.parent / "opened" / stage).read_text().splitlines()
    own_names = ("__pycache__", ".partial-")  # bytecode; what is fsynced before it gets its name
    opened = {path for path in lines if not any(name in path for name in own_names)} - ALWAYS_READ
    outs = [name for kind in ("outs", "metrics", "plots") for out in entry.get(kind, []) for name in _names(out)]
    own = [*outs, "runs", "data/.incoming"]
    undeclared = {path for path in opened if not _covered(path, [*entry["deps"], *own]) and not path.endswith(".py")}
    assert undeclared == set(), f"dvc.yaml: {stage}: deps: add these"
    data = [dep for dep in entry["deps"] if not dep.endswith(".py")]
    assert [dep for dep in data if not any(_covered(path, [dep]) for path in opened)] == [], "never opened"


def _names(out: str | dict[str, object]) -> list[str]:
    return [out] if isinstance(out, str) else list(out)


def _covered(path: str, above: list[str]) -> bool:
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in above)
