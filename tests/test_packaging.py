"""The built package, in an environment of its own that has what `pip install reprocnn` brings."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tests.support.commands import ROOT, commit, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
MEGABYTES = 400

EVALUATE = """\
import json
from pathlib import Path

from stages import scores

Path("metrics.json").write_text(json.dumps({"digits": {"test": {"n": 1000, "accuracy": scores.ACCURACY}}}))
"""
DVC_YAML = """\
stages:
  evaluate:
    cmd: python -m stages.evaluate
    deps: [stages/evaluate.py] # its code
    metrics: [metrics.json: {cache: false}]
"""
PARAMS = """\
targets: {digits: {test: {accuracy: {at_least: 0.9}}}}
gate: {alpha: 0.01, tolerance: 0.01}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Build wheel and sdist of a copy, as the build leaves folders behind."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("reprocnn", "stages"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built, shared) -> Path:
    """Install the wheel with its dependencies, of the pinned versions, into a new environment; give its bin/.

    Once for all workers.
    """
    folder = shared / "environment"
    with FileLock(shared / "environment.lock"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(built, folder)
            (folder / "done").touch()
    return folder / "venv/bin"


def install(built: Path, folder: Path) -> None:
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = str(folder / "venv/bin/python")
    install = ["uv", "pip", "install", "--python", python] if shutil.which("uv") else [python, "-m", "pip", "install"]
    if subprocess.run([*install, "--dry-run", "--no-deps", "tabulate"], capture_output=True).returncode:
        pytest.skip("needs a package index")
    pins = re.findall(r"^(\S+==[^\\\n]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    (folder / "constraints.txt").write_text("\n".join(pins))
    (wheel,) = built.glob("*.whl")
    done = subprocess.run(
        [*install, "--no-compile", "--constraint", str(folder / "constraints.txt"), str(wheel)], capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def committed(installed, tmp_path_factory) -> Path:
    """Make a DVC repository that has its own package `stages`, and run and commit it."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "stages").mkdir()
    for name, text in {
        "stages/__init__.py": "",
        "stages/scores.py": "ACCURACY = 0.95\n",
        "stages/evaluate.py": EVALUATE,
        "dvc.yaml": DVC_YAML,
        "params.yaml": PARAMS,
    }.items():
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=folder, check=True)
    for command in (["dvc", "init", "--quiet"], ["dvc", "repro"], ["git", "add", "--all"]):
        assert run(installed, folder, *command).returncode == 0
    commit(folder)
    return folder


@pytest.fixture
def foreign(committed, tmp_path: Path) -> Path:
    """A copy of it, for one test alone."""
    return Path(shutil.copytree(committed, tmp_path / "foreign", symlinks=True))


def run(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(installed), os.environ["PATH"]])
    return subprocess.run(command, cwd=folder, env=environment(PATH=path), capture_output=True, text=True)


def test_the_index_would_take_it(built):
    packages = [str(path) for path in built.iterdir() if path.suffix in (".whl", ".gz")]
    assert len(packages) == 2
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *packages], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_holds_the_package_alone(built):
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"reprocnn"}
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "reprocnn").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected <= set(names)
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert expected <= held
    assert "reprocnn/py.typed" in held
    assert not any(name.startswith("tests/") for name in held)


def test_it_brings_no_tensorflow_and_is_small(installed):
    done = subprocess.run(["du", "-sm", str(installed.parent)], check=True, capture_output=True, text=True)
    names = {path.name for path in installed.parent.glob("lib/python*/site-packages/*")}
    assert not names & {"tensorflow", "keras", "pandas", "sklearn", "matplotlib", "stages"}
    assert int(done.stdout.split()[0]) < MEGABYTES


def test_the_gate_judges_a_repository_with_stages_of_its_own(installed, foreign):
    for accuracy, exit_code, verdict in ((0.96, 0, "better"), (0.85, 1, "BELOW TARGET")):
        (foreign / "stages/scores.py").write_text(f"ACCURACY = {accuracy}\n")
        assert run(installed, foreign, "dvc", "repro", "--force").returncode == 0
        done = run(installed, foreign, "reprocnn", "gate", "--against", "HEAD")
        assert done.returncode == exit_code, done.stdout + done.stderr
        assert "digits.test.accuracy" in done.stdout
        assert verdict in done.stdout
        # Nobody ever declared scores.py: said, and judged all the same.
        assert "warning: dvc.yaml: evaluate: deps: add stages/scores.py" in done.stdout


def pull_request(installed: Path, foreign: Path, accuracy: float) -> None:
    """Commit another accuracy on the branch `better`, and merge it with main as GitHub does, in refs/pull/1/merge."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run([*git, "switch", "--quiet", "--create", "better"], cwd=foreign, check=True)
    (foreign / "stages/scores.py").write_text(f"ACCURACY = {accuracy}\n")
    assert run(installed, foreign, "dvc", "repro", "--force").returncode == 0
    commit(foreign)
    for command in (
        ["switch", "--quiet", "--detach", "main"],
        ["merge", "--quiet", "--no-ff", "--no-edit", "better"],
        ["update-ref", "refs/pull/1/merge", "HEAD"],
        ["switch", "--quiet", "main"],
    ):
        subprocess.run([*git, *command], cwd=foreign, check=True)


def recipe(service: str) -> str:
    """Return the commands of a recipe of docs/guides/gate.md or action.yml, but those that install the gate."""
    if service == "GitHub":
        steps = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
        return "\n".join(step["run"] for step in steps if step.get("name") in ("fetch the history", "judge"))
    guide = (ROOT / "docs/guides/gate.md").read_text(encoding="utf-8")
    section = guide.split("## In your CI\n")[1].split("\n## ")[0]
    if service == "GitLab":
        [job] = [text for text in re.findall(r"```yaml\n(.*?)```", section, re.DOTALL) if text.startswith("gate:")]
        return "\n".join(line for line in yaml.safe_load(job)["gate"]["script"] if "pip install" not in line)
    return re.findall(r"```console\n\$ (.*?)\n```", section, re.DOTALL)[-1]


@pytest.mark.parametrize(("accuracy", "code"), [(0.96, 0), (0.85, 1)])
@pytest.mark.parametrize("service", ["GitHub", "GitLab", "shell"])
def test_the_recipes_judge_the_checkouts_that_services_make(
    installed, foreign, tmp_path_factory, service, accuracy, code
):
    pull_request(installed, foreign, accuracy)
    place = tmp_path_factory.mktemp("service")
    folder = place / "checkout"
    # actions/checkout fetches one commit, the merge, detached; GitLab with GIT_DEPTH 0 the source branch, detached.
    fetch, target = {
        "GitHub": (
            ["--depth=1", "origin", "+refs/pull/1/merge:refs/remotes/pull/1/merge"],
            "refs/remotes/pull/1/merge",
        ),
        "GitLab": (["origin", "+refs/heads/better:refs/remotes/origin/better"], "refs/remotes/origin/better"),
        "shell": (["origin"], "origin/better"),
    }[service]
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    for command in (
        ["remote", "add", "origin", foreign.as_uri()],
        ["fetch", "--quiet", *fetch],
        ["checkout", "--quiet", "--detach", target],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    (place / "gate").mkdir()
    (place / "gate/bin").symlink_to(installed)
    variables = {
        "GitHub": {"GITHUB_BASE_REF": "main", "RUNNER_TEMP": str(place), "GITHUB_STEP_SUMMARY": str(place / "summary")},
        "GitLab": {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"},
        "shell": {},
    }[service]
    path = os.pathsep.join([str(installed), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-e", "-c", recipe(service)], cwd=folder, env=environment(PATH=path, **variables), capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert f"gate: {'failed: digits.test.accuracy' if code else 'passed'}" in done.stdout
    if service == "GitLab":
        assert ("<failure" in (folder / "gate.xml").read_text()) is bool(code)
    if service == "GitHub":
        assert "digits.test.accuracy" in (place / "summary").read_text()


def test_lineage_of_that_repository(installed, foreign):
    done = run(installed, foreign, "reprocnn", "lineage")
    assert (done.returncode, done.stdout) == (1, "dvc.yaml: evaluate: deps: add stages/scores.py\n"), done.stderr
    done = run(installed, foreign, "reprocnn", "lineage", "--fix")
    assert done.returncode == 0
    assert "deps: [stages/evaluate.py, stages/scores.py] # its code" in (foreign / "dvc.yaml").read_text()


def test_verify_needs_no_extra(installed, foreign):
    done = run(installed, foreign, "reprocnn", "verify")
    assert "Traceback" not in done.stderr
    assert "needs" not in done.stderr


@pytest.mark.parametrize(("name", "code"), [("audit", 2), ("sweep", 1)])
def test_a_command_without_its_extra_says_what_to_install(installed, foreign, name, code):
    arguments = {"audit": ["mnist_cnn"], "sweep": ["-S", "seed=1,2"]}[name]
    done = run(installed, foreign, "reprocnn", name, *arguments)
    assert done.returncode == code
    assert done.stderr.startswith(f"error: reprocnn {name} needs the extra \"{name}\": pip install 'reprocnn[{name}]'")
    assert len(done.stderr.splitlines()) == 1
