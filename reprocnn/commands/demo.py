"""Run the pipeline on the embedded sample, in a copy of the repository under demo/ with a git history of its own.

The real data, models and results are not touched.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from reprocnn.repository import dvc, git

FOLDER = Path("demo")
RESULTS = {"dvc.lock", "evaluation", "metrics", "plots", "report"}
# Small enough to train in a minute; the rest of params.yaml holds for the sample too.
OVERRIDES = {
    "source": "sample",
    "mnist.epochs": 10,
    "mnist.batch_size": 64,
    "cifar.epochs": 4,
    "cifar.batch_size": 100,
}


def main(arguments: list[str] | None = None) -> None:
    """Make demo/ from scratch, run the pipeline there and print the table."""
    argparse.ArgumentParser(prog="reprocnn demo", description=__doc__).parse_args(arguments)
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
    make_copy(Path(), FOLDER, OVERRIDES)
    dvc("repro", cwd=FOLDER)
    subprocess.run([sys.executable, "-m", "reprocnn", "summary"], cwd=FOLDER, check=True)


def make_copy(source: Path, target: Path, overrides: dict[str, Any]) -> None:
    """Make a git repository `target` of what git would keep in `source`, without results and with other params."""
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
    """Set the values of dotted keys in `params`, and give it."""
    for key, value in overrides.items():
        *sections, last = key.split(".")
        section = params
        for part in sections:
            section = section[part]
        section[last] = value
    return params
