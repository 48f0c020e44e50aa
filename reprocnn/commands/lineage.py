"""Compare the code deps that dvc.yaml declares with the code that each stage imports, in any DVC repository.

A stage's code is the Python files that its `cmd` names, as scripts or behind `-m`, and what they import, found in the
source without running it: inside functions too, but not behind `if TYPE_CHECKING`. Names made at run time are not seen.
A dep may be a folder: it stands for all Python files below it. Stages that run no Python file of the repository are
skipped, and so are modules that hold nothing but a docstring.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprocnn.commands.imports import Code
from reprocnn.core.errors import UserError
from reprocnn.core.files import write_text


@dataclass(frozen=True)
class Difference:
    """A place where dvc.yaml does not say what the code does."""

    file: str  # dvc.yaml
    stage: str
    action: str  # add | remove | keep: a folder of which one file is not needed
    path: str  # as deps give it, from the stage's wdir
    unused: str = ""  # that file, from the stage's wdir

    def __str__(self) -> str:
        """Give the line that people read."""
        what = f"{self.path}: nothing imports {self.unused}" if self.unused else f"{self.action} {self.path}"
        return f"{self.file}: {self.stage}: deps: {what}"


def main(arguments: list[str] | None = None) -> None:
    """Print a line for each difference; exit code 1 if any is left."""
    parser = argparse.ArgumentParser(
        prog="reprocnn lineage",
        description=__doc__,
        epilog="Exit code 0: dvc.yaml declares the code of each stage. 1: differences, one a line.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fix", action="store_true", help="edit the deps lists of dvc.yaml; comments stay")
    options = parser.parse_args(arguments)
    found = differences(Path())
    if found and options.fix:
        fix(Path(), found)
        left = differences(Path())
        print("".join(f"fixed: {difference}\n" for difference in found if difference not in left), end="")
        found = left
    print("\n".join(map(str, found)) or "dvc.yaml declares the code of each stage")
    sys.exit(bool(found))


def differences(root: Path) -> list[Difference]:
    """Compare each stage of the DVC repository at or above `root`.

    Raises UserError if there is no such repository, or if dvc.yaml or a module cannot be parsed.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.stage import PipelineStage

    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # it would report on stdout
    try:
        with Repo(str(root)) as repo:
            code = Code(Path(repo.root_dir))
            outs = [Path(out.fs_path) for out in repo.index.outs if out.protocol == "local"]
            stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage) and stage.cmd]
            return [difference for stage in stages for difference in _compare(code, stage, outs, root.resolve())]
    except NotDvcRepoError:
        raise UserError("this folder is not a DVC repository; run from one, or `dvc init` first") from None
    except DvcException as error:
        raise UserError(f"dvc: {' '.join(str(error).split())}; fix dvc.yaml") from None


def fix(root: Path, found: list[Difference]) -> None:
    """Edit each dvc.yaml as far as that is plain: no stage of foreach or matrix, no folder that holds too much."""
    from reprocnn.commands import deps_lists

    for file in sorted({difference.file for difference in found}):
        text = (root / file).read_bytes().decode("utf-8")
        for action in ("add", "remove"):  # in this order, so that no list is empty in between
            for difference in found:
                if (difference.file, difference.action) == (file, action):
                    text = deps_lists.edit(text, difference.stage, action, difference.path)
        write_text(root / file, text)


def _compare(code: Code, stage: Any, outs: list[Path], root: Path) -> Iterator[Difference]:
    """Compare one stage; what stages make (`outs`) is data, even where it is Python."""
    wdir = Path(stage.wdir)
    ran = code.of_command(stage.cmd, wdir)
    if not ran:
        return
    imported = {file for file in ran if not code.is_trivial(file) and not _is_within(file, outs)}
    declared = {path: text for path, text in _declared(stage).items() if not _is_within(path, outs)}
    missing = {file for file in imported if not _is_within(file, declared)}
    place = (_relative(Path(stage.path), root), stage.name)
    for path in _with_folders(code, missing, wdir, outs):
        yield Difference(*place, "add", _relative(path, wdir))
    for path, text in sorted(declared.items()):
        below = {file for file in code.files(path) if not code.is_trivial(file)}
        useless_file = path.suffix == ".py" and path not in ran
        useless_folder = below and not below & imported and _is_code(path, below)
        if useless_file or useless_folder:
            yield Difference(*place, "remove", text)
        elif below & imported:
            for file in sorted(below - imported):
                yield Difference(*place, "keep", text, _relative(file, wdir))


def _declared(stage: Any) -> dict[Path, str]:
    """Give the stage's deps in the repository, without params: where they are, and as dvc.yaml writes them."""
    from dvc.dependency.param import ParamsDependency

    deps = [dep for dep in stage.deps if dep.protocol == "local" and not isinstance(dep, ParamsDependency)]
    return {Path(dep.fs_path): dep.def_path for dep in deps}


def _with_folders(code: Code, missing: set[Path], wdir: Path, outs: list[Path]) -> list[Path]:
    """Put a folder of code in the place of its files where it has several and all are missing."""
    found = set()
    for file in missing:
        chosen = file
        for folder in file.parents:
            if wdir.is_relative_to(folder) or any(out.is_relative_to(folder) for out in outs):
                break
            below = {other for other in code.files(folder) if not code.is_trivial(other)}
            if not below <= missing:
                break
            if len(below) > 1 and _is_code(folder, below):
                chosen = folder
        found.add(chosen)
    return sorted(found)


def _is_code(folder: Path, files: set[Path]) -> bool:
    """Tell whether Python `files` are half of what is in a folder or more; else it is rather data."""
    count = sum(len(names) for place, _, names in os.walk(folder) if not place.endswith("__pycache__"))
    return 2 * len(files) >= count


def _relative(path: Path, start: Path) -> str:
    return Path(os.path.relpath(path, start)).as_posix()


def _is_within(path: Path, above: Any) -> bool:
    return any(path.is_relative_to(one) for one in above)
