"""dvc.yaml beside the code: what it does not declare would stay stale without a word."""

import ast
import dataclasses
import importlib
import shutil
import textwrap
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from reprocnn.commands import lineage
from reprocnn.commands.imports import Code
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.datasets import DATASETS
from tests.conftest import ROOT, call
from tests.support.data_deps import data_differences

STAGES = ["download", "prepare", "train_mnist", "train_cifar", "evaluate_mnist", "evaluate_cifar", "plot"]
LIGHT = [
    *("stages.download", "stages.prepare", "stages.plot", "reprocnn.gate.command", "reprocnn.commands.verify"),
    *(f"reprocnn.commands.{name}" for name in ("lineage", "summary", "demo", "repro")),
]


def lines(root: Path) -> list[str]:
    return [str(difference) for difference in lineage.differences(root)]


# A repository of somebody else.


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """Make a DVC repository of the files that a test gives by their paths, and go there."""

    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        Repo.init(str(tmp_path), no_scm=True, force=True).close()
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make


def stage(cmd: str, *deps: str, more: str = "") -> str:
    listed = "".join(f"\n      - {dep}" for dep in deps)
    return f"stages:\n  a:\n    cmd: {cmd}\n    deps:{listed or ' []'}\n{more}"


def test_nothing_to_say_of_a_stage_that_declares_its_code(foreign):
    foreign({"dvc.yaml": stage("python a.py", "a.py", "b.py"), "a.py": "import b\n", "b.py": "import numpy\n"})
    assert lines(Path()) == []


def test_a_stage_without_python_is_skipped(foreign):
    foreign({"dvc.yaml": stage("sh a.sh --more a.pyc", "a.sh", "b.py"), "a.sh": "", "b.py": "x = 1\n"})
    assert lines(Path()) == []


@pytest.mark.parametrize(
    "cmd",
    [
        "python a.py",
        "python ./a.py --epochs 3",
        "mkdir -p out && python a.py > log",
        "PYTHONHASHSEED=0 python -u a.py",
        "torchrun --nproc-per-node=2 a.py",
        "bash -c 'set -e; python a.py'",
        "python -m a",
        "python3 -m torch.distributed.run -m a",
        "run --script=a.py",
        "python a.py it's",
        '"python a.py\\npython c.py"',
    ],
)
def test_the_entry_is_found_in_the_command(foreign, cmd):
    foreign({"dvc.yaml": stage(cmd, "a.py", "c.py"), "a.py": "import b\n", "b.py": "x = 1\n", "c.py": "import a\n"})
    expected = [] if "c.py" in cmd else ["dvc.yaml: a: deps: remove c.py"]
    assert lines(Path()) == ["dvc.yaml: a: deps: add b.py", *expected]


def test_every_file_that_a_command_names_counts(foreign):
    foreign(
        {
            "dvc.yaml": "stages:\n  a:\n    cmd: [python a.py, python -m b]\n    deps: []\n",
            "a.py": "x = 1\n",
            "b.py": "x = 1\n",
        }
    )
    assert lines(Path()) == ["dvc.yaml: a: deps: add a.py", "dvc.yaml: a: deps: add b.py"]


@pytest.mark.parametrize(
    "line",
    [
        "import pkg.b",
        "import pkg.b as name",
        "from pkg import b",
        "from pkg.b import x",
        "from . import b",
        "from .b import x",
        "from ..pkg import b",
        "def later():\n    from pkg import b",
        "try:\n    from pkg import b\nexcept ImportError:\n    pass",
        "import importlib\nimportlib.import_module('pkg.b')",
    ],
)
def test_every_form_of_import_is_followed(foreign, line):
    files = {"pkg/__init__.py": "x = 1\n", "pkg/a.py": line + "\n", "pkg/b.py": "x = 1\n", "pkg/c.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python -m pkg.a", "pkg/a.py", "pkg/__init__.py"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add pkg/b.py"]


def test_what_only_type_checkers_see_is_not_code(foreign):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
    foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": text, "b.py": "x = 1\n", "c.py": "x = 1\n"})
    assert lines(Path()) == ["dvc.yaml: a: deps: add c.py"]


def test_a_package_is_its_main_and_its_inits(foreign):
    files = {"p/__init__.py": "import q.r\n", "p/__main__.py": "x = 1\n", "q/__init__.py": '"""Only this."""\n'}
    foreign({"dvc.yaml": stage("python -m p"), **files, "q/r.py": "x = 1\n"})
    assert lines(Path()) == ["dvc.yaml: a: deps: add p", "dvc.yaml: a: deps: add q/r.py"]


def test_the_standard_library_is_not_taken_for_a_file_of_the_same_name(foreign):
    files = {"statistics.py": "x = 1\n", "src/random.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python code/a.py", "code/a.py"), "code/a.py": "import random, statistics\n", **files})
    assert lines(Path()) == []


