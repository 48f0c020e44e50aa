"""Run the pipeline on the embedded sample, in a copy of the repository under demo/ with a git history of its own.

The real data, models and results are not touched.
"""

import argparse
import contextlib
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import yaml

from reprocnn.commands import summary
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import write_text
from reprocnn.repository import dvc, git

FOLDER, PARTIAL = Path("demo"), Path(".partial-demo")
MARK = "A copy for the sample"  # the message of the first commit
RESULTS = {"dvc.lock", "evaluation", "metrics", "plots", "report"}
# Small enough to train in a minute; the rest of params.yaml holds for the sample too.
OVERRIDES = {
    "source": "sample",
    "mnist.epochs": 10,
    "mnist.batch_size": 64,
    "cifar.epochs": 4,
    "cifar.batch_size": 100,
}


def main(arguments: list[str]) -> None:
    """Make demo/ from scratch, run the pipeline there and print the table."""
    argparse.ArgumentParser(prog="reprocnn demo", description=__doc__).parse_args(arguments)
    if not Path("stages").is_dir() or not params.SCHEMA.exists():
        raise UserError(
            "demo: stages/ or params.schema.json is missing here; run in the top folder of reprocnn's clone"
        )
    require_libraries()
    shutil.rmtree(PARTIAL, ignore_errors=True)
    if FOLDER.exists() or FOLDER.is_symlink():
        if not _is_ours(FOLDER):
            raise UserError(f"{FOLDER}: not made by this command, which would replace it; move it away")
        FOLDER.rename(PARTIAL)  # so that an interrupted removal leaves nothing that is taken for somebody's own
        shutil.rmtree(PARTIAL)
    make_copy(Path(), PARTIAL, OVERRIDES)
    PARTIAL.rename(FOLDER)
    dvc("repro", cwd=FOLDER)
    with contextlib.chdir(FOLDER):
        summary.main([])


def require_libraries() -> None:
    """Raise ModuleNotFoundError if a library of the stages is missing, before earlier results are removed."""
    for library in ("keras", "matplotlib", "pandas", "sklearn", "tensorflow"):
        if importlib.util.find_spec(library) is None:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)


def _is_ours(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    if not (folder / ".git").is_dir():
        return not any(folder.iterdir())
    try:
        return MARK in git("log", "--format=%s", cwd=folder).splitlines()
    except UserError:  # no commit
        return False


def make_copy(source: Path, target: Path, overrides: dict[str, Any]) -> None:
    """Make a git repository `target` of what git would keep in `source`, without results and with other params."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=source)
    for name in filter(None, listed.split("\0")):
        if (source / name).is_file() and name.split("/")[0] not in RESULTS:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
    values = change(params.load(target / params.FILE), overrides)
    write_text(target / params.FILE, yaml.safe_dump(values, sort_keys=False))
    git("init", "--quiet", "--initial-branch=main", cwd=target)
    git("add", "--all", cwd=target)
    # Without the user's identity, signature and hooks, of which some change the message.
    own = ("user.name=demo", "user.email=demo@localhost", "commit.gpgsign=false", "core.hooksPath=/dev/null")
    git(*(part for one in own for part in ("-c", one)), "commit", "--quiet", f"--message={MARK}", cwd=target)


def change(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Set the values of dotted keys in params, and give them."""
    for key, value in overrides.items():
        *sections, last = key.split(".")
        section = values
        for part in sections:
            section = section[part]
        section[last] = value
    return values
