"""Deps beside the code that a stage runs, in repositories of somebody else."""

import shutil
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from reprocnn.commands import lineage
from reprocnn.core.errors import UserError
from reprocnn.gate import imports, lock
from reprocnn.gate.imports import Code
from tests.support.commands import ROOT, call
from tests.support.lineage import lines, make_repository


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """Make a DVC repository of the files that a test gives by their paths, and go there."""

    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        make_repository(tmp_path)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make


def stage(cmd: str, *deps: str, more: str = "") -> str:
    listed = "".join(f"\n      - {dep}" for dep in deps)
    return f"stages:\n  a:\n    cmd: {cmd}\n    deps:{listed or ' []'}\n{more}"


@pytest.mark.parametrize("arguments", [[], ["--fix"]])
def test_nothing_to_say_of_a_stage_that_declares_its_code(foreign, capsys, arguments):
    files = {"dvc.yaml": stage("python a.py", "a.py", "b.py"), "a.py": "import b\n", "b.py": "import numpy\n"}
    root = foreign(files)
    assert lines(Path()) == []
    with pytest.raises(SystemExit) as stopped:
        lineage.main(arguments)
    assert stopped.value.code == 0
    assert capsys.readouterr().out == "dvc.yaml declares the code of each stage\n"
    assert (root / "dvc.yaml").read_text() == files["dvc.yaml"]


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
        "python -ma",
        "python -Bum a",
        "cd sub/.. && python -m a",
        "python3 -m torch.distributed.run -m a",
        "run --script=a.py",
        'python -c "import a; a.main()"',
        "python3 -uc 'from a import x; 1 is 1'",  # of which Python warns
        "python a.py it's",
        '"python a.py\\npython c.py"',
    ],
)
def test_the_entry_is_found_in_the_command(foreign, cmd):
    foreign({"dvc.yaml": stage(cmd, "a.py", "c.py"), "a.py": "import b\n", "b.py": "x = 1\n", "c.py": "import a\n"})
    expected = [] if "c.py" in cmd else ["dvc.yaml: a: deps: remove c.py"]
    assert lines(Path()) == ["dvc.yaml: a: deps: add b.py", *expected]


@pytest.mark.parametrize("cmd", ["python app", "cd app/.. && python3.12 ./app/ --epochs 3"])
def test_a_folder_that_python_runs_is_its_main(foreign, cmd):
    foreign({"dvc.yaml": stage(cmd, "app/__main__.py"), "app/__main__.py": "import b\n", "app/b.py": "x = 1\n"})
    assert lines(Path()) == ["dvc.yaml: a: deps: add app/b.py"]


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


@pytest.mark.parametrize("command", ["python a.py", "python -m a"])
def test_the_folder_that_a_command_changes_to_is_looked_in(foreign, command):
    declared = stage(f"cd code && {command} && cd ..; python c.py", "code/a.py", "c.py")
    foreign({"dvc.yaml": declared, "code/a.py": "import b\n", "code/b.py": "x = 1\n", "c.py": "x = 1\n"})
    assert lines(Path()) == ["dvc.yaml: a: deps: add code/b.py"]


@pytest.mark.parametrize("line", ["from pkg import *", "from .pkg import *"])
def test_a_star_imports_the_modules_that_the_package_exports(foreign, line):
    package = {
        "app/pkg/__init__.py": "__all__ = ['b']\n__all__ += ['x']\n",
        "app/pkg/b.py": "x = 1\n",
        "app/pkg/c.py": "",
    }
    files = {"app/a.py": line + "\n", "app/__init__.py": "", **package}
    cmd = "python app/a.py" if line.startswith("from pkg") else "python -m app.a"
    foreign({"dvc.yaml": stage(cmd, "app/a.py", "app/pkg/__init__.py"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add app/pkg/b.py"]


def test_long_expressions_are_no_harder_to_read(foreign):
    """As generated code has them: a sum nests as deep as it is long."""
    long = f"x = {' + '.join(['1'] * 1500)}\nif x{'.y' * 1500}:\n    pass\n"
    files = {"a.py": "from pkg import *\n", "pkg/__init__.py": f"__all__ = ['b']\n{long}", "pkg/b.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add pkg"]


@pytest.mark.parametrize(
    ("start", "word", "seen"),
    [
        ("from typing import TYPE_CHECKING", "TYPE_CHECKING", False),
        ("from typing_extensions import TYPE_CHECKING as TYPES", "TYPES", False),
        ("import typing", "typing.TYPE_CHECKING", False),
        ("import typing as t", "t.TYPE_CHECKING", False),
        ("TYPE_CHECKING = False", "TYPE_CHECKING", False),
        ("TYPE_CHECKING = True", "TYPE_CHECKING", True),
        ("TYPE_CHECKING = False\nTYPE_CHECKING = 1", "TYPE_CHECKING", True),
        ("from typing import TYPE_CHECKING\nTYPE_CHECKING: bool = True", "TYPE_CHECKING", True),
        ("import typing\ntyping.TYPE_CHECKING = True", "typing.TYPE_CHECKING", True),
        ("from settings import TYPE_CHECKING", "TYPE_CHECKING", True),
        ("from settings import typing", "typing.TYPE_CHECKING", True),
    ],
)
def test_what_only_type_checkers_see_is_not_code(foreign, start, word, seen):
    text = f"{start}\nif {word}:\n    import b\nelse:\n    import c\n"
    foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": text, "b.py": "x = 1\n", "c.py": "x = 1\n"})
    assert lines(Path()) == ["dvc.yaml: a: deps: add b.py"] * seen + ["dvc.yaml: a: deps: add c.py"]


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
    foreign({"dvc.yaml": stage("PYTHONPATH=none:lib python -m b", "a.py")})
    assert lines(Path()) == ["dvc.yaml: a: deps: add lib/b.py", "dvc.yaml: a: deps: remove a.py"]


def test_a_file_imports_for_each_stage_what_is_on_its_path(foreign):
    cmd = "PYTHONPATH={} python a.py"
    stages = {name: {"cmd": cmd.format(name), "deps": ["a.py"]} for name in ("one", "two")}
    files = {"a.py": "import b\n", "one/b.py": "x = 1\n", "two/b.py": "x = 1\n"}
    foreign({"dvc.yaml": yaml.safe_dump({"stages": stages}), **files})
    assert lines(Path()) == ["dvc.yaml: one: deps: add one/b.py", "dvc.yaml: two: deps: add two/b.py"]


def test_paths_are_those_of_the_stages_wdir(foreign):
    files = {"work/a.py": "import b\n__import__('common')\n", "work/b.py": "x = 1\n", "common.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py", more="    wdir: work\n"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add ../common.py", "dvc.yaml: a: deps: add b.py"]
    foreign({"dvc.yaml": stage("cd .. && python common.py", more="    wdir: work\n")})
    assert lines(Path()) == ["dvc.yaml: a: deps: add ../common.py"]
    started = {"work/a.py": "import os\nos.system(f'python {TOP}/' + 'code/c.py')\n", "code/c.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py", more="    wdir: work\n"), **started})
    assert lines(Path()) == ["dvc.yaml: a: deps: add ../code/c.py"]


def test_a_folder_that_a_stage_writes_to_is_no_dep(foreign):
    files = {"a.py": "import pkg.b, pkg.c\n", "pkg/b.py": "x = 1\n", "pkg/c.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py", more="    outs: [pkg/out.txt]\n"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add pkg/b.py", "dvc.yaml: a: deps: add pkg/c.py"]


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
    (root / "pkg/.ipynb_checkpoints").mkdir()
    (root / "pkg/.ipynb_checkpoints/b.py").write_text("x = 1\n")
    assert lines(Path()) == []
    (root / "pkg/new.py").write_text('"""Nothing yet."""\n')
    assert lines(Path()) == []
    (root / "pkg/new.py").write_text("x = 1\n")
    assert lines(Path()) == ["dvc.yaml: a: deps: pkg/: nothing imports pkg/new.py"]


def test_a_folder_of_which_nothing_is_imported(foreign):
    files = {"a.py": "x = 1\n", "data/1.csv": "", "data/2.csv": "", "data/make.py": "x = 1\n"}
    half = {"pkg/b.py": "x = 1\n", "pkg/b.csv": ""}
    foreign({"dvc.yaml": stage("python a.py", "a.py", "pkg", "data"), **files, **half})
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


def test_stages_of_foreach_and_matrix_are_reported_and_not_fixed(foreign, capsys):
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
    assert capsys.readouterr().out.splitlines()[:-1] == expected


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
    found = capsys.readouterr().out.splitlines()
    assert "dvc.yaml: train: deps: add pkg" in found
    assert len(found) == 9
    assert (root / "dvc.yaml").read_text() == COMMENTED
    with pytest.raises(SystemExit) as stopped:
        lineage.main(["--fix"])
    assert stopped.value.code == 0
    assert (root / "dvc.yaml").read_text() == FIXED
    assert capsys.readouterr().out.splitlines() == [
        *(f"fixed: {line}" for line in found), "dvc.yaml declares the code of each stage",
    ]  # fmt: skip
    assert lines(Path()) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"*.tmp", b"*.tmp\n__pycache__\n"),
        (b"*.tmp\r\n*.log\r\n", b"*.tmp\r\n*.log\r\n__pycache__\r\n"),
        (b"*.tmp\r\n*.log", b"*.tmp\r\n*.log\r\n__pycache__\r\n"),
        (b"", b"__pycache__\n"),
    ],
)
def test_fix_adds_no_folder_whose_bytecode_counts(foreign, before, after):
    package = {"pkg/__init__.py": "", "pkg/b.py": "x = 1\n", "pkg/c.py": "x = 1\n"}
    root = foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": "import pkg.b, pkg.c\n", **package})
    (root / ".dvcignore").write_bytes(before)
    for _ in range(2):
        lineage.fix(Path(), lineage.differences(Path()))
    assert (root / ".dvcignore").read_bytes() == after


