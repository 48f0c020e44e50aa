"""dvc.lock against the code and params it was made from, and against the results that git keeps."""

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from dvc.api.show import _postprocess
from dvc.dependency.param import ParamsDependency
from dvc.dvcfile import LOCK_FILE, is_valid_filename
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.brancher import switch
from dvc.repo.metrics.show import to_relpath
from dvc.repo.params.show import _collect_top_level_params
from dvc.scm import resolve_rev
from dvc.stage import PipelineStage
from dvc_data.hashfile.build import IgnoreInCollectedDirError
from dvc_data.index import DataIndexDirError
from pygit2 import GitError

from reprocnn.core.errors import UserError
from reprocnn.core.params import FILE
from reprocnn.evaluation import stored
from reprocnn.gate import lineage, stale
from reprocnn.gate.closed import ClosedRepo
from reprocnn.gate.limits import raise_faults
from reprocnn.gate.parts import Part
from reprocnn.gate.values import ANOTHER, MAX_DEPTH, Value, decode, flatten, named, nests_deep, one_line, repro
from reprocnn.repository import git

_shared: ContextVar[tuple[ExitStack, dict[str, Repo]] | None] = ContextVar("shared", default=None)


def faults() -> list[str]:
    """Return a line for each result in git that differs from dvc.lock, and for each stage that is newer than dvc.lock.

    Needs no data: what DVC keeps may be absent. Raises UserError if dvc.yaml or dvc.lock cannot be read, and in a
    folder below the repository's top, where params.yaml would be another one.
    """
    with open_repository("workspace") as repo:
        _check_top(repo)
        if elsewhere := _elsewhere(repo):
            return elsewhere
        _refuse_deep(repo, "workspace", _params_files(repo))
        found = _changed_results(repo, "workspace") + _linked_folders(repo)
        outs = {out.fs_path: out for out in repo.index.outs}
        locked: dict[str, Any] = {}  # what dvc.lock has of each stage, by the path of dvc.yaml
        for stage in repo.index.stages:
            if isinstance(stage, PipelineStage):
                if stage.path not in locked:
                    locked[stage.path] = stage.dvcfile.lockfile_contents.get("stages") or {}
                found += stale.changed(stage, outs) or stale.removed(stage, locked[stage.path].get(stage.name) or {})
        return found or stale.would_run(repo, outs)


def damaged(folder: str = "") -> list[str]:
    """Return a line for each file at or below `folder` that is not as dvc.lock has it.

    Checks the outputs that DVC keeps and that are here: DVC itself trusts what it takes from its cache.
    Raises UserError in a folder below the repository's top.
    """
    lines = []
    with open_repository("workspace") as repo:
        _check_top(repo)
        for out in filter(lineage.is_local, repo.index.outs):
            content = out.get_obj() if out.use_cache and f"{out.def_path}/".startswith(folder) and out.exists else None
            if content is None:
                continue
            files = [((), out.hash_info)] if not out.is_dir_checksum else [(key, digest) for key, _, digest in content]
            paths = {Path(out.fs_path, *key): digest.value for key, digest in files}
            faults = [stored.fault(path, Path(out.cache.oid_to_path(md5)), md5) for path, md5 in paths.items()]
            lines += [line for line in faults if line]
            there = map(Path, out.fs.find(out.fs_path)) if out.is_dir_checksum else []
            lines += [
                stored.unexpected(path)
                for path in sorted(there)
                if path not in paths and not out.dvcignore.is_ignored_file(str(path))
            ]
    return lines


