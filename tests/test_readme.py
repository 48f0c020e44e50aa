"""What README and docs name is there, and README's output is what the commands print."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import SCRIPTS
from benchmarks.run.settings import SETTINGS
from reprocnn.cli import COMMANDS
from reprocnn.networks import build
from tests.support.commands import ROOT, call, environment

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def test_its_make_targets_are_those_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^\$ (?:\S+=\S+ |\S+=\".*\" )?)make ([a-z]+(?:-[a-z]+)*)", TEXT, re.MULTILINE))
    assert {"repro", "verify", "docs"} <= named <= targets
    workflows = "".join(path.read_text() for path in (ROOT / ".github/workflows").iterdir())
    steps = re.findall(r"- run: (.*)", workflows)
    assert {target for step in steps for target in re.findall(r"^make ([a-z-]+)", step)} <= targets
    assert [
        step for step in steps if not re.fullmatch(r'make [^;&|>]*( >> "\$GITHUB_STEP_SUMMARY" \|\| true)?', step)
    ] == []


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_help_lists_every_target():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"^  make ([a-z-]+)", listed, re.MULTILINE) == targets


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_lets_python_keep_what_it_compiles():
    """Packages are installed uncompiled, and many a container sets this variable."""
    probe = "probe: ; @python -c 'import sys; print(sys.dont_write_bytecode)'"
    command = ["make", "--no-print-directory", "--eval", probe, "probe"]
    assert call(ROOT, *command, PYTHONDONTWRITEBYTECODE="1") == "False\n"


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_installs_with_uv_where_there_is_one(tmp_path):
    probe = "probe: ; @echo $(call install,here/python) thing"
    command = [shutil.which("make"), "--no-print-directory", "--eval", probe, "probe"]
    for name in ("sh", "echo"):
        (tmp_path / name).symlink_to(shutil.which(name))
    pip = "here/python -m pip install --disable-pip-version-check --quiet --no-compile thing\n"
    assert call(ROOT, *command, PATH=str(tmp_path)) == pip
    (tmp_path / "uv").write_text("#!/bin/sh\n")
    (tmp_path / "uv").chmod(0o755)
    uv = "uv pip install --python here/python --quiet --no-compile thing\n"
    assert call(ROOT, *command, PATH=str(tmp_path)) == uv


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_takes_the_pythons_of_the_package():
    probe = "probe: ; @echo '$(SUITABLE)'"
    suitable = call(ROOT, "make", "--no-print-directory", "--eval", probe, "probe")
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    low, high = map(int, re.findall(r"3\.(\d+)", package["requires-python"]))
    for minor in range(low - 1, high + 1):
        code = f"import sys; sys.version_info = (3, {minor}, 0); {suitable}"
        call(ROOT, sys.executable, "-c", code, code=int(not low <= minor < high))


def test_its_files_are_there():
    paths = {
        ROOT / name for name in re.findall(r"`((?:stages|reprocnn|tests|benchmarks|docs|report)/[\w/.]+\w)`", TEXT)
    } - {ROOT / "stages/train_fashion.py"}  # docs/guides/third-data-set.md adds it
    for page in PAGES:
        links = re.findall(r"\]\(([\w/.-]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8"))
        paths |= {page.parent / link for link in links}
    assert len(paths) > 20
    assert [path for path in paths if not path.exists()] == []


def test_the_readme_is_short_and_its_tables_fit_a_screen():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) > 10
    assert [row for row in rows if len(row) > 100 or row.count("|") > 7] == []


def test_no_table_of_a_page_has_more_than_six_columns():
    for page in PAGES:
        rows = [line.replace(r"\|", "") for line in page.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
        assert [row for row in rows if row.count("|") > 7] == [], page


def blocks_with(command: str) -> list[str]:
    """Return what the README shows below `command`, a block for each time."""
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^\$ {re.escape(command)}\n(.*?)(?=^\$ |^```)", text, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_output_of_the_audit_is_what_it_prints():
    (shown,) = blocks_with("reprocnn audit warmup")
    assert call(ROOT, "python", "-m", "reprocnn", "audit", "warmup", code=1).startswith(shown)


def test_the_output_of_verify_is_what_it_prints():
    (shown,) = blocks_with("make verify")
    printed = "".join(
        (ROOT / f"{name}.py").read_text() for name in ("benchmarks/run/tables", "reprocnn/commands/verify")
    )
    for line in shown.splitlines():
        template = line.replace("README.md and docs/", "{README} and {DOCS}/")
        assert f'"{template}"' in printed, line


@pytest.mark.slow
def test_the_output_of_a_dry_sweep_is_what_it_prints(finished, tmp_path):
    """Of a repository without changes; the names of the trials depend on the values alone."""
    (shown,) = blocks_with("reprocnn sweep 'lr=0.003,0.01' --dry")
    assert call(finished, "python", "-m", "reprocnn", "sweep", "lr=0.003,0.01", "--dry") == shown


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "docs/**/*.md", "Makefile", ".github/workflows/*"]
)
def test_the_commands_exist(path):
    """Of the project's command lines, and of the modules that `python -m` names."""
    texts = [found.read_text(encoding="utf-8") for found in ROOT.glob(path)]
    assert texts
    for text in texts:
        assert set(re.findall(r"python -m benchmarks ([a-z_]\w*)", text)) <= set(SCRIPTS)
        assert set(re.findall(r"(?:`|\$ |@|-m )reprocnn ([a-z]\w*)", text)) <= set(COMMANDS)
        modules = set(re.findall(r"python3? -m ((?:stages|tests|benchmarks|reprocnn)\.[a-z_.]+)", text))
        # docs/ adds a third data set, with a stage of its own.
        assert [name for name in modules - {"stages.train_fashion"} if importlib.util.find_spec(name) is None] == []