def test_fix_leaves_dvcignore_alone_where_it_adds_files_alone(foreign):
    foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": "import b\n", "b.py": "x = 1\n"})
    lineage.fix(Path(), lineage.differences(Path()))
    assert lines(Path()) == []
    assert not Path(".dvcignore").exists()


def test_fix_below_the_top_writes_to_the_dvcignore_at_the_top(foreign, monkeypatch):
    """DVC takes none in a folder that is a dep."""
    package = {"sub/pkg/b.py": "x = 1\n", "sub/pkg/c.py": "x = 1\n"}
    root = foreign({"sub/dvc.yaml": stage("python a.py", "a.py"), "sub/a.py": "import pkg.b, pkg.c\n", **package})
    monkeypatch.chdir(root / "sub")
    lineage.fix(Path(), lineage.differences(Path()))
    assert lines(Path()) == []
    assert not Path(".dvcignore").exists()
    assert (root / ".dvcignore").read_text() == "__pycache__\n"


def test_code_behind_a_linked_folder_is_declared_by_its_own_place(foreign):
    """DVC hashes no file that a link in a dep leads to."""
    files = {"a.py": "from lib import linked, noise\n", "lib/noise.py": "x = 1\n", "code/linked/__init__.py": "x = 1\n"}
    root = foreign({"dvc.yaml": stage("python a.py", "a.py", "lib"), **files})
    (root / "lib/linked").symlink_to("../code/linked")
    assert lines(Path()) == ["dvc.yaml: a: deps: add code/linked/__init__.py"]
    lineage.fix(Path(), lineage.differences(Path()))
    assert lines(Path()) == []


def test_imported_code_that_dvc_ignores_is_named(foreign, capsys):
    files = {"a.py": "from lib import noise\nimport demo.b\n", "lib/noise.py": "from lib.export import c\n"}
    hidden = {"lib/export/c.py": "x = 1\n", "demo/b.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py", "lib"), ".dvcignore": "demo\nexport\n", **files, **hidden})
    shown = [
        f"dvc.yaml: a: deps: {path}: imported, but DVC ignores it (.dvcignore, or a .dvc folder)"
        for path in sorted(hidden)
    ]
    assert lines(Path()) == shown
    with pytest.raises(SystemExit) as stopped:
        lineage.main(["--fix"])
    assert stopped.value.code == 1
    assert lines(Path()) == shown
    assert capsys.readouterr().out.startswith("\n".join(shown))
    assert lock.undeclared_code() == [f"{line}; change .dvcignore or move the file, then `dvc repro`, and commit"
                                      for line in shown]  # fmt: skip


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess, sys\nsubprocess.run([sys.executable, 'code/real.py'], check=True)",
        "import subprocess\nsubprocess.check_call(args=('python', '-u', 'code/real.py', '--epochs', '3'))",
        "import subprocess\nsubprocess.run('python code/real.py > log', shell=True)",
        "import subprocess, sys\nsubprocess.Popen([sys.executable, 'real.py'], cwd='code')",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'code.real'])",
        "import os\nos.system('python code/real.py')",
        "import os\nos.execlp('python', 'python', 'code/real.py')",
        "import pathlib, subprocess\nsubprocess.run(['python', str(pathlib.Path(__file__).with_name('start.py'))])",
        "import subprocess, sys\nSCRIPT = 'code/real.py'\nsubprocess.run([sys.executable, SCRIPT])",
        "import subprocess\ncmd = ['python', '-m']\ncmd += ['code.real', *options]\nsubprocess.run(cmd)",
        "import subprocess\nlast: tuple[str, ...] = ('-m', 'code.real')\nsubprocess.run(['python', *last])",
        "import subprocess\ncmd = [*cmd, 'python']\nsubprocess.run([*cmd, 'code/real.py'])",
        "import subprocess\ncmd = ['python', 'real.py']\n"
        "subprocess.run(cmd)\nsubprocess.run(cmd, cwd='code')\nsubprocess.run(cmd)",
        "import runpy\nrunpy.run_path('code/real.py')",
        "exec(open('code/real.py').read())",
    ],
)
def test_a_script_that_another_one_starts_is_followed(foreign, code):
    real = {"code/real.py": "import beside\n", "code/beside.py": "x = 1\n"}
    start = {"lib/start.py": "import os\nos.system('python code/real.py')\n"}
    foreign({"dvc.yaml": stage("python lib/a.py", "lib/a.py"), "lib/a.py": code, **real, **start})
    assert "dvc.yaml: a: deps: add code" in lines(Path())