def parts(rev: str | None = None, *, unknown: bool = False) -> list[Part]:
    """List the deps that share files with a folder of DVC's; with `unknown`, where what is in it is not known here."""
    with open_repository(rev or "workspace") as repo:
        outs = {out.fs_path: out for out in repo.index.outs if out.use_cache}

        def from_top(path: str) -> str:
            return str(repo.fs.relpath(path, repo.root_dir))

        return [
            Part(
                f"{from_top(stage.path)}:{stage.name}".removeprefix("dvc.yaml:"),
                from_top(dep.fs_path),
                from_top(out.fs_path),
                is_inside,
                dep.hash_info.value,
                out.hash_info.value,
            )
            for stage in repo.index.stages
            if isinstance(stage, PipelineStage)
            for dep in stage.deps
            if lineage.is_local(dep) and not isinstance(dep, ParamsDependency)
            for is_inside, found in ((True, stale.outs_around(dep, outs)), (False, stale.outs_inside(dep, outs)))
            for out in found
            if not unknown or (out.is_dir_checksum and out.get_obj() is None)
        ]


def _elsewhere(repo: Repo) -> list[str]:
    """Return a line for each output and params file on a server: a pull request names it, and DVC would ask it."""
    params = [dep for dep in repo.index.deps if isinstance(dep, ParamsDependency)]
    return [
        f"{one.stage.addressing}: {one.def_path}: found an output or a params file on a server, which the gate does "
        f"not contact; keep it in the repository"
        for one in [*repo.index.outs, *params]
        if not lineage.is_local(one)
    ]


def _check_top(repo: Repo) -> None:
    if Path(repo.root_dir) != Path().resolve():
        raise UserError(f"this folder is in the DVC repository {repo.root_dir}; run from its top folder")


def undeclared_code(rev: str = "workspace") -> list[str]:
    """Return a line for code that no dep shows DVC, at a revision or here: what changes there would go unseen.

    Raises UserError if a module cannot be parsed.
    """
    with open_repository(rev) as repo:
        return [f"{line}, then `dvc repro`, and commit" for line in lineage.missing(repo)]


def linked(paths: Iterable[str]) -> list[str]:
    """Name which of these files, dvc.yaml and dvc.lock are behind a symbolic link, except what DVC itself links."""
    with open_repository("workspace") as repo:
        kept = _kept(repo)
        return [
            path
            for path, place in _with_pipelines(repo, paths).items()
            if not any(place.is_relative_to(out) for out in kept)
            and any(one.is_symlink() for one in (place, *place.parents) if one.is_relative_to(repo.root_dir))
        ]


def _with_pipelines(repo: Repo, paths: Iterable[str]) -> dict[str, Path]:
    """Return the places of these files, of each dvc.yaml and of each dvc.lock."""
    places = {path: Path(repo.root_dir, path) for path in paths}
    for pipeline in {Path(stage.path) for stage in repo.index.stages}:
        files = (pipeline, pipeline.with_suffix(".lock"))
        places |= {file.relative_to(repo.root_dir).as_posix(): file for file in files}
    return places


def reencoded(paths: Iterable[str]) -> list[str]:
    """Name those of these files, dvc.yaml and dvc.lock that git checks out in another encoding than UTF-8."""
    with open_repository("workspace") as repo:
        return encoded(_with_pipelines(repo, paths))


def encoded(paths: Iterable[str]) -> list[str]:
    """Name those of these files that git checks out in another encoding than UTF-8, the one it keeps."""
    here = [path for path in paths if Path(path).exists()]
    said = git("check-attr", "-z", "working-tree-encoding", "--", *here).split("\0")
    values = zip(said[::3], said[2::3], strict=False)
    return [path for path, value in values if value.lower() not in ("unspecified", "unset", "set", "utf-8")]


def unkept(paths: Iterable[str]) -> list[str]:
    """Name which of these files no revision will have: DVC does not keep them, and git ignores or cannot have them."""
    with open_repository("workspace") as repo:
        kept = _kept(repo)
        return unlisted(
            path for path in paths if not any(Path(repo.root_dir, path).is_relative_to(out) for out in kept)
        )


