"""Runs the six stages on the embedded sample, in a copy of the repository under demo/ with a git history of its own.

The real data, models and results are not touched.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from stages.lib.commands import dvc, git
from stages.lib.errors import run

FOLDER = Path("demo")
RESULTS = {"dvc.lock", "evaluation", "metrics.json", "plots", "report"}
# Small enough for a minute of training in all; the rest of params.yaml holds for the sample too.
OVERRIDES = {
    "source": "sample",
    "mnist.epochs": 10,
    "mnist.batch_size": 64,
    "cifar.epochs": 4,
    "cifar.batch_size": 100,
}


def main() -> None:
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
    make_copy(Path(), FOLDER, OVERRIDES)
    dvc("repro", cwd=FOLDER)
    subprocess.run([sys.executable, "-m", "stages.summary"], cwd=FOLDER, check=True)


def make_copy(source: Path, target: Path, overrides: dict[str, Any]) -> None:
    """A git repository `target` with those files of `source` that are for git, but no results, and changed params."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=source)
    for name in filter(None, listed.split("\0")):
        if (source / name).is_file() and name.split("/")[0] not in RESULTS:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
    params = change(yaml.safe_load((target / "params.yaml").read_text(encoding="utf-8")), overrides)
    (target / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    git("init", "--quiet", "--initial-branch=main", cwd=target)
    git("add", "--all", cwd=target)
    identity = ["-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"]
    git(*identity, "commit", "--quiet", "--no-verify", "--message=A copy for the sample", cwd=target)


def change(params: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The params with other values at these dotted keys."""
    for key, value in overrides.items():
        *sections, last = key.split(".")
        section = params
        for part in sections:
            section = section[part]
        section[last] = value
    return params


if __name__ == "__main__":
    run(main)