def test_words_of_other_calls_start_nothing(foreign):
    code = "print('run b.py first')\nlog.run('b.md')\nplot.attach('b', data)\n"
    code += "subprocess.run([tool, 'notes'])\nsubprocess.run([tool, 'data.csv'])\n"
    files = {"a.py": code, "b.py": "x = 1\n", "notes": "No program.\n", "data.csv": "1 2\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py"), **files})
    assert lines(Path()) == []


def test_a_dep_that_is_itself_a_link_is_declared(foreign):
    files = {"a.py": "import b\nfrom lib import noise\n", "real/noise.py": "x = 1\n", "shared/b.py": "x = 1\n"}
    root = foreign({"dvc.yaml": stage("python a.py", "a.py", "b.py", "lib"), **files})
    (root / "lib").symlink_to("real")
    (root / "b.py").symlink_to("shared/b.py")
    assert lines(Path()) == []


def test_fix_keeps_windows_line_ends_and_odd_names(foreign):
    root = foreign({"a.py": "import b\n", "b.py": "x = 1\n", "über [1].py": "import b\n"})
    text = "stages:\r\n  a:\r\n    cmd: python a.py 'über [1].py'\r\n    deps: [a.py]\r\n"
    (root / "dvc.yaml").write_bytes(text.encode())
    lineage.fix(Path(), lineage.differences(Path()))
    assert (root / "dvc.yaml").read_bytes().decode() == text.replace("[a.py]", '[a.py, b.py, "\\u00fcber [1].py"]')
    assert lines(Path()) == []


def test_fix_keeps_the_form_of_a_list_whose_only_dep_is_replaced(foreign):
    root = foreign({"dvc.yaml": stage("python new.py", "old.py"), "new.py": "x = 1\n", "old.py": "x = 1\n"})
    lineage.fix(Path(), lineage.differences(Path()))
    assert (root / "dvc.yaml").read_text() == stage("python new.py", "new.py")


def test_invalid_code_is_named(foreign):
    root = foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": "import b\n", "b.py": "x = 1\nprint 1\n"})
    with pytest.raises(UserError, match=r"^b\.py:2: invalid Python"):
        lineage.differences(Path())
    for text in ("x = '\0'\n", f"x = 1{' + 1' * 100_000}\n", f"x = {'-' * 100_000}1\n"):
        (root / "b.py").write_text(text)
        with pytest.raises(UserError, match=r"^b\.py:1: invalid Python 3\.\d+ \(\w.*\); fix it"):
            lineage.differences(Path())
    (root / "b.py").write_text("print 1\n")
    assert call(root, "python", "-m", "reprocnn", "lineage", code=2, PYTHONPATH=str(ROOT)).startswith("error: b.py:1")


def test_invalid_code_that_no_stage_runs_is_not_read(foreign):
    files = {"pkg/b.py": "x = 1\n", "pkg/template.py": "{{ name }} = 1 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py", "pkg"), "a.py": "import pkg.b\n", **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: pkg: nothing imports pkg/template.py"]


def test_a_broken_dvc_lock_is_named(foreign):
    foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": "", "dvc.lock": "x"})
    with pytest.raises(UserError, match=r"dvc\.lock' validation failed; fix dvc\.yaml or restore dvc\.lock"):
        lineage.differences(Path())


def test_a_broken_dvc_yaml_and_no_repository(foreign, tmp_path_factory):
    foreign({"dvc.yaml": "stages: [\n"})
    with pytest.raises(UserError, match=r"fix dvc\.yaml"):
        lineage.differences(Path())
    with pytest.raises(UserError, match="not a DVC repository"):
        lineage.differences(tmp_path_factory.mktemp("none"))


