"""Names of branches, labels and metrics are data: no workflow, make or shell reads them as code."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from reprocnn.cli import COMMANDS
from reprocnn.core.errors import UserError
from reprocnn.gate.revisions import default_revision
from tests.support.commands import ROOT, call, commit

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
HOSTILE = [
    "x';touch pwned;'",
    "$(shell touch pwned)",
    "$$(touch pwned)",
    "`touch pwned`",
    '";touch pwned;"',
    "-h",
    "a *",
]


def recorder(folder: Path, name: str, *more: str) -> None:
    """Put a program in the place of another that only notes its arguments, a list a line, and then does `more`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["#!/usr/bin/env python3", "import json, sys", f"open({str(folder / 'asked')!r}, 'a').write("]
    path.write_text("\n".join([*lines, "    json.dumps(sys.argv[1:]) + '\\n')", *more]))
    path.chmod(0o755)


def asked(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "asked").read_text().splitlines()]


def make(folder: Path, *words: str, **options: Any) -> subprocess.CompletedProcess:
    """Run the Makefile in a folder with recorders for its programs."""
    shutil.copy(ROOT / "Makefile", folder)
    return subprocess.run(["make", "--silent", "--assume-old=.venv/.installed", *words], cwd=folder, **options)


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("target", ["gate", "gate-comment"])
@pytest.mark.parametrize("given", ["environment", "arguments"])
@pytest.mark.parametrize("value", HOSTILE)
def test_make_hands_a_name_over_as_it_is(tmp_path, target, given, value):
    recorder(tmp_path, ".venv/bin/python")
    recorder(tmp_path, ".venv/bin/gh")
    values = {"AGAINST": value, "FORMAT": "json", "PR": value}
    env = {name: text for name, text in os.environ.items() if not name.startswith("GATE_")}
    if given == "arguments":
        make(tmp_path, target, *(f"{name}={text}" for name, text in values.items()), env=env, check=True)
    else:
        make(tmp_path, target, env=env | values, check=True)
    first, *rest = asked(tmp_path)
    form = "json" if target == "gate" else "markdown"
    assert first == ["-m", "reprocnn", "gate", f"--against={value}", f"--format={form}"]
    assert [words[2] for words in rest] == ([] if target == "gate" else [value])
    assert not (tmp_path / "pwned").exists()


def test_make_passes_each_name_that_is_accepted(tmp_path):
    recorder(tmp_path, ".venv/bin/python")
    make(tmp_path, "gate", env=os.environ | {"ACCEPT": "gate.alpha $(touch pwned) *"}, check=True)
    words = ["--accept=gate.alpha", "--accept=$(touch", "--accept=pwned)", "--accept=*"]
    assert asked(tmp_path) == [["-m", "reprocnn", "gate", *words, "--format=text"]]


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (["test-slow"], ["-m", "slow or data"]),
        (["verify", "FULL=1"], ["verify", "--full"]),
        (["verify"], ["reprocnn", "verify"]),
    ],
)
def test_make_leaves_nothing_out(tmp_path, words, end):
    recorder(tmp_path, ".venv/bin/python")
    make(tmp_path, *words, check=True)
    assert asked(tmp_path)[-1][-2:] == end


@pytest.mark.parametrize(
    ("target", "failing"),
    [("audit", "mnist_cnn"), ("audit", "cifar_cnn"), ("verify", "tables"), ("verify", "reprocnn")],
)
def test_make_fails_where_one_of_its_commands_does(tmp_path, target, failing):
    recorder(tmp_path, ".venv/bin/python", f"sys.exit({failing!r} in sys.argv)")
    assert make(tmp_path, target).returncode != 0


def test_make_comments_on_a_failure_too(tmp_path):
    recorder(tmp_path, ".venv/bin/python", "sys.exit(1)")
    recorder(tmp_path, ".venv/bin/gh")
    make(tmp_path, "gate-comment", "PR=7", check=True)
    assert asked(tmp_path)[-1][:3] == ["pr", "comment", "7"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_shell_line_of_a_workflow_has_an_expression_and_actions_are_pinned(path):
    for step in steps(path):
        assert "${{" not in step.get("run", "")
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step["uses"])
    pinned = re.findall(r"uses: .*", path.read_text())
    assert all(re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in pinned)


