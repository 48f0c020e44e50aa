"""`reprocnn`: what it lists, how fast, and what it says where something is missing."""

import ast
import os
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from reprocnn import cli
from reprocnn.cli import COMMANDS, JUDGES
from reprocnn.core.errors import UserError
from tests.support.commands import ROOT, environment

LIGHT = ("repro", "demo", "summary", "gate", "verify", "lineage", "audit", "vega")  # the others take seconds to import
EXTRAS = {
    "repro": "train", "demo": "train", "summary": "", "export": "train", "gate": "", "verify": "train", "lineage": "",
    "audit": "audit", "sweep": "sweep", "vega": "dev",
}  # fmt: skip


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


def test_help_imports_the_standard_library_alone():
    code = "import sys, reprocnn.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-S", "-c", code]  # without the site, whose .pth files import things
    loaded = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert set(loaded) - set(sys.stdlib_module_names) == {"__main__", "reprocnn"}


def test_version():
    done = reprocnn("--version")
    assert (done.returncode, done.stdout) == (0, f"reprocnn {version('reprocnn')}\n")


def test_without_a_command_the_help_is_an_error(ended):
    assert ended() == (2, "", f"{cli.usage()}\n")


def test_an_unknown_command_names_the_closest_and_all(ended):
    known = f"known: {', '.join(COMMANDS)}\n"
    assert ended("lineages") == (2, "", f"error: reprocnn lineages: unknown command; did you mean lineage? {known}")
    assert ended("qqq") == (2, "", f"error: reprocnn qqq: unknown command; {known}")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_main_that_takes_arguments(name):
    path = ROOT / (COMMANDS[name].module.replace(".", "/") + ".py")
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    (main,) = (function for function in functions if function.name == "main")
    assert ast.unparse(main.args) == "arguments: list[str]"


@pytest.fixture
def ended(monkeypatch, capsys):
    """Run `reprocnn` in this process; give the exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reprocnn", *arguments])
        code, said = 0, ""
        try:
            cli.main()
        except SystemExit as end:
            # As Python itself does: a message is printed, and the code is 1.
            code, said = (1, f"{end.code}\n") if isinstance(end.code, str) else (end.code or 0, "")
        out, err = capsys.readouterr()
        return code, out, err + said

    return run


@pytest.mark.parametrize("name", LIGHT)
def test_a_command_explains_itself(name, ended):
    code, out, _ = ended(name, "--help")
    assert code == 0
    assert out.startswith(f"usage: reprocnn {name}")
    assert ended(name, "--nonsense")[0] == 2


@pytest.mark.parametrize("name", ["-h", "--help", "help"])
def test_help_may_be_asked_for_in_three_ways(name, ended):
    code, out, err = ended(name)
    assert (code, err) == (0, "")
    assert out == f"{cli.usage()}\n"


def test_a_command_gets_its_arguments_and_its_exit_code_is_kept(ended, monkeypatch):
    given = []
    for name, command in COMMANDS.items():
        module = SimpleNamespace(main=given.append)
        monkeypatch.setitem(sys.modules, command.module, module)
        assert ended(name, "-x", "y") == (0, "", "")
        for code in (0, 1, 2):
            module.main = lambda arguments, code=code: sys.exit(code)
            assert ended(name)[0] == code
        module.main = lambda arguments: raises(UserError("one: missing\ntwo: missing"))
        assert ended(name) == (2 if name in JUDGES else 1, "", "error: one: missing\nerror: two: missing\n")
    assert given == [["-x", "y"]] * len(COMMANDS)


def raises(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("name", COMMANDS)
def test_a_missing_library_names_the_extra_and_judges_end_with_2(name, ended, monkeypatch):
    lacks = SimpleNamespace(main=lambda arguments: raises(ModuleNotFoundError(name="lacking.part")))
    monkeypatch.setitem(sys.modules, COMMANDS[name].module, lacks)
    extra = EXTRAS[name]
    needs = f"the extra \"{extra}\": pip install 'reprocnn[{extra}]'" if extra else ""
    needs = needs or "all of reprocnn's dependencies: pip install reprocnn"
    message = f"error: reprocnn {name} needs {needs} ({sys.executable} lacks lacking)\n"
    assert ended(name) == (2 if name in ("gate", "audit", "verify", "lineage") else 1, "", message)


def test_sigterm_ends_what_the_command_runs():
    """Its child holds the pipe, which ends with it."""
    block = """
