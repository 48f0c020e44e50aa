"""What other people's repositories have, and the gate takes: the honest change passes, the bad one does not."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from reprocnn.gate import lock
from reprocnn.gate.compare import Judgement, judge
from tests.support.commands import call, save

TRAIN = """
import json, pathlib, sys
value = float(pathlib.Path("value.txt").read_text())
for name in sys.argv[1:]:
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"accuracy": value}))
"""
GATE = {"alpha": 0.01, "tolerance": 0.05}


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A pipeline of one stage, which writes metrics.json, on the branch main."""
    monkeypatch.chdir(tmp_path)
    call(tmp_path, "git", "init", "--quiet", "--initial-branch=main")
    begin("metrics.json")
    return tmp_path


def begin(*metrics: str, outs: Any = (), targets: dict[str, Any] | None = None) -> None:
    """Write the pipeline, which gives an accuracy of 0.9, run it and commit."""
    Path(".dvc").mkdir(exist_ok=True)
    Path(".dvc/config").touch()
    Path(".dvc/.gitignore").write_text("/tmp\n/cache\n")
    Path("train.py").write_text(TRAIN)
    names = [*metrics, *(name for out in outs for name in out)]
    stage = {"cmd": f"python train.py {' '.join(names)}", "deps": ["train.py", "value.txt"], "outs": list(outs)}
    stage["metrics"] = [{name: {"cache": False}} for name in metrics]
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": stage}}))
    limits(targets or {"accuracy": {"at_least": 0.5}})
    run(0.9)


def limits(targets: dict[str, Any]) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"targets": targets, "gate": GATE}))


def run(value: float) -> None:
    Path("value.txt").write_text(str(value))
    call(Path(), "dvc", "repro", "--quiet")
    save()


def verdict(*accept: str) -> tuple[int, list[str]]:
    judgement: Judgement = judge("HEAD~", accept)
    return judgement.exit_code, judgement.reasons


@pytest.mark.parametrize(
    "text",
    ["names: {0: cat, 1: dog}", "base: &base {x: 1}\nmore: {<<: *base, y: 2}", "clip: .inf", "scale: !!float 3"],
)
def test_params_of_any_kind(repository, text):
    with Path("params.yaml").open("a") as file:
        file.write(text)
    run(0.9)
    run(0.91)
    assert verdict() == (0, [])
    run(0.8)
    assert verdict() == (1, ["accuracy: target met, WORSE (by more than 0.05)"])


@pytest.mark.parametrize(("value", "code"), [(0.91, 0), (0.8, 1)])
def test_a_second_file_with_the_same_key_comes_and_goes(repository, value, code):
    """DVC then adds the file to the names of both."""
    begin("metrics.json", "more/metrics.json", targets={"metrics.json:accuracy": {"at_least": 0.5}})
    run(value)
    judgement = judge("HEAD~2", ())
    [row] = [row for row in judgement.metrics if row.target]
    assert (judgement.exit_code, row.metric, row.then) == (code, "metrics.json:accuracy", 0.9)
    assert judgement.loosened == []
    begin("metrics.json")
    run(value)
    judgement = judge("HEAD~3", ())
    [row] = [row for row in judgement.metrics if row.target]
    assert (judgement.exit_code, row.metric, row.then) == (code, "accuracy", 0.9)


def test_of_two_files_the_target_of_the_one_that_went_is_missed(repository):
    both = {f"{name}:accuracy": {"at_least": 0.5} for name in ("metrics.json", "more.json")}
    begin("metrics.json", "more.json", targets=both)
    begin("metrics.json")
    code, reasons = verdict()
    assert (code, reasons[0]) == (1, "more.json:accuracy: GONE")
    assert verdict("more.json:accuracy") == (0, [])


def test_a_metric_with_its_file_in_the_name_is_still_to_be_made_by_a_stage(repository):
    begin("more/metrics.json", targets={"metrics.json:accuracy": {"at_least": 0.5}})
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(f"{text}metrics: [metrics.json]\n")
    run(0.9)
    loosened = [(one.name, one.what) for one in judge("HEAD~2", ()).loosened]
    assert ("metrics.json:accuracy", "metrics.json is made by a stage -> by none") in loosened


def test_the_only_metric_gets_another_name(repository):
    Path("train.py").write_text(TRAIN.replace('"accuracy"', '"f1"'))
    limits({"f1": {"at_least": 0.5}})
    run(0.9)
    code, reasons = verdict()
    assert (code, reasons[0]) == (1, "accuracy: GONE")
    assert verdict("accuracy") == (0, [])


@pytest.mark.parametrize("content", ["day: 2026-11-30\n", "0.9\n", "- 0.9\n", ""])
def test_yaml_metrics_hold_what_json_may_hold(repository, content):
    begin("metrics.json", "more.yaml")
    Path("train.py").write_text(f"{TRAIN}\npathlib.Path('more.yaml').write_text({content!r})\n")
    limits({"accuracy": {"at_least": 0.5}} | ({"more.yaml": {"at_least": 0.5}} if content == "0.9\n" else {}))
    run(0.9)
    run(0.91)
    assert verdict() == (0, [])
    run(0.8)
    assert verdict()[0] == 1


