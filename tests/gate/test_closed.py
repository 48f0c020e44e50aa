"""Results that DVC keeps: its cache is believed only with the digests of dvc.lock, and no server is asked."""

import hashlib
import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reprocnn.core.errors import UserError
from reprocnn.gate import lock
from reprocnn.gate.compare import judge
from tests.support.commands import call, commit, save

CACHE = Path(".dvc/cache/files/md5")
METRICS, PLOTS = Path("metrics.json"), Path("plots/digits")
STAGE = {"cmd": "python train.py", "deps": ["train.py"], "metrics": [str(METRICS)], "outs": [str(PLOTS)]}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def keep(content: bytes, ending: str = "") -> dict[str, str]:
    digest = md5(content) + ending
    path = CACHE / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)  # DVC's sign that it has checked the file
    return {"hash": "md5", "md5": digest}


def write(wrong: int) -> None:
    """A result as `dvc repro` leaves it, with this number of errors in 1,000."""
    rows = [f"{i},{i % 10},{(i + (i < wrong)) % 10}\n" for i in range(1000)]
    predictions = "".join(["index,y_true,y_pred\n", *rows]).encode()
    metrics = json.dumps({"digits": {"test": {"n": 1000, "accuracy": 1 - wrong / 1000}}}).encode()
    listed = json.dumps([{"md5": keep(predictions)["md5"], "relpath": "predictions.csv"}]).encode()
    PLOTS.mkdir(parents=True, exist_ok=True)
    Path(PLOTS, "predictions.csv").write_bytes(predictions)
    METRICS.write_bytes(metrics)
    outs = [{"path": str(METRICS), **keep(metrics)}, {"path": str(PLOTS), **keep(listed, ".dir")}]
    dep = {"path": "train.py", "hash": "md5", "md5": md5(Path("train.py").read_bytes())}
    stage = {"cmd": STAGE["cmd"], "deps": [dep], "outs": outs}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train": stage}}))
    save()