def test_an_undeclared_import_is_found(tmp_path):
    """In this project, among other differences."""
    for name in ("stages", "reprocnn"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    make_repository(tmp_path)
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    pipeline["stages"]["train_mnist"]["deps"].remove("reprocnn/training")
    pipeline["stages"]["prepare"]["deps"] += ["reprocnn/gate", "reprocnn/repository.py"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    (tmp_path / "reprocnn/splits/unused.py").write_text("SIZE = 3\n")
    with (tmp_path / "stages/download.py").open("a") as file:
        file.write("\n\ndef later() -> None:\n    from reprocnn.evaluation.metrics import score\n")
    augment = tmp_path / "reprocnn/images/augment.py"
    augment.write_text(augment.read_text().replace("import numpy", "import reprocnn.datasets\nimport numpy", 1))
    assert lines(tmp_path) == [
        "dvc.yaml: download: deps: add reprocnn/evaluation/metrics.py",
        "dvc.yaml: prepare: deps: remove reprocnn/gate",
        "dvc.yaml: prepare: deps: remove reprocnn/repository.py",
        "dvc.yaml: prepare: deps: reprocnn/splits: nothing imports reprocnn/splits/unused.py",
        "dvc.yaml: train_mnist: deps: add reprocnn/datasets.py",
        "dvc.yaml: train_mnist: deps: add reprocnn/training",
        "dvc.yaml: train_cifar: deps: add reprocnn/datasets.py",
        "dvc.yaml: evaluate_mnist: deps: add reprocnn/datasets.py",
        "dvc.yaml: evaluate_cifar: deps: add reprocnn/datasets.py",
    ]


@pytest.mark.parametrize(
    "code",
    [
        "import importlib\nimportlib.import_module('pack.mod')",
        "import importlib\nimportlib.import_module(name='pack.mod')",
        "from importlib import import_module as load\nload('pack.mod')",
        "import importlib\nimportlib.import_module('.mod', package='pack')",
        "import importlib\nimportlib.import_module('.mod', 'pack')",
        "__import__('pack.mod')",
        "import builtins\ngetattr(builtins.__import__('pack.mod'), 'x')",
        "import importlib\nNAME = 'pack.mod'\nimportlib.import_module(NAME)",
        "import importlib\nKINDS = {'a': 'pack.mod'}\ndef make(kind):\n    return importlib.import_module(KINDS[kind])",
        "import importlib\nload = importlib.import_module\nload('pack.mod')",
        "import importlib\nfor name in ('mod',):\n    importlib.import_module(f'pack.{name}')",
        "import importlib\nname = 'mod'\nimportlib.import_module('pack.' + name)",
        "import importlib\nname = 'mod'\nimportlib.import_module('pack.%s' % name)",
        "import runpy\nrunpy.run_module('pack.mod')",
        "import runpy\nrunpy.run_path('pack/mod.py')",
        "from importlib.util import spec_from_file_location\nspec_from_file_location('any', 'pack/mod.py')",
        "from importlib.util import spec_from_file_location\nimport os\n"
        "spec_from_file_location('any', os.path.join(os.path.dirname(__file__), 'pack', 'mod.py'))",
        "import runpy\nfrom pathlib import Path\nrunpy.run_path(str(Path(__file__).parent / 'pack' / 'mod.py'))",
        "from pathlib import Path\nexec((Path('pack') / 'mod.py').read_text())",
        "__import__('pack', fromlist=['mod'])",
        "__import__('pack', globals(), locals(), ['mod'])",
        "from pydoc import locate\nlocate('pack.mod')",
        "import hydra\nhydra.utils.get_class('pack.mod.Net')",
        "from werkzeug.utils import import_string\nimport_string('pack.mod:Net')",
    ],
)
def test_what_is_imported_by_name_is_missed_in_the_deps(foreign, code):
    files = {"pack/__init__.py": "", "pack/mod.py": "x = 1\n", "other.py": "y = 'pack.mod'\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": code + "\n", **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add pack/mod.py"]
    Path("dvc.yaml").write_text(stage("python a.py", "a.py", "pack/mod.py"))
    assert lines(Path()) == []


def test_of_a_name_that_ends_at_run_time_the_innermost_package_counts(foreign):
    code = "import importlib\nfor name in ('one',):\n    importlib.import_module(f'pack.deep.{name}')\n"
    files = {
        "pack/__init__.py": "",
        "pack/other.py": "x = 1\n",
        "pack/deep/__init__.py": "",
        "pack/deep/one.py": "x = 1\n",
    }
    foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": code, **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add pack/deep/one.py"]


def test_the_end_of_a_path_is_the_nearest_file_of_that_name(foreign):
    code = "import os, runpy\nrunpy.run_path(os.path.join(folder, 'mod.py'))\n"
    files = {"sub/a.py": code, "sub/pack/mod.py": "x = 1\n", "other/mod.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python sub/a.py", "sub/a.py"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add sub/pack/mod.py"]


@pytest.mark.parametrize(
    "code",
    [
        "import importlib\nnote = '......done'\nimportlib.import_module(name)",
        "try:\n    from .......... import b\nexcept ImportError:\n    pass",
    ],
)
def test_more_dots_than_folders_lead_nowhere(foreign, code):
    foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": f"{code}\n", "b.py": "x = 1\n"})
    assert lines(Path()) == []


@pytest.mark.parametrize("cmd", ["pytest -q tests/deep/test_a.py", "python -m pytest tests/deep/test_a.py"])
def test_what_pytest_runs_beside_a_file_of_tests_counts(foreign, cmd):
    foreign(
        {
            "dvc.yaml": stage(cmd, "tests/deep/test_a.py", "conftest.py"),
            "conftest.py": "x = 1\n",
            "tests/conftest.py": "import b\n",
            "tests/deep/test_a.py": "x = 1\n",
            "tests/b.py": "x = 1\n",
            "tests/other/conftest.py": "x = 1\n",
        }
    )
    assert lines(Path()) == ["dvc.yaml: a: deps: add tests/b.py", "dvc.yaml: a: deps: add tests/conftest.py"]
    Path("dvc.yaml").write_text(stage("python tests/deep/test_a.py", "tests/deep/test_a.py"))
    assert lines(Path()) == []


def test_what_code_on_the_command_line_starts_counts(foreign):
    code = "import subprocess, sys; subprocess.run([sys.executable, 'b.py'])"
    foreign({"dvc.yaml": stage(f'python -c "{code}"'), "b.py": "import c\n", "c.py": "x = 1\n"})
    assert lines(Path()) == ["dvc.yaml: a: deps: add b.py", "dvc.yaml: a: deps: add c.py"]


def test_strings_beside_a_plain_import_by_name_are_no_imports(foreign):
    code = "import importlib\nimportlib.import_module('numpy')\nname = 'other'\n"
    foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": code, "other.py": "x = 1\n"})
    assert lines(Path()) == []


@pytest.mark.parametrize(
    ("cmd", "code"),
    [
        ("python a.py && sh run.sh", ""),
        ("python a.py && . ./run", ""),
        ("bash -c 'set -e; python a.py; ./run'", ""),
        ("python a.py; make b", ""),
        ("python a.py && python -m installed", ""),
        ("python a.py --model b", ""),
        ("python a.py --model=b", ""),
        ("python a.py", "open('conf/b.py')"),
        ("python a.py", "names = ['b']"),
        ("python a.py", "build('conf.b.Net')"),
        ("python a.py", "system('nice run.sh')"),
    ],
)
def test_a_dep_that_a_stage_may_use_is_left(foreign, cmd, code):
    """Where not all that a stage runs is followed, or where it has the name of the dep in a string."""
    files = {"a.py": f"x = 1\n{code}\n", "conf/b.py": "x = 1\n", "run.sh": "sh more.sh\n", "more.sh": "cat conf/b.py\n"}
    foreign({"dvc.yaml": stage(cmd, "a.py", "conf/b.py", "run.sh", "more.sh"), **files})
    assert lines(Path()) == []
    Path("dvc.yaml").write_text(stage(cmd, "a.py", "conf", "run.sh", "more.sh"))
    alone = "--model" in cmd or "['b']" in code  # the name of a file may be a word for anything
    assert lines(Path()) == ["dvc.yaml: a: deps: remove conf"] * alone


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("import pickle\npickle.load(file)", True),
        ("import pickle as p\nread = p.loads", True),
        ("import pickle\npickle.Unpickler(file).load()", True),
        ("from joblib import load as read\nread('m.pkl')", True),
        ("from sklearn.externals import joblib\njoblib.load('m.pkl')", True),
        ("import sklearn.externals.joblib\nsklearn.externals.joblib.load('m.pkl')", True),
        ("import torch\ntorch.load('m.pt')", True),
        ("import pandas as pd\npd.read_pickle('m.pkl')", True),
        ("from tensorflow import keras\nkeras.models.load_model('m.keras')", True),
        ("import pickle\nclass Any(pickle.Unpickler):\n    pass", True),
        ("import pickle\nclass Any(pickle.Unpickler):\n    def find_class(self, module, name):\n"
         "        return super().find_class(module.lower(), name)", True),
        ("import pickle\nclass Own(pickle.Unpickler):\n    def find_class(self, module, name):\n"
         "        return {'x': int}[name]", False),
        ("import pickle\npickle.dump(1, file)", False),
        ("import json, torch\njson.load(file)", False),
        ("load_model()", False),
        ("import importlib\nimportlib.import_module(name)", True),
        ("from importlib import import_module as load\nload(name)", True),
        ("import importlib\nload = importlib.import_module", True),
        ("import importlib\nimportlib.import_module('.' + name, package)", True),
        ("import importlib\nimportlib.import_module(path.removesuffix('.py'))", True),
        ("import importlib\nimportlib.import_module(f'{package}.nets')", True),
        ("__import__(name)", True),
        ("exec(open(path).read())", True),
        ("import runpy\nrunpy.run_path(path)", True),
        ("from hydra.utils import instantiate\ninstantiate(settings)", True),
        ("import hydra\nhydra.utils.get_class(name)", True),
        ("from pydoc import locate\nlocate(name)", True),
        ("from pydoc import locate\nlocate('c.Net')", False),
        ("import importlib\nimportlib.import_module('c')", False),
        ("import importlib\nimportlib.import_module('c', None)", False),
        ("import importlib\nNAME = 'c'\nimportlib.import_module(NAME)", False),
        ("import importlib\nimportlib.import_module(f'c.{name}')", False),
        ("import importlib\nimportlib.import_module('.' + name, __package__)", False),
        ("import importlib.util\nimportlib.util.spec_from_file_location(name, folder / 'c.py')", False),
        ("exec('x = 1')", False),
        ("connection.exec(statement)", False),
        ("import numpy\nnumpy.load('x.npy')", False),
        ("import numpy\nnumpy.load('x.npy', allow_pickle=False)", False),
        ("import numpy\nnumpy.load('x.npy', allow_pickle=True)", True),
        ("import numpy\nnumpy.load('x.npy', allow_pickle=given)", True),
        ("import shelve\nshelve.open('x')", True),
        ("import yaml\nyaml.unsafe_load(text)", True),
        ("import yaml\nyaml.load(text, Loader=yaml.UnsafeLoader)", True),
        ("import yaml\nyaml.safe_load(text)", False),
        ("import jsonpickle\njsonpickle.decode(text)", True),
        ("import nets\nnets.Net.load_from_checkpoint('x.ckpt')", True),
    ],
)  # fmt: skip
def test_a_dep_is_left_where_only_data_names_what_is_imported(foreign, code, left):
    files = {"a.py": f"x = 1\n{code}\n", "b.py": "class Model:\n    pass\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py", "b.py"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: remove b.py"] * (not left)


@pytest.mark.parametrize(
    ("cmd", "left"),
    [
        ("\"python -c 'import pickle; pickle.load(open(1))'\"", True),
        ("\"python -c 'import json; json.load(open(1))'; sh -c 'ls )'\"", False),
    ],
)
def test_code_on_the_command_line_may_unpickle_too(foreign, cmd, left):
    foreign({"dvc.yaml": stage(f'{cmd[:-1]}; python a.py"', "a.py", "b.py"), "a.py": "x = 1\n", "b.py": "x = 1\n"})
    assert lines(Path()) == ([] if left else ["dvc.yaml: a: deps: remove b.py"])


@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        ("c.yaml", "model:\n  _target_: src.models.cnn.Net\n", True),
        ("c.json", '{"class_path":"src.models.cnn.Net"}', True),
        ("c.toml", "module = 'models.cnn'", True),  # from src, which is on the path
        ("c.yml", "{kind: src.models.Net}", True),  # which the package imports
        ("c.ini", "[a]\nscript=src/models/cnn.py", True),
        ("c.cfg", "script = ./src/models/cnn.py:main", True),
        ("conf/deep/c.yaml", "_target_: src.models.cnn.Net", True),
        ("c.yaml", "cnn: {model: cnn, in: data/src.models.cnn, src.models.cnn/out: a-src.models.cnn-b}", False),
        ("c.yaml", "_target_: src.others.Net", False),
        ("c.yaml", "script: src/models/cnn.pyc", False),
        ("c.yaml", f"{'#' * 100_000}\n_target_: src.models.cnn.Net", False),
        ("c.csv", "src.models.cnn.Net", False),
        ("conf/.hidden/c.yaml", "_target_: src.models.cnn.Net", False),
    ],
)  # fmt: skip
def test_a_dep_that_a_text_names_is_left(foreign, name, text, left):
    declared = stage("python src/a.py", "src/a.py", "src/models/cnn.py", name.partition("/")[0])
    package = {"src/models/__init__.py": "from .cnn import Net\n", "src/models/cnn.py": "class Net:\n    pass\n"}
    foreign({"dvc.yaml": declared, name: text, "src/a.py": "x = 1\n", "src/others.py": "x = 1\n", **package})
    assert lines(Path()) == ["dvc.yaml: a: deps: remove src/models/cnn.py"] * (not left)
    lineage.fix(Path(), lineage.differences(Path()))
    assert ("src/models/cnn.py" in Path("dvc.yaml").read_text()) == left


