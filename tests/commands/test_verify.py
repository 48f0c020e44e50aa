"""Stale results are found without data; what is run again is compared."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from reprocnn.commands import verify
from reprocnn.core import startup
from reprocnn.core.errors import UserError
from reprocnn.gate import lock
from tests.support.commands import QUICKLY, ROOT, call, commit, environment
from tests.support.edits import edit


@pytest.fixture
def clone(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is in git of the finished repository: no data, no models."""
    folder = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(finished), str(folder))
    monkeypatch.chdir(folder)
    return folder


def refused() -> str:
    """Return what the command ends with, run in this process: other tests see it start and end."""
    with pytest.raises(SystemExit) as ended:
        startup.run(lambda: verify.main([]))
    assert isinstance(ended.value.code, str)  # which Python prints, for exit code 1
    return ended.value.code


def test_a_clone_without_data_is_current(clone):
    assert not (clone / "data/raw").exists()
    assert lock.faults() == []
    assert verify.version_mismatches() == []
    assert "verify: dvc.lock matches the code" in call(clone, "python", "-m", "reprocnn", "verify")


def test_with_data_it_is_current_too(finished, monkeypatch):
    monkeypatch.chdir(finished)
    assert lock.faults() == []


@pytest.mark.parametrize(
    "path",
    [
        "metrics/mnist.json",
        "metrics/cifar.json",
        "evaluation/mnist.json",
        "plots/cifar/history.csv",
        "plots/mnist/predictions.csv",
        "report/report.md",
        "report/index.html",
    ],
)
def test_a_result_that_is_missing_or_edited_is_reported(clone, path):
    content = Path(path).read_bytes()
    Path(path).write_bytes(content + b" ")
    assert lock.faults()[0].startswith(f"{path}: differs from dvc.lock")
    Path(path).unlink()
    assert lock.faults() == [f"{path}: missing, but in dvc.lock; restore it with git checkout, or run `dvc repro`"]


def test_a_figure_that_is_missing_or_edited_is_reported(clone):
    figure = Path("report/figures/cifar_confusion.svg")
    figure.write_bytes(figure.read_bytes() + b" ")
    assert lock.faults()[0].startswith("report/figures: differs from dvc.lock")
    figure.unlink()
    assert lock.faults()[0].startswith("report/figures: differs from dvc.lock")


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        ("reprocnn/networks/build.py", '"""', '""" ', "train_mnist: out of date (reprocnn/networks modified)"),
        ("params.yaml", "seed: 0", "seed: 1", "train_mnist: out of date (seed modified)"),
        ("dvc.yaml", "python -m stages.plot", "python -m stages.plot -x", "plot: out of date (cmd changed)"),
    ],
)
def test_a_lock_that_is_out_of_date_is_reported(clone, path, old, new, message):
    edit(path, old, new)
    assert message in refused()


