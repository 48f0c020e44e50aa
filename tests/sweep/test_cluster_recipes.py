"""The recipes of docs/guides/clusters: syntax, the options they use, and sweeps with stand-ins for ssh and Slurm."""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml

pytest.importorskip("ray", reason="the sweep extra is not installed")
from tests.support.commands import ROOT, call, environment

PAGE = ROOT / "docs/guides/clusters.md"
FOLDER = ROOT / "docs/guides/clusters"
SCRIPTS = [FOLDER / "slurm.sh", FOLDER / "ssh.sh"]
# What Slurm's sbatch and srun document and the script uses.
SBATCH = {"job-name", "output", "nodes", "ntasks-per-node", "cpus-per-task", "exclusive", "time"}
# In namespaces of their own: `ray stop` stops every Ray that it sees, and the ports may be taken.
APART = ["unshare", "--pid", "--fork", "--mount-proc", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_valid_and_executable(script):
    call(ROOT, "bash", "-n", str(script))
    assert os.access(script, os.X_OK)
    if shutil.which("shellcheck"):
        call(ROOT, "shellcheck", str(script))


def test_slurms_options_are_known():
    text = (FOLDER / "slurm.sh").read_text(encoding="utf-8")
    used = set(re.findall(r"^#SBATCH --([\w-]+)", text, re.MULTILINE))
    assert used == SBATCH
    header, _, rest = text.partition("set -euo pipefail")
    assert "#SBATCH" not in rest  # sbatch reads none after the first command
    assert all(line.startswith("#") for line in header.splitlines() if line)


@pytest.mark.slow
def test_rays_options_and_commands_are_known():
    """Those of `ray start` and `ray symmetric-run`, in the scripts, the manifest and the page."""
    texts = [path.read_text(encoding="utf-8") for path in [*SCRIPTS, PAGE]]
    named = {name for text in texts for name in re.findall(r"(?:^|[\s`])ray ([a-z]+(?:-[a-z]+)*)", text, re.MULTILINE)}
    listed = call(ROOT, "ray", "--help")
    assert {"start", "stop", "symmetric-run"} <= named
    assert [name for name in named if not re.search(rf"^ +{name}\s", listed, re.MULTILINE)] == []
    known = set(re.findall(r"^ +--([a-z-]+)", call(ROOT, "ray", "start", "--help"), re.MULTILINE))
    symmetric = set(re.findall(r"^ +--([a-z-]+)", call(ROOT, "ray", "symmetric-run", "--help"), re.MULTILINE))
    for text in texts:
        for command, options in re.findall(r"ray (start|symmetric-run)((?:[^\n`]|\\\n)*)", text):
            used = set(re.findall(r"(?<= )--([a-z-]+)", options.partition(" -- ")[0]))
            assert used <= (known | symmetric if command == "symmetric-run" else known)
    (cluster,) = [one for one in manifest() if one["kind"] == "RayCluster"]
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    assert {key for group in groups for key in group["rayStartParams"]} <= known


def manifest() -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / "raycluster.yaml").read_text(encoding="utf-8")))


def test_the_pods_of_the_manifest_share_the_cache_and_need_a_token():
    claim, cluster = manifest()
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    for group in [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        (volume,), (container,) = pod["volumes"], pod["containers"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (mount,) = container["volumeMounts"]
        assert mount["name"] == volume["name"]
        assert f"dvc cache dir --local {mount['mountPath']}" in PAGE.read_text(encoding="utf-8")
        assert container["resources"]["limits"]["cpu"] == container["resources"]["requests"]["cpu"]


@pytest.fixture
def stand_in(repository, tmp_path, monkeypatch):
    """Put a script of that name first on PATH; it notes its arguments in calls."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs root, unshare and ip, to give Ray's commands processes and ports of their own")
    (repository / ".venv/bin").mkdir(parents=True)
    (repository / ".venv/bin/activate").touch()
    (repository / ".git/info/exclude").write_text(".venv\n")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, script: str) -> None:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\n{script}\n')
        path.chmod(0o755)

    return make


def sweep(folder: Path, *command: str, **more: str) -> str:
    more["PATH"] = f"{folder.parent / 'bin'}{os.pathsep}{environment()['PATH']}"
    output = call(folder, *APART, *command, "lr=0.2,0.3", "--metric=val.accuracy", "--threads=1", **more)
    assert output.count(" s on ") == 2, output
    assert len(call(folder, "dvc", "exp", "list", "--name-only").split()) == 2
    return output


@pytest.mark.nightly
def test_a_sweep_over_ssh(stand_in, repository):
    """Each host is a node of this machine."""
    stand_in("ssh", 'shift; exec sh -c "$*"')
    sweep(repository, str(FOLDER / "ssh.sh"), "127.0.0.1", "one two")
    calls = Path(os.environ["CALLS"]).read_text()
    for host in ("one", "two"):
        assert re.search(rf"^ssh {host} .*ray start --address=127.0.0.1:6379$", calls, re.MULTILINE)
        assert re.search(rf"^ssh {host} .*ray stop$", calls, re.MULTILINE)
    assert not re.search(r"\b[0-9a-f]{64}\b", calls), "the token is on a command line"


def test_a_sweep_over_ssh_says_what_it_takes():
    done = subprocess.run([str(FOLDER / "ssh.sh"), "10.0.0.1", "one"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ssh.sh ADDRESS")


def test_the_image_holds_what_is_installed_in_it(tmp_path):
    """The page's Dockerfile copies all that building the package needs."""
    (dockerfile,) = re.findall(r"```dockerfile\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for sources, target in re.findall(r"^COPY (.+) (\S+)$", dockerfile, re.MULTILINE):
        for source in sources.split():
            place = tmp_path / target.removeprefix("/reprocnn").strip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
    assert (tmp_path / "requirements.lock").is_file()
    call(tmp_path, "python", "-m", "build", "--no-isolation", "--wheel", str(tmp_path))
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    code = (path for path in (ROOT / "reprocnn").rglob("*.py"))
    assert {path.relative_to(ROOT).as_posix() for path in code} <= held


@pytest.mark.nightly
def test_a_sweep_over_ssh_ends_if_a_host_does_not_answer(stand_in, repository):
    stand_in("ssh", "echo no route to host >&2; exit 255")
    command = [*APART, str(FOLDER / "ssh.sh"), "127.0.0.1", "one", "lr=0.2", "--metric=val.accuracy", "--threads=1"]
    path = f"{repository.parent / 'bin'}{os.pathsep}{environment()['PATH']}"
    done = subprocess.run(command, cwd=repository, env=environment(PATH=path), capture_output=True, text=True)
    assert done.returncode == 255, done.stdout + done.stderr
    assert "ssh.sh: one: run `ray stop` there" in done.stderr
    assert not (repository.parent / "seen").exists()


@pytest.mark.nightly
def test_a_sweep_in_a_slurm_job_of_one_node(stand_in, repository):
    stand_in("scontrol", "echo 127.0.0.1")
    stand_in("srun", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"')
    job = {"SLURM_JOB_NODELIST": "node[1]", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "1"}
    output = sweep(repository, "bash", str(FOLDER / "slurm.sh"), **job)
    assert "On head node" in output
    calls = Path(os.environ["CALLS"]).read_text()
    assert calls.startswith("scontrol show hostnames node[1]\nsrun --cpus-per-task=1 ")
