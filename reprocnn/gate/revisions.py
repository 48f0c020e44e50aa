"""The revision to compare with, and what git and DVC know of it."""

from typing import Any

import dvc.api
from dvc.scm import RevError

from reprocnn.core.errors import UserError
from reprocnn.gate.values import Value, flatten
from reprocnn.repository import git

MAIN_BRANCHES = ("main", "master", "origin/main", "origin/master")


def default_revision() -> str | None:
    """Give the merge base of HEAD and the main branch; HEAD without such a branch, None without any commit."""
    if not _known("HEAD"):
        return None
    main = next((branch for branch in MAIN_BRANCHES if _known(branch)), None)
    if main is None:
        return "HEAD"
    try:
        return git("merge-base", "HEAD", main).strip()
    except UserError:
        raise UserError(
            f"HEAD and {main} have no commit in common here; fetch the whole history (`fetch-depth: 0`), or name "
            f"another revision with --against"
        ) from None


def describe(rev: str) -> str:
    """Give the revision with its short commit; one that git does not know may be an experiment of DVC."""
    if not _known(rev):
        return rev
    commit = git("rev-parse", "--short", f"{rev}^{{commit}}").strip()
    return commit if rev.startswith(commit) else f"{rev} ({commit})"


def metrics_at(rev: str) -> dict[str, Value]:
    """Read all metrics of a revision, none where it has no metrics file. Raises UserError for an unknown revision."""
    try:
        return flatten(dvc.api.metrics_show(rev=rev))
    except RevError:
        raise UserError(f"{rev}: no such revision; `git fetch` it, or name another with --against") from None
    except FileNotFoundError:
        return {}


def changed_params(rev: str) -> list[dict[str, Any]]:
    """List the params that differ between a revision and the workspace, each with `key`, `then` and `now`."""
    try:
        then, now = flatten(dvc.api.params_show(rev=rev)), flatten(dvc.api.params_show())
    except FileNotFoundError:
        return []
    keys = [key for key in then | now if then.get(key) != now.get(key)]
    return [{"key": key, "then": then.get(key), "now": now.get(key)} for key in keys]


def _known(rev: str) -> bool:
    try:
        git("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
    except UserError:
        return False
    return True