def cached(rev: str, index: int) -> Path:
    locked = yaml.safe_load(call(Path(), "git", "show", f"{rev}:dvc.lock"))
    digest = locked["stages"]["train"]["outs"][index]["md5"]
    return CACHE / digest[:2] / digest[2:]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with 20 errors and a branch with 60, which the gate finds."""
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call(folder, "git", "init", "--quiet", "--initial-branch=main")
        Path(".dvc").mkdir()
        Path(".dvc/config").touch()
        Path(".gitignore").write_text("/metrics.json\n/plots\n/.dvc/cache\n/.dvc/tmp\n")
        Path("train.py").write_text("x = 1\n")
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": STAGE}}))
        limits: dict[str, Any] = {"targets": {"digits.test.accuracy": {"at_least": 0.9}}}
        Path("params.yaml").write_text(yaml.safe_dump(limits | {"gate": {"alpha": 0.01, "tolerance": 0.01}}))
        write(20)
        call(folder, "git", "checkout", "--quiet", "-b", "worse")
        write(60)
    return folder


@pytest.fixture
def worse(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "worse"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    return folder


def overwrite(path: Path, other: Path) -> str:
    """Return what is said of `path` once it has the bytes of another file."""
    expected = path.parent.name + path.name
    path.chmod(0o644)
    shutil.copy(other, path)
    path.chmod(0o444)
    found = md5(other.read_bytes())
    return (
        f"{path}: in DVC's cache, expected the MD5 {expected}, found {found}; delete it, then run "
        f"`dvc fetch --all-commits`"
    )


def test_a_loss_is_found_in_results_that_dvc_keeps(worse):
    assert judge(None).reasons == ["digits.test.accuracy: target met, WORSE (p < 0.01)"]


def of_metrics() -> str:
    return overwrite(cached("main", 0), cached("worse", 0))


def of_a_folder() -> str:
    return overwrite(cached("main", 1), cached("worse", 1))


def of_a_file_in_a_folder() -> str:
    then, now = (json.loads(cached(rev, 1).read_text())[0]["md5"] for rev in ("main", "worse"))
    return overwrite(CACHE / then[:2] / then[2:], CACHE / now[:2] / now[2:])


@pytest.mark.parametrize("poison", [of_metrics, of_a_folder, of_a_file_in_a_folder])
def test_other_bytes_than_dvc_lock_has_are_not_believed(worse, poison: Callable[[], str]):
    line = poison()
    judgement = judge(None)
    assert (judgement.exit_code, judgement.reasons) == (2, [line])


def test_a_cache_that_the_branch_brings_is_checked_too(worse):
    line = of_metrics()
    Path(".dvc/cache").rename("vendor")
    Path(".dvc/config").write_text("[cache]\n    dir = ../vendor\n")
    assert judge(None).reasons == [line.replace(".dvc/cache", "vendor")]


def test_results_here_that_only_the_cache_has_are_checked(worse):
    METRICS.unlink()
    assert judge(None).exit_code == 1
    line = overwrite(cached("worse", 0), cached("main", 0))
    assert judge(None).reasons == [line]


def test_metrics_are_read_with_their_digest(worse):
    of_metrics()
    for read in (lock.metrics, lambda rev: lock.text(str(METRICS), rev)):
        with pytest.raises(UserError, match="expected the MD5"):
            read("main")


def test_what_dvc_remembers_is_not_taken_from_where_the_branch_says(worse, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Path(".dvc/config").write_text("[core]\n    site_cache_dir = vendor\n")
    assert judge(None).exit_code == 1
    assert not Path("vendor").exists()


def test_a_folder_that_was_not_fetched_is_asked_for(worse):
    cached("main", 1).unlink()
    [reason] = judge(None).reasons
    assert reason.endswith("run `dvc fetch --all-commits`")


def test_a_folder_of_which_the_list_is_known_has_no_other_file(worse):
    """It is not asked for: no fetch would bring it."""
    assert lock.text(f"{PLOTS}/other.csv", "main") is None
    cached("main", 1).unlink()
    with pytest.raises(UserError, match=r"plots/digits/other\.csv at main: not in DVC's cache; run `dvc fetch"):
        lock.text(f"{PLOTS}/other.csv", "main")


@pytest.mark.parametrize("kept", [True, False])
def test_results_of_dvc_2_have_the_digest_of_their_text_with_unix_line_ends(worse, kept):
    """Its dvc.lock names no hash, and what it keeps lies at the top of the cache."""
    content = b'{"digits":\r\n {"test": {"n": 1000, "accuracy": 0.94}}}\r\n'
    digest = md5(content.replace(b"\r\n", b"\n"))
    path = Path(".dvc/cache", digest[:2], digest[2:]) if kept else METRICS
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    locked = yaml.safe_load(Path("dvc.lock").read_text())
    locked["stages"]["train"]["outs"][0] = {"path": str(METRICS), "md5": digest, "size": len(content)}
    Path("dvc.lock").write_text(yaml.safe_dump(locked))
    if not kept:
        declare(metrics=[{str(METRICS): {"cache": False}}])
        Path(".gitignore").write_text("/plots\n/.dvc/cache\n/.dvc/tmp\n")
    call(worse, "git", "add", "--all")
    commit(worse)
    assert lock.changed_results("workspace") == lock.changed_results("HEAD") == []
    assert lock.metrics("HEAD") == {"digits.test.n": 1000, "digits.test.accuracy": 0.94}
    path.write_bytes(content.replace(b"94", b"95"))
    if kept:
        path.chmod(0o444)
        with pytest.raises(UserError, match=f"expected the MD5 {digest}, found "):
            lock.metrics("HEAD")
    else:
        assert len(lock.changed_results("workspace")) == 1


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that never answers, and that no one may ask."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()


@pytest.mark.timeout(60)
def test_git_lfs_is_not_asked_at_the_address_of_the_branch(tmp_path, monkeypatch, server):
    monkeypatch.chdir(tmp_path)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 47\n"
    limits = {"targets": {"accuracy": {"at_least": 0.5}}, "gate": {"alpha": 0.01, "tolerance": 0.01}}
    call(tmp_path, "git", "init", "--quiet", "--initial-branch=main")
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    Path("params.yaml").write_text(yaml.safe_dump(limits))
    Path("dvc.yaml").write_text("metrics: [m.json]\n")
    Path("m.json").write_text(pointer)
    save(tmp_path)
    Path(".gitattributes").write_text("m.json filter=lfs -text\n")
    Path(".lfsconfig").write_text(f"[lfs]\n    url = {server}/x\n")
    Path("m.json").write_text('{"accuracy": 0.7}')
    [reason] = judge("HEAD").reasons
    assert reason.startswith("m.json at HEAD: a pointer of Git LFS, whose file is not in this clone; run `git lfs ")


@pytest.mark.parametrize("now", ["a1b2", "c3d4"])
def test_a_dep_on_a_dataset_is_judged_by_its_locked_version(worse, now):
    dataset = {"name": "faces", "type": "url", "url": "s3://images/faces"}
    for file in ("dvc.yaml", "dvc.lock"):
        values = yaml.safe_load(Path(file).read_text())
        stage_ = values["stages"]["train"]
        locked = dataset | {"meta": {"version_id": "a1b2"}}
        stage_["deps"].append("ds://faces" if file == "dvc.yaml" else {"path": "ds://faces", "dataset": locked})
        values["datasets"] = [dataset | ({} if file == "dvc.yaml" else {"meta": {"version_id": now}})]
        Path(file).write_text(yaml.safe_dump(values))
    judgement = judge(None)
    assert judgement.reasons == [
        "digits.test.accuracy: target met, WORSE (p < 0.01)"
        if now == "a1b2"
        else "dvc.lock: train: out of date (ds://faces modified); run `dvc repro` and commit"
    ]


def declare(**more: Any) -> None:
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": STAGE | more}}))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("known", [True, False])
def test_a_dep_on_a_server_is_judged_by_dvc_lock_alone(worse, server, known):
    dep = f"{server}/x.csv"
    declare(deps=["train.py", dep])
    if known:
        locked = yaml.safe_load(Path("dvc.lock").read_text())
        locked["stages"]["train"]["deps"].append({"path": dep, "checksum": "a1b2", "size": 8})
        Path("dvc.lock").write_text(yaml.safe_dump(locked))
    judgement = judge(None)
    if known:
        assert judgement.reasons == ["digits.test.accuracy: target met, WORSE (p < 0.01)"]
        assert judgement.warnings == [
            f"{dep}: a dep on a server, which the gate does not contact: only dvc.lock says that it is "
            "unchanged; check it"
        ]
    else:
        assert judgement.reasons == [f"dvc.lock: train: out of date ({dep} new); run `dvc repro` and commit"]


def test_predictions_of_the_base_that_were_not_fetched_are_asked_for(worse):
    [listed] = json.loads(cached("main", 1).read_text())
    (CACHE / listed["md5"][:2] / listed["md5"][2:]).unlink()
    base = call(worse, "git", "rev-parse", "main").strip()
    reason = f"{PLOTS}/predictions.csv at {base}: not in DVC's cache; run `dvc fetch --all-commits`"
    assert judge(None).reasons == [reason]


@pytest.mark.timeout(60)
def test_servers_whose_library_is_not_installed_are_not_asked_either(worse):
    Path(".dvc/config").write_text("[core]\n    remote = theirs\n['remote \"theirs\"']\n    url = s3://bucket/x\n")
    deps = ["s3://bucket/a.csv", "ssh://host/b.csv"]
    declare(deps=["train.py", *deps])
    locked = yaml.safe_load(Path("dvc.lock").read_text())
    more = [{"path": deps[0], "etag": "a1b2", "size": 8}, {"path": deps[1], "md5": "0" * 32, "size": 8}]
    locked["stages"]["train"]["deps"] += more
    Path("dvc.lock").write_text(yaml.safe_dump(locked))
    judgement = judge(None)
    assert judgement.reasons == ["digits.test.accuracy: target met, WORSE (p < 0.01)"]
    assert [line.partition(": ")[0] for line in judgement.warnings] == deps


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["outs", "params"])
def test_what_else_is_on_a_server_is_refused(worse, server, kind):
    place = f"{server}/x.json"
    declare(**{kind: [*STAGE.get(kind, []), place if kind == "outs" else {place: ["lr"]}]})
    reason = (
        f"train: {place}: found an output or a params file on a server, which the gate does not contact; keep it in "
        "the repository"
    )
    assert judge(None).reasons == [reason]
    assert lock.damaged() == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("side", ["here", "base"])
def test_a_remote_is_not_asked_for_what_the_cache_lacks(worse, server, side):
    Path(".dvc/config").write_text(f"[core]\n    remote = theirs\n['remote \"theirs\"']\n    url = {server}\n")
    cached("worse", 0).unlink()
    if side == "here":
        METRICS.unlink()
        reason = f"{METRICS}: missing; run `dvc repro` or `dvc pull`"
    else:
        commit(worse)
        Path("params.yaml").write_text(Path("params.yaml").read_text() + "# a change\n")
        reason = (
            f"{METRICS} at HEAD: not available in this clone, although a stage wrote it; run `dvc fetch "
            f"--all-commits`, or name another revision with --against"
        )
    assert judge("HEAD" if side == "base" else None).reasons == [reason]


@pytest.mark.timeout(60)
def test_a_repository_that_is_imported_from_is_not_asked(worse, server):
    repo = {"url": f"{server}/theirs.git", "rev_lock": "0" * 40}
    imported = {
        "deps": [{"path": "m.json", "repo": repo}],
        "outs": [{"path": "m.json", "hash": "md5", "md5": "0" * 32}],
    }
    Path("m.json.dvc").write_text(yaml.safe_dump(imported))
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": STAGE}, "metrics": ["m.json"]}))
    assert judge(None).reasons == ["m.json: missing; run `dvc repro` or `dvc pull`"]
