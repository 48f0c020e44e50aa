"""What a branch takes out of dvc.yaml, so that its changes go unseen, in a small repository with a commit as base."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from reprocnn.core.errors import UserError
from reprocnn.gate import lock
from reprocnn.gate.compare import judge
from reprocnn.gate.lineage import compare
from reprocnn.gate.stage_files import Files, StageFiles, forgotten, makes, read_stages, replaced
from tests.support.commands import call, commit, save

FILES = {
    "code/train.py": "import json\n",
    "code/run.sh": "python code/train.py\n",
    "data/train.csv": "1,2\n",
    "data/more.csv": "3,4\n",
    "params.yaml": "lr: 0.1\ntargets: {m.score.at_least: 0.5}\ngate: {alpha: 0.05, tolerance: 0.01}\n",
    "other.yaml": "width: 8\nlayers: {kernel: 3, depth: 2}\n",
    "settings.toml": "[train]\nseed = 1\n",
    "listed.json": '{"units": [{"n": 8}, {"n": 9}], "width": 4}',
    "lib/a.py": "x = 1\n",
    "lib/words.txt": "a b\n",
    "metrics/m.json": '{"m": {"score": 0.9}}',
}
STAGE: dict[str, Any] = {
    "cmd": "python code/train.py",
    "deps": ["code/train.py", "data/train.csv", "data/more.csv", "https://example.org/labels.csv", "lib"],
    "params": [
        "lr",
        {"other.yaml": ["layers", "width"]},
        {"settings.toml": ["train.seed"]},
        {"listed.json": ["units.0.n", "w*"]},
    ],
    "metrics": [{"metrics/m.json": {"cache": False}}],
}
MADE = Files(then=["m.json"], here=["m.json"], tracked=set())
ON_A_SERVER = (
    "https://example.org/labels.csv: a dep on a server, which the gate does not contact: only dvc.lock says that it is "
    "unchanged; check it"
)
DECOY = STAGE | {"cmd": "echo", "metrics": [], "outs": ["decoy"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    call(folder, "git", "init", "--quiet", "--initial-branch=main")
    call(folder, "dvc", "init", "--quiet")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": STAGE}}))
    save(folder)
    return folder


@pytest.fixture
def branch(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in which all is as after `dvc repro`, whatever is written to it."""
    folder = tmp_path / "branch"
    shutil.copytree(base, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(lock, "faults", list)
    return folder


def declare(**stages: dict[str, Any]) -> None:
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))


def without(key: str, *items: Any, **changed: Any) -> dict[str, Any]:
    return {**STAGE, key: [one for one in STAGE[key] if one not in items], **changed}


def reasons() -> list[str]:
    judgement = judge("HEAD")
    assert judgement.exit_code != 2, judgement.reasons
    return judgement.reasons


OTHER = {"other.yaml": ["layers", "width"]}
NOT_OTHER = [one for one in STAGE["params"] if one != OTHER]
ALONE = {"cmd": "python code/train.py", "deps": ["code/train.py"], "metrics": STAGE["metrics"]}  # without what it reads


@pytest.mark.parametrize(
    ("stages", "name", "kind"),
    [
        ({"train": without("deps", "data/more.csv")}, "data/more.csv", "dep"),
        ({"train": without("deps", "https://example.org/labels.csv")}, "https://example.org/labels.csv", "dep"),
        ({"train": without("params", "lr")}, "lr", "param"),
        ({"train": without("params", OTHER)}, "other.yaml:layers", "param"),
        ({"train": without("params", OTHER, params=[*NOT_OTHER, {"other.yaml": ["layers.kernel", "width"]}])},
         "other.yaml:layers", "param"),
        ({"train": without("params", {"settings.toml": ["train.seed"]})}, "settings.toml:train.seed", "param"),
        ({"train": without("params", {"listed.json": ["units.0.n", "w*"]})}, "listed.json:units.0.n", "param"),
        ({"train": without("params", {"listed.json": ["units.0.n", "w*"]})}, "listed.json:w*", "param"),
        ({"fit": without("deps", "data/more.csv")}, "data/more.csv", "dep"),
        ({"train": without("deps", "code/train.py", cmd="sh code/run.sh")}, "code/train.py", "dep"),
        # A stage of its name, or with one of its outs, that makes no metrics.
        ({"fit": without("deps", "data/more.csv"), "train": DECOY}, "data/more.csv", "dep"),
        ({"fit": ALONE, "train": DECOY | {"outs": ["model"]}}, "lr", "param"),
        # Code with a vocabulary in its folder.
        ({"train": without("deps", "lib", deps=[*STAGE["deps"][:-1], "lib/a.py"])}, "lib", "dep"),
    ],
)  # fmt: skip
def test_what_metrics_depend_on_no_more_is_a_loosening(branch, stages, name, kind):
    declare(**stages)
    assert f"{name}: LOOSENED (no longer a {kind} of metrics/m.json)" in reasons()
    accepted = judge("HEAD", accept=[line.partition(": LOOSENED")[0] for line in reasons()])
    assert accepted.exit_code == 0, accepted.reasons