import subprocess, sys
from types import SimpleNamespace
from reprocnn import cli
child = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
sys.modules[cli.COMMANDS["repro"].module] = SimpleNamespace(main=lambda arguments: subprocess.run(child))
sys.argv = ["reprocnn", "repro"]
cli.main()
"""
    command = [sys.executable, "-c", block]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    process.terminate()
    assert process.communicate(timeout=60) == (b"", None)
    assert process.returncode == 143


@pytest.mark.parametrize("missing", ["reprocnn.nosuch", "stages.nosuch", "benchmarks.nosuch", ""])
def test_a_fault_of_the_project_keeps_its_traceback(missing, monkeypatch):
    broken = SimpleNamespace(main=lambda arguments: raises(ModuleNotFoundError(name=missing)))
    monkeypatch.setitem(sys.modules, COMMANDS["gate"].module, broken)
    with pytest.raises(ModuleNotFoundError):
        cli.call("gate", [])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_judge_that_fails_has_not_judged(name, ended, monkeypatch):
    broken = SimpleNamespace(main=lambda arguments: raises(KeyError("a")))
    monkeypatch.setitem(sys.modules, COMMANDS[name].module, broken)
    if name not in JUDGES:
        with pytest.raises(KeyError):
            ended(name)
        return
    code, _, err = ended(name)
    assert code == 2
    assert err.startswith("Traceback")
    assert err.endswith("KeyError: 'a'\n")


@pytest.mark.parametrize(
    ("library", "name", "code", "advice"),
    [
        ("tensorflow", "audit", 2, "needs the extra \"audit\": pip install 'reprocnn[audit]'"),
        ("tabulate", "gate", 2, "needs all of reprocnn's dependencies: pip install reprocnn"),
        ("ray", "sweep", 1, "needs the extra \"sweep\": pip install 'reprocnn[sweep]'"),
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


def test_output_that_cannot_be_written_is_said_in_a_line(ended, monkeypatch):
    monkeypatch.setitem(sys.modules, COMMANDS["summary"].module, SimpleNamespace(main=print))
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code, _, err = ended("summary")
        with pytest.raises(OSError, match="No space left"):
            full.close()
    assert (code, err) == (1, "error: No space left on device; fix that and run the same command again\n")


@pytest.mark.parametrize(("name", "code"), [("summary", 1), *((name, 2) for name in JUDGES)])
def test_a_judge_whose_reader_is_gone_has_not_judged(name, code):
    calls = "import sys; from types import SimpleNamespace; from reprocnn import cli; "
    calls += f"sys.modules[cli.COMMANDS[{name!r}].module] = SimpleNamespace(main=lambda _: print('no')); "
    calls += f"sys.argv[1:] = [{name!r}]; cli.main()"
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as gone:
        done = subprocess.run([sys.executable, "-c", calls], cwd=ROOT, stdout=gone, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("fault", ["UserError('no')", "KeyError('a bug')"])
@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_whose_reason_cannot_be_written_has_not_judged(name, fault, unbuffered):
    calls = "import sys; from types import SimpleNamespace; from reprocnn import cli; "
    calls += "from reprocnn.core.errors import UserError; "
    calls += f"fault = lambda _: (_ for _ in ()).throw({fault}); "
    calls += f"sys.modules[cli.COMMANDS[{name!r}].module] = SimpleNamespace(main=fault); "
    calls += f"sys.argv[1:] = [{name!r}]; cli.main()"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", calls], cwd=ROOT, stderr=full, env=environment(PYTHONUNBUFFERED=unbuffered)
        )
    assert done.returncode == 2


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_cannot_be_written_fails_in_silence(option, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as gone, open("/dev/full", "w") as full:
        for output in (gone, full):
            done = subprocess.run(
                [sys.executable, "-m", "reprocnn", option],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.PIPE,
                env=environment(PYTHONUNBUFFERED=unbuffered),
            )
            assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("name", JUDGES)
def test_an_interrupted_judge_has_not_judged(monkeypatch, capsys, name):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", lambda _: SimpleNamespace(main=interrupted))
    with pytest.raises(SystemExit) as ended:
        cli.call(name, [])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
    with pytest.raises(KeyboardInterrupt):
        cli.call("repro", [])
