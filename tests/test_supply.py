"""What is installed is pinned with digests, and nothing that is downloaded or read is run."""

import ast
import re
import shutil

import pytest

from tests.support.commands import ROOT, call


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-gpu.lock"])
def test_every_package_is_pinned_with_digests_and_no_host(name):
    text = (ROOT / name).read_text()
    packages = re.split(r"\n(?=\S)", text.strip())
    assert len(packages) > 80
    for package in packages:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", package), package[:80]
        assert "--hash=sha256:" in package, package[:80]
    assert "://" not in text
    assert "index-url" not in text
    assert ("nvidia-cudnn" in text) == (name == "requirements-gpu.lock")


def test_nothing_downloaded_is_run():
    """No call runs what a file says: the one unpickler is decode's, which knows arrays alone."""
    calls = []
    for path in sorted([*(ROOT / "stages").rglob("*.py"), *(ROOT / "reprocnn").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                calls.append((path.name, ast.unparse(node.func), ast.unparse(node)))
    forbidden = {
        "eval",
        "exec",
        "compile",
        "pickle.load",
        "pickle.loads",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "joblib.load",
    }
    assert [call for call in calls if call[1] in forbidden] == []
    loads = [call[2] for call in calls if call[1] == "np.load"]
    assert loads
    assert all("allow_pickle=False" in load for load in loads)
    assert {call[1] for call in calls if call[1].startswith("YAML(") and call[1].endswith(".load")} <= {
        "YAML(typ='safe').load"
    }
    assert [call[2] for call in calls if "extractall" in call[1] or call[1].endswith(".extract")] == []


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("gpu", ["", "-gpu"])
def test_make_installs_with_the_digests(gpu):
    command = ["make", "--dry-run", "--always-make", f".venv/.installed{gpu}", f"GPU={gpu}"]
    lines = [line for line in call(ROOT, *command).splitlines() if f"--requirement requirements{gpu}.lock" in line]
    assert len(lines) == 1
    assert "--require-hashes" in lines[0]


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize(("uv", "condition"), [("", ".venv/bin/python -m pip --version"), ("/uv", "test -x")])
def test_make_repairs_an_environment_without_what_installs(uv, condition):
    """As an interrupted `make` leaves it: with Python, and without pip."""
    lines = call(ROOT, "make", "--dry-run", "--always-make", ".venv/.installed", f"UV={uv}")
    assert f"if ! {condition}" in lines
    assert "-m venv .venv || exit 1" in lines
