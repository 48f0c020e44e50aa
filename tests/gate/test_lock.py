"""dvc.lock is judged in a clone without data: stages that depend on folders of code, of data and of results."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.lock import Lock, LockError

from reprocnn.core.errors import UserError
from reprocnn.gate import lock
from reprocnn.gate.compare import judge
from reprocnn.gate.parts import Part, judge_parts
from tests.support.commands import ROOT, call, commit, save
from tests.support.edits import edit

SCRIPT = """
import pathlib
import sys

def write(path, text):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

stage = sys.argv[1]
if stage == "prepare":
    for split in ("train", "test"):
        write(f"data/prepared/digits/{split}/x.npy", split)
    write("codebook.txt", "a name that begins with that of another dep")
elif stage == "train":
    write("models/digits/weights", pathlib.Path("data/prepared/digits/train/x.npy").read_text())
elif stage == "evaluate":
    write("evaluation/digits.npz", "maps")
    write("evaluation/digits.json", "{}")
    write("metrics/digits.json", '{"digits": {"source": "public", "test": {"n": 10, "accuracy": 0.9}}}')
else:
    write("report/report.md", pathlib.Path("evaluation/digits.json").read_text())
    write("report/figures/curve.svg", "curve")
"""
PIPELINE: dict[str, Any] = {
    "prepare": {"deps": ["code"], "params": ["split_seed"], "outs": ["data/prepared", "codebook.txt"]},
    "train": {"deps": ["code", "data/prepared/digits/train"], "params": ["seed", "digits"], "outs": ["models/digits"]},
    "evaluate": {
        "deps": ["code", "data/prepared/digits/test", "models"],
        "outs": ["evaluation/digits.npz"],
        "metrics": [{"metrics/digits.json": {"cache": False}}],
        "plots": [{"evaluation/digits.json": {"cache": False}}],
    },
    "plot": {"deps": ["code", "evaluation", "metrics", "codebook.txt"], "outs": [{"report": {"cache": False}}]},
}
PARAMS = {
    "split_seed": 3,
    "seed": 0,
    "digits": {"network": "small", "layers": {"width": 8, "depth": 2}},
    "targets": {"digits": {"test": {"accuracy": {"at_least": 0.8}}}},
    "gate": {"alpha": 0.01, "tolerance": 0.05},
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline, run and committed, with its data and its cache."""
    folder = tmp_path_factory.mktemp("original")
    call(folder, "git", "init", "--quiet", "--initial-branch=main")
    call(folder, "dvc", "init", "--quiet")
    (folder / "code").mkdir()
    (folder / "code/make.py").write_text(SCRIPT)
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    stages = {name: {"cmd": f"python code/make.py {name}", **stage} for name, stage in PIPELINE.items()}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    call(folder, "dvc", "repro")
    save(folder)
    return folder