@pytest.mark.parametrize(
    ("stages", "write"),
    [
        ({"fit": STAGE}, []),
        ({"train": STAGE | {"deps": ["code/train.py", *STAGE["deps"][3:], "data"]}}, []),
        ({"train": without("params", OTHER, params=[*NOT_OTHER, {"other.yaml": []}])}, []),
        ({"train": without("params", OTHER, params=[*NOT_OTHER, {"other.yaml": ["layers.kernel", "layers.depth",
                                                                                     "width"]}])}, []),
        ({"train": without("params", OTHER, deps=[*STAGE["deps"], "other.yaml"])}, []),
        ({"train": STAGE}, ["data/more.csv/a.py"]),  # a folder with code now
        ({"train": without("params", {"settings.toml": ["train.seed"]})}, ["-settings.toml"]),
        ({"load": STAGE | {"metrics": [], "outs": ["loaded"]},  # split in two
          "train": ALONE | {"deps": ["code/train.py", "loaded"]}}, []),
        ({"train": without("deps", "lib", deps=[*STAGE["deps"][:-1], "lib/a.py", "lib/words.txt"])}, []),
    ],
)  # fmt: skip
def test_what_is_declared_in_another_way_is_none(branch, stages, write):
    declare(**stages)
    for name in write:
        if name.startswith("-"):
            Path(name[1:]).unlink()
            continue
        Path(name).parent.unlink()
        Path(name).parent.mkdir()
        Path(name).touch()
    Path("params.yaml").write_text(FILES["params.yaml"] + "# a change\n")
    assert reasons() == []


def test_a_stage_that_runs_no_python_is_held_to_its_code_too(branch):
    declare(train=STAGE | {"cmd": "sh code/run.sh", "deps": [*STAGE["deps"], "code/run.sh"]})
    save(branch)
    declare(train=without("deps", "code/train.py", cmd="sh code/run.sh", deps=[*STAGE["deps"][1:], "code/run.sh"]))
    for _ in range(2):
        assert reasons() == ["code/train.py: LOOSENED (no longer a dep of metrics/m.json)"]
        Path("code/train.py").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("cmd", "code", "lost"),
    [
        ("python code/train.py", "", False),
        ("python code/train.py && sh code/run.sh", "", True),
        ("python code/train.py", "open('lib/a.py').read()", True),
        ("python code/train.py", "import lib.c", False),  # declared beside it
        ("python code/train.py", "import lib.a", True),  # which is said, and refused unless it is so at the base
    ],
)
def test_code_that_is_dropped_may_go_unseen_if_lineage_sees_that_nothing_uses_it(branch, monkeypatch, cmd, code, lost):
    monkeypatch.setattr(lock, "undeclared_code", lambda rev=None: [])
    Path("code/train.py").write_text(f"{code}\n")
    Path("lib/words.txt").unlink()
    Path("lib/c.py").write_text("x = 1\n")
    train = STAGE | {"cmd": cmd, "deps": ["code/train.py", "code/run.sh", "lib"]}
    declare(train=train)
    save(branch)
    declare(train=train | {"deps": ["code/train.py", "code/run.sh", "lib/c.py"]})
    assert reasons() == ["lib: LOOSENED (no longer a dep of metrics/m.json)"] * lost
    declare(train=train | {"deps": ["code/train.py", "code/run.sh", "lib/a.py", "lib/c.py"]})
    assert reasons() == []