def test_its_experiments_name_known_params_and_networks():
    params = (ROOT / "params.yaml").read_text()
    for key, value in re.findall(r"-S '?([a-z][\w.]*)=(\w+)", TEXT):
        assert re.search(rf"^\s*{key.rpartition('.')[2]}:", params, re.MULTILINE), key
        if key.endswith("network"):
            assert value in {**build.QUOTATIONS, **build.NETWORKS}


def test_its_named_settings_are_those_of_the_benchmarks():
    lines = re.findall(r"^\$ dvc exp run -n (\S+) ((?:.*\\\n)*.*)$", TEXT, re.MULTILINE)
    named = {name: re.findall(r"-S (\S+)=(\S+)", changes) for name, changes in lines if name in SETTINGS}
    expected = {name: changes for name, changes in SETTINGS.items() if changes}
    assert named.keys() == expected.keys()
    for name, changes in expected.items():
        assert {key: yaml.safe_load(value) for key, value in named[name]} == changes


def test_the_diff_of_an_experiment_is_its_params_and_metrics():
    """Of what git tracks; dvc.lock and everything else that stages write is marked as generated."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    outs = [out for stage in stages for kind in ("outs", "plots") for out in stage.get(kind, [])]
    written = [path for out in outs if isinstance(out, dict) for path, how in out.items() if how.get("cache") is False]
    files = call(ROOT, "git", "ls-files", "dvc.lock", *written).split()
    assert len(files) > 10
    attributes = call(ROOT, "git", "check-attr", "diff", "linguist-generated", "--", *files)
    assert set(re.findall(r"(\S+: \S+)$", attributes, re.MULTILINE)) == {"diff: unset", "linguist-generated: set"}
    shown = call(ROOT, "git", "check-attr", "diff", "--", "params.yaml", "metrics/mnist.json", "metrics/cifar.json")
    assert set(re.findall(r"(\S+: \S+)$", shown, re.MULTILINE)) == {"diff: unspecified"}


def test_the_networks_of_the_schema_are_those_of_the_code():
    schema = (ROOT / "params.schema.json").read_text()
    listed = re.search(r'"network": \{"enum": \[(.*?)\]', schema)
    assert listed
    assert sorted(re.findall(r"\w+", listed[1])) == sorted({**build.QUOTATIONS, **build.NETWORKS})


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = re.findall(r"^## \[(\d\S+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert changes[0] == (version, str(citation["date-released"]))
    assert citation["version"] == version


def test_no_machine_and_no_registry_is_named():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    forbidden = re.compile("py" + r"pi\.org|python" + r"hosted|/wo" + r"rk/|/ho" + r"me/\w")
    found = [name for name in tracked if forbidden.search((ROOT / name).read_bytes().decode("utf-8", "replace"))]
    assert found == []


def test_the_tests_that_the_table_of_errors_names_are_there():
    table = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    code = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`(?:(test_\w+\.py)::)?(test_\w+)(?:\[[\w ]+\])?`", table)
    assert len(named) > 25
    where = [(code.get(file, "") if file else "".join(code.values()), name) for file, name in named]
    assert [name for text, name in where if f"def {name}(" not in text] == []
    paths = re.findall(r"((?:\w+/)*test_\w+\.py)", table)  # from the top folder, or the name alone
    assert [path for path in paths if Path(path).name not in code or ("/" in path and not (ROOT / path).exists())] == []


@pytest.mark.slow
def test_a_gate_in_your_repository_from_an_empty_folder(tmp_path):
    """The guide's section, command by command; only where pip installs from is put in."""
    source, site, folder = tmp_path / "source", tmp_path / "site", tmp_path / "empty"
    shutil.copytree(ROOT / "reprocnn", source / "reprocnn", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    install = "python -m pip install --quiet --no-index --no-deps --no-build-isolation --target"
    folder.mkdir()
    guide = (ROOT / "docs/guides/gate.md").read_text(encoding="utf-8")
    section = guide.split("## Use this as a gate in your repository\n")[1].split("\n## ")[0]
    path = os.pathsep.join([str(site / "bin"), environment()["PATH"]])  # where pip puts the command
    commands, judged = 0, []
    # In their order: files, whose names stand before them in backquotes, and commands.
    blocks = r"(?:^`([\w./]+)`[^\n]*\n(?:[^\n]+\n)*\n)?^```(\w+)\n(.*?)^```"
    for name, language, text in re.findall(blocks, section, re.DOTALL | re.MULTILINE):
        if language in ("python", "yaml"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        for command in re.findall(r"^\$ (.*)", text, re.MULTILINE) if language == "console" else []:
            commands += 1
            command = re.sub(r"pip install .*REPOSITORY\".*", f"{install} '{site}' '{source}'", command)
            command = re.sub(r"python3 -m venv .*", "true", command)
            done = subprocess.run(
                ["bash", "-c", command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                env=environment(
                    PATH=path, PYTHONPATH=str(site), GIT_CONFIG_GLOBAL="/dev/null", **{
                        f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
                        for what, value in (("NAME", "a"), ("EMAIL", "a@localhost"))
                    },
                ),
            )  # fmt: skip
            if "reprocnn gate" in command:
                judged.append((done.returncode, done.stdout))
            else:
                assert done.returncode == 0, f"{command}\n{done.stdout}"
    assert commands == 11
    (first, passed), (second, why) = judged
    assert first == 0, passed
    assert "gate: passed" in passed
    assert second == 1, why
    promised = re.findall(r"```text\n(.*?)\n```", section)
    assert len(promised) == 1
    assert promised[0] in why
    assert "changed: neighbors: 3 -> 300" in why
    workflow = folder / ".github/workflows/gate.yml"
    schema = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(workflow)]
    subprocess.run(schema, check=True, env=environment())


def test_the_gate_comments_through_gh(finished, tmp_path):
    """With a `gh` that only notes what it is asked."""
    gh = tmp_path / "gh"
    gh.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nwhile [ $# -gt 1 ]; do shift; done\ncat "$1" >> {tmp_path}/asked\n'
    )
    gh.chmod(0o755)
    env = environment()
    env["PATH"] = f"{tmp_path}{os.pathsep}{env['PATH']}"
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    make = ["make", "--assume-old=.venv/.installed", "gate-comment", "AGAINST=HEAD", "PR=7"]
    subprocess.run(make, cwd=folder, env=env, check=True)
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith(
        "pr comment 7 --edit-last --create-if-none --body-file runs/gate.md\n### gate: cannot judge"
    )
    assert "results of the sample" in asked
