"""The sample's copy of a repository."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import yaml

from reprocnn.commands import demo, summary
from reprocnn.core.errors import UserError
from tests.support.commands import call, save

FILES = {
    "params.yaml": "source: public\nmnist: {epochs: 16, batch_size: 256, seed: 3}\ncifar: {epochs: 9, batch_size: 8}\n",
    "stages/plot.py": "x = 1\n", "dvc.lock": "", "metrics/mnist.json": "{}", "plots/a.csv": "", "report/report.md": "",
    "params.schema.json": "{}", "evaluation/a.json": "", "docs/metrics/a.md": "", "runs/a.json": "{}",
}  # fmt: skip


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "source"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / ".gitignore").write_text("runs/\ndemo/\n")
    call(folder, "git", "init", "--quiet")
    save(folder)
    (folder / "new.py").touch()
    (folder / "dvc.lock").unlink()
    monkeypatch.chdir(folder)
    return folder


def test_the_copy_has_what_is_for_git_but_no_results(source, tmp_path, monkeypatch):
    target = tmp_path / "target"
    (source / "stages/plot.py").chmod(0o755)
    (tmp_path / "hooks").mkdir()
    for name, code in (("pre-commit", "exit 1"), ("prepare-commit-msg", 'echo changed > "$1"')):
        hook = tmp_path / "hooks" / name
        hook.write_text(f"#!/bin/sh\n{code}\n")
        hook.chmod(0o755)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    for i, pair in enumerate((("commit.gpgsign", "true"), ("core.hooksPath", str(hook.parent)))):  # without a key
        for name, value in zip(("KEY", "VALUE"), pair, strict=True):
            monkeypatch.setenv(f"GIT_CONFIG_{name}_{i}", value)
    demo.make_copy(source, target, {"source": "sample", "mnist.epochs": 3, "cifar.new": 1})
    listed = call(target, "git", "ls-files").splitlines()
    assert listed == [
        ".gitignore", "docs/metrics/a.md", "new.py", "params.schema.json", "params.yaml", "stages/plot.py",
    ]  # fmt: skip
    assert call(target, "git", "status", "--porcelain", "--ignored") == ""
    assert call(target, "git", "rev-parse", "--abbrev-ref", "HEAD") == "main\n"
    assert call(target, "git", "log", "--format=%s") == f"{demo.MARK}\n"
    assert (target / "stages/plot.py").stat().st_mode & 0o111
    params = yaml.safe_load((target / "params.yaml").read_text())
    assert params == {
        "source": "sample", "mnist": {"epochs": 3, "batch_size": 256, "seed": 3},
        "cifar": {"epochs": 9, "batch_size": 8, "new": 1},
    }  # fmt: skip
    assert list(params) == ["source", "mnist", "cifar"]
    assert (source / "params.yaml").read_text() == FILES["params.yaml"]


def test_the_demo_starts_from_scratch_with_the_sample(source, monkeypatch):
    calls: list[tuple[str, Path]] = []
    monkeypatch.setattr(demo, "dvc", lambda *arguments, cwd: calls.append((f"dvc {' '.join(arguments)}", cwd)))
    monkeypatch.setattr(summary, "main", lambda arguments: calls.append(("summary", Path.cwd().relative_to(source))))
    Path(".partial-demo/of-a-killed-one").mkdir(parents=True)
    demo.main([])
    Path("demo/old").mkdir()
    calls.clear()
    demo.main([])
    assert calls == [("dvc repro", Path("demo")), ("summary", Path("demo"))]
    assert not Path("demo/old").exists()
    assert yaml.safe_load(Path("demo/params.yaml").read_text()) == {
        "source": "sample", "mnist": {"epochs": 10, "batch_size": 64, "seed": 3},
        "cifar": {"epochs": 4, "batch_size": 100},
    }  # fmt: skip


def test_a_removal_that_is_interrupted_leaves_nothing_that_looks_like_somebody_elses(source, monkeypatch):
    monkeypatch.setattr(demo, "dvc", lambda *_, cwd: None)
    monkeypatch.setattr(summary, "main", lambda arguments: None)
    demo.main([])
    remove = shutil.rmtree

    def interrupted(folder: Path, **options: bool) -> None:
        if folder.exists():
            remove(folder / ".git")
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.main([])
    monkeypatch.setattr(shutil, "rmtree", remove)
    demo.main([])
    assert Path("demo/.git").exists()


def test_a_folder_of_somebody_else_is_left_alone(source):
    Path("demo").mkdir()
    Path("demo/precious.txt").write_text("mine")
    with pytest.raises(UserError, match=r"^demo: not made by this command, which would replace it; move it away$"):
        demo.main([])
    call(source / "demo", "git", "init", "--quiet")
    with pytest.raises(UserError, match="not made by this command"):
        demo.main([])
    assert Path("demo/precious.txt").read_text() == "mine"


def test_a_missing_library_costs_no_earlier_demo(source, monkeypatch):
    monkeypatch.setattr(demo, "dvc", lambda *_, cwd: None)
    monkeypatch.setattr(summary, "main", lambda arguments: None)
    demo.main([])
    Path("demo/mine").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "keras" else name)
    with pytest.raises(ModuleNotFoundError) as lacking:
        demo.main([])
    assert lacking.value.name == "keras"
    assert Path("demo/mine").exists()


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_what_is_no_folder_is_left_alone(source, kind):
    if kind == "file":
        Path("demo").write_text("mine")
    else:
        Path("demo").symlink_to(source if kind == "link" else "nowhere")
    with pytest.raises(UserError, match=r"^demo: not made by this command"):
        demo.main([])
    assert Path("demo").is_symlink() == (kind != "file")


def test_another_folder_than_the_projects_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    with pytest.raises(UserError, match="run in the top folder"):
        demo.main([])
    assert Path("demo").exists()


def test_an_empty_folder_is_nobodys(source, monkeypatch):
    monkeypatch.setattr(demo, "dvc", lambda *_, cwd: None)
    monkeypatch.setattr(summary, "main", lambda arguments: None)
    Path("demo").mkdir()
    demo.main([])
    assert Path("demo/params.yaml").exists()


def test_a_file_that_was_deleted_and_not_committed_is_not_in_the_copy(source, tmp_path):
    Path("docs/metrics/a.md").unlink()
    demo.make_copy(source, tmp_path / "target", {})
    assert call(tmp_path / "target", "git", "ls-files").splitlines() == [
        ".gitignore", "new.py", "params.schema.json", "params.yaml", "stages/plot.py",
    ]  # fmt: skip


@pytest.mark.parametrize("library", ["matplotlib", "pandas", "sklearn", "tensorflow"])
def test_each_library_of_the_stages_is_looked_for(monkeypatch, library):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else name)
    with pytest.raises(ModuleNotFoundError, match=f"No module named '{library}'"):
        demo.require_libraries()


@pytest.mark.parametrize("missing", ["stages", "params.schema.json"])
def test_a_project_that_lacks_a_part_of_this_one_is_another(source, missing):
    Path("demo").mkdir()
    Path(missing).rename("elsewhere")
    with pytest.raises(UserError, match="run in the top folder"):
        demo.main([])
    assert list(Path("demo").iterdir()) == []
