"""What the README names is there."""

import re
import shutil
import subprocess

import pytest

from stages.lib import networks
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_make_targets_are_those_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+(?:-[a-z]+)*)", README)) - targets <= {"sure"}
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert set(re.findall(r"- run: make ([a-z-]+)$", workflow, re.MULTILINE)) <= targets
    assert len(re.findall(r"- run:", workflow)) == len(re.findall(r"- run: make [a-z-]+$", workflow, re.MULTILINE))


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_help_lists_every_target():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"^  make ([a-z-]+)", listed, re.MULTILINE) == targets


def test_its_files_are_there():
    named = re.findall(r"`((?:stages|tests|benchmarks|docs|report)/[\w/.]+\w)`|\]\(([\w/.]+)\)", README)
    paths = {first or second for first, second in named}
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_its_experiments_name_known_params_and_networks():
    params = (ROOT / "params.yaml").read_text()
    for key, value in re.findall(r"-S '?([\w.]+)=(\w+)", README):
        assert re.search(rf"^\s*{key.rpartition('.')[2]}:", params, re.MULTILINE), key
        if key.endswith("network"):
            assert value in {**networks.QUOTATIONS, **networks.NETWORKS}


def test_the_networks_of_the_schema_are_those_of_the_code():
    schema = (ROOT / "params.schema.json").read_text()
    listed = re.search(r'"network": \{"enum": \[(.*?)\]', schema)
    assert listed
    assert sorted(re.findall(r"\w+", listed[1])) == sorted({**networks.QUOTATIONS, **networks.NETWORKS})


def test_no_machine_and_no_registry_is_named():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    forbidden = re.compile("py" + r"pi\.org|python" + r"hosted|/wo" + r"rk/|/ho" + r"me/\w")
    found = [name for name in tracked if forbidden.search((ROOT / name).read_bytes().decode("utf-8", "replace"))]
    assert found == []


def test_the_tests_that_the_table_of_faults_names_are_there():
    table = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    named = re.findall(r"`(?:test_\w+\.py::)?(test_\w+)(?:\[[\w ]+\])?`", table)
    assert len(named) > 25
    assert [name for name in named if f"def {name}(" not in code] == []
    assert [path for path in re.findall(r"(test_\w+\.py)", table) if not (ROOT / "tests" / path).exists()] == []