@pytest.mark.parametrize(
    ("code", "text", "lost"),
    [
        ("import pickle\npickle.load(open('m.pkl', 'rb'))", "", True),
        ("x = 1", "_target_: lib.a.Model", True),
        ("x = 1", "_target_: lib.c.Model", False),
    ],
)
def test_code_that_only_data_names_stays_a_dep_of_its_stage(branch, code, text, lost):
    """Though a stage before it has the same dep: the pickle that it makes may stay as it is."""
    Path("code/train.py").write_text(f"{code}\n")
    Path("code/fit.py").write_text("import lib.a\n")
    Path("conf.yaml").write_text(text)
    fit = {"cmd": "python code/fit.py", "deps": ["code/fit.py", "lib/a.py"], "outs": ["m.pkl"]}
    train = STAGE | {"deps": ["code/train.py", "conf.yaml", "lib/a.py", "m.pkl"]}
    declare(fit=fit, train=train)
    save(branch)
    declare(fit=fit, train=train | {"deps": ["code/train.py", "conf.yaml", "m.pkl"]})
    assert reasons() == ["lib/a.py: LOOSENED (no longer a dep of metrics/m.json)"] * lost
    assert judge("HEAD", accept=["lib/a.py"] * lost).exit_code == 0
    declare(fit=fit, train=train | {"deps": ["code/train.py", "conf.yaml", "lib", "m.pkl"]})
    assert reasons() == []


def test_a_text_of_a_revision_is_read_as_the_text_here_is(branch):
    Path("conf").mkdir()
    for name, text in {"a.yaml": "_target_: lib.a.Net", "b.yaml": "script: lib/c.py"}.items():
        Path("conf", name).write_text(text)
    for name in ("c.py", "d.py"):
        Path("lib", name).write_text("x = 1\n")
    Path("lib/words.txt").unlink()
    declare(train=STAGE | {"deps": ["code/train.py", "conf", "lib/a.py", "lib/c.py", "lib/d.py"]})
    save(branch)
    for rev in ("workspace", "HEAD"):
        with lock.open_repository(rev) as repo:
            found = compare(repo, Path(repo.root_dir))
        assert [(one.action, one.path) for one in found] == [("remove", "lib/d.py")]


def test_a_data_file_with_another_in_its_place_is_a_warning(branch):
    Path("data/more.csv").rename("data/most.csv")
    declare(train=without("deps", "data/more.csv", deps=[*STAGE["deps"][:2], *STAGE["deps"][3:], "data/most.csv"]))
    judgement = judge("HEAD")
    assert (judgement.exit_code, judgement.warnings) == (
        0,
        [ON_A_SERVER, "dvc.yaml: data/more.csv is gone; new: data/most.csv; check what replaces it"],
    )
    Path("data/more.csv").touch()
    assert reasons() == ["data/more.csv: LOOSENED (no longer a dep of metrics/m.json)"]


def test_a_metric_in_a_folder_that_a_stage_makes_is_not_made_by_hand(branch):
    declare(train=STAGE | {"metrics": [], "outs": [{"metrics": {"cache": False}}]})
    values = yaml.safe_load(Path("dvc.yaml").read_text())
    Path("dvc.yaml").write_text(yaml.safe_dump(values | {"metrics": ["metrics/m.json"]}))
    Path("metrics/m.json").write_text('{"m": {"score": 0.95}}')
    assert reasons() == []
    declare(train=STAGE | {"metrics": []})
    values = yaml.safe_load(Path("dvc.yaml").read_text())
    Path("dvc.yaml").write_text(yaml.safe_dump(values | {"metrics": ["metrics/m.json"]}))
    assert judge("HEAD").reasons[0].startswith("metrics/m.json: changed, and no stage makes it")


def test_a_dep_outside_the_repository_is_the_same_at_the_base(branch, tmp_path):
    outside = tmp_path / "outside.csv"
    outside.touch()
    declare(train=STAGE | {"deps": [*STAGE["deps"], str(outside)]})
    commit(branch)
    Path("params.yaml").write_text(FILES["params.yaml"] + "# a change\n")
    judgement = judge("HEAD")
    assert (judgement.reasons, judgement.warnings) == ([], [ON_A_SERVER])


def test_what_the_base_hides_too_is_none_unless_it_is_new(branch):
    Path(".dvcignore").write_text("*.tmp\n")
    for name in ("old.tmp", "old.log"):
        Path("data", name).touch()
    declare(
        train=without("deps", "data/train.csv", "data/more.csv", deps=["code/train.py", *STAGE["deps"][3:], "data"])
    )
    save(branch)
    Path("data/old.tmp").write_text("changed")
    Path("params.yaml").write_text(FILES["params.yaml"] + "# a change\n")
    call(branch, "git", "add", "--all")
    assert reasons() == []
    Path(".dvcignore").write_text("*.tmp\n*.log\n")
    Path("data/new.tmp").touch()
    call(branch, "git", "add", "--all")
    assert reasons() == [f"data/{name}: LOOSENED (hidden by .dvcignore)" for name in ("new.tmp", "old.log")]


