"""dvc.yaml beside the code: what it does not declare would stay stale without a word."""

import ast
import dataclasses
import functools
import importlib
from pathlib import Path

import pytest
import yaml
from dvc.fs import LocalFileSystem

from reprocnn.commands import lineage
from reprocnn.core import params
from reprocnn.datasets import DATASETS
from reprocnn.gate.imports import Code
from tests.support.commands import ROOT, call
from tests.support.declared import data_differences

STAGES = ["download", "prepare", "train_mnist", "train_cifar", "evaluate_mnist", "evaluate_cifar", "plot"]
LIGHT = [
    *("stages.download", "stages.prepare", "stages.plot", "reprocnn.gate.command", "reprocnn.commands.verify"),
    *(f"reprocnn.commands.{name}" for name in ("lineage", "summary", "demo", "repro")),
]


def declared(root: Path, name: str) -> dict[str, list[str]]:
    entry = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][name]
    return {"deps": entry["deps"], "params": entry.get("params", [])}


def test_dvc_yaml_says_what_the_code_does():
    assert lineage.differences(ROOT) == []


def test_the_stages_in_their_order_each_described():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == STAGES
    assert all(entry["desc"] and entry["cmd"] == f"python -m stages.{name}" for name, entry in stages.items())
    assert "normalization" in stages["prepare"]["desc"]


def test_a_stage_declares_its_file_and_packages():
    for name in STAGES:
        code = [dep for dep in declared(ROOT, name)["deps"] if dep.startswith(("stages", "reprocnn"))]
        assert [dep for dep in code if dep.startswith("stages")] == [f"stages/{name}.py"]
        assert all(dep.count("/") == 1 for dep in code), f"{name}: {code}"


def test_intact_downloads_stay_when_their_stage_starts():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert stages["download"]["outs"] == [{"data/raw": {"persist": True}}]


def test_git_keeps_metrics_and_plots_which_dvc_draws_of_their_own_data_set():
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    kept = [
        out for stage in pipeline["stages"].values() for kind in ("metrics", "plots") for out in stage.get(kind, [])
    ]
    plots = {path: settings for out in kept for path, settings in out.items()}
    assert {settings["cache"] for settings in plots.values()} == {False}
    for dataset in DATASETS:
        drawn = plots[f"plots/{dataset.name}/predictions.csv"]
        assert (drawn["template"], drawn["x"], drawn["y"]) == ("confusion", "y_pred", "y_true")
    assert {title: plot["y"] for one in pipeline["plots"] for title, plot in one.items()} == {
        f"{dataset.title} {measure}": {f"plots/{dataset.name}/history.csv": [measure, f"val_{measure}"]}
        for dataset in DATASETS for measure in ("loss", "accuracy")
    }  # fmt: skip


def test_training_never_sees_the_test_images():
    for name in ("train_mnist", "train_cifar"):
        data = [dep for dep in declared(ROOT, name)["deps"] if dep.startswith("data")]
        folder = f"data/prepared/{name.removeprefix('train_')}"
        assert sorted(data) == [f"{folder}/normalization.json", f"{folder}/train", f"{folder}/val"]


# What a stage reads of params.yaml: `read(View)` and `read(View, section)`, wherever its code calls them.


CODE = Code(ROOT, LocalFileSystem())  # parses each file once


@functools.cache
def nodes_of(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


@functools.cache
def keys_read(name: str) -> frozenset[str]:
    """Derive the dotted keys that a stage reads; a section that is not written out is each data set's."""
    keys = set()
    for file in CODE.of_command(f"python -m stages.{name}", ROOT):
        nodes = nodes_of(file)
        origins = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "reprocnn.core.params"]
        known = {"params.read", *(alias.name for node in origins for alias in node.names if alias.name == "read")}
        for node in nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func) in known:
                keys |= keys_of_call(file.relative_to(ROOT), node)
    return frozenset(keys)