def test_a_src_layout(foreign):
    files = {"src/pkg/__init__.py": "", "src/pkg/a.py": "from pkg import b\n", "src/pkg/b.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python -m pkg.a", "src/pkg/a.py"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add src/pkg/b.py"]
    foreign({"dvc.yaml": stage("python src/pkg/a.py", "src/pkg/a.py")})
    assert lines(Path()) == ["dvc.yaml: a: deps: add src/pkg/b.py"]


def test_a_pythonpath_in_the_command(foreign):
    files = {"lib/b.py": "x = 1\n", "a.py": "import b\n"}
    foreign({"dvc.yaml": stage("PYTHONPATH=lib python a.py", "a.py"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add lib/b.py"]


def test_paths_are_those_of_the_stages_wdir(foreign):
    files = {"work/a.py": "import b, common\n", "work/b.py": "x = 1\n", "common.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py", more="    wdir: work\n"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add ../common.py", "dvc.yaml: a: deps: add b.py"]


def test_a_dvc_yaml_below_the_top(foreign, monkeypatch):
    files = {"sub/a.py": "import b\n", "sub/b.py": "x = 1\n"}
    root = foreign({"sub/dvc.yaml": stage("python a.py", "a.py"), **files})
    assert lines(Path()) == ["sub/dvc.yaml: a: deps: add b.py"]
    monkeypatch.chdir(root / "sub")
    assert lines(Path()) == ["dvc.yaml: a: deps: add b.py"]
    lineage.fix(Path(), lineage.differences(Path()))
    assert lines(Path()) == []


def test_a_folder_declares_the_files_below_it(foreign):
    files = {"a.py": "from pkg import b\nfrom pkg.deep import c\n", "pkg/b.py": "x = 1\n", "pkg/deep/c.py": "x = 1\n"}
    root = foreign({"dvc.yaml": stage("python a.py", "a.py", "pkg/"), **files})
    assert lines(Path()) == []
    (root / "pkg/__pycache__").mkdir()
    (root / "pkg/__pycache__/old.py").write_text("x = 1\n")
    assert lines(Path()) == []
    (root / "pkg/new.py").write_text('"""Nothing yet."""\n')
    assert lines(Path()) == []
    (root / "pkg/new.py").write_text("x = 1\n")
    assert lines(Path()) == ["dvc.yaml: a: deps: pkg/: nothing imports pkg/new.py"]


def test_a_folder_of_which_nothing_is_imported(foreign):
    files = {"a.py": "x = 1\n", "pkg/b.py": "x = 1\n", "data/1.csv": "", "data/2.csv": "", "data/make.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py", "pkg", "data"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: remove pkg"]  # the other is rather data


def test_python_that_a_stage_makes_is_data(foreign):
    made = "  b:\n    cmd: python b.py\n    deps: [b.py]\n    outs: [made]\n"
    foreign(
        {
            "dvc.yaml": stage("python a.py", "a.py", "made", more=made),
            "a.py": "import made.c\n",
            "b.py": "x = 1\n",
            "made/c.py": "x = 1\n",
        }
    )
    assert lines(Path()) == []


FOREACH = """
stages:
  a:
    foreach: [x, y]
    do:
      cmd: python a.py ${item}
      deps: [a.py]
  m:
    matrix:
      which: [x]
    cmd: python ${item.which}.py
    deps: [a.py]
"""


def test_stages_of_foreach_and_matrix_are_reported_and_not_fixed(foreign):
    root = foreign({"dvc.yaml": FOREACH, "a.py": "import b\n", "b.py": "x = 1\n", "x.py": "import b\n"})
    expected = [
        "dvc.yaml: a@x: deps: add b.py",
        "dvc.yaml: a@y: deps: add b.py",
        "dvc.yaml: m@x: deps: add b.py",
        "dvc.yaml: m@x: deps: add x.py",
        "dvc.yaml: m@x: deps: remove a.py",
    ]
    assert lines(Path()) == expected
    lineage.fix(Path(), lineage.differences(Path()))
    assert (root / "dvc.yaml").read_text() == FOREACH
    with pytest.raises(SystemExit) as stopped:
        lineage.main(["--fix"])
    assert stopped.value.code == 1


COMMENTED = """\
# Above all.
vars:
- model: big

stages:
  train: # a comment
    cmd: >-
      python train.py
      --model ${model}
    deps:
    # the entry
    - train.py   # at its place
    - old.py
    # the data
    - "data.csv"

  # flow style
  test: {cmd: python test.py, deps: [test.py, old.py, data.csv], outs: [out]}
  none:
    desc: has no deps
    cmd: python test.py
  empty:
    cmd: python test.py
    deps: []
  useless:
    cmd: python trivial.py
    deps:
      - old.py
"""
FIXED = """\
# Above all.
vars:
- model: big

stages:
  train: # a comment
    cmd: >-
      python train.py
      --model ${model}
    deps:
    # the entry
    - train.py   # at its place
    # the data
    - "data.csv"
    - pkg

  # flow style
  test: {cmd: python test.py, deps: [test.py, data.csv, pkg], outs: [out]}
  none:
    deps:
      - pkg
      - test.py
    desc: has no deps
    cmd: python test.py
  empty:
    cmd: python test.py
    deps: [pkg, test.py]
  useless:
    cmd: python trivial.py
    deps: []
"""


def test_fix_edits_the_lists_and_nothing_else(foreign, capsys):
    code = {"train.py": "import pkg.b, pkg.c\n", "test.py": "from pkg import b, c\n", "old.py": "x = 1\n"}
    package = {"pkg/__init__.py": "", "pkg/b.py": "x = 1\n", "pkg/c.py": "x = 1\n", "trivial.py": ""}
    root = foreign({"dvc.yaml": COMMENTED, **code, **package, "data.csv": ""})
    with pytest.raises(SystemExit) as stopped:
        lineage.main([])
    assert stopped.value.code == 1
    printed = capsys.readouterr().out
    assert "dvc.yaml: train: deps: add pkg\n" in printed
    assert (root / "dvc.yaml").read_text() == COMMENTED
    with pytest.raises(SystemExit) as stopped:
        lineage.main(["--fix"])
    assert stopped.value.code == 0
    assert (root / "dvc.yaml").read_text() == FIXED
    assert "fixed: dvc.yaml: test: deps: remove old.py\n" in capsys.readouterr().out
    assert lines(Path()) == []


def test_fix_keeps_windows_line_ends_and_odd_names(foreign):
    root = foreign({"a.py": "import b\n", "b.py": "x = 1\n", "über [1].py": "import b\n"})
    text = "stages:\r\n  a:\r\n    cmd: python a.py 'über [1].py'\r\n    deps: [a.py]\r\n"
    (root / "dvc.yaml").write_bytes(text.encode())
    lineage.fix(Path(), lineage.differences(Path()))
    assert (root / "dvc.yaml").read_bytes().decode() == text.replace("[a.py]", '[a.py, b.py, "\\u00fcber [1].py"]')
    assert lines(Path()) == []


def test_invalid_code_is_named(foreign):
    root = foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": "import b\n", "b.py": "x = 1\nprint 1\n"})
    with pytest.raises(UserError, match=r"^b\.py:2: invalid Python"):
        lineage.differences(Path())
    (root / "b.py").write_bytes(b"x = '\0'\n")
    with pytest.raises(UserError, match=r"^b\.py:1: invalid Python"):
        lineage.differences(Path())
    assert call(root, "python", "-m", "reprocnn", "lineage", check=False, PYTHONPATH=str(ROOT)).startswith(
        "error: b.py:1"
    )


def test_invalid_code_that_no_stage_runs_is_not_read(foreign):
    files = {"pkg/b.py": "x = 1\n", "pkg/template.py": "{{ name }} = 1 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py", "pkg"), "a.py": "import pkg.b\n", **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: pkg: nothing imports pkg/template.py"]


def test_a_broken_dvc_yaml_and_no_repository(foreign, tmp_path_factory):
    foreign({"dvc.yaml": "stages: [\n"})
    with pytest.raises(UserError, match=r"fix dvc\.yaml"):
        lineage.differences(Path())
    with pytest.raises(UserError, match="not a DVC repository"):
        lineage.differences(tmp_path_factory.mktemp("none"))


# This project.


@pytest.fixture
def copy_of_the_code(tmp_path: Path) -> Path:
    for name in ("stages", "reprocnn"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    Repo.init(str(tmp_path), no_scm=True).close()
    return tmp_path


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


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


def test_training_never_sees_the_test_images():
    for name in ("train_mnist", "train_cifar"):
        data = [dep for dep in declared(ROOT, name)["deps"] if dep.startswith("data")]
        folder = f"data/prepared/{name.removeprefix('train_')}"
        assert sorted(data) == [f"{folder}/normalization.json", f"{folder}/train", f"{folder}/val"]


def test_a_package_that_is_missing_is_found(copy_of_the_code):
    path = copy_of_the_code / "dvc.yaml"
    entries = yaml.safe_load(path.read_text())
    entries["stages"]["train_mnist"]["deps"].remove("reprocnn/training")
    path.write_text(yaml.safe_dump(entries))
    assert lines(copy_of_the_code) == ["dvc.yaml: train_mnist: deps: add reprocnn/training"]


def test_a_package_too_many_is_found(copy_of_the_code):
    path = copy_of_the_code / "dvc.yaml"
    entries = yaml.safe_load(path.read_text())
    entries["stages"]["prepare"]["deps"] += ["reprocnn/gate", "reprocnn/repository.py"]
    path.write_text(yaml.safe_dump(entries))
    assert lines(copy_of_the_code) == [
        "dvc.yaml: prepare: deps: remove reprocnn/gate",
        "dvc.yaml: prepare: deps: remove reprocnn/repository.py",
    ]


def test_a_new_file_that_no_stage_imports_is_found(copy_of_the_code):
    (copy_of_the_code / "reprocnn/splits/unused.py").write_text("SIZE = 3\n")
    assert lines(copy_of_the_code) == [
        "dvc.yaml: prepare: deps: reprocnn/splits: nothing imports reprocnn/splits/unused.py"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "from reprocnn.evaluation import metrics",
        "from reprocnn.evaluation.metrics import score",
        "import reprocnn.evaluation.metrics",
        "def later() -> None:\n    from reprocnn.evaluation import metrics",
    ],
)
def test_an_undeclared_import_is_found(copy_of_the_code, line):
    path = copy_of_the_code / "stages/prepare.py"
    path.write_text(f"{path.read_text()}\n{line}\n")
    assert "dvc.yaml: prepare: deps: add reprocnn/evaluation/metrics.py" in lines(copy_of_the_code)


def test_an_undeclared_import_behind_another_is_found(copy_of_the_code):
    edit(copy_of_the_code / "reprocnn/images/augment.py", "import numpy", "import reprocnn.datasets\nimport numpy")
    stages = ("train_mnist", "train_cifar", "evaluate_mnist", "evaluate_cifar")
    found = lines(copy_of_the_code)
    assert found == [f"dvc.yaml: {name}: deps: add reprocnn/datasets.py" for name in stages]


# What a stage reads of params.yaml: `read(View)` and `read(View, section)`, wherever its code calls them.


def keys_read(root: Path, name: str) -> set[str]:
    """Derive the dotted keys that a stage reads; a section that is not written out is each data set's."""
    code = Code(root)
    keys = set()
    for file in code.of_command(f"python -m stages.{name}", root):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        origins = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "reprocnn.core.params"]
        known = {"params.read", *(alias.name for node in origins for alias in node.names if alias.name == "read")}
        for node in nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func) in known:
                keys |= keys_of_call(file.relative_to(root), node)
    return keys


def keys_of_call(file: Path, node: ast.Call) -> set[str]:
    view = ast.unparse(node.args[0]).removeprefix("params.")
    module = importlib.import_module(".".join(file.with_suffix("").parts))
    fields = dataclasses.fields(getattr(params, view, None) or getattr(module, view))
    if len(node.args) == 1:
        return {field.name for field in fields}
    given = node.args[1]
    sections = [str(given.value)] if isinstance(given, ast.Constant) else [dataset.name for dataset in DATASETS]
    return {f"{section}.{field.name}" for section in sections for field in fields}


def params_differences(declared_keys: list[str], read: set[str]) -> list[str]:
    def covers(key: str, one: str) -> bool:
        return one == key or one.startswith(f"{key}.")

    missing = sorted(one for one in read if not any(covers(key, one) for key in declared_keys))
    return [f"add {one}" for one in missing] + [
        f"remove {key}" for key in declared_keys if not any(covers(key, one) for one in read)
    ]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_the_params_that_it_reads(name):
    read = keys_read(ROOT, name)
    assert read
    assert params_differences(declared(ROOT, name)["params"], read) == []


def test_a_param_too_many_or_missing_is_found():
    read = keys_read(ROOT, "train_mnist")
    keys = declared(ROOT, "train_mnist")["params"]
    assert params_differences([*keys, "cifar"], read) == ["remove cifar"]
    assert params_differences([key for key in keys if key != "seed"], read) == ["add seed"]


def test_every_param_is_used():
    """Each field that is read into an object is read from one somewhere."""
    views = [view for view in vars(params).values() if dataclasses.is_dataclass(view)]
    fields = {field.name for view in views for field in dataclasses.fields(view)}
    sources = [path for folder in ("stages", "reprocnn") for path in (ROOT / folder).rglob("*.py")]
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text()))]
    assert fields - {node.attr for node in nodes if isinstance(node, ast.Attribute)} == set()


# TensorFlow takes seconds to import.


@pytest.mark.parametrize("module", LIGHT)
def test_what_does_not_train_or_infer_does_not_load_tensorflow(module):
    files = Code(ROOT).of_command(f"python -m {module}", ROOT)
    names = sorted(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)
    assert module in names
    assert "reprocnn.backend" not in names
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; "
    code += "print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    assert call(ROOT, "python", "-c", code, *names) == "[]\n"


def test_tensorflow_and_keras_are_imported_in_one_module():
    importing = set()
    for path in [*(ROOT / "reprocnn").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
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


def test_a_data_file_opened_by_its_path_is_found(copy, tmp_path):
    edit(
        copy / "stages/plot.py",
        "def main() -> None:\n",
        'def main() -> None:\n    open("data/prepared/mnist/" + "classes.json").close()\n',
    )
    audit = str(ROOT / "tests/support/audit")
    call(copy, "python", "-m", "stages.plot", PYTHONPATH=audit, AUDIT_FOLDER=str(tmp_path), DVC_STAGE="plot")
    opened = (tmp_path / "plot").read_text().splitlines()
    assert data_differences(copy, "plot", opened) == ["dvc.yaml: plot: deps: add data/prepared/mnist/classes.json"]


def test_a_declared_data_file_that_is_never_opened_is_found(finished):
    opened = (finished.parent / "opened/plot").read_text().splitlines()
    opened = [path for path in opened if not path.startswith("metrics/")]
    assert data_differences(finished, "plot", opened) == ["dvc.yaml: plot: deps: remove metrics"]