@pytest.fixture
def clone(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What git has of it."""
    folder = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(original), str(folder))
    monkeypatch.chdir(folder)
    return folder


def stale(stage: str, reason: str) -> str:
    return f"dvc.lock: {stage}: out of date ({reason}); run `dvc repro` and commit"


def test_a_clone_without_data_is_up_to_date(clone):
    assert not Path("data/prepared").exists()
    assert not Path("models/digits").exists()
    assert not Path("evaluation/digits.npz").exists()
    assert Path("evaluation/digits.json").exists()
    assert lock.faults() == []


def test_a_tag_with_the_name_of_a_commit_is_not_taken_for_it(clone):
    first = call(clone, "git", "rev-parse", "HEAD").strip()
    assert lock.metrics(first)
    edit("params.yaml", "seed", "seeds")
    commit(clone)
    call(clone, "git", "tag", first, "HEAD")
    with pytest.raises(UserError, match=f"DVC takes a branch or a tag for the commit {first[:12]}; delete that"):
        lock.metrics(first)


def test_with_data_and_cache_it_is_up_to_date(original, monkeypatch):
    monkeypatch.chdir(original)
    assert lock.faults() == []


def test_a_changed_file_of_a_code_folder_is_named_by_its_folder(clone):
    edit("code/make.py", "curve", "curves")
    assert lock.faults() == [stale(stage, "code modified") for stage in PIPELINE]


@pytest.mark.parametrize("change", ["added", "removed"])
def test_a_file_more_or_less_in_a_code_folder_is_found(clone, change):
    if change == "added":
        Path("code/more.py").touch()
    else:
        Path("code/make.py").rename("code/made.py")
    assert stale("plot", "code modified") in lock.faults()


@pytest.mark.parametrize("case", ["here", "in the lock", "hidden"])
def test_bytecode_that_counts_in_a_code_folder_is_named_with_the_cure(clone, case):
    """As where a stage imports a module: its clone has no bytecode."""
    if case == "in the lock":
        locked = yaml.safe_load(Path("dvc.lock").read_text())
        [code] = [dep for dep in locked["stages"]["plot"]["deps"] if dep["path"] == "code"]
        code |= {"md5": "0" * 32 + ".dir", "nfiles": code["nfiles"] + 1}
        Path("dvc.lock").write_text(yaml.safe_dump(locked))
    else:
        Path("code/__pycache__").mkdir()
        Path("code/__pycache__/make.pyc").touch()
    reason = "code modified, perhaps only by __pycache__: list it in .dvcignore"
    if case == "hidden":
        Path(".dvcignore").write_text("__pycache__\n")
        edit("code/make.py", "curve", "curves")
        reason = "code modified"
    assert stale("plot", reason) in lock.faults()


def test_a_changed_param_is_named(clone):
    edit("params.yaml", "split_seed: 3", "split_seed: 4")
    assert lock.faults() == [stale("prepare", "split_seed modified")]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("width: 8", "width: 9", "digits.layers.width modified"),
        ("width: 8", "depth2: 8", "digits.layers.depth2 new"),
        ("  network: small\n", "", "digits.network deleted"),
    ],
)
def test_a_changed_key_of_a_section_is_named(clone, old, new, reason):
    edit("params.yaml", old, new)
    [line] = lock.faults()
    assert line.startswith("dvc.lock: train: out of date (")
    assert reason in line


def test_of_many_reasons_three_are_named(clone):
    for old, new in (("network: small", "network: big"), ("width: 8", "width: 9"), ("depth: 2", "depth: 3")):
        edit("params.yaml", old, new)
    keys = ("digits.layers.depth", "digits.layers.width", "digits.network")
    assert lock.faults() == [stale("train", ", ".join(f"{key} modified" for key in keys))]
    edit("dvc.yaml", "make.py train", "make.py train --fast")
    edit("params.yaml", "\nseed: 0", "\nseed: 1")
    [line] = lock.faults()
    assert line.startswith("dvc.lock: train: out of date (cmd changed, ")
    assert line.endswith(" and 2 more); run `dvc repro` and commit")


def test_an_edit_that_keeps_time_and_size_is_found(original, monkeypatch):
    monkeypatch.chdir(original)
    path = Path("metrics/digits.json")
    before, text = path.stat(), path.read_text()
    try:
        path.write_text(text.replace("0.9", "0.8"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert lock.faults()[0].startswith("metrics/digits.json: differs from dvc.lock")
    finally:
        path.write_text(text)


def test_an_empty_section_more_is_found(clone):
    edit("params.yaml", "  network: small\n", "  network: small\n  augmentation: {}\n")
    assert lock.faults() == [stale("train", "digits modified")]


def test_a_section_that_is_gone_is_named(clone):
    values = yaml.safe_load(Path("params.yaml").read_text())
    del values["digits"]
    Path("params.yaml").write_text(yaml.safe_dump(values))
    assert lock.faults() == [stale("train", "digits deleted")]


def test_a_changed_command_is_named(clone):
    edit("dvc.yaml", "make.py train", "make.py train --fast")
    assert lock.faults() == [stale("train", "cmd changed")]


@pytest.mark.parametrize("path", ["metrics/digits.json", "evaluation/digits.json"])
def test_a_changed_result_is_named(clone, path):
    restore = "restore it with git checkout, or run `dvc repro`"
    Path(path).write_text(Path(path).read_text() + " ")
    assert lock.faults() == [f"{path}: differs from dvc.lock; {restore}"]
    Path(path).unlink()
    assert lock.faults() == [f"{path}: missing, but in dvc.lock; {restore}"]


@pytest.mark.parametrize("name", ["code", "report"])
def test_a_linked_folder_in_a_dep_or_a_result_is_found(clone, name):
    """DVC does not hash what is in it."""
    Path("elsewhere").mkdir()
    Path(name, "linked").symlink_to("../elsewhere")
    line = f"{name}/linked: a link to a folder, in which DVC sees no change; put the folder in its place"
    assert lock.faults() == [line]


def test_links_that_dvc_follows_hides_or_keeps_are_no_fault(original, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    Path("code").rename("moved")
    Path("code").symlink_to("moved")  # the dep itself
    Path("moved/make.py").rename("make.py")
    Path("moved/make.py").symlink_to("../make.py")
    Path(".dvcignore").write_text("/code/hidden\n")
    Path("code/hidden").symlink_to("../plots")
    Path("models/digits/latest").symlink_to(".")
    assert lock.faults() == []


@pytest.mark.parametrize("committed", [False, True])
def test_a_changed_file_of_a_result_folder_is_found(clone, committed):
    edit("report/figures/curve.svg", "curve", "CURVE")
    if committed:
        commit(clone)
        [line] = lock.changed_results("HEAD")
        assert line.startswith("report: differs from dvc.lock")
        assert lock.changed_results("HEAD~") == []
    [line] = lock.faults()
    assert line.startswith("report: differs from dvc.lock")


def test_a_further_file_beside_results_is_found(clone):
    Path("evaluation/note.txt").write_text("by hand")
    assert lock.faults() == [stale("plot", "evaluation modified")]


@pytest.mark.parametrize(
    ("path", "stage", "reason"),
    [
        ("evaluation/digits.npz", "plot", "evaluation modified"),
        ("evaluation/digits.json", "plot", "evaluation modified"),
        ("metrics/digits.json", "plot", "metrics modified"),
        ("codebook.txt", "plot", "codebook.txt from another run"),
    ],
)
def test_halves_of_two_locks_do_not_pass_for_one(clone, path, stage, reason):
    """A result's digest is replaced where its stage made it, and stays where the next stage read it."""
    locked = yaml.safe_load(Path("dvc.lock").read_text())
    [out] = [out for made in locked["stages"].values() for out in made["outs"] if out["path"] == path]
    out["md5"] = "0" * 32
    Path("dvc.lock").write_text(yaml.safe_dump(locked))
    assert stale(stage, reason) in lock.faults()


def replace(kind: str, *paths: str) -> None:
    """Give entries of dvc.lock another digest."""
    locked = yaml.safe_load(Path("dvc.lock").read_text())
    for path in paths:
        [entry] = [entry for stage in locked["stages"].values() for entry in stage[kind] if entry["path"] == path]
        entry["md5"] = "0" * 32 + ".dir"
    Path("dvc.lock").write_text(yaml.safe_dump(locked))


DATA, TRAIN, TEST = "data/prepared", "data/prepared/digits/train", "data/prepared/digits/test"


@pytest.mark.parametrize("paths", [[TRAIN], [TRAIN, TEST]])
def test_a_part_that_changed_without_the_folder_around_it_is_stale(clone, paths):
    """In a clone without data, dvc.lock has a digest of the folder and one of the part."""
    replace("deps", *paths)
    assert judge("HEAD").reasons == [
        stale(stage, f"{path} changed, but not {DATA} around it")
        for stage, path in (("train", TRAIN), ("evaluate", TEST))
        if path in paths
    ]


def test_a_part_of_a_folder_that_changed_alone_may_be_stale(clone):
    replace("outs", DATA)
    replace("deps", TRAIN)
    judgement = judge("HEAD")
    what = f"{DATA} changed, and evaluate may not have run since; run `dvc fetch` and judge again"
    assert judgement.reasons == [f"{TEST}: LOOSENED ({what})"]
    remedy = "run `dvc fetch` and judge again"
    assert judgement.warnings == [f"dvc.lock: train: {TRAIN} may be of another run than {DATA}; {remedy}"]
    assert judge("HEAD", accept=[TEST]).exit_code == 0


def test_a_part_is_known_by_its_path_whatever_its_stage_is_called(clone):
    for path in ("dvc.yaml", "dvc.lock"):
        edit(path, "\n  train:\n", "\n  fit:\n")
    replace("outs", DATA)
    replace("deps", TEST)
    assert judge("HEAD").reasons == [
        f"{TRAIN}: LOOSENED ({DATA} changed, and fit may not have run since; run `dvc fetch` and judge again)"
    ]


def test_a_part_that_is_new_may_be_of_another_run(clone):
    edit("dvc.yaml", f"    - {TRAIN}\n", f"    - {TRAIN}/x.npy\n")
    edit("dvc.lock", f"path: {TRAIN}\n", f"path: {TRAIN}/x.npy\n")
    judgement = judge("HEAD")
    remedy = "run `dvc fetch` and judge again"
    assert judgement.warnings == [f"dvc.lock: train: {TRAIN}/x.npy may be of another run than {DATA}; {remedy}"]


def test_a_folder_around_one_that_changed_is_stale(clone):
    replace("outs", "models/digits")
    assert judge("HEAD").reasons == [stale("evaluate", "models/digits changed, but not models around it")]
    replace("deps", "models")
    judgement = judge("HEAD")
    assert (judgement.exit_code, len(judgement.warnings)) == (0, 1)


def test_where_the_list_of_files_was_fetched_a_part_is_compared_with_it(original, clone):
    assert [part.dep for part in lock.parts(unknown=True)] == [TRAIN, TEST, "models"]
    shutil.copytree(original / ".dvc/cache", ".dvc/cache")
    assert (lock.faults(), lock.parts(unknown=True)) == ([], [])
    replace("deps", TRAIN)
    assert lock.faults() == [stale("train", f"{TRAIN} from another run")]


def test_a_file_of_a_folder_is_compared_with_the_list_of_its_files(original, clone):
    shutil.copytree(original / ".dvc/cache", ".dvc/cache")
    edit("dvc.yaml", f"    - {TRAIN}\n", f"    - {TRAIN}/x.npy\n")
    locked = yaml.safe_load(Path("dvc.lock").read_text())
    [dep] = [dep for dep in locked["stages"]["train"]["deps"] if dep["path"] == TRAIN]
    dep |= {"path": f"{TRAIN}/x.npy", "md5": hashlib.md5(b"train").hexdigest()}
    Path("dvc.lock").write_text(yaml.safe_dump(locked))
    assert lock.faults() == []
    dep["md5"] = hashlib.md5(b"test").hexdigest()
    Path("dvc.lock").write_text(yaml.safe_dump(locked))
    assert lock.faults() == [stale("train", f"{TRAIN}/x.npy from another run")]


def test_a_dep_more_is_named(clone):
    edit("dvc.yaml", "    - data/prepared/digits/train\n", "    - data/prepared/digits/train\n    - code/make.py\n")
    assert lock.faults() == [stale("train", "code/make.py modified")]


def test_of_a_params_file_that_is_named_alone_every_key_is_declared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "dvc", "init", "--quiet")
    Path("params.yaml").write_text("seed: 0\n")
    Path("other.yaml").write_text("width: 8\nlayers: {depth: 2}\n")
    stage = {"cmd": "touch made", "params": ["seed", {"other.yaml": None}], "outs": [{"made": {"cache": False}}]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"make": stage}}))
    call(tmp_path, "dvc", "repro")
    assert lock.faults() == []
    stage["params"] = [{"other.yaml": None}]
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"make": stage}}))
    assert lock.faults() == [
        "dvc.lock: make: out of date (seed removed from dvc.yaml); run `dvc repro --force make` and commit"
    ]


