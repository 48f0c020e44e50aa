"""A stage started by an interpreter that cannot run it says so in a line."""

import subprocess
import sys

from tests.conftest import ROOT


def test_an_interpreter_without_the_dependencies(tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    for module in ("stages.prepare", "stages.train_mnist"):
        done = subprocess.run([bare / "bin/python", "-m", module], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "lacks" in done.stderr
        assert "pip install -e ." in done.stderr


def test_an_unsupported_python():
    code = "import sys; sys.version_info = (3, 10, 1); import stages.prepare"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "this is Python 3.10" in done.stderr
    assert "expected 3.11 to 3.13" in done.stderr
    assert len(done.stderr.splitlines()) == 1