@pytest.mark.parametrize("ignored", ["logs/\n", "*.log\n"])
def test_an_output_that_neither_git_nor_dvc_keeps(repository, ignored):
    """Whole, or a file of it: no revision has it."""
    Path(".gitignore").write_text(ignored)
    begin("metrics.json", outs=[{"logs/kept.txt": {"cache": False}}])
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("- logs/kept.txt", "- logs"))
    with Path("train.py").open("a") as file:
        file.write("pathlib.Path('logs/run.log').write_text(str(value))\n")
    run(0.9)
    run(0.91)
    assert verdict() == (0, [])
    Path("logs/run.log").write_text("by hand")
    [line] = lock.faults()
    assert line.startswith("logs: differs from dvc.lock; ")


def test_a_clone_lacks_what_git_ignores(repository, tmp_path_factory, monkeypatch):
    Path(".gitignore").write_text("run.log\n")
    begin("metrics.json", outs=[{"run.log": {"cache": False}}])
    clone = tmp_path_factory.mktemp("clone")
    call(clone, "git", "clone", "--quiet", str(repository), ".")
    monkeypatch.chdir(clone)
    assert lock.faults() == []


def test_the_first_pull_request_of_a_project_in_a_folder(repository, monkeypatch):
    """A project that moved has a new folder too, and nothing to be compared with."""
    Path("project").mkdir()
    monkeypatch.chdir("project")
    begin("metrics.json")
    judgement = judge("HEAD~", ())
    assert (judgement.exit_code, judgement.reasons) == (1, ["project: LOOSENED (not at the baseline)"])
    assert judgement.against.endswith(", which does not have this folder")
    assert verdict("project") == (0, [])
    run(0.8)
    assert verdict("project")[0] == 1


def test_a_share_without_a_target_may_be_a_percentage(repository):
    Path("train.py").write_text(TRAIN.replace('"accuracy": value', '"accuracy": value, "val": {"accuracy": 91.2}'))
    run(0.9)
    assert verdict() == (0, [])


def test_another_kind_of_file_beside_the_metrics(repository):
    Path("train.py").write_text(TRAIN.replace('"accuracy": value', '"test": {"accuracy": value}'))
    Path("evaluation").mkdir()
    Path("evaluation/test.json").write_text('{"row": 1}\n{"row": 2}\n')
    limits({"test.accuracy": {"at_least": 0.5}})
    run(0.9)
    run(0.91)
    assert verdict() == (0, [])


def test_a_clone_lacks_a_folder_that_git_ignores(repository, tmp_path_factory, monkeypatch):
    """By a line that is for folders alone, of which the clone has none."""
    Path(".gitignore").write_text("logs/\n")
    begin("metrics.json", outs=[{"logs/run.log": {"cache": False}}])
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("- logs/run.log", "- logs"))
    run(0.9)
    clone = tmp_path_factory.mktemp("clone")
    call(clone, "git", "clone", "--quiet", str(repository), ".")
    monkeypatch.chdir(clone)
    assert not Path("logs").exists()
    assert lock.faults() == []


@pytest.mark.parametrize("rev", ["workspace", "HEAD"])
def test_another_machine_lacks_what_is_made_outside_the_repository(repository, tmp_path_factory, rev):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "run.log"
    begin("metrics.json", outs=[{str(elsewhere): {"cache": False}}])
    assert elsewhere.exists()
    assert lock.faults() == []
    elsewhere.unlink()
    assert lock.changed_results(rev) == []


@pytest.mark.parametrize("wrong", ["cmd", "dep", "out", "lock", "always", "frozen"])
def test_a_stage_of_another_folder_is_named_with_its_file(repository, wrong):
    """As dvc knows it: `train` alone would be the stage of the top folder."""
    Path("sub").mkdir()
    Path("sub/in.txt").write_text("in")
    train: dict[str, Any] = {"cmd": "echo made > out.txt", "deps": ["in.txt"], "outs": [{"out.txt": {"cache": False}}]}
    Path("sub/dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": train}}))
    call(repository, "dvc", "repro", "--quiet", "--all-pipelines")
    assert lock.faults() == []
    again = "run `dvc repro sub/dvc.yaml:train` and commit"
    if wrong == "cmd":
        train["cmd"] = "echo  made > out.txt"
        line = f"out of date (cmd changed); {again}"
    elif wrong == "dep":
        train["deps"] = []
        line = "out of date (in.txt removed from dvc.yaml); run `dvc repro --force sub/dvc.yaml:train` and commit"
    elif wrong == "out":
        train["outs"] = []
        line = "out of date (out.txt removed from dvc.yaml); run `dvc repro --force sub/dvc.yaml:train` and commit"
    elif wrong == "lock":
        Path("sub/dvc.lock").unlink()
        line = f"missing; {again}"
    elif wrong == "always":
        train["always_changed"] = True
        line = "would always run again, so nothing says whether it is up to date; remove always_changed from dvc.yaml"
    else:
        train["frozen"] = True
        Path("sub/in.txt").write_text("other")
        line = f"out of date (sub/in.txt modified); it is frozen: run `dvc unfreeze sub/dvc.yaml:train`, then {again}"
    Path("sub/dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": train}}))
    assert lock.faults() == [f"dvc.lock: sub/dvc.yaml:train: {line}"]


def test_line_ends_that_git_changes_are_named(repository):
    """csv.writer ends lines with CRLF; neither git nor DVC would ever restore them."""
    Path("train.py").write_text(TRAIN.replace("value}))", "value}) + '\\r\\n', newline='')"))
    Path(".gitattributes").write_text("* text=auto\n")
    run(0.91)
    Path("metrics.json").write_bytes(Path("metrics.json").read_bytes().replace(b"\r", b""))  # as a clone has it
    [line] = lock.faults()
    assert line.startswith(
        "metrics.json: differs from dvc.lock by its line ends (.gitattributes); list it there as `-t"
    )