def test_what_lies_beside_an_output_below_a_folder_of_data_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "dvc", "init", "--quiet")
    Path("data/below").mkdir(parents=True)
    Path("data/below/raw.csv").write_text("1,2\n")
    make = {"cmd": "touch data/below/made", "outs": ["data/below/made"]}
    use = {"cmd": "touch used", "deps": ["data"], "outs": ["used"]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"make": make, "use": use}}))
    call(tmp_path, "dvc", "repro")
    assert lock.faults() == []
    Path("data/below/made").unlink()  # as in a clone
    assert lock.faults() == []
    Path("data/below/raw.csv").write_text("3,4\n")
    assert lock.faults() == [stale("use", "data modified")]


def test_of_what_a_stage_makes_beside_a_folder_of_data_the_bytes_count(tmp_path, monkeypatch):
    """Where DVC itself would call the stage changed, since a file of the folder is not here."""
    monkeypatch.chdir(tmp_path)
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "dvc", "init", "--quiet")
    Path("data").mkdir()
    make = {"cmd": "touch data/made", "outs": ["data/made"]}
    use = {"cmd": "echo used > used", "deps": ["data"], "outs": ["used"]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"make": make, "use": use}}))
    call(tmp_path, "dvc", "repro")
    Path("data/made").unlink()  # as in a clone
    assert lock.faults() == []
    Path("used").unlink()
    Path("used").write_text("by hand")
    assert lock.faults() == [
        "dvc.lock: use: would run again; after switching branches run `dvc checkout`, otherwise run `dvc repro` and "
        "commit"
    ]


