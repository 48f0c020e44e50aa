"""The revision to compare with, and what git and DVC know of it."""

import os
from collections.abc import Sequence
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import resolve_rev

from reprocnn.core.errors import UserError
from reprocnn.gate.values import finite
from reprocnn.repository import git

MAIN_BRANCHES = ("main", "master", "trunk")
# Where CI services name the branch that a pull request goes to.
TARGET_BRANCH = ("GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
JUDGED = (":(top,glob)**/dvc.yaml", ":(top,glob)**/dvc.lock", ":(top,glob)**/params.yaml")
FETCH = (
    "fetch the whole history (`fetch-depth: 0` for actions/checkout, `GIT_DEPTH: 0` for GitLab, "
    "`git fetch --unshallow` in a shell), or name another revision with --against"
)


def choose_base(rev: str | None, files: Sequence[str] = ()) -> str | None:
    """Return the revision to compare with: `rev`, or the merge base with the main branch; None before there is any.

    Changes of `files` count beside those of the pipeline.
    Raises UserError if `rev` is HEAD and nothing has changed since: a result is not compared with itself.
    """
    if rev is None:
        return default_revision(files)
    if rev.strip() in ("", "workspace") or rev[0] in "^:" or not rev.isprintable():
        raise UserError(f"--against {rev!r}: expected a revision; name a branch, a tag or a commit")
    commit = _commit(rev)
    kinds = [kind for kind in ("refs/tags", "refs/heads", "refs/remotes") if _commit(f"{kind}/{rev}")]
    if len(kinds) > 1:
        raise UserError(f"{rev}: both {' and '.join(kinds)} have it; name one in full with --against")
    if commit is None and not rev.startswith("-"):
        commit = _commit_of_dvc(rev)
    if commit is None:
        raise UserError(f"{rev}: no such revision; `git fetch` it, or name another with --against")
    if commit == _commit("HEAD") and not _dirty(files):
        raise UserError(
            f"{rev} is the commit of HEAD, and nothing has changed since: no result is compared with itself; "
            f"name another revision with --against, such as HEAD^"
        )
    return rev


def default_revision(files: Sequence[str] = ()) -> str | None:
    """Return the merge base of HEAD and the main branch, on that branch HEAD's first parent; None before there is any.

    It is HEAD with uncommitted changes on the main branch, and on another branch before its first commit.
    Raises UserError where history or branch are missing.
    """
    if _commit("HEAD") is None:
        if git("rev-list", "--all", "--max-count=1"):  # which fails where git itself does
            raise UserError("HEAD has no commit, though the repository has; commit, or name a revision with --against")
        return None
    named = next((os.environ[name] for name in TARGET_BRANCH if os.environ.get(name)), None)
    branch = named or _main_branch()
    tips = [tip for tip in (f"refs/remotes/{_remote()}/{branch}", f"refs/heads/{branch}") if _commit(tip)]
    if not tips:
        raise UserError(f"the branch {branch} is not in this clone, so there is nothing to compare with; {FETCH}")
    bases = [base for tip in tips if (base := _git("merge-base", "HEAD", tip))]
    if named:  # the pull request of a fork may come from a branch of the same name
        bases = [base for base in bases if base != _commit("HEAD")] or bases
    if not bases:
        raise UserError(f"HEAD and {branch} have no commit in common here; {FETCH}")
    base = bases[-1] if _is_ancestor(bases[0], bases[-1]) else bases[0]  # a stale copy of the branch is behind
    if base != _commit("HEAD"):
        return base
    if _dirty(files):
        return "HEAD"
    if named is None and _git("symbolic-ref", "--quiet", "HEAD") in (f"refs/heads/{branch}", None):
        return _first_parent(branch)
    if named is None and _git("rev-parse", "--is-shallow-repository") == "false":
        return bases[0]  # the remote's: what is not there yet is judged, though the local main branch has it
    raise UserError(f"HEAD has no commit that {branch} lacks, and no result is compared with itself; {FETCH}")


def describe(rev: str) -> str:
    """Return the revision with its short commit; one that git does not know may be an experiment of DVC."""
    if _commit(rev) is None:
        return rev
    commit = git("rev-parse", "--short", f"{rev}^{{commit}}").strip()
    return commit if rev.startswith(commit) else f"{rev} ({commit})"


def new_folder(rev: str) -> str | None:
    """Name this folder, from git's top, if it is below that and no DVC repository at the revision; else None."""
    folder = git("rev-parse", "--show-prefix").strip().rstrip("/")
    known = _commit(rev) is None or _git("rev-parse", "--verify", "--quiet", f"{rev}:./.dvc") is not None
    return folder if folder and not known else None


def changed_params(rev: str, source: Any) -> list[dict[str, Any]]:
    """List the params that differ between a revision and the workspace, each with `key`, `then` and `now`.

    1, 1.0 and true differ, though DVC takes them for equal.
    """
    then, now = finite(source.params(rev)), finite(source.params())
    keys = [key for key in then | now if repr(then.get(key)) != repr(now.get(key))]
    return [{"key": key, "then": then.get(key), "now": now.get(key)} for key in keys]


def _main_branch() -> str:
    """Name the main branch: the remote's default, GitLab's word for it, a usual name, or the only branch there is."""
    remote = _remote()
    head = _git("symbolic-ref", "--quiet", f"refs/remotes/{remote}/HEAD")  # --short adds to a name that a tag has too
    if head:
        return head.removeprefix(f"refs/remotes/{remote}/")
    if os.environ.get("CI_DEFAULT_BRANCH"):
        return os.environ["CI_DEFAULT_BRANCH"]
    for name in MAIN_BRANCHES:
        if _commit(f"refs/heads/{name}") or _commit(f"refs/remotes/{remote}/{name}"):
            return name
    branches = (_git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads") or "").split()
    if len(branches) == 1 and not _git("remote"):
        return branches[0]
    remedy = f"`git remote set-head {remote} --auto`, {FETCH}" if _git("remote") else "name one with --against"
    raise UserError(
        f"no main branch found in this clone ({', '.join(MAIN_BRANCHES)}, or {remote}'s default branch), so there is "
        f"nothing to compare with; {remedy}"
    )


def _first_parent(branch: str) -> str | None:
    parents = git("cat-file", "-p", "HEAD").partition("\n\n")[0].count("\nparent ")
    if not parents:
        return None  # the first commit of all
    parent = _commit("HEAD^1")
    if parent is None:
        raise UserError(f"HEAD is on {branch}, and the commit before it is not in this shallow clone; {FETCH}")
    return parent


def _remote() -> str:
    remotes = (_git("remote") or "").split()
    return remotes[0] if remotes and "origin" not in remotes else "origin"


def _dirty(files: Sequence[str]) -> bool:
    """Return whether pipeline, results or limits differ from HEAD; results change with their dvc.lock."""
    named = [f":(literal){file}" for file in files]
    return bool(git("status", "--porcelain", "--untracked-files=all", "--", *JUDGED, *named))


def _is_ancestor(earlier: str, later: str) -> bool:
    return _git("merge-base", "--is-ancestor", earlier, later) is not None


def _commit(rev: str) -> str | None:
    return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")


def _commit_of_dvc(rev: str) -> str | None:
    """Return the commit of what DVC alone resolves, such as the name of an experiment."""
    try:
        with Repo() as repo:
            return _commit(resolve_rev(repo.scm, rev))
    except (DvcException, ValueError):  # the latter of a name too long for a file
        return None


def _git(*arguments: str) -> str | None:
    """Return what git prints in one line, None where it fails."""
    try:
        return git(*arguments).strip()
    except UserError:
        return None