def test_the_gates_workflow_runs_nothing_of_the_pull_request():
    workflow = yaml.safe_load((ROOT / ".github/workflows/gate.yml").read_text())
    assert "pull_request_target" in workflow[True]  # YAML's `on`
    assert workflow["permissions"] == {}
    judge, comment = workflow["jobs"]["judge"], workflow["jobs"]["comment"]
    assert judge["permissions"] == {"contents": "read"}
    base, change = (step["with"] for step in judge["steps"] if "checkout" in step.get("uses", ""))
    assert "ref" not in base
    assert not base["persist-credentials"]
    assert not change["persist-credentials"]
    assert change["ref"].startswith("refs/pull/")
    for step in judge["steps"]:
        if step.get("working-directory") == change["path"]:
            assert set(re.findall(r"\S*python\S*", step["run"])) == {"gate=(../base/.venv/bin/python"}
            assert "python -P -m reprocnn gate" in step["run"]
            assert "make" not in step["run"]
    assert not any("checkout" in step.get("uses", "") for step in comment["steps"])


def action(name: str) -> dict[str, Any]:
    """A step of action.yml."""
    found = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    return next(step for step in found if step.get("name") == name)


def test_the_action_pastes_no_expression_into_a_shell_and_its_actions_are_pinned():
    text = (ROOT / "action.yml").read_text()
    for step in yaml.safe_load(text)["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
    assert all(re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in re.findall(r"uses: .*", text))


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_action_hands_its_inputs_over_and_ends_as_the_gate_does(tmp_path, code):
    recorder(tmp_path, "gate/bin/reprocnn", "print('50 % of it')",
             f"print('error: of 1 %' * ({code} == 2), end='', file=sys.stderr)", f"sys.exit({code})")  # fmt: skip
    inputs = {"AGAINST": "$(touch pwned)", "ACCEPT": "gate.alpha * `touch pwned`", "METRICS": "a.json $(touch pwned)"}
    folders = {"RUNNER_TEMP": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    done = subprocess.run(
        ["bash", "-e", "-c", action("judge")["run"]], cwd=tmp_path, env=os.environ | inputs | folders,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.returncode == code
    words = [
        "gate",
        "--against=$(touch pwned)",
        "--accept=gate.alpha",
        "--accept=*",
        "--accept=`touch",
        "--accept=pwned`",
        "--metrics=a.json",
        "--metrics=$(touch",
        "--metrics=pwned)",
    ]
    assert asked(tmp_path) == [[*words, "--format=markdown"], words]
    assert (tmp_path / "summary").read_text() == (tmp_path / "gate.md").read_text() == "50 % of it\n"
    last = "error: of 1 %25" if code == 2 else "50 %25 of it"  # the reason of what cannot be judged
    assert (f"::error title=reprocnn gate::{last}\n" in done.stdout) is (code != 0)
    assert not (tmp_path / "pwned").exists()


def test_the_action_needs_no_input_and_hands_on_each():
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    assert {given["default"] for given in inputs.values()} == {""}
    names = inputs.keys() - {"token"}
    assert action("judge")["env"] == {name.upper(): f"${{{{ inputs.{name} }}}}" for name in names}


def test_a_failure_is_a_comment_too():
    jobs = yaml.safe_load((ROOT / ".github/workflows/gate.yml").read_text())["jobs"]
    for step in (action("comment"), jobs["judge"]["steps"][-1], jobs["comment"]):
        assert "!cancelled()" in step["if"]


def test_a_label_that_is_set_or_removed_starts_the_gate_again():
    workflow = yaml.safe_load((ROOT / ".github/workflows/gate.yml").read_text())
    assert {"labeled", "unlabeled"} <= set(workflow[True]["pull_request_target"]["types"])


def test_downloads_are_cached_until_their_code_changes():
    cache = next(
        step["with"] for step in steps(ROOT / ".github/workflows/reproduce.yml") if "cache" in step.get("uses", "")
    )
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["download"]["deps"]
    hashed = {name.removesuffix("/**") for name in re.findall(r"'(.*?)'", cache["key"])}
    assert hashed == set(deps) - {"reprocnn/core"}


def test_the_hooks_for_other_repositories_are_commands_of_this_package():
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [hook["id"] for hook in hooks] == ["gate", "lineage", "audit"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for hook in hooks:
        program, name = hook["entry"].split()
        assert (program, hook["language"]) == ("reprocnn", "python")
        assert hook.get("pass_filenames", True) is ("files" in hook)
        extra = COMMANDS[name].extra  # pre-commit installs the package alone, and what the hook names
        assert hook.get("additional_dependencies", []) == (extras[extra] if extra else [])


@pytest.fixture
def origin(tmp_path):
    """A repository with two commits on main and a third on the branch `change`."""
    folder = tmp_path / "origin"
    call(tmp_path, "git", "init", "--quiet", "--initial-branch=main", str(folder))
    for text in ("one", "two", "three"):
        if text == "three":
            call(folder, "git", "switch", "--quiet", "--create", "change")
        (folder / "file").write_text(text)
        call(folder, "git", "add", "file")
        commit(folder)
    return folder


def check_out(origin: Path, *options: str) -> Path:
    """Fetch `change` alone and stay on no branch, as CI services do."""
    folder = origin.with_name("checkout")
    call(origin, "git", "init", "--quiet", str(folder))
    call(folder, "git", "remote", "add", "origin", origin.as_uri())
    call(folder, "git", "fetch", "--quiet", *options, "origin", "refs/heads/change")
    call(folder, "git", "checkout", "--quiet", "--detach", "FETCH_HEAD")
    return folder


def test_the_action_fetches_the_history_that_a_checkout_lacks(origin, monkeypatch):
    folder = check_out(origin, "--depth=1")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GITHUB_BASE_REF", "main")
    with pytest.raises(UserError, match="fetch-depth: 0"):
        default_revision()
    for _ in range(2):  # the second time there is nothing to do
        call(folder, "bash", "-e", "-c", action("fetch the history")["run"])
        assert default_revision() == call(origin, "git", "rev-parse", "main").strip()
    assert call(folder, "git", "rev-list", "--count", "HEAD") == "3\n"


def test_the_recipe_for_gitlab_fetches_the_target_branch(origin, monkeypatch):
    page = (ROOT / "docs/guides/gate.md").read_text()
    recipe = next(
        text for text in re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "GIT_DEPTH" in text
    )
    job = yaml.safe_load(recipe)["gate"]
    assert job["variables"] == {"GIT_DEPTH": 0}
    install, fetch, *gates = job["script"]
    assert install.startswith("pip install")
    folder = check_out(origin)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main")
    with pytest.raises(UserError, match="the branch main is not in this clone"):
        default_revision()
    call(folder, "bash", "-e", "-c", fetch)
    assert default_revision() == call(origin, "git", "rev-parse", "main").strip()
    assert gates == ["reprocnn gate --format junit > gate.xml || true", "reprocnn gate"]
    assert job["artifacts"]["reports"] == {"junit": "gate.xml"}


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq, as GitHub's runners have")
@pytest.mark.parametrize("code", [0, 1, 2])
def test_labels_accept_what_they_name_and_the_job_ends_as_the_gate_does(tmp_path, code):
    recorder(tmp_path, "base/.venv/bin/python", f"sys.exit({code})")
    (tmp_path / "change").mkdir()
    [step] = [step for step in steps(ROOT / ".github/workflows/gate.yml") if step.get("name") == "reprocnn gate"]
    labels = ["accept: gate.alpha", "bug", "accept: $(touch pwned)"]
    env = os.environ | {"LABELS": json.dumps(labels), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    done = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path / "change", env=env)
    assert done.returncode == code
    accepted = ["-P", "-m", "reprocnn", "gate", "--accept=gate.alpha", "--accept=$(touch pwned)"]
    assert asked(tmp_path) == [[*accepted, "--format", "markdown"], accepted]


def test_the_action_runs_no_code_of_the_folder_that_it_judges(tmp_path):
    """`python -m` would search that folder first."""
    [install] = [step for step in yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
                 if step.get("name") == "install the gate"]  # fmt: skip
    (tmp_path / "venv.py").write_text("open('ran', 'w')")
    environment = os.environ | {"RUNNER_TEMP": str(tmp_path / "runner"), "ACTION": "/nonexistent"}
    subprocess.run(["bash", "-c", install["run"]], cwd=tmp_path, env=environment, capture_output=True)
    assert not (tmp_path / "ran").exists()