@pytest.mark.parametrize(("text", "left"), [("_target_: b.Net", True), ("_target_: c.Net", False)])
def test_a_dep_that_a_params_file_names_is_left(foreign, text, left):
    declared = stage("python a.py", "a.py", "b.py", more="    params: [c.yaml: [width]]\n")
    foreign({"dvc.yaml": declared, "c.yaml": f"width: 1\n{text}\n", "a.py": "x = 1\n", "b.py": "x = 1\n"})
    assert lines(Path()) == ["dvc.yaml: a: deps: remove b.py"] * (not left)


def test_texts_are_read_as_far_as_they_can_be(foreign, monkeypatch):
    files = {"a.py": "x = 1\n", "b.py": "x = 1\n", "conf/b.yaml": ""}
    root = foreign({"dvc.yaml": stage("python a.py", "a.py", "b.py", "conf"), **files})
    (root / "conf/a.yaml").symlink_to("nowhere")
    (root / "conf/b.yaml").write_bytes("# Größe\n_target_: b.Net\n".encode("latin-1"))
    assert lines(Path()) == []
    monkeypatch.setattr(imports, "MOST_TEXTS", 1)
    assert lines(Path()) == ["dvc.yaml: a: deps: remove b.py"]


def test_what_is_known_of_one_stage_is_not_of_another(foreign):
    """Which has another text with the same command, or another command with the same text."""
    stages = {
        "one": {"cmd": "python a.py", "deps": ["a.py", "b.py", "c.yaml"]},
        "two": {"cmd": "python a.py", "deps": ["a.py", "b.py", "d.yaml"]},
        "three": {"cmd": "python a.py b", "deps": ["a.py", "b.py", "d.yaml"]},
    }
    files = {"a.py": "x = 1\n", "b.py": "x = 1\n", "c.yaml": "_target_: b.Net", "d.yaml": "_target_: c.Net"}
    foreign({"dvc.yaml": yaml.safe_dump({"stages": stages}), **files})
    assert lines(Path()) == ["dvc.yaml: two: deps: remove b.py"]


def test_a_text_may_name_a_file_that_is_no_python(foreign):
    """Which no stage runs, so that its own imports do not count."""
    files = {"a.py": "x = 1\n", "b.py": "x = 1\n", "c.yaml": "modules: [d.Net, e.Net]", "d.py": "import b\nprint 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py", "b.py", "d.py", "e.py", "c.yaml"), **files, "e.py": "x = 1\n"})
    assert lines(Path()) == ["dvc.yaml: a: deps: remove b.py"]


def test_a_dep_that_is_not_there_is_not_left(foreign):
    foreign({"dvc.yaml": stage("python a.py && sh run.sh", "a.py", "gone.py"), "a.py": "open('gone.py')\n"})
    assert lines(Path()) == ["dvc.yaml: a: deps: remove gone.py"]