def unlisted(paths: Iterable[str]) -> list[str]:
    """Name which of these files are here, and neither in git nor such that `git add` adds them."""
    here = [path for path in paths if Path(path).exists()]
    literal = [f":(literal){path}" for path in here]
    known = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *literal).split("\0")
    return [path for path in here if path not in known]


def _kept(repo: Repo) -> list[Path]:
    return [Path(out.fs_path) for out in repo.index.outs if out.use_cache]


def hidden_files() -> list[str]:
    """List the files in git that stages depend on and .dvcignore hides: their changes go unseen."""
    with open_repository("workspace") as repo:
        paths = git("ls-files", "-z", cwd=Path(repo.root_dir)).split("\0")[:-1]
        deps = [dep.fs_path for dep in repo.index.deps if lineage.is_local(dep)]
        below = tuple(os.path.join(dep, "") for dep in deps)
        inside = [path for path in paths if os.path.join(repo.root_dir, path, "").startswith(below)]
        return [path for path in inside if _hides(repo, path)]


def hidden_at(rev: str, paths: list[str]) -> set[str]:
    """List which of these paths are there at a revision, hidden by .dvcignore."""
    with open_repository(rev) as repo:
        return {path for path in paths if _hides(repo, path) and repo.fs.exists(os.path.join(repo.root_dir, path))}


def _hides(repo: Repo, path: str) -> bool:
    return bool(repo.dvcignore.is_ignored(repo.fs, os.path.join(repo.root_dir, path)))


def changed_results(rev: str) -> list[str]:
    """Return a line for each result in git that, at the revision, differs from its dvc.lock."""
    with open_repository(rev) as repo:
        return _changed_results(repo, rev)


@contextmanager
def one_repository() -> Iterator[None]:
    """Read the repository once at each revision for all that is asked of it meanwhile: it must not change."""
    with ExitStack() as stack:
        token = _shared.set((stack, {}))
        try:
            yield
        finally:
            _shared.reset(token)


def metrics(rev: str | None = None) -> dict[str, Value]:
    """Read the metrics as `dvc metrics show` does, at a revision or here, by dotted key."""
    with open_repository(rev or "workspace") as repo:
        return _merged(repo, repo.metrics.show(on_error="raise"))


def params(rev: str | None = None) -> dict[str, Value]:
    """Read the params as `dvc params show` does, at a revision or here, by dotted key."""
    with open_repository(rev or "workspace") as repo:
        _refuse_deep(repo, rev or "workspace", _params_files(repo))
        return _merged(repo, repo.params.show(on_error="raise"))


def _merged(repo: Repo, shown: Any) -> dict[str, Value]:
    relative = {rev: to_relpath(repo.fs, repo.root_dir, result) for rev, result in shown.items()}
    for result in relative.values():
        for path, file in (result.get("data") or {}).items():
            file["data"] = named(path, file["data"])
    return flatten(next(iter(_postprocess(relative).values()), {}))


def text(path: str, rev: str) -> str | None:
    """Read a file at a revision, kept by git or by DVC; None where there is none.

    Raises UserError for one that DVC keeps and has not got here.
    """
    with open_repository(rev) as repo:
        try:
            content = repo.dvcfs.read_bytes(f"/{path}")
        except (FileNotFoundError, DvcException):
            if was_written(repo, path):
                raise UserError(f"{path} at {rev}: not in DVC's cache; run `dvc fetch --all-commits`") from None
            return None
    return decode(content, f"{path} at {rev}", ANOTHER)


def was_written(repo: Repo, place: str) -> bool:
    """Return whether DVC keeps a file, or a folder that it is in (unless that is known not to hold it)."""
    for out in repo.index.outs:
        path = repo.fs.join(repo.root_dir, place.lstrip("/"))
        if out.use_cache and out.hash_info.value and (path == out.fs_path or repo.fs.isin(path, out.fs_path)):
            content = out.get_obj() if out.is_dir_checksum else None
            return content is None or repo.fs.relparts(path, out.fs_path) in {key for key, _, _ in content}
    return False