def test_a_further_param_of_a_stage_is_reported(clone):
    pipeline = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    pipeline["stages"]["train_mnist"]["params"].append("gate.alpha")
    Path("dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    assert "train_mnist: out of date (gate.alpha new)" in refused()


def test_a_lock_that_is_missing_or_broken_is_reported(clone):
    text = Path("dvc.lock").read_text()
    Path("dvc.lock").unlink()
    assert "dvc.lock: train_mnist: missing; run `dvc repro` and commit" in lock.faults()
    Path("dvc.lock").write_text(text[:300] + "<<<<")
    with pytest.raises(UserError, match=r"restore dvc\.lock"):
        lock.faults()
    assert "restore dvc.lock" in refused()


def test_other_versions_are_reported(clone):
    details = json.loads(Path("evaluation/mnist.json").read_text())
    assert set(details["device"]) == {"kind", "name", "threads", "precision", "instructions", "count"}
    assert set(details["versions"]) == {"h5py", "keras", "numpy", "tensorflow"}
    details["versions"]["keras"] = "2.0.0"
    Path("evaluation/mnist.json").write_text(json.dumps(details))
    [line] = verify.version_mismatches()
    assert line.startswith("evaluation/mnist.json: trained with keras 2.0.0, installed is ")


def test_every_library_that_a_stage_imports_is_compared_with_its_pin(clone, monkeypatch):
    libraries = verify.direct_dependencies()
    assert {"tensorflow", "keras", "scikit-learn", "pillow", "scipy", "pandas"} <= libraries
    monkeypatch.setattr(verify, "direct_dependencies", lambda: libraries)  # the code stays as it is
    for name in ("requirements.lock", "requirements-gpu.lock"):
        shutil.copy(ROOT / name, ".")
        call(clone, "git", "add", name)
    Path("dvc.lock").write_text(Path("dvc.lock").read_text() + "\n")
    commit(clone)
    assert verify.unpinned_dependencies() == []
    for name in ("requirements.lock", "requirements-gpu.lock"):  # since dvc.lock's commit, whose results are of others
        pins = r"^(scipy|scikit-learn|ray)==\S+"
        Path(name).write_text(re.sub(pins, r"\1[all]==0.1", Path(name).read_text(), flags=re.MULTILINE))
    assert verify.unpinned_dependencies() == []
    with monkeypatch.context() as patch:  # a shallow clone does not know when that was
        ask = verify.git
        patch.setattr(verify, "git", lambda *words: "true\n" if "--is-shallow-repository" in words else ask(*words))
        assert len(verify.unpinned_dependencies()) == 2
    commit(clone)
    assert verify.unpinned_dependencies() == []
    Path("dvc.lock").write_text(Path("dvc.lock").read_text() + "\n")
    commit(clone)
    first, second = verify.unpinned_dependencies()
    assert first.startswith("requirements.lock: the results were made with scikit-learn 0.1, installed is ")
    assert second.startswith("requirements.lock: the results were made with scipy 0.1, installed is ")
    assert "scipy 0.1" in refused()


def test_a_module_or_a_param_that_dvc_yaml_has_no_more_is_reported(clone):
    edit("dvc.yaml", "[data/raw, stages/prepare.py, reprocnn/core,", "[data/raw, stages/prepare.py,")
    found = refused().splitlines()
    assert "error: dvc.lock: prepare: out of date (reprocnn/core removed from dvc.yaml); " in found[0]
    assert "error: dvc.yaml: prepare: deps: add reprocnn/core; run `reprocnn lineage --fix`" in found[1]
    call(clone, "git", "restore", "dvc.yaml")
    edit("dvc.yaml", "      - mnist.split_seed\n", "")
    edit("params.yaml", "split_seed: 0", "split_seed: 1")
    assert any("prepare: out of date (mnist.split_seed removed from dvc.yaml)" in line for line in lock.faults())


def test_an_unexpected_error_is_no_verdict(clone, monkeypatch, capsys):
    def fail() -> list[str]:
        raise KeyError("\ud800")

    monkeypatch.setattr(lock, "faults", fail)
    with pytest.raises(SystemExit) as ended:
        verify.main([])
    assert ended.value.code == 2
    assert "error: unexpected KeyError" in capsys.readouterr().err


@pytest.mark.parametrize("in_the_cache", [False, True])
def test_damaged_weights_are_neither_verified_nor_exported(copy, in_the_cache):
    weights = copy / "models/mnist/model.weights.h5"
    digest = hashlib.md5(weights.read_bytes()).hexdigest()
    cached = Path(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}")
    for path in [weights, copy / cached] if in_the_cache else [weights]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        mode = path.stat().st_mode
        path.chmod(0o644)
        path.write_bytes(content)
        path.chmod(mode)  # read-only in the cache, which DVC trusts for it
    expected = "error: models/mnist/model.weights.h5: other bytes than dvc.lock has: stale, damaged or edited; delete "
    expected += "models/mnist/model.weights.h5"
    expected += f" and {cached}, then run `dvc pull` or" if in_the_cache else ", then run `dvc checkout`"
    for command in ("verify", "export"):
        assert expected in call(copy, "python", "-m", "reprocnn", command, code=1)
    assert not (copy / "export").exists()
    weights.unlink()
    if in_the_cache:
        (copy / cached).unlink()
    else:
        call(copy, "dvc", "checkout")
        assert "verify: dvc.lock matches" in call(copy, "python", "-m", "reprocnn", "verify")


def test_files_of_another_revision_are_named_with_what_restores_them(copy, monkeypatch):
    monkeypatch.chdir(copy)
    for path in ("models/mnist/model.json", "evaluation/cifar.npz"):
        Path(path).write_text("of another revision")
    Path("models/cifar/environment.json").unlink()
    Path("models/cifar/more.h5").touch()
    Path("models/cifar/.partial-model.h5").touch()  # in .dvcignore
    found = sorted(lock.damaged())
    assert found[1:] == sorted(lock.damaged("models/"))
    assert found == [
        "evaluation/cifar.npz: other bytes than dvc.lock has: stale, damaged or edited; delete evaluation/cifar.npz, "
        "then run `dvc checkout`",
        "models/cifar/environment.json: missing, but in dvc.lock; run `dvc checkout`",
        "models/cifar/more.h5: not in dvc.lock; delete it",
        "models/mnist/model.json: other bytes than dvc.lock has: stale, damaged or edited; delete "
        "models/mnist/model.json, then run `dvc checkout`",
    ]


@pytest.mark.nightly
def test_in_full_all_runs_again_and_what_differs_has_its_reason(copy):
    """The real command, as it is, and where oneDNN may use one thread and AVX2 alone, without bfloat16."""
    call(copy, "dvc", "exp", "run", *QUICKLY)
    commit(copy)
    output = call(copy, "python", "-m", "reprocnn", "verify", "--full")
    assert "Running stage 'train_cifar'" in output
    assert "every output is byte for byte the same" in output
    assert call(copy, "git", "status", "--porcelain") == ""

    one = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))] if shutil.which("taskset") else []
    done = subprocess.run(
        [*one, "python", "-m", "reprocnn", "verify", "--full"], cwd=copy, env=environment(ONEDNN_MAX_CPU_ISA="AVX2"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    output = done.stdout
    assert done.returncode == ("BEYOND seed noise" in output)  # as other processors have it, or not
    assert "outputs that differ from dvc.lock" in output
    assert "settings.ONEDNN_MAX_CPU_ISA: committed results none, this run AVX2" in output
    assert bool(one) == ("this run 1; other bits" in output)
    assert "without a reason" not in output
    assert "Traceback" not in output
    assert "from the same processor" not in output


def test_no_data_and_no_model_is_in_git():
    tracked = call(ROOT, "git", "ls-files").splitlines()
    assert {"metrics/mnist.json", "metrics/cifar.json"} <= set(tracked)
    assert not [path for path in tracked if path.endswith((".npy", ".npz", ".h5", ".gz", ".keras"))]


def test_verify_needs_neither_tensorflow_nor_much_time(clone):
    code = (
        "heavy = {'keras', 'tensorflow', 'sklearn', 'matplotlib', 'pandas'}; "
        "import sys, reprocnn.commands.verify, reprocnn.gate.command; print(sorted(heavy & set(sys.modules)))"
    )
    assert call(clone, "python", "-c", code) == "[]\n"


def test_a_commit_without_its_results_is_found(clone):
    """As after a merge that took the code of one side and the results of the other."""
    edit("params.yaml", "label_smoothing: 0.2", "label_smoothing: 0.1")
    commit(clone)
    assert "cifar.label_smoothing modified" in call(clone, "python", "-m", "reprocnn", "verify", code=1)


def test_outside_of_the_repository_a_line_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match=r"^this folder is not a DVC repository"):
        verify.main([])
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "dvc", "init", "--quiet")
    with pytest.raises(UserError, match=r"^dvc: '.*dvc\.yaml' does not exist"):
        verify.main([])
    Path("dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(UserError, match=r"^evaluation/mnist\.json: missing; .* of this project's repository\n.*cifar"):
        verify.main([])
