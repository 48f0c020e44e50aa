"""What `reprocnn repro` does before and after `dvc repro`."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from reprocnn import repository
from reprocnn.commands import demo, repro, summary
from reprocnn.core.errors import UserError
from reprocnn.datasets import DATASETS
from reprocnn.sources import raw_files
from reprocnn.training import checkpoint
from tests.support.commands import ROOT

ADVICE = "name a mirror, a folder or an address that has the files: DATASETS_MIRROR=/path/to/files make repro"


@pytest.fixture
def called(project, monkeypatch) -> list[str]:
    """The commands that are run, none of which does anything, in a project with the published data set's params."""
    calls: list[str] = []
    monkeypatch.setattr(repository, "dvc", lambda *arguments: calls.append(f"dvc {' '.join(arguments)}"))
    monkeypatch.setattr(summary, "main", lambda arguments: calls.append("summary"))
    monkeypatch.setattr(demo, "main", lambda arguments: calls.append("demo"))
    monkeypatch.setattr(checkpoint, "remove_finished", lambda: calls.append("remove_finished"))
    monkeypatch.setattr(raw_files, "unreachable_sources", lambda: calls.append("look") or [])

    def run(command: list[str], **_: object) -> SimpleNamespace:
        assert command[:3] == [sys.executable, "-m", "dvc"]
        calls.append(f"try {' '.join(command[3:])}")
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("CI", raising=False)
    Path(".git").mkdir()
    return calls


def fill() -> list[Path]:
    paths = []
    for file in (file for dataset in DATASETS for file in dataset.files):
        path = Path("data/raw") / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as opened:
            opened.truncate(file.size)
        paths.append(path)
    return paths


def test_with_the_files_in_place_nothing_is_looked_for(called):
    fill()
    repro.main([])
    assert called == ["dvc repro", "remove_finished", "summary"]


def test_a_missing_library_costs_no_earlier_result(called, monkeypatch):
    """DVC would remove what the stages write first."""
    fill()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else name)
    with pytest.raises(ModuleNotFoundError) as lacking:
        repro.main([])
    assert (lacking.value.name, called) == ("tensorflow", [])


def test_a_worktree_of_git_is_a_clone(called):
    Path(".git").rmdir()
    Path(".git").write_text("gitdir: elsewhere\n")
    test_with_the_files_in_place_nothing_is_looked_for(called)


def test_missing_files_are_taken_from_the_cache_or_a_source(called):
    repro.main([])
    assert called == ["try checkout --quiet download", "look", "dvc repro", "remove_finished", "summary"]


def test_a_file_of_another_size_makes_way_for_the_one_of_the_cache(called, monkeypatch):
    monkeypatch.setattr(raw_files, "missing", list)
    first, *rest = fill()
    first.write_bytes(b"half")
    assert repro.wrong_sizes() == [first]
    repro.main([])
    assert called == ["try checkout --quiet download", "look", "dvc repro", "remove_finished", "summary"]
    assert not first.exists()
    assert all(path.exists() for path in rest)


def test_what_a_damaged_cache_gave_is_not_taken(called, monkeypatch):
    """DVC trusts its cache: of the right size, it would never be looked at again."""
    damaged, *others = fill()
    others[0].unlink()
    monkeypatch.setattr(raw_files, "missing", lambda: [damaged.relative_to("data/raw").as_posix()])
    repro.main([])
    assert called[:2] == ["try checkout --quiet download", "look"]
    assert not damaged.exists()


def test_the_sample_needs_no_source(called):
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("source: public", "source: sample", 1))
    repro.main([])
    assert called == ["try checkout --quiet download", "dvc repro", "remove_finished", "summary"]


def test_without_a_source_the_sample_is_run_instead(called, monkeypatch, capsys):
    monkeypatch.setattr(raw_files, "unreachable_sources", lambda: ["/mirror", "https://example.org/"])
    repro.main([])
    assert called == ["try checkout --quiet download", "demo"]
    assert capsys.readouterr().out == (
        "no source of the real data can be reached; tried /mirror, https://example.org/\n"
        f"{ADVICE}; what follows is the embedded sample\n"
    )


@pytest.mark.parametrize(("value", "refused"), [("true", True), ("false", False), ("", False)])
def test_without_a_source_ci_is_an_error(called, monkeypatch, value, refused):
    monkeypatch.setattr(raw_files, "unreachable_sources", lambda: ["/mirror"])
    monkeypatch.setenv("CI", value)
    if refused:
        with pytest.raises(UserError) as error:
            repro.main([])
        assert str(error.value) == f"no source of the real data can be reached; tried /mirror\n{ADVICE}"
    else:
        repro.main([])
    assert ("demo" in called) is not refused


def test_files_are_complete_if_all_are_there_with_their_sizes(called):
    assert repro.wrong_sizes()
    paths = fill()
    assert not repro.wrong_sizes()
    for path in (paths[0], paths[-1]):
        size = path.stat().st_size
        for other in (size - 1, size + 1):
            with path.open("r+b") as file:
                file.truncate(other)
            assert repro.wrong_sizes()
        path.unlink()
        assert repro.wrong_sizes()
        path.mkdir()
        assert repro.wrong_sizes()
        path.rmdir()
        with path.open("wb") as file:
            file.truncate(size)
    assert not repro.wrong_sizes()


def test_what_dvc_cannot_work_in_is_refused_before_it_runs(called, tmp_path):
    Path("data").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"^data: found a symbolic link"):
        repro.main([])
    Path("data").unlink()
    Path(".git").rmdir()
    with pytest.raises(UserError, match="not a git clone"):
        repro.main([])
    Path("params.yaml").write_text("source: nowhere\n")
    with pytest.raises(UserError, match=r"^params\.yaml: "):
        repro.main([])
    assert called == []


def test_a_failed_pipeline_prints_no_table(called, monkeypatch):
    def fail(*_: str) -> None:
        raise UserError("dvc repro: ended with exit code 255; its message is above")

    fill()
    monkeypatch.setattr(repository, "dvc", fail)
    with pytest.raises(UserError, match="255"):
        repro.main([])
    assert called == []


def test_git_gives_what_it_prints_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(repository.git("rev-parse", "--show-toplevel", cwd=ROOT).strip()) == ROOT
    with pytest.raises(UserError, match=r"^git rev-parse: fatal: "):
        repository.git("rev-parse", "--verify", "nosuch", cwd=ROOT)


def test_where_git_refuses_without_a_word_the_line_says_that_it_failed():
    with pytest.raises(UserError, match=r"^git rev-parse: .*returned non-zero exit status 1"):
        repository.git("rev-parse", "--verify", "--quiet", "nosuch", cwd=ROOT)


def test_a_machine_without_git_is_a_line(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"^git: not installed"):
        repository.git("status")


@pytest.mark.parametrize("code", [0, 1, 255])
def test_dvc_runs_in_this_environment_and_its_failure_is_an_error(monkeypatch, tmp_path, code):
    seen = {}

    def run(command: list[str], **options: object) -> SimpleNamespace:
        seen.update(options, command=command)
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("PATH", "/usr/bin")
    if code:
        with pytest.raises(UserError, match=f"^dvc repro --force: ended with exit code {code}; its message is above$"):
            repository.dvc("repro", "--force", cwd=tmp_path)
    else:
        repository.dvc("repro", "--force", cwd=tmp_path)
    assert seen["command"] == [sys.executable, "-m", "dvc", "repro", "--force"]
    assert seen["cwd"] == tmp_path
    assert seen["env"]["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