def _refuse_links(folder: Path) -> None:
    """Raise UserError if a link is where DVC writes: a branch may bring one that leads anywhere."""
    top = Path(Repo.find_root(str(folder)))
    own = top / Repo.DVC_DIR
    tmp = own / "tmp"
    places = [own, tmp, *(sorted(tmp.iterdir()) if tmp.is_dir() else [])]
    raise_faults(
        f"{place.relative_to(top)}: a symbolic link, and DVC writes there; remove it"
        for place in places
        if place.is_symlink()
    )


def _open(folder: Path) -> Repo:
    _refuse_links(folder)
    try:
        return ClosedRepo(folder)
    except UnicodeDecodeError as error:
        raise UserError(f"dvc: a .dvcignore or .dvc/config is not UTF-8 ({error}); write it again") from None


@contextmanager
def open_repository(rev: str, folder: Path = Path()) -> Iterator[Repo]:
    """Open the repository around a folder, as it is at a revision or in the `workspace`."""
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # it would report on stdout
    try:
        with ExitStack() as own:
            stack, repositories = _shared.get() or (own, {})
            if rev not in repositories:
                repo = stack.enter_context(_open(folder))
                if rev == "workspace":
                    files = _pipeline_files(repo, "ls-files", "--cached", "--others", "--exclude-standard")
                else:
                    commit = resolve_rev(repo.scm, rev)
                    with suppress(UserError):  # DVC alone knows an experiment
                        commit = git("rev-parse", "--verify", "--end-of-options", f"{rev}^{{commit}}").strip()
                    if {resolve_rev(repo.scm, one) for one in (rev, commit)} != {commit}:
                        raise UserError(f"{rev}: DVC takes a branch or a tag for the commit {commit[:12]}; delete that")
                    # DVC waits without end for what a partial or damaged clone lacks; git fetches it, or says why not.
                    git("rev-list", "--no-walk", "--objects", "--quiet", commit)
                    files = _pipeline_files(repo, "ls-tree", "-r", "--name-only", commit)
                    stack.enter_context(switch(repo, rev))
                _refuse_deep(repo, rev, files)
                repositories[rev] = repo  # not before: a repository that could not be switched is the workspace
            yield repositories[rev]
    except NotDvcRepoError:
        raise UserError(
            "this folder is not a DVC repository; run from the top folder, or `dvc init` first (the gate also "
            "works without DVC: name its files with --metrics)"
        ) from None
    except LockError:
        raise UserError("dvc: another process is using this repository; wait until it ends, then try again") from None
    except GitError as error:
        raise UserError(f"git: {error}; `git status` here says what to do") from None
    except OSError as error:
        if f"{os.sep}.dvc{os.sep}" not in str(error.filename):
            raise
        where = f"{error.filename}: {error.strerror}"
        raise UserError(f"dvc: {where}; it writes to .dvc/tmp: make that writable, or judge a `git clone`") from None
    except DataIndexDirError as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise UserError(f"dvc: {error}: not in DVC's cache; run `dvc fetch --all-commits`") from None
    except IgnoreInCollectedDirError as error:
        raise UserError(f"dvc: {error}; move its lines to the .dvcignore at the top") from None
    except DvcException as error:
        raise UserError(f"dvc: {one_line(error)}; fix dvc.yaml or restore dvc.lock") from None


def _pipeline_files(repo: Repo, *command: str) -> list[str]:
    """List what DVC parses to know the stages, of the files that a command of git names."""
    paths = []
    with suppress(UserError):  # without git, or where it refuses, which DVC reports
        paths = git(*command, "-z", cwd=Path(repo.root_dir)).split("\0")
    return [path for path in paths if is_valid_filename(path) or Path(path).name in (LOCK_FILE, FILE.name)]


def _params_files(repo: Repo) -> list[str]:
    deps = [str(repo.fs.relpath(dep.fs_path, repo.root_dir)) for dep in repo.index.params]
    return [*deps, *_collect_top_level_params(repo)]


