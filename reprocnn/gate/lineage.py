"""The code deps that dvc.yaml declares, beside the code that each stage imports."""

import ast
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.stage import PipelineStage

from reprocnn.gate.imports import Code


@dataclass(frozen=True)
class Difference:
    """A place where dvc.yaml does not say what the code does."""

    file: str  # dvc.yaml
    stage: str
    action: str  # add | remove | keep: a folder of which one file is not needed | show: .dvcignore hides a file
    path: str  # as deps give it, from the stage's wdir
    unused: str = ""  # that file, from the stage's wdir

    def __str__(self) -> str:
        """Return the line that people read."""
        what = f"{self.path}: nothing imports {self.unused}" if self.unused else f"{self.action} {self.path}"
        if self.action == "show":
            what = f"{self.path}: imported, but DVC ignores it (.dvcignore, or a .dvc folder)"
        return f"{self.file}: {self.stage}: deps: {what}"


def compare(repo: Any, root: Path) -> list[Difference]:
    """Compare each stage of an open DVC repository; `root` is where paths start. Raises UserError for a bad module."""
    code = Code(Path(repo.root_dir), repo.fs)
    outs = [code.place(Path(out.fs_path)) for out in repo.index.outs if is_local(out)]
    return [difference for stage in _stages(repo) for difference in _compare(code, stage, outs, root.resolve())]


def missing(repo: Any) -> list[str]:
    """Return a line, and what to do, for each dep that dvc.yaml lacks and each file that .dvcignore hides."""
    remedies = {"add": "run `reprocnn lineage --fix`", "show": "change .dvcignore or move the file"}
    found = compare(repo, Path(repo.root_dir))
    return [f"{one}; {remedies[one.action]}" for one in found if one.action in remedies]


def not_followed(repo: Any, root: Path) -> list[str]:
    """Return a line for each stage that runs what lineage cannot read: another program, a shell script, a notebook."""
    code = Code(Path(repo.root_dir), repo.fs)
    found = {stage: code.unfollowed(stage.cmd, Path(stage.wdir)) for stage in _stages(repo)}
    return [
        f"{_relative(Path(stage.path), root.resolve())}: {stage.name}: not followed: "
        f"{', '.join(shorten(command, 60, placeholder='...') for command in commands)}"
        for stage, commands in found.items()
        if commands
    ]


def _stages(repo: Any) -> list[Any]:
    return [stage for stage in repo.index.stages if isinstance(stage, PipelineStage) and stage.cmd]


def _compare(code: Code, stage: Any, outs: list[Path], root: Path) -> Iterator[Difference]:
    """Compare one stage; what stages make (`outs`) is data, even where it is Python."""
    ran = {code.place(file) for file in code.of_command(stage.cmd, Path(stage.wdir))}
    if not ran:
        return
    wdir = code.place(Path(stage.wdir))
    imported = {file for file in ran if not code.is_trivial(file) and not _is_within(file, outs)}
    deps = {code.place(path): text for path, text in _declared(stage).items()}
    declared = {path: text for path, text in deps.items() if not _is_within(path, outs)}
    hidden = {file for file in imported if stage.repo.dvcignore.is_ignored_file(str(file))}
    values = _declared_values(code, stage)
    may_use = partial(code.may_use, stage.cmd, Path(stage.wdir), reads=reads(stage))
    missing = {file for file in imported - hidden if not _is_within(file, declared) and file not in values}
    place = (_relative(Path(stage.path), root), stage.name)
    for file in sorted(hidden):
        yield Difference(*place, "show", _relative(file, wdir))
    for path in _with_folders(code, missing, wdir, outs):
        yield Difference(*place, "add", _relative(path, wdir))
    for path, text in sorted(declared.items()):
        below = {file for file in code.files(path) if not code.is_trivial(file)}
        useless_file = path.suffix == ".py" and path not in ran
        useless_folder = below and not below & imported and _is_mostly(code, path, below)
        if useless_file or useless_folder:
            if not may_use(path):
                yield Difference(*place, "remove", text)
        elif below & imported:
            for file in sorted(one for one in below - imported if not may_use(one)):
                yield Difference(*place, "keep", text, _relative(file, wdir))


def _declared(stage: Any) -> dict[Path, str]:
    """Return the stage's deps in the repository, without params: where they are, and as dvc.yaml writes them."""
    deps = [dep for dep in stage.deps if is_local(dep) and not isinstance(dep, ParamsDependency)]
    return {Path(dep.fs_path): dep.def_path for dep in deps}


def _declared_values(code: Code, stage: Any) -> set[Path]:
    """Return the Python files of which the stage's params declare all that is in them, so that DVC sees each change."""
    params = {code.place(Path(dep.fs_path)): dep.params for dep in stage.deps if isinstance(dep, ParamsDependency)}
    return {path for path, keys in params.items() if path.suffix == ".py" and _are_params(code.body(path), keys)}


def _are_params(body: list[ast.stmt], keys: list[str], above: str = "") -> bool:
    """Return whether statements only give values to names, each of which is declared by itself or with its class."""
    for node in body:
        match node:
            case ast.Expr(ast.Constant()) | ast.Pass():
                continue
            case ast.ClassDef(name=name, bases=[], keywords=[], body=inner, decorator_list=[]):
                if _are_params(inner, keys, f"{above}{name}."):
                    continue
            case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), ast.Name(), ast.expr() as value):
                with suppress(ValueError, TypeError, RecursionError):
                    ast.literal_eval(value)
                    if not keys or any(f"{above}{name}.".startswith(f"{key}.") for key in keys):
                        continue
        return False
    return True


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
            if len(below) > 1 and _is_mostly(code, folder, below):
                chosen = folder
        found.add(chosen)
    return sorted(found)


def reads(stage: Any) -> list[Path]:
    """Return the stage's deps on this machine, with its params files."""
    return [Path(dep.fs_path) for dep in stage.deps if is_local(dep)]


def is_local(one: Any) -> bool:
    """Return whether a dep or an out is a file on this machine, not on a server or in a database."""
    return one.fs is not None and one.fs.protocol == "local"


def is_code(code: Code, place: str) -> bool:
    """Return whether a dep is a Python file, or a folder in which half of the files or more are."""
    path = Path(place)
    return path.suffix == ".py" or _is_mostly(code, path, code.files(path))


def _is_mostly(code: Code, folder: Path, files: set[Path]) -> bool:
    return bool(files) and 2 * len(files) >= code.count_all(folder)


def _relative(path: Path, start: Path) -> str:
    return Path(os.path.relpath(path, start)).as_posix()


def _is_within(path: Path, above: Any) -> bool:
    return any(path.is_relative_to(one) for one in above)
