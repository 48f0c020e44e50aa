"""`reprocnn`: what it lists, how fast, and what it says where something is missing."""

import ast
import resource
import subprocess
import sys
from importlib.metadata import version

import pytest

from reprocnn.cli import COMMANDS
from tests.conftest import ROOT, environment

LIGHT = ("repro", "demo", "summary", "gate", "verify", "lineage", "audit", "vega")  # the others take seconds to import


def reprocnn(*arguments: str, folder=ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "reprocnn", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True)


def without(library: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run `reprocnn` where a library cannot be imported."""
    code = f"import sys; sys.modules[{library!r}] = None; sys.argv[1:] = {list(arguments)!r}; "
    code += "from reprocnn.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True)


def test_help_has_a_line_for_each_command():
    done = reprocnn("--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for name, command in COMMANDS.items():
        assert f"  {name:8} {command.help}" in lines
    assert max(map(len, lines)) <= 100


def test_help_starts_in_a_moment():
    """Processor time, which a busy machine does not stretch much."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(3):
        assert reprocnn("--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 3 < 0.3


def test_help_imports_the_standard_library_alone():
    code = "import sys, reprocnn.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-S", "-c", code]  # without the site, whose .pth files import things
    loaded = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert set(loaded) - set(sys.stdlib_module_names) == {"__main__", "reprocnn"}


def test_without_a_command_the_help_is_an_error():
    done = reprocnn()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: reprocnn COMMAND" in done.stderr


def test_version():
    assert reprocnn("--version").stdout == f"reprocnn {version('reprocnn')}\n"


def test_an_unknown_command_names_the_closest_and_all():
    done = reprocnn("lineages")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: reprocnn lineages: unknown command; did you mean lineage? known: {', '.join(COMMANDS)}\n"
    )
    assert "did you mean" not in reprocnn("qqq").stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_main_that_takes_arguments(name):
    path = ROOT / (COMMANDS[name].module.replace(".", "/") + ".py")
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    (main,) = (function for function in functions if function.name == "main")
    assert ast.unparse(main.args) == "arguments: list[str] | None=None"


@pytest.mark.parametrize("name", LIGHT)
def test_a_command_explains_itself(name):
    done = reprocnn(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: reprocnn {name}" in done.stdout
    assert reprocnn(name, "--nonsense").returncode == 2


@pytest.mark.parametrize(
    ("library", "name", "code", "advice"),
    [
        ("tensorflow", "audit", 2, "needs the extra \"audit\": pip install 'reprocnn[audit]'"),
        ("tabulate", "gate", 2, "needs all of reprocnn's dependencies: pip install reprocnn"),
        ("ray", "sweep", 1, "needs the extra \"sweep\": pip install 'reprocnn[sweep]'"),
        ("vl_convert", "vega", 1, "needs the extra \"dev\": pip install 'reprocnn[dev]'"),
        ("tensorflow", "export", 1, "needs the extra \"train\": pip install 'reprocnn[train]'"),
    ],
)
def test_a_missing_library_is_said_in_a_line(library, name, code, advice):
    arguments = {"audit": ["mnist_cnn"], "sweep": ["-S", "seed=1,2"]}.get(name, [])
    done = without(library, name, *arguments)
    assert done.stderr == f"error: reprocnn {name} {advice} ({sys.executable} lacks {library})\n"
    assert done.returncode == code


def test_a_users_mistake_is_said_in_a_line(tmp_path):
    done = reprocnn("summary", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: missing")
    assert len(done.stderr.splitlines()) == 1
