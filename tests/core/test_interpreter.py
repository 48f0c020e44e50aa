"""A stage or a command started by an interpreter that cannot run it says so in a line."""

import subprocess
import sys

import pytest

from tests.support.commands import ROOT

MODULES = [["stages.prepare"], ["stages.train_mnist"], ["reprocnn", "gate"]]


def error(interpreter: str, *arguments: str, code: int) -> str:
    done = subprocess.run([interpreter, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_an_interpreter_without_the_dependencies(tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    for module in MODULES:
        message = error(str(bare / "bin/python"), "-m", *module, code=2 if "gate" in module else 1)  # 1: a verdict
        assert message.startswith("error: ")
        assert "lacks" in message
        assert "pip install -e '.[train]'" in message


@pytest.mark.parametrize("module", MODULES)
def test_an_unsupported_python(module):
    code = f"import runpy, sys; sys.version_info = (3, 10, 1); sys.argv[1:] = {module[1:]}; "
    code += f"runpy.run_module({module[0]!r}, run_name='__main__', alter_sys=True)"
    message = error(sys.executable, "-c", code, code=2 if "gate" in module else 1)
    assert "this is Python 3.10" in message
    assert "expected 3.11 to 3.13" in message