def test_a_list_of_metrics_below_is_no_pipeline_in_the_place_of_the_one_of_dvc_lock(clone):
    Path("dvc.yaml").unlink()
    Path("live").mkdir()
    Path("live/dvc.yaml").write_text("metrics: [metrics.json]\n")
    Path("live/metrics.json").write_text('{"accuracy": 0.99}')
    with pytest.raises(UserError, match=r"^dvc: '.*dvc\.yaml' does not exist; fix dvc\.yaml or restore dvc\.lock$"):
        lock.faults()


def test_an_experiment_is_read_by_the_name_that_dvc_alone_knows(clone):
    edit("metrics/digits.json", "0.9", "0.95")
    commit(clone)
    made = call(clone, "git", "rev-parse", "HEAD").strip()
    base = call(clone, "git", "rev-parse", "HEAD~").strip()
    call(clone, "git", "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/half-rate", made)
    call(clone, "git", "reset", "--quiet", "--hard", base)
    assert lock.metrics("half-rate")["digits.test.accuracy"] == 0.95
    assert lock.metrics()["digits.test.accuracy"] == 0.9


def test_a_command_that_changed_is_said_of_a_stage_without_deps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "dvc", "init", "--quiet")
    Path("dvc.yaml").write_text("stages: {make: {cmd: touch made, outs: [made]}}")
    call(tmp_path, "dvc", "repro")
    assert lock.faults() == []
    Path("dvc.yaml").write_text("stages: {make: {cmd: touch  made, outs: [made]}}")
    assert lock.faults() == [stale("make", "cmd changed")]


