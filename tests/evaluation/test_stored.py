"""What `evaluate` refuses to measure: files of a network that are not those of dvc.lock."""

import contextlib
import hashlib
import re
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from reprocnn.core.errors import UserError
from reprocnn.evaluation import stored
from tests.support.commands import ROOT, call, ran, save

MODEL = Path("models/mnist")
WEIGHTS = MODEL / "model.weights.h5"
DVC_YAML = """
stages:
  train_mnist:
    cmd: mkdir models/mnist && printf ${seed} > models/mnist/model.weights.h5 && echo ü > models/mnist/model.json
    outs: [models/mnist]
  evaluate_mnist:
    cmd: python evaluate.py
    deps: [models/mnist]
    metrics: [metrics.json: {cache: false}]
"""
EVALUATE = """
from pathlib import Path
from reprocnn.evaluation import stored
stored.check(Path("models/mnist"))
Path("metrics.json").write_text(Path("models/mnist/model.weights.h5").read_text())
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A repository in which the network was trained."""
    folder = tmp_path_factory.mktemp("trained")
    call(folder, "git", "init", "--quiet")
    Repo.init(str(folder)).close()
    (folder / "models").mkdir()
    (folder / "models/.gitignore").write_text("/mnist\n")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "params.yaml").write_text("seed: 0\n")
    (folder / "evaluate.py").write_text(EVALUATE)
    with contextlib.chdir(folder), Repo() as repo:
        repo.reproduce("train_mnist")
    save(folder)
    return folder


@pytest.fixture
def repository(trained, tmp_path, monkeypatch):
    """A copy of it, as a stage sees it that dvc has started."""
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_STAGE", "evaluate_mnist")


def cached(path: Path) -> Path:
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    return Path(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}")


def flip(path: Path) -> None:
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    path.chmod(mode)  # read-only in the cache, which DVC trusts for it


def refused() -> str:
    with pytest.raises(UserError) as refusal:
        stored.check(MODEL)
    return str(refusal.value)


def test_what_the_training_wrote_is_measured(repository):
    assert stored.check(MODEL) is None


@pytest.mark.parametrize("backwards", [False, True])
def test_the_order_in_which_a_disk_lists_files_does_not_count(repository, monkeypatch, backwards):
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(sorted(listed(folder), reverse=backwards)))
    assert stored.check(MODEL) is None


def test_other_bytes_are_refused_with_where_to_get_the_right_ones(repository):
    place = cached(WEIGHTS)
    flip(WEIGHTS)
    line = f"{WEIGHTS}: other bytes than dvc.lock has: stale, damaged or edited; delete "
    assert refused() == f"{line}{WEIGHTS}, then run `dvc checkout`"
    WEIGHTS.unlink()
    assert refused() == f"{WEIGHTS}: missing, but in dvc.lock; run `dvc checkout`"
    with Repo() as repo:
        repo.checkout()
    stored.check(MODEL)
    flip(WEIGHTS)
    flip(place)  # as a disk does; DVC restores it without a word
    assert refused() == f"{line}{WEIGHTS} and {place}, then run `dvc pull` or `dvc repro`"
    place.unlink()
    assert refused() == f"{line}{WEIGHTS}, then run `dvc pull` or `dvc repro`"


def test_each_file_that_differs_has_a_line(repository):
    flip(WEIGHTS)
    flip(MODEL / "model.json")
    assert [line.partition(":")[0] for line in refused().splitlines()] == [f"{MODEL}/model.json", str(WEIGHTS)]


@pytest.mark.parametrize("content", [None, '[{"md5": 3, "relpath": "a"}]'])
def test_without_the_list_of_files_the_folder_is_refused(repository, content):
    digest = re.findall(r"md5: (\w+)\.dir", Path("dvc.lock").read_text())[0]
    flip(WEIGHTS)
    listing = Path(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}.dir")
    listing.unlink()
    if content is not None:
        listing.write_text(content)
    assert refused().startswith(f"{MODEL}: other files than dvc.lock has: stale, damaged or edited; delete it, then")


def test_a_file_too_many_is_refused(repository):
    (MODEL / "more").write_text("")
    assert refused() == f"{MODEL}/more: not in dvc.lock; delete it"


def test_nothing_is_compared_by_hand_or_without_a_lock(repository, monkeypatch):
    flip(WEIGHTS)
    text = Path("dvc.lock").read_text()
    for other in ("", text.replace("train_mnist", "train_other"), text.replace("models/mnist", "models/other"), "{"):
        Path("dvc.lock").write_text(other)
        assert stored.check(MODEL) is None
    Path("dvc.lock").write_text(text)
    refused()
    monkeypatch.delenv("DVC_STAGE")
    assert stored.check(MODEL) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("repro", "--force"), ("repro", "--force", "--no-commit"), ("exp", "run", "-S", "seed=1"),
        ("exp", "run", "--temp", "-S", "seed=1"),
    ],
)  # fmt: skip
def test_dvc_has_written_the_lock_before_it_evaluates(repository, monkeypatch, command):
    monkeypatch.delenv("DVC_STAGE")
    if "--temp" not in command:
        shutil.rmtree(MODEL)
        shutil.rmtree(".dvc/cache")
    output = call(Path(), "dvc", *command, PYTHONPATH=str(ROOT))
    assert {"train_mnist", "evaluate_mnist"} <= ran(output)


@pytest.mark.slow
def test_dvc_restores_damaged_weights_and_evaluate_refuses_them(repository, monkeypatch):
    monkeypatch.delenv("DVC_STAGE")
    flip(cached(WEIGHTS))
    WEIGHTS.unlink()
    with Repo() as repo:
        repo.checkout()
    output = call(Path(), "dvc", "repro", "evaluate_mnist", code=255, PYTHONPATH=str(ROOT))
    assert "models/mnist/model.weights.h5: other bytes than dvc.lock has" in output
