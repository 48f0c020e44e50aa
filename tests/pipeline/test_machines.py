"""How people keep a repository: caches, links, shallow clones, worktrees, upgrades and leftovers."""

import functools
import http.server
import os
import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest

from reprocnn.commands import verify
from reprocnn.core.errors import UserError
from tests.support.commands import ROOT, call, lock, ran

posix = pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
MODEL = "models/mnist/model.weights.h5"


def clone(source: Path, target: Path, *arguments: str) -> Path:
    call(source.parent, "git", "clone", "--quiet", *arguments, source.as_uri(), str(target))
    return target


@pytest.mark.nightly
@posix
@pytest.mark.parametrize("kind", ["symlink", "hardlink"])
def test_a_cache_that_two_clones_share(copy, tmp_path, kind):
    """By links: who writes through one would change the other clone and the cache."""
    cache = tmp_path / "cache"
    (copy / ".dvc/cache").rename(cache)
    clones = [clone(copy, tmp_path / name) for name in ("one", "two")]
    for folder in clones:
        for key, value in (("cache.dir", str(cache)), ("cache.type", kind), ("cache.shared", "group")):
            call(folder, "dvc", "config", "--local", key, value)
        call(folder, "dvc", "checkout")
        assert ran(call(folder, "dvc", "repro")) == set()
    one, two = clones
    before = (two / MODEL).read_bytes()
    assert ran(call(one, "dvc", "repro", "--single-item", "--force", "prepare")) == {"prepare"}
    assert ran(call(one, "dvc", "repro", "--single-item", "--force", "download")) == {"download"}
    for folder in clones:
        assert "up to date" in call(folder, "dvc", "status")
        assert call(folder, "git", "status", "--porcelain") == ""
    shutil.rmtree(two / "data/prepared")
    call(two, "dvc", "checkout")
    assert "up to date" in call(two, "dvc", "status")
    assert (two / MODEL).read_bytes() == before


def test_an_experiment_is_dropped_in_a_clone_that_never_trained(copy, tmp_path):
    folder = clone(copy, tmp_path / "clone")
    (folder / "params.yaml").write_text((folder / "params.yaml").read_text().replace("seed: 0", "seed: 1", 1))
    (folder / "metrics/mnist.json").write_text("{}")
    call(folder, "git", "restore", ".")
    call(folder, "dvc", "checkout", "--allow-missing")
    assert call(folder, "git", "status", "--porcelain") == ""
    assert lock(folder) == lock(copy)


@pytest.mark.nightly
@posix
def test_data_as_a_symbolic_link(copy, tmp_path):
    """DVC reads through it and refuses to write; what does work is a cache elsewhere, as above."""
    (copy / "data").rename(tmp_path / "large disk")
    (copy / "data").symlink_to(tmp_path / "large disk")
    assert ran(call(copy, "dvc", "repro")) == set()
    message = call(copy, "dvc", "repro", "--single-item", "--force", "prepare", code=255)
    assert "is outside of git repository" in message
    assert "Traceback" not in message
    message = call(copy, "python", "-m", "reprocnn", "repro", code=1)
    assert message.startswith("error: data: found a symbolic link")
    assert "cache.type symlink" in message
    assert len(message.splitlines()) == 1


@pytest.mark.nightly
def test_a_shallow_clone(copy, tmp_path):
    call(
        copy, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "--allow-empty", "-m", "More"
    )
    folder = clone(copy, tmp_path / "shallow", "--depth=1")
    assert call(folder, "git", "rev-parse", "--is-shallow-repository") == "true\n"
    assert "verify: dvc.lock matches the code" in call(folder, "python", "-m", "reprocnn", "verify")
    message = call(folder, "python", "-m", "reprocnn", "gate", code=2)
    assert "results of the sample" in message
    assert "Traceback" not in message


def test_a_clone_with_the_line_ends_of_windows(copy, tmp_path):
    """DVC compares bytes."""
    folder = clone(copy, tmp_path / "clone", "-c", "core.autocrlf=true")
    assert "w/crlf" not in call(folder, "git", "ls-files", "--eol")
    assert "verify: dvc.lock matches the code" in call(folder, "python", "-m", "reprocnn", "verify")


@pytest.mark.nightly
def test_a_worktree(copy, tmp_path):
    folder = tmp_path / "worktree"
    call(copy, "git", "worktree", "add", "--quiet", str(folder), "-b", "other")
    call(folder, "dvc", "config", "--local", "cache.dir", str(copy / ".dvc/cache"))
    output = call(folder, "python", "-m", "reprocnn", "repro")
    assert ran(output) == set()
    assert "sample: digits" in output
    assert call(folder, "git", "status", "--porcelain") == ""
    assert (folder / MODEL).read_bytes() == (copy / MODEL).read_bytes()


@pytest.mark.slow
def test_models_from_a_web_server(copy, tmp_path):
    """A static one, which serves what `dvc push` put into a folder."""
    folder = clone(copy, tmp_path / "clone")
    message = call(folder, "make", "--assume-old=.venv/.installed", "pull", code=2)
    assert "error: this repository has no default DVC remote; run `make repro`" in message
    served = tmp_path / "served"
    call(copy, "dvc", "remote", "add", "storage", str(served))
    call(copy, "dvc", "push", "--remote", "storage", "models/mnist")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        call(folder, "dvc", "remote", "add", "--default", "published", f"http://127.0.0.1:{server.server_port}")
        call(folder, "dvc", "pull", "models/mnist")
        server.shutdown()
    assert (folder / MODEL).read_bytes() == (copy / MODEL).read_bytes()
    assert not (folder / "models/cifar").exists()


def test_no_two_files_differ_by_case_alone():
    """macOS and Windows would take them for one."""
    names = {
        str(path) for name in call(ROOT, "git", "ls-files").splitlines() for path in [Path(name), *Path(name).parents]
    }
    assert [name for name, count in Counter(map(str.casefold, names)).items() if count > 1] == []
    assert not [name for name in names if set(name) & set('<>:"|?*\\')]


@pytest.mark.nightly
def test_leftovers_of_an_older_version(copy):
    """Ignored by git, so they stay after a pull; nothing reads them."""
    for name in (
        "stages/lib/__pycache__/utils.cpython-311.pyc",
        "stages/lib/__pycache__/files.cpython-39.pyc",
        "runs/checkpoints/train_mnist-0123456789abcdef/epoch-0001.weights.h5",
        "runs/train_old.json",
        "metrics/.partial-1-mnist.json",
        "plots/mnist/.partial-1-history.csv",
        "data/.incoming/half",
        "demo/dvc.yaml",
        "export/old.keras",
        "build/lib/stages/__init__.py",
    ):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(b"of an older version")
    assert ran(call(copy, "dvc", "repro")) == set()
    output = call(copy, "dvc", "repro", "--force", "download", "--single-item")
    assert ran(output) == {"download"}
    assert not (copy / "data/.incoming").exists()
    assert ran(call(copy, "dvc", "repro")) == set()
    assert call(copy, "git", "status", "--porcelain") == ""
    assert "verify: dvc.lock matches the code" in call(copy, "python", "-m", "reprocnn", "verify")


def test_an_upgraded_dependency_is_reported(copy, tmp_path, monkeypatch):
    metadata = tmp_path / "site/keras-99.0.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: keras\nVersion: 99.0\n")
    monkeypatch.chdir(copy)
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(UserError, match=r"evaluation/mnist\.json: trained with keras 3\..*, installed is 99\.0"):
        verify.main([])