def test_a_stage_that_never_ran_is_named(clone):
    locked = yaml.safe_load(Path("dvc.lock").read_text())
    del locked["stages"]["plot"]
    Path("dvc.lock").write_text(yaml.safe_dump(locked))
    assert lock.faults() == ["dvc.lock: plot: missing; run `dvc repro` and commit"]


@pytest.mark.parametrize("path", ["evaluation/digits.npz", "data/prepared/digits/train/x.npy", "models/digits/weights"])
def test_changed_data_is_found_where_there_is_data(original, tmp_path, monkeypatch, path):
    folder = tmp_path / "copy"
    call(tmp_path, "cp", "--recursive", str(original), str(folder))
    monkeypatch.chdir(folder)
    Path(path).unlink()
    Path(path).write_text("by hand")
    assert any("would run again" in line or "out of date" in line for line in lock.faults())


def test_a_further_file_among_the_data_is_its_own_stages_fault(original, monkeypatch):
    """What the next stage read is judged by dvc.lock."""
    monkeypatch.chdir(original)
    further = Path("models/digits/further")
    further.touch()
    try:
        assert lock.faults()[0] == (
            "dvc.lock: train: would run again; after switching branches run `dvc checkout`, otherwise run `dvc repro` "
            "and commit"
        )
    finally:
        further.unlink()