@pytest.mark.parametrize(
    "cmd",
    [
        "mkdir -p out && cd . && PYTHONHASHSEED=0 python a.py 2>&1 | tee out/log",
        "python -c 'print(1)'; if [ -e x ]; then python a.py -c 1; fi",
        '"# first\npython a.py \\\n  --big -b 1\n"',
        "python a.py && export PYTHONPATH=. && cd code && python -m c && python ./c.py",
        "(cd code; ls); python a.py",
    ],
)
def test_a_dep_that_no_command_of_several_uses_is_not_left(foreign, cmd):
    files = {"a.py": "print('make b of it')\n", "b.py": "x = 1\n", "code/c.py": "'Nothing.'\n"}
    foreign({"dvc.yaml": stage(cmd, "a.py", "b.py"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: remove b.py"]


@pytest.mark.parametrize(
    ("cmd", "code", "found"),
    [
        ("python s/a.py", "import sys\nsys.path.insert(0, '../libs')\nimport model", "libs/model.py"),
        ("python s/a.py", "from model import x", "libs/model.py"),
        ("python s/a.py", "import foo.core as core", "libs/foo/src/foo/core.py"),
        ("cd s && python -m foo.core", "", "libs/foo/src/foo/core.py"),
        ("python s/a.py", "import deep", "s/t/deep.py"),  # the nearest of two
        ("python s/a.py", "import core", None),  # a module of a package, which Python finds by another name
        ("python s/a.py", "import yaml", None),
        ("python s/a.py", "import statistics", None),
        ("python s/a.py", "import nosuch", None),
    ],
)
def test_an_import_from_a_path_set_at_run_time_is_looked_for_in_all_folders(foreign, cmd, code, found):
    names = ["libs/model.py", "libs/foo/src/foo/core.py", "s/t/deep.py", "libs/deep.py", "libs/yaml.py"]
    files = dict.fromkeys([*names, "libs/statistics.py", "libs/site-packages/nosuch.py", ".venv/nosuch.py"], "x = 1\n")
    packages = {"libs/foo/src/foo/__init__.py": "", "s/a.py": f"y = 1\n{code}\n"}
    foreign({"dvc.yaml": stage(cmd, "s/a.py"), **files, **packages})
    added = [line for line in lines(Path()) if "add" in line]
    assert added == [f"dvc.yaml: a: deps: add {found}"] * bool(found)


@pytest.mark.parametrize(
    ("module", "name", "text", "required"),
    [
        ("nosuch", "requirements.txt", "# of all\nnumpy\nnosuch[gpu]>=1.2; python_version > '3' # fast\n", True),
        ("nosuch", "requirements-dev.txt", "-r requirements.txt\nnosuch==1.0 \\\n    --hash=sha256:0\n", True),
        ("no_such", "code/requirements.txt", "No.Such", True),
        ("nosuch", "pyproject.toml", "[project]\ndependencies = ['nosuch~=1.0']", True),
        ("nosuch", "pyproject.toml", "[project]\noptional-dependencies = {fast = ['nosuch']}", True),
        ("nosuch", "pyproject.toml", "[dependency-groups]\ndev = [{include-group = 'x'}, 'nosuch']", True),
        ("nosuch", "pyproject.toml", "[tool.poetry.dependencies]\nnosuch = '^1'", True),
        ("nosuch", "pyproject.toml", "[tool.poetry.group.dev.dependencies]\nnosuch = {version = '^1'}", True),
        ("nosuch", "environment.yml", "name: a\ndependencies:\n  - python=3.11\n  - any::nosuch=1.0\n", True),
        ("nosuch", "conda.yaml", "dependencies:\n- pip:\n  - 'nosuch>1'\n", True),
        # What is in the repository itself, and what only looks like a package.
        ("nosuch", "pyproject.toml", "[tool.poetry.dependencies]\nnosuch = {path = 'libs/nosuch'}", False),
        ("nosuch", "pyproject.toml", "project.dependencies = ['nosuch']\ntool.uv.sources = {nosuch = {}}", False),
        ("nosuch", "pyproject.toml", "[project]\nname = 'NoSuch'\noptional-dependencies.all = ['nosuch[x]']", False),
        ("nosuch", "requirements.txt", "nosuch @ file:libs/nosuch\nnosuch/code\n#nosuch\nnosuch-x\n", False),
        ("nosuch", "environment.yml", "nosuch: 1\n", False),
        ("nosuch", "others/requirements.txt", "nosuch", False),
        ("nosuch", "needs.txt", "nosuch", False),
        ("nosuch", "pyproject.toml", "project = 1", False),
        ("nosuch", "pyproject.toml", "[project", False),
    ],
)  # fmt: skip
def test_a_package_that_the_project_requires_is_not_looked_for_in_all_folders(foreign, module, name, text, required):
    """Though it is not installed, as in a CI that installs nothing but this."""
    files = {"code/a.py": f"import {module}\n", f"libs/{module}.py": "x = 1\n"}
    root = foreign({"dvc.yaml": stage("python code/a.py", "code/a.py"), **files, name: text})
    (root / "requirements-more.txt").symlink_to("nowhere")
    assert lines(Path()) == [f"dvc.yaml: a: deps: add libs/{module}.py"] * (not required)
    Path("dvc.yaml").write_text(stage("PYTHONPATH=libs python code/a.py", "code/a.py"))  # found where it is first
    assert lines(Path()) == [f"dvc.yaml: a: deps: add libs/{module}.py"]


@pytest.mark.parametrize(
    ("package", "module"), [("Pillow", "PIL"), ("opencv_python-headless", "cv2"), ("GitPython", "git")]
)
def test_a_required_package_may_have_another_name_when_it_is_imported(foreign, monkeypatch, package, module):
    monkeypatch.setattr(Code, "_is_installed", lambda self, name: False)
    files = {"code/a.py": f"import {module}\n", f"libs/{module}.py": "x = 1\n", "requirements.txt": package}
    foreign({"dvc.yaml": stage("python code/a.py", "code/a.py"), **files})
    assert lines(Path()) == []


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("beautifulsoup4", "bs4"), ("opencv-python", "cv2"), ("python-dotenv", "dotenv"), ("pytorch", "torch"),
        ("PyYAML", "yaml"), ("scikit-image", "skimage"), ("scikit-learn", "sklearn"),
    ],
)  # fmt: skip
def test_packages_that_many_projects_require_are_known_by_their_modules(foreign, monkeypatch, package, module):
    monkeypatch.setattr(Code, "_is_installed", lambda self, name: False)
    files = {"code/a.py": f"import {module}\n", f"libs/{module}.py": "x = 1\n", "requirements.txt": package}
    foreign({"dvc.yaml": stage("python code/a.py", "code/a.py"), **files})
    assert lines(Path()) == []


def test_a_list_of_packages_need_not_be_utf_8(foreign):
    files = {"code/a.py": "import nosuch\n", "libs/nosuch.py": "x = 1\n"}
    root = foreign({"dvc.yaml": stage("python code/a.py", "code/a.py"), **files})
    (root / "requirements.txt").write_bytes("# für alle\nnosuch\n".encode("latin-1"))
    assert lines(Path()) == []


def test_what_a_folder_above_the_repository_requires_is_another_projects(foreign, monkeypatch):
    root = foreign({"requirements.txt": "nosuch\n"})
    inner = root / "inner"
    for name, text in {
        "dvc.yaml": stage("python code/a.py", "code/a.py"), "code/a.py": "import nosuch\n", "libs/nosuch.py": "x = 1\n",
    }.items():  # fmt: skip
        (inner / name).parent.mkdir(parents=True, exist_ok=True)
        (inner / name).write_text(text)
    make_repository(inner)
    monkeypatch.chdir(inner)
    assert lines(Path()) == ["dvc.yaml: a: deps: add libs/nosuch.py"]


def test_a_command_that_poetry_installs_is_followed(foreign):
    project = "[tool.poetry]\nname = 'tool'\n[tool.poetry.scripts]\nmytool = 'pkg.cli:main'\n"
    package = {"src/pkg/__init__.py": "", "src/pkg/cli.py": "x = 1\n", "pyproject.toml": project}
    foreign({"dvc.yaml": stage("mytool train"), **package})
    assert lines(Path()) == ["dvc.yaml: a: deps: add src/pkg/cli.py"]


@pytest.mark.parametrize(
    "cmd",
    [
        "cd src && PYTHONPATH=../lib python a.py",
        "PYTHONPATH=$PWD/lib python src/a.py",
        r"PYTHONPATH=\${PWD}/lib:$PYTHONPATH python \${PWD}/src/a.py",
        "export PYTHONPATH=$(pwd)/lib && python src/a.py",
        "PYTHONPATH=lib && cd src && python a.py",  # from the folder where it stands
    ],
)
def test_a_pythonpath_starts_in_the_folder_of_its_command(foreign, cmd):
    files = {"src/a.py": "import b\n", "lib/b.py": "x = 1\n", "src/nearer/b.py": "x = 1\n"}
    foreign({"dvc.yaml": stage(cmd, "src/a.py"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add lib/b.py"]


@pytest.mark.parametrize(
    ("cmd", "shadow"),
    [
        ("PYTHONPATH=lib python a.py", "lib/bisect.py"),
        ("PYTHONPATH=lib python a.py", "lib/sitecustomize.py"),
        ("PYTHONPATH=lib python a.py", "lib/json/__init__.py"),
        ("python s/b.py", "s/numbers.py"),  # which the library's statistics imports
        ("cd s && python -m b", "s/numbers.py"),
    ],
)
def test_files_in_the_place_of_the_standard_library_count(foreign, cmd, shadow):
    files = {
        shadow: "x = 1\n",
        "a.py": "import bisect\n",
        "s/b.py": "import statistics\n",
        "lib/c.py": "",
        "calendar.py": "",
        "sys.py": "x = 1\n",
    }
    foreign({"dvc.yaml": stage(cmd, "a.py", "s/b.py"), **files})
    assert [line for line in lines(Path()) if "add" in line] == [f"dvc.yaml: a: deps: add {shadow}"]


def test_what_is_installed_comes_before_a_folder_that_is_not_on_the_path(foreign, tmp_path_factory, monkeypatch):
    installed = tmp_path_factory.mktemp("installed")
    (installed / "evaluate.py").touch()
    (installed / "folder").mkdir()
    monkeypatch.syspath_prepend(installed)
    files = {"src/a.py": "import evaluate, folder.b\n", "evaluate.py": "x = 1\n", "folder/b.py": "x = 1\n"}
    root = foreign({"dvc.yaml": stage("python src/a.py", "src/a.py"), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add folder/b.py"]
    (root / "dvc.yaml").write_text(stage("PYTHONPATH=. python src/a.py", "src/a.py", "folder/b.py"))
    assert lines(Path()) == ["dvc.yaml: a: deps: add evaluate.py"]
    (root / "dvc.yaml").write_text(stage("python src/a.py", "src/a.py", "folder/b.py"))
    monkeypatch.syspath_prepend(root)  # as it is where the code of the repository is installed as it stands
    monkeypatch.delitem(sys.path_importer_cache, str(installed))
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(installed)])
    assert lines(Path()) == ["dvc.yaml: a: deps: add evaluate.py"]


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize(
    "code",
    [
        "importlib.import_module('nets.' + sys.argv[1])",
        "importlib.import_module('nets.{}'.format(sys.argv[1]))",
        "importlib.import_module('nets.%s' % sys.argv[1])",
        "importlib.import_module('.'.join(['nets', sys.argv[1]]))",
        "importlib.import_module('.' + sys.argv[1], package='nets')",
        "PACKAGE = 'nets'\nimportlib.import_module(f'{PACKAGE}.{sys.argv[1]}')",
        "PACKAGE = 'nets'\nname = PACKAGE + '.' + sys.argv[1]\nimportlib.import_module(name)",
        "import nets\nfor one in pkgutil.iter_modules(nets.__path__):\n    importlib.import_module('nets.' + one.name)",
        "for one in pkgutil.walk_packages(['nets']):\n    one.module_finder.find_spec(one.name).loader.load_module()",
        "importlib.util.spec_from_file_location('any', f'nets/{sys.argv[1]}.py')",
        "importlib.util.find_spec('nets.' + sys.argv[1])",
    ],
)
def test_of_a_name_that_is_made_at_run_time_the_whole_package_counts(foreign, code, init):
    text = f"import importlib.util, pkgutil, sys\n{code}\nif __name__ == '__main__':\n    pass\n"
    files = {"a.py": text, "nets/one.py": "x = 1\n", "nets/two.py": "x = 1\n", "c.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py"), **files, **({"nets/__init__.py": ""} if init else {})})
    assert lines(Path()) == ["dvc.yaml: a: deps: add nets"]


@pytest.mark.parametrize("name", ["pkg/__init__.py", "pkg/load.py"])
@pytest.mark.parametrize(
    "code",
    [
        "importlib.import_module(f'{__name__}.{name}')",
        "importlib.import_module(f'.{name}', __name__)",
        "importlib.import_module('.' + name, __package__)",
        "importlib.import_module('.' + name, self.__name__)",
        "importlib.import_module('.'.join([__package__, name]))",
        "for one in pkgutil.iter_modules(__path__):\n    importlib.import_module('.' + one.name, __package__)",
        "for one in pkgutil.iter_modules([os.path.dirname(__file__)]):\n    load(one)",
        "__getattr__ = lazy.attach(__name__, submodules=['one'])",
    ],
)
def test_modules_that_a_package_loads_by_its_own_name_count(foreign, code, name):
    files = {name: f"import importlib\n{code}\n", "pkg/one.py": "x = 1\n", "c.py": "x = 1\n"}
    module = name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    foreign({"dvc.yaml": stage("python a.py", "a.py", name), "a.py": f"import {module}\n", **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add pkg/one.py"]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("pkgutil.resolve_name('pkg.b:x')", ["pkg/b.py"]),
        ("for name in ['b']:\n    importlib.import_module(name)", ["pkg/b.py"]),  # of the file's own package
        ("importlib.import_module('.b', __package__)", ["pkg/b.py"]),
        ("importlib.util.find_spec('torch')", []),
    ],
)
def test_of_a_name_that_is_written_out_its_module_counts(foreign, code, found):
    files = {"a.py": "import pkg.load\n", "pkg/load.py": f"import importlib\n{code}\n"}
    modules = {"pkg/b.py": "x = 1\n", "pkg/c.py": "x = 1\n"}
    foreign({"dvc.yaml": stage("python a.py", "a.py", "pkg/load.py"), **files, **modules})
    assert lines(Path()) == [f"dvc.yaml: a: deps: add {path}" for path in found]


def test_a_top_script_that_imports_by_its_own_name_is_in_no_package(foreign):
    text = "import importlib\nimportlib.import_module(name, __package__)\n"
    foreign({"dvc.yaml": stage("python a.py", "a.py"), "a.py": text, "b.py": "x = 1\n"})
    assert lines(Path()) == []


def test_fix_edits_what_a_link_leads_to(foreign):
    files = {
        "real/pipeline.yaml": stage("python a.py", "a.py"),
        "real/ignored": "*.tmp\n",
        "a.py": "import pkg.b, pkg.c\n",
    }
    root = foreign({**files, "pkg/b.py": "x = 1\n", "pkg/c.py": "x = 1\n"})
    (root / "dvc.yaml").symlink_to("real/pipeline.yaml")
    (root / ".dvcignore").symlink_to("real/ignored")
    found = lineage.differences(Path())
    lineage.fix(Path(), [one for one in found if one.file == "dvc.yaml"])
    assert (root / "dvc.yaml").is_symlink()
    assert (root / ".dvcignore").is_symlink()
    assert (root / "real/pipeline.yaml").read_text() == stage("python a.py", "a.py", "pkg")
    assert (root / "real/ignored").read_text() == "*.tmp\n__pycache__\n"


@pytest.mark.parametrize(
    ("text", "keys", "declared"),
    [
        ("width = 3\nsizes: list = [1, 2]\n", "[width, sizes]", True),
        ("'Settings.'\nwidth = 3\n", "", True),
        ("class Net:\n    'Its size.'\n    width = 3\n", "[Net.width]", True),
        ("class Net:\n    width = 3\n", "[Net]", True),
        ("width = 3\ndepth = 2\n", "[width]", False),
        ("class Net:\n    width = 3\n    depth = 2\n", "[Net.width]", False),
        ("class Net(Base):\n    width = 3\n", "[Net]", False),
        ("width = int('3')\n", "[width]", False),
        ("width = 3\nimport b\n", "[width]", False),
        ("width = 3\ndef make():\n    return 4\n", "", False),
    ],
)
def test_a_python_file_of_which_params_declare_all_is_no_dep(foreign, text, keys, declared):
    more = f"    params: [{{conf.py: {keys}}}]\n"
    files = {"a.py": "import conf\n", "conf.py": text, "b.py": ""}
    foreign({"dvc.yaml": stage("python a.py", "a.py", more=more), **files})
    assert lines(Path()) == ["dvc.yaml: a: deps: add conf.py"] * (not declared)


PROJECT = """
[project]
name = "tool"
scripts = {mytool = "pkg.cli:main"}
"""


@pytest.mark.parametrize(
    ("cmd", "found"),
    [
        ("mytool train", "src/pkg/cli.py"),
        ("uv run mytool", "src/pkg/cli.py"),
        ("./start --fast", "b.py"),
        ("python start", "b.py"),
        ("python plain", "b.py"),
        ("'cat start.txt'", None),
        ("./plain", None),
        ('"python - a <<E\\n  import b\\n\\n  b.run()\\n  E\\n"', "b.py"),
        ("\"python3 <<-'END' > log\\nimport b\\nEND\\nls\"", "b.py"),
        ('"sh <<E\\npython b.py\\nE"', "b.py"),
    ],
)
def test_programs_that_are_no_python_files_by_their_names_are_followed(foreign, cmd, found):
    scripts = {
        "start": "#!/usr/bin/env python3\nimport b\n",
        "plain": "import b\n",
        "start.txt": "#!python\nimport b\n",
    }
    package = {"src/pkg/__init__.py": "", "src/pkg/cli.py": "x = 1\n", "pyproject.toml": PROJECT}
    foreign({"dvc.yaml": stage(cmd, "start", "plain"), "b.py": "x = 1\n", **scripts, **package})
    assert lines(Path()) == [f"dvc.yaml: a: deps: add {found}"] * bool(found)


@pytest.mark.parametrize("text", ["[project", "project = 1", "[project]\nscripts = {mytool = 1}"])
def test_a_project_file_of_another_form_names_no_program(foreign, text):
    foreign({"dvc.yaml": stage("mytool"), "pyproject.toml": text, "b.py": "x = 1\n"})
    assert lines(Path()) == []


@pytest.mark.parametrize(
    ("cmd", "deps", "found"),
    [
        ("mytool", ["src/pkg/cli.py"], ["add src/pkg/b.py"]),
        ("python src/pkg/cli.py", ["src/pkg/cli.py"], ["add src/pkg/b.py"]),
        ("python -m other.run", ["src/other/run.py"], ["add src/other/c.py"]),
        ("python s/a.py", ["s/a.py"], []),
        ("python s/a.py", ["s/a.py", "src/other"], []),  # which may be what is installed
        ("python s/a.py", ["s/a.py", "src"], []),
        ("python s/a.py", ["s/a.py", "src/third"], ["remove src/third"]),
    ],
)
def test_what_the_project_installs_may_be_its_own_code(foreign, tmp_path_factory, monkeypatch, cmd, deps, found):
    installed = tmp_path_factory.mktemp("installed")
    for name in ("pkg", "other", "third"):
        (installed / f"{name}.py").touch()
    monkeypatch.syspath_prepend(installed)
    package = {"src/pkg/__init__.py": "", "src/pkg/cli.py": "import pkg.b\n", "src/pkg/b.py": "x = 1\n"}
    other = {"src/other/__init__.py": "", "src/other/run.py": "from other import c\n", "src/other/c.py": "x = 1\n"}
    files = {"s/a.py": "import other.run\n", "src/third/d.py": "x = 1\n", "pyproject.toml": PROJECT}
    foreign({"dvc.yaml": stage(cmd, *deps), **files, **package, **other})
    assert lines(Path()) == [f"dvc.yaml: a: deps: {one}" for one in found]


def test_what_is_not_followed_is_named(foreign, capsys):
    run = "jupyter nbconvert --execute one.ipynb && mkdir -p out && python a.py && sh run.sh"
    text = stage(run, "a.py", "b.py") + "  c:\n    cmd: echo\n  d:\n    cmd: python a.py\n    deps: [a.py]\n"
    root = foreign({"dvc.yaml": text, "a.py": "x = 1\n", "b.py": "x = 1\n"})
    noted = "dvc.yaml: a: not followed: jupyter nbconvert --execute one.ipynb, sh run.sh\n"
    for end, code in (("dvc.yaml declares all other code\n", 0), ("dvc.yaml: d: deps: add b.py\n", 1)):
        with pytest.raises(SystemExit) as stopped:
            lineage.main([])
        assert (stopped.value.code, capsys.readouterr().out) == (code, noted + end)
        (root / "a.py").write_text("import b\n")