def keys_of_call(file: Path, node: ast.Call) -> set[str]:
    view = ast.unparse(node.args[0]).removeprefix("params.")
    module = importlib.import_module(".".join(file.with_suffix("").parts))
    fields = dataclasses.fields(getattr(params, view, None) or getattr(module, view))
    if len(node.args) == 1:
        return {field.name for field in fields}
    given = node.args[1]
    sections = [str(given.value)] if isinstance(given, ast.Constant) else [dataset.name for dataset in DATASETS]
    return {f"{section}.{field.name}" for section in sections for field in fields}


def params_differences(declared_keys: list[str], read: frozenset[str]) -> list[str]:
    def covers(key: str, one: str) -> bool:
        return one == key or one.startswith(f"{key}.")

    missing = sorted(one for one in read if not any(covers(key, one) for key in declared_keys))
    return [f"add {one}" for one in missing] + [
        f"remove {key}" for key in declared_keys if not any(covers(key, one) for one in read)
    ]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_the_params_that_it_reads(name):
    read = keys_read(name)
    assert read
    assert params_differences(declared(ROOT, name)["params"], read) == []


def test_a_param_too_many_or_missing_is_found():
    read = keys_read("train_mnist")
    keys = declared(ROOT, "train_mnist")["params"]
    assert params_differences([*keys, "cifar"], read) == ["remove cifar"]
    assert params_differences([key for key in keys if key != "seed"], read) == ["add seed"]


def test_every_param_is_used():
    """Each field that is read into an object is read from one somewhere."""
    views = [view for view in vars(params).values() if dataclasses.is_dataclass(view)]
    fields = {field.name for view in views for field in dataclasses.fields(view)}
    sources = [path for folder in ("stages", "reprocnn") for path in (ROOT / folder).rglob("*.py")]
    nodes = [node for path in sources for node in nodes_of(path)]
    assert fields - {node.attr for node in nodes if isinstance(node, ast.Attribute)} == set()


# TensorFlow takes seconds to import.


def test_what_does_not_train_or_infer_does_not_load_tensorflow():
    names = set()
    for module in LIGHT:
        files = CODE.of_command(f"python -m {module}", ROOT)
        imported = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
        assert module in imported
        assert "reprocnn.backend" not in imported, module
        names |= imported
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; "
    code += "print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    assert call(ROOT, "python", "-c", code, *sorted(names)) == "[]\n"


def test_tensorflow_and_keras_are_imported_in_one_module():
    importing = set()
    for path in [*(ROOT / "reprocnn").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        for node in nodes_of(path):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                names = [ast.unparse(node.args[0]).strip("'")]
            if any(name.split(".")[0] in ("keras", "tensorflow") for name in names):
                importing.add(path.relative_to(ROOT).as_posix())
    assert importing == {"reprocnn/backend.py"}


# What a stage opens.


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_opens_its_deps_and_nothing_else(finished, name):
    opened = (finished.parent / "opened" / name).read_text().splitlines()
    assert opened
    assert data_differences(finished, name, opened) == []


@pytest.mark.slow
def test_a_data_file_opened_by_its_path_is_found(copy, tmp_path):
    stage = copy / "stages/plot.py"
    begin = "def main() -> None:\n"
    text = stage.read_text()
    assert begin in text
    stage.write_text(text.replace(begin, f'{begin}    open("data/prepared/mnist/" + "classes.json").close()\n'))
    audit = str(ROOT / "tests/support/opened")
    call(copy, "python", "-m", "stages.plot", PYTHONPATH=audit, OPENED_FOLDER=str(tmp_path), DVC_STAGE="plot")
    opened = (tmp_path / "plot").read_text().splitlines()
    assert data_differences(copy, "plot", opened) == ["dvc.yaml: plot: deps: add data/prepared/mnist/classes.json"]


def test_a_declared_data_file_that_is_never_opened_is_found(finished):
    opened = (finished.parent / "opened/plot").read_text().splitlines()
    opened = [path for path in opened if not path.startswith("metrics/")]
    assert data_differences(finished, "plot", opened) == ["dvc.yaml: plot: deps: remove metrics"]