def test_a_revision_that_cannot_be_read_is_never_taken_for_the_workspace(clone):
    with lock.one_repository():
        for _ in range(2):
            with pytest.raises(UserError):
                lock.metrics("nowhere")


def test_a_repository_without_a_pipeline_is_a_line(clone):
    Path("dvc.yaml").unlink()
    with pytest.raises(UserError, match=r"^dvc: '.*dvc\.yaml' does not exist; fix dvc\.yaml or restore dvc\.lock$"):
        lock.faults()


def test_a_stage_that_always_runs_is_found_though_its_data_is_absent(clone):
    edit("dvc.yaml", "  plot:\n", "  plot:\n    always_changed: true\n")
    [line] = lock.faults()
    assert line.startswith("dvc.lock: plot: would always run again")
    assert line.endswith("; remove always_changed from dvc.yaml")


def test_a_stage_that_makes_nothing_may_always_run(clone):
    edit("dvc.yaml", "stages:\n", "stages:\n  note:\n    cmd: echo\n")
    edit("dvc.lock", "stages:\n", "stages:\n  note:\n    cmd: echo\n")
    assert lock.faults() == []


@pytest.mark.parametrize("change", ["code", "dep", "lock"])
def test_a_frozen_stage_is_unfrozen_first(clone, change):
    """Since `dvc repro` does nothing for it."""
    edit("dvc.yaml", "  plot:\n", "  plot:\n    frozen: true\n")
    assert lock.faults() == []
    if change == "code":
        edit("code/make.py", "curve", "curves")
    elif change == "dep":
        edit("dvc.yaml", "    - codebook.txt\n    outs:\n    - report", "    outs:\n    - report")
    else:
        locked = yaml.safe_load(Path("dvc.lock").read_text())
        del locked["stages"]["plot"]
        Path("dvc.lock").write_text(yaml.safe_dump(locked))
    command = "dvc repro --force plot" if change == "dep" else "dvc repro"
    assert lock.faults()[-1].endswith(f"; it is frozen: run `dvc unfreeze plot`, then run `{command}` and commit")


def test_another_dvc_at_work_is_waited_for(clone, monkeypatch):
    monkeypatch.setattr(Lock, "lock", raise_locked)
    with pytest.raises(UserError, match=r"^dvc: another process is using this repository; wait until it ends"):
        lock.faults()


def raise_locked(_: Lock) -> None:
    raise LockError("Unable to acquire lock")


def test_a_checkout_in_which_dvc_cannot_write_is_a_line(clone):
    """As if .dvc or .dvc/tmp were read-only, for root too."""
    remedy = ": make that writable, or judge a `git clone`"
    Path(".dvc/tmp/lock").mkdir(parents=True)
    with pytest.raises(UserError, match=rf"^dvc: .*\.dvc/tmp/lock: Is a directory; .*{remedy}"):
        lock.faults()
    shutil.rmtree(".dvc/tmp")
    Path(".dvc/tmp").touch()
    with pytest.raises(UserError, match=rf"^dvc: .*\.dvc/tmp: File exists; .*{remedy}"):
        lock.faults()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to another user")
def test_a_checkout_of_another_user_is_a_line(clone):
    for path in (clone, clone / ".git"):
        os.chown(path, 65534, 65534)
    printed = call(clone, "python", "-m", "reprocnn", "gate", code=2, HOME="/nonexistent", PYTHONPATH=str(ROOT))
    assert "error: git: " in printed
    assert "; `git status` here says what to do" in printed


def test_a_dvcignore_that_is_not_text_is_a_line(clone):
    Path(".dvcignore").write_bytes(b"\xe9\n")
    with pytest.raises(UserError, match=r"^dvc: a \.dvcignore or \.dvc/config is not UTF-8 "):
        lock.faults()