def test_a_dvcignore_in_a_dep_is_a_line(branch):
    Path("data/.dvcignore").write_text("*.tmp\n")
    declare(train=STAGE | {"deps": ["code/train.py", "data"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "faults", FAULTS)
        [reason] = judge("HEAD").reasons
    assert reason.endswith(f"'{branch / 'data'}'; move its lines to the .dvcignore at the top")


FAULTS = lock.faults


def test_a_folder_below_the_top_is_refused(branch, monkeypatch):
    monkeypatch.setattr(lock, "faults", FAULTS)
    shutil.copy("params.yaml", "code")
    monkeypatch.chdir("code")
    message = f"this folder is in the DVC repository {branch}; run from its top folder"
    assert judge("HEAD").reasons == [message]
    with pytest.raises(UserError, match=re.escape(message)):
        lock.damaged()


def test_metrics_that_git_never_had_are_new(branch):
    """Though dvc.lock has them: there is nothing to fetch."""
    locked = {"cmd": STAGE["cmd"], "outs": [{"path": "metrics/m.json", "hash": "md5", "md5": "0" * 32, "size": 1}]}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train": locked}}))
    call(branch, "git", "rm", "--quiet", "--cached", "metrics/m.json")
    call(branch, "git", "add", "dvc.lock")
    commit(branch)
    call(branch, "git", "add", "metrics/m.json")
    Path("params.yaml").write_text(FILES["params.yaml"] + "# a change\n")
    judgement = judge("HEAD")
    assert (judgement.exit_code, judgement.metrics[0].verdict) == (0, "target met, new")


@pytest.mark.parametrize(
    ("before", "here", "gone"),
    [
        (("params.yaml", "mnist.lr"), ("params.yaml", "mnist.lr"), False),
        (("params.yaml", "mnist.lr"), ("params.yaml", "mnist"), False),
        (("params.yaml", "mnist.lr"), ("params.yaml", ""), False),
        (("params.yaml", "mnist.lr"), ("params.yaml", "mnist.lr_end"), True),
        (("params.yaml", "mnist.lr"), ("other.yaml", "mnist"), True),
        (("params.yaml", "mnist"), ("params.yaml", "mnist.lr"), True),
        (("params.yaml", "mnist"), ("params.yaml", "seed"), True),
        (("params.yaml", "seed"), ("params.yaml", "mnist"), True),
        (("params.yaml", ""), ("params.yaml", "mnist"), True),
        (("params.yaml", "mni"), ("params.yaml", "seed"), False),  # no longer a param at all
        (("params.yaml", "mnist.epochs"), ("params.yaml", "seed"), False),
        (("other.yaml", "x"), ("params.yaml", "seed"), False),  # no longer a file
    ],
)
def test_a_param_is_forgotten_unless_its_section_is_declared(tmp_path, monkeypatch, before, here, gone):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 0\nmnist: {lr: 0.1, lr_end: 0}\n")
    found = forgotten({"train": stage(params={before})}, {"train": stage(params={here})}, MADE)
    name = before[1] if before[0] == "params.yaml" and before[1] else ":".join(filter(None, before))
    assert [(one.name, one.what) for one in found] == gone * [(name, "no longer a param of m.json")]


@pytest.mark.parametrize(
    ("left", "made", "gone", "new"),
    [
        (set[str](), set[str](), True, ""),
        ({"code.py"}, set[str](), True, ""),
        ({"data/y.npy"}, set[str](), False, "data/y.npy"),
        ({"data/y.npy", "data/z.npy"}, set[str](), False, "data/y.npy, data/z.npy"),
        ({"data/y.npy"}, {"data/x.npy"}, True, ""),
        ({"data/y.npy"}, {"data"}, True, ""),
        ({"data"}, set[str](), False, ""),
        ({"data/x"}, set[str](), False, "data/x"),
    ],
)
def test_a_dep_is_forgotten_unless_another_replaces_it(tmp_path, monkeypatch, left, made, gone, new):
    monkeypatch.chdir(tmp_path)
    before = {"train": stage(deps={"data/x.npy", "old.py"}, code={"old.py"})}
    here = {"train": stage(deps=left, code={"code.py"}), "load": stage(outs=made)}
    assert [(one.name, one.what) for one in forgotten(before, here, MADE)] == gone * [
        ("data/x.npy", "no longer a dep of m.json")
    ]
    line = f"dvc.yaml: data/x.npy is gone; new: {new}; check what replaces it"
    assert list(replaced(before, here, MADE)) == [line] * bool(new)


@pytest.mark.parametrize(
    ("beside", "gone"),
    [("README.md", []), ("notes.rst", []), ("__pycache__/a.pyc", []), ("words.txt", ["lib"]), ("b/words.txt", ["lib"])],
)
def test_a_folder_of_code_may_become_its_modules_unless_it_holds_data(tmp_path, monkeypatch, beside, gone):
    monkeypatch.chdir(tmp_path)
    for name in ("lib/a.py", f"lib/{beside}"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    before = {"train": stage(deps={"lib"}, code={"lib"})}
    here = {"train": stage(deps={"lib/a.py"}, code={"lib/a.py"})}
    assert [one.name for one in forgotten(before, here, MADE)] == gone


def test_what_two_metrics_files_lack_is_said_once():
    both = Files(["m.json", "n.json"], ["m.json", "n.json"], set())
    before, here = ({"train": stage(outs={"m.json", "n.json"}, deps={name})} for name in ("raw", "other"))
    assert replaced(before, here, both) == ["dvc.yaml: raw is gone; new: other; check what replaces it"]


def test_data_that_dvc_keeps_is_there_though_it_is_not_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, here = {"train": stage(deps={"data/x.npy"})}, {"train": stage(deps={"README.md"})}
    for tracked in ({"data"}, {"data/x.npy"}, {"data/x.npy/0"}):
        files = Files(["m.json"], ["m.json"], tracked)
        assert [one.name for one in forgotten(before, here, files)] == ["data/x.npy"]
        assert replaced(before, here, files) == []
    assert forgotten(before, here, Files(["m.json"], ["m.json"], {"data/y.npy"})) == []


def test_what_a_stage_in_between_makes_may_have_another_name(tmp_path, monkeypatch):
    """Also if the old file is left over; not if git has it, where nothing says what it was made from."""
    monkeypatch.chdir(tmp_path)
    call(tmp_path, "git", "init", "--quiet")
    Path("old.csv").touch()
    before = {"load": stage(outs={"old.csv"}, deps={"raw"}), "train": stage(deps={"old.csv"})}
    here = {"load": stage(outs={"new.csv"}, deps={"raw"}), "train": stage(deps={"new.csv"})}
    assert (forgotten(before, here, MADE), replaced(before, here, MADE)) == ([], [])
    call(tmp_path, "git", "add", "old.csv")
    assert [one.name for one in forgotten(before, here, MADE)] == ["old.csv"]


def test_the_file_in_between_is_not_called_gone_with_the_data_that_is():
    before = {"load": stage(outs={"old.csv"}, deps={"raw"}), "train": stage(deps={"old.csv"})}
    here = {"load": stage(outs={"new.csv"}, deps={"other"}), "train": stage(deps={"new.csv"})}
    assert replaced(before, here, MADE) == ["dvc.yaml: raw is gone; new: other; check what replaces it"]


def test_what_is_elsewhere_is_there():
    before, here = {"train": stage(deps={"https://example.org/x"})}, {"train": stage(deps={"x"})}
    assert [one.name for one in forgotten(before, here, MADE)] == ["https://example.org/x"]
    assert replaced(before, here, MADE) == []


@pytest.mark.parametrize(("keys", "gone"), [(("0.n", "1.n"), False), (("*.n",), False), (("0.n",), True)])
def test_a_list_is_declared_by_its_items(tmp_path, monkeypatch, keys, gone):
    monkeypatch.chdir(tmp_path)
    Path("listed.json").write_text('{"units": [{"n": 8}, {"n": 9}]}')
    before = {"train": stage(params={("listed.json", "units")})}
    here = {"train": stage(params={("listed.json", f"units.{key}") for key in keys})}
    assert [one.name for one in forgotten(before, here, MADE)] == gone * ["listed.json:units"]


def test_params_that_a_stage_makes_are_there_though_they_are_not_fetched():
    load = stage(outs={"made.yaml"})
    before = {"load": load, "train": stage(params={("made.yaml", "w")})}
    assert [one.name for one in forgotten(before, {"load": load, "train": stage()}, MADE)] == ["made.yaml:w"]


def test_what_is_made_in_a_folder_that_is_a_dep_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("raw").touch()
    train = stage(deps={"data"})
    before = {"load": stage(outs={"data/made"}, deps={"raw"}), "train": train}
    assert [one.name for one in forgotten(before, {"load": stage(outs={"data/made"}), "train": train}, MADE)] == ["raw"]


def test_a_stage_in_the_place_of_which_is_its_output_is_missed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("raw").touch()
    Path("params.yaml").write_text("split: 1\n")
    load = stage(outs={"made"}, deps={"raw"}, params={("params.yaml", "split")})
    before, here = {"load": load, "train": stage(deps={"made"})}, {"train": stage(deps={"made"})}
    for decoy in ({}, {"decoy": stage(outs={"decoy"}, deps={"raw"}, params=load.params)}):
        assert [one.name for one in forgotten(before, here | decoy, MADE)] == ["split", "raw"]


def test_a_dep_may_become_a_params_file_of_which_all_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text("x = 1\n")
    before = {"train": stage(deps={"c.toml"})}
    assert forgotten(before, {"train": stage(params={("c.toml", "")})}, MADE) == []
    assert [one.name for one in forgotten(before, {"train": stage(params={("c.toml", "x")})}, MADE)] == ["c.toml"]


def test_a_last_stage_may_go():
    train = {"train": stage(deps={"data"})}
    assert forgotten(train | {"plot": stage(outs={"page"}, deps={"m.json", "code"})}, train, MADE) == []


def test_metrics_in_another_file_are_those_of_all_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").touch()
    before = {"train": stage(deps={"data"})}
    for deps, lost in (({"data"}, []), (set[str](), ["data"])):
        here = {"train": stage(outs={"new.json"}, deps=deps)}
        assert [one.name for one in forgotten(before, here, Files(["m.json"], ["new.json"], set()))] == lost


@pytest.mark.parametrize("text", ["x: [", "words", "\xff", "a.b: 1\na: {b: 2}", None])
def test_a_params_file_that_cannot_be_read_is_missed_as_a_whole(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    if text is None:
        Path("odd.yaml").mkdir()
    else:
        Path("odd.yaml").write_bytes(text.encode("latin-1"))
    before = {"train": stage(params={("odd.yaml", "")})}
    assert [one.name for one in forgotten(before, {"train": stage()}, MADE)] == ["odd.yaml"]


def test_a_key_in_a_list_of_which_dvc_reads_none_is_missed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("odd.yaml").write_text("- 1\n")
    before = {"train": stage(params={("odd.yaml", "0")})}
    assert [one.name for one in forgotten(before, {"train": stage()}, MADE)] == ["odd.yaml:0"]


def test_stages_of_one_name_in_two_files_are_two(branch):
    Path("lib/dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"cmd": "echo", "deps": ["a.py"]}}}))
    with lock.open_repository("workspace") as repo:
        stages = read_stages(repo)
    assert {name: len(one.deps) for name, one in stages.items()} == {"train": 5, "lib/dvc.yaml:train": 1}
    assert stages["lib/dvc.yaml:train"].deps == {"lib/a.py"}


@pytest.mark.parametrize("cmd", ["./start", "tool", "PYTHONPATH=none:lib python code/train.py", "python code/far.py"])
def test_code_of_a_revision_is_read_as_the_code_here_is(branch, cmd):
    Path("start").write_text("#!/usr/bin/env python\nimport lib.a\n")
    Path("pyproject.toml").write_text("[project]\nscripts = {tool = 'lib.a:main'}\n")
    Path("lib/sitecustomize.py").write_text("import lib.a\n")
    Path("code/far.py").write_text("import a, importlib\nimportlib.import_module(f'lib.{a.name}')\n")
    declare(train=STAGE | {"cmd": cmd, "deps": ["start", "code"]})
    save(branch)
    found = lock.undeclared_code()
    assert "add lib" in found[0]
    assert lock.undeclared_code("HEAD") == found


def test_a_file_is_made_with_the_folder_that_it_is_in():
    stages = {"train": stage(outs={"models", "a.json"})}
    made = [makes(stages, path) for path in ("a.json", "models/m/w", "models", "model", "models.json", None)]
    assert made == [True, True, True, False, False, False]


def stage(**fields: Any) -> StageFiles:
    none: dict[str, Any] = {"deps": set(), "params": set(), "code": set(), "may_use": lambda path, deps: False}
    return StageFiles(**{"outs": {"m.json"}} | none | fields)
