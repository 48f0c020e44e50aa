import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages import download
from stages.lib import published
from stages.lib.errors import UserError
from tests import mirror

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project folder; the stage expects the small files of tests/mirror.py."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("params.yaml", "params.schema.json"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.chdir(folder)
    mirror.declare(monkeypatch)
    return folder


def raw() -> dict[str, bytes]:
    return {p.relative_to("data/raw").as_posix(): p.read_bytes() for p in Path("data/raw").rglob("*") if p.is_file()}


def test_from_a_folder(project, tmp_path, monkeypatch):
    folder = mirror.fill(tmp_path / "a mirror")
    monkeypatch.setenv("DATASETS_MIRROR", folder.as_uri())  # a space as %20
    download.main()
    assert raw() == {**mirror.CONTENT, **mirror.MEMBERS}
    assert [path.name for path in Path("data").iterdir()] == ["raw"]


def test_over_http_and_then_nothing_again(project, tmp_path, monkeypatch):
    with mirror.serve(mirror.fill(tmp_path / "mirror")) as (address, asked):
        monkeypatch.setenv("DATASETS_MIRROR", address)
        download.main()
        assert raw() == {**mirror.CONTENT, **mirror.MEMBERS}
        assert sorted(asked) == ["/archive.tar.gz", "/images.gz", "/labels.gz"]
        asked.clear()
        download.main()
        assert asked == []


def test_only_what_is_missing_or_wrong_is_fetched(project, tmp_path, monkeypatch):
    with mirror.serve(mirror.fill(tmp_path / "mirror")) as (address, asked):
        monkeypatch.setenv("DATASETS_MIRROR", address)
        download.main()
        asked.clear()
        Path("data/raw/labels.gz").write_bytes(b"label bytez")
        download.main()
        assert asked == ["/labels.gz"]
        assert raw()["labels.gz"] == mirror.CONTENT["labels.gz"]


def test_what_does_not_belong_is_removed(project, tmp_path, monkeypatch):
    monkeypatch.setenv("DATASETS_MIRROR", str(mirror.fill(tmp_path / "mirror")))
    Path("data/raw/old/older").mkdir(parents=True)
    Path("data/raw/old/older/file").write_text("left behind")
    Path("data/raw/images.gz.part").write_text("half")
    download.main()
    assert raw() == {**mirror.CONTENT, **mirror.MEMBERS}
    assert not Path("data/raw/old").exists()


def test_one_flipped_byte_is_refused_and_the_next_source_asked(project, tmp_path, monkeypatch, capsys):
    flipped = bytearray(mirror.MEMBERS["batches/two"])
    flipped[100] ^= 1
    bad = mirror.fill(tmp_path / "bad", members={**mirror.MEMBERS, "batches/two": bytes(flipped)})
    monkeypatch.setenv("DATASETS_MIRROR", str(bad))
    with pytest.raises(UserError, match=r"batches/two: other bytes than published: expected sha256 \w+.*found"):
        download.main()
    assert set(raw()) == set(mirror.CONTENT)
    good = mirror.fill(tmp_path / "good")
    monkeypatch.setenv("DATASETS_MIRROR", f"{bad} {good}")
    download.main()
    assert raw() == {**mirror.CONTENT, **mirror.MEMBERS}


@pytest.mark.parametrize(("change", "told"), [(b"", "found 0"), (b"label bytes and more", "more than the expected 11")])
def test_a_file_of_another_length_is_refused(project, tmp_path, monkeypatch, change, told):
    bad = mirror.fill(tmp_path / "bad", content={**mirror.CONTENT, "labels.gz": change})
    monkeypatch.setenv("DATASETS_MIRROR", str(bad))
    with pytest.raises(UserError, match=told):
        download.main()
    assert "labels.gz" not in raw()


def test_without_a_source_it_says_what_it_asked(project, monkeypatch):
    monkeypatch.setenv("DATASETS_MIRROR", "/nowhere http://127.0.0.1:9")
    monkeypatch.setattr("stages.lib.fetch.TRIES", 1)
    with pytest.raises(UserError) as error:
        download.main()
    assert "DATASETS_MIRROR" in str(error.value)
    assert "/nowhere/images.gz: No such file" in str(error.value)
    assert "http://127.0.0.1:9/images.gz: ConnectionRefusedError" in str(error.value)
    assert not Path("data/raw").exists()


def test_the_pinned_sizes_are_those_of_the_published_files():
    assert sum(file.size for file in published.MNIST) == 11_594_722
    assert len({file.sha256 for file in published.MNIST + published.CIFAR.members}) == 11
    assert [Path(name).name for name in published.NAMES[4:]] == [
        "batches.meta", "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch",
    ]  # fmt: skip


def test_an_interpreter_without_the_dependencies_says_so(tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    for module in ("stages.prepare", "stages.train_mnist"):
        done = subprocess.run([bare / "bin/python", "-m", module], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "lacks" in done.stderr
        assert "pip install -e ." in done.stderr


def test_an_unsupported_python_says_so():
    code = "import sys; sys.version_info = (3, 10, 1); import stages.prepare"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "this is Python 3.10" in done.stderr
    assert "expected 3.11 to 3.13" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.data
@pytest.mark.parametrize("transport", ["folder", "http"])
def test_the_real_files(tmp_path, monkeypatch, transport):
    folder = Path(os.environ["DATASETS_MIRROR"])
    for name in ("params.yaml", "params.schema.json"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    with mirror.serve(folder) as (address, _):
        monkeypatch.setenv("DATASETS_MIRROR", str(folder) if transport == "folder" else address)
        download.main()
    assert download.missing() == []
    assert sorted(raw()) == sorted(published.NAMES)
