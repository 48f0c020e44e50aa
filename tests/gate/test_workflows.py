"""Names of branches, labels and metrics are data: no workflow, make or shell reads them as code."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.commands import ROOT

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


def recorder(folder: Path, name: str) -> None:
    """Put a program in the place of another that only notes its arguments, a list a line."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["#!/usr/bin/env python3", "import json, sys", f"open({str(folder / 'asked')!r}, 'a').write("]
    path.write_text("\n".join([*lines, "    json.dumps(sys.argv[1:]) + '\\n')"]))
    path.chmod(0o755)


def asked(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "asked").read_text().splitlines()]


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("target", ["gate", "gate-comment"])
@pytest.mark.parametrize("given", ["environment", "arguments"])
@pytest.mark.parametrize("value", HOSTILE)
def test_make_hands_a_name_over_as_it_is(tmp_path, target, given, value):
    shutil.copy(ROOT / "Makefile", tmp_path)
    recorder(tmp_path, ".venv/bin/python")
    recorder(tmp_path, ".venv/bin/gh")
    command = ["make", "--silent", "--assume-old=.venv/.installed", target]
    values = {"AGAINST": value, "FORMAT": "json", "PR": value}
    env = {name: text for name, text in os.environ.items() if not name.startswith("GATE_")}
    if given == "arguments":
        command += [f"{name}={text}" for name, text in values.items()]
    else:
        env |= values
    subprocess.run(command, cwd=tmp_path, env=env, check=True)
    first, *rest = asked(tmp_path)
    form = "json" if target == "gate" else "markdown"
    assert first == ["-m", "reprocnn", "gate", f"--against={value}", f"--format={form}"]
    assert [words[2] for words in rest] == ([] if target == "gate" else [value])
    assert not (tmp_path / "pwned").exists()


def test_make_passes_each_name_that_is_accepted(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    recorder(tmp_path, ".venv/bin/python")
    command = ["make", "--silent", "--assume-old=.venv/.installed", "gate"]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"ACCEPT": "gate.alpha $(touch pwned) *"}, check=True)
    words = ["--accept=gate.alpha", "--accept=$(touch", "--accept=pwned)", "--accept=*"]
    assert asked(tmp_path) == [["-m", "reprocnn", "gate", *words, "--format=text"]]


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


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq, as GitHub's runners have")
def test_labels_accept_what_they_name(tmp_path):
    recorder(tmp_path, "base/.venv/bin/python")
    (tmp_path / "change").mkdir()
    [step] = [step for step in steps(ROOT / ".github/workflows/gate.yml") if step.get("name") == "reprocnn gate"]
    labels = ["accept: gate.alpha", "bug", "accept: $(touch pwned)"]
    env = os.environ | {"LABELS": json.dumps(labels), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path / "change", env=env, check=True)
    accepted = ["-P", "-m", "reprocnn", "gate", "--accept=gate.alpha", "--accept=$(touch pwned)"]
    assert asked(tmp_path) == [[*accepted, "--format", "markdown"], accepted]
