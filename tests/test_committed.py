"""Whether what is committed was made by what is committed: without data and without training.

These fail while a change is not yet reproduced; `make verify` and CI run them.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import tables
from tests.conftest import ROOT, call

pytestmark = pytest.mark.committed


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_nothing_would_run_again():
    output = call(ROOT, "dvc", "repro", "--dry", "--allow-missing")
    assert "Running stage" not in output, output


def test_results_in_git_are_those_of_the_lock():
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    locked = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    compared = 0
    for name, entry in stages.items():
        declared = [
            out for kind in ("outs", "metrics", "plots") for out in entry.get(kind, []) if isinstance(out, dict)
        ]
        in_git = {path for out in declared for path, options in out.items() if options.get("cache") is False}
        for out in locked[name]["outs"]:
            if out["path"] in in_git:
                assert hashlib.md5(Path(out["path"]).read_bytes()).hexdigest() == out["md5"], out["path"]
                compared += 1
    assert compared == 14
    tracked = call(ROOT, "git", "ls-files").splitlines()
    assert "metrics.json" in tracked
    assert not [path for path in tracked if path.endswith((".npy", ".npz", ".h5", ".gz", ".keras"))]


def test_the_result_is_of_the_real_data():
    assert '"source": "public"' in Path("metrics.json").read_text()


def test_the_tables_of_the_readme_are_those_of_the_results():
    text = Path("README.md").read_text(encoding="utf-8")
    assert tables.fill(text) == text, "run `make readme`"


def test_the_report_is_made_from_the_committed_results(tmp_path):
    """The plot stage again, on the committed figures: images of the mistakes are DVC's and may be absent."""
    if not Path("evaluation/mnist.npz").exists():
        pytest.skip("evaluation/*.npz are not here (dvc pull brings them)")
    for name in ("params.yaml", "params.schema.json", "metrics.json", "plots", "evaluation", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run([sys.executable, "-m", "stages.plot"], cwd=tmp_path, check=True, env=os.environ | {"PATH": path})
    for file in Path("report").iterdir():
        assert (tmp_path / "report" / file.name).read_bytes() == file.read_bytes(), file