def test_what_dvcignore_hides_in_a_folder_of_code_is_a_loosening(clone, monkeypatch):
    Path("code_of_others").mkdir()
    Path("code_of_others/words.txt").touch()  # no dep, though its name begins with that of one
    Path("code/words.txt").touch()
    call(clone, "git", "add", "code", "code_of_others")
    Path(".dvcignore").write_text("words.txt\nreport.md\n")
    hidden = lock.hidden_files()
    assert (hidden, lock.hidden_at("HEAD", hidden), lock.hidden_at("HEAD", ["code/new.pyc"])) == (
        ["code/words.txt"], set(), set(),
    )  # fmt: skip
    edit("params.yaml", "alpha: 0.01", "alpha: 0.02")
    monkeypatch.setattr(lock, "faults", list)  # as after `dvc repro`
    for accept in ([], ["words.txt"]):
        assert "code/words.txt: LOOSENED (hidden by .dvcignore)" in judge("HEAD", accept=accept).reasons
    assert judge("HEAD", accept=["code/words.txt"]).reasons == []


def test_a_file_whose_name_is_not_text_is_one_like_others(clone):
    name = os.fsdecode(b"m\xfcde.txt")
    Path(name).touch()
    edit("params.yaml", "alpha: 0.01", "alpha: 0.02")
    call(clone, "git", "add", "--all")
    judgement = judge("HEAD")
    assert (judgement.verdict, judgement.reasons) == ("passed", [])
    code = Path("code", name)
    code.touch()
    call(clone, "git", "add", "--all")
    Path(".dvcignore").write_text("m*de.txt\n")
    assert lock.hidden_files() == [str(code)]


@pytest.mark.slow
def test_the_gate_judges_a_repository_that_has_a_stages_package_of_its_own(clone):
    """As installed beside a user's code: nothing of theirs is imported, and nothing that trains or draws."""
    edit("params.yaml", "alpha: 0.01", "alpha: 0.02")
    Path("stages").mkdir()
    Path("stages/__init__.py").write_text("raise SystemExit('imported')\n")
    program = """
import sys
from reprocnn.gate import command
try:
    command.main(["--against=HEAD", "--format=json"])
finally:
    print(sorted({"keras", "tensorflow", "sklearn", "matplotlib", "pandas", "stages"} & set(sys.modules)))
"""
    printed = call(clone, "python", "-c", program, PYTHONPATH=str(ROOT))
    judgement, _, imported = printed.rpartition("}")
    assert imported.strip() == "[]"
    assert json.loads(judgement + "}")["verdict"] == "passed"
    assert "gate: passed" in call(clone, "python", "-m", "reprocnn", "gate", "--against=HEAD", PYTHONPATH=str(ROOT))


def test_a_further_part_of_a_folder_is_of_the_folder_as_a_whole():
    """Of a dep that the other revision lacks, nothing says that the folder around it stayed the same."""
    old, new = (Part("train", f"data/{name}", "data", True, "1", "9") for name in "ab")
    assert judge_parts([old, new], [old]) == (
        [],
        [],
        ["dvc.lock: train: data/a, data/b may be of another run than data; run `dvc fetch` and judge again"],
    )


@pytest.mark.parametrize("place", [".dvc/tmp/lock", ".dvc/tmp/rwlock", ".dvc/tmp", ".dvc"])
def test_a_link_that_a_branch_brings_leads_no_write_elsewhere(clone, tmp_path_factory, place):
    """DVC writes its locks there: over any file that the link names, such as one of the gate itself."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    target = elsewhere / "file"
    if place == ".dvc":
        Path(place).rename(elsewhere / "dvc")
        target = elsewhere / "dvc"
    else:
        shutil.rmtree(".dvc/tmp", ignore_errors=True)
        Path(place).parent.mkdir(exist_ok=True)
        target.mkdir() if place == ".dvc/tmp" else target.write_text("kept")
    before = {path: path.is_file() and path.read_bytes() for path in elsewhere.rglob("*")}
    Path(place).symlink_to(target)
    with pytest.raises(UserError, match=rf"^{place}: a symbolic link, and DVC writes there; remove it$"):
        lock.faults()
    assert {path: path.is_file() and path.read_bytes() for path in elsewhere.rglob("*")} == before