def _refuse_deep(repo: Repo, rev: str, paths: Iterable[str]) -> None:
    """Raise UserError with a line for each of these files at which DVC's parser would crash."""
    side, remedy = ("", "restore it with git checkout") if rev == "workspace" else (f" at {rev}", ANOTHER)
    lines = []
    for path in dict.fromkeys(paths):
        with suppress(OSError, ValueError):  # no file or no such name, which DVC reports
            if nests_deep(repo.fs.cat_file(repo.fs.join(repo.root_dir, path)).decode("utf-8", "replace")):
                lines.append(f"{path}{side}: nested more than {MAX_DEPTH} deep; {remedy}")
    raise_faults(lines)


def _changed_results(repo: Repo, rev: str) -> list[str]:
    lines = []
    for out in repo.index.outs:
        if out.use_cache or out.hash_info.value is None:
            continue  # DVC keeps it, or its stage never ran, which is reported for the stage
        is_there = repo.fs.exists(out.fs_path)
        if (rev != "workspace" or not is_there) and _is_left_out(repo, out):
            continue
        restore = f"restore it with git checkout, or run `{repro(out.stage.addressing)}`"
        if not is_there:
            lines.append(f"{out.def_path}: missing, but in dvc.lock; {restore}")
        elif _digest(repo, out) != out.hash_info.value:
            if _has_other_line_ends(repo, out):
                restore = f"list it there as `-text`, then run `{repro(out.stage.addressing)}` and commit"
                lines.append(f"{out.def_path}: differs from dvc.lock by its line ends (.gitattributes); {restore}")
            else:
                lines.append(f"{out.def_path}: differs from dvc.lock; {restore}")
    return lines


def _has_other_line_ends(repo: Repo, out: Any) -> bool:
    """Return whether a file lacks only its carriage returns, which git removes for `* text=auto` in .gitattributes."""
    if out.hash_name != "md5" or not repo.fs.isfile(out.fs_path):
        return False
    content = repo.fs.cat_file(out.fs_path).replace(b"\n", b"\r\n")
    return bool(hashlib.md5(content, usedforsecurity=False).hexdigest() == out.hash_info.value)


def _is_left_out(repo: Repo, out: Any) -> bool:
    """Return whether git does not have an output, or not all of it: it is ignored, or outside of the repository."""
    path = repo.fs.relpath(out.fs_path, repo.root_dir)
    if os.path.isabs(out.def_path) or path.startswith(os.pardir):
        return True
    literal = f":(literal){path}"
    if git("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", literal):
        return True
    with suppress(UserError):  # it is not ignored
        return bool(git("check-ignore", path + os.sep * out.is_dir_checksum))
    return False


def _linked_folders(repo: Repo) -> list[str]:
    """Return a line for each linked folder in what stages depend on or leave in git: DVC does not hash its content."""
    kept = _kept(repo)
    ours = [out for out in repo.index.outs if not out.use_cache]
    tops = {one.fs_path for one in [*repo.index.deps, *ours] if lineage.is_local(one)}
    inside = {
        Path(above, name) for top in tops for above, names, _ in repo.dvcignore.walk(repo.fs, top) for name in names
    }
    return [
        f"{os.path.relpath(place, repo.root_dir)}: a link to a folder, in which DVC sees no change; put the folder in "
        f"its place"
        for place in sorted(inside)
        if place.is_symlink() and not any(place.is_relative_to(out) for out in kept)
    ]


def _digest(repo: Repo, out: Any) -> str:
    if out.hash_name == "md5" and repo.fs.isfile(out.fs_path):
        # From the bytes: DVC itself trusts the time and the size of a file that it has seen before.
        return hashlib.md5(repo.fs.cat_file(out.fs_path), usedforsecurity=False).hexdigest()
    return str(out.get_hash().value)
