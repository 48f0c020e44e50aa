"""Metrics files that the command line names, as git keeps them: without DVC, whose lock file says what is stale."""

import os
import subprocess
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.gate.limits import raise_faults
from reprocnn.gate.lock import encoded, unlisted
from reprocnn.gate.metric_files import MALFORMED, MAX_BYTES, MetricFiles, parse, read_images
from reprocnn.gate.values import ANOTHER, Value, decode, flatten, name, one_line
from reprocnn.repository import git


class NamedFiles:
    """What `lock` answers for a DVC repository, for the metrics files `paths` of any git repository."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = list(dict.fromkeys(_from_here(path) for path in paths))

    def one_repository(self) -> AbstractContextManager[None]:
        """Open nothing: git is asked for each file."""
        return nullcontext()

    def nothing(self, *_: object, **__: object) -> set[Any]:
        """Return nothing: git says neither what the results were made from nor what DVC hides."""
        return set()

    faults = damaged = undeclared_code = changed_results = parts = hidden_files = hidden_at = nothing

    def linked(self, paths: Iterable[str]) -> list[str]:
        """Name those of these files that are symbolic links, or in a folder that is one."""
        return [path for path in paths if any(place.is_symlink() for place in (Path(path), *Path(path).parents))]

    def reencoded(self, paths: Iterable[str]) -> list[str]:
        """Name those of these files that git checks out in another encoding than UTF-8."""
        return encoded(paths)

    def unkept(self, paths: Iterable[str]) -> list[str]:
        """Name those of these files that no revision will have: git ignores or cannot have them."""
        return unlisted(paths)

    def read_files(self, rev: str | None) -> MetricFiles:
        """Read the files at a revision, None for the working folder. Raises UserError for one without metrics."""
        contents = {path: content for path in self._paths if (content := _read(path, rev)) is not None}
        if rev is None:
            raise_faults(
                f"{path}: missing; name a file of metrics with --metrics"
                for path in self._paths
                if path not in contents
            )
            known = {
                *self.linked(self._paths),
                *git("--literal-pathspecs", "ls-files", "-z", "--", *self._paths).split("\0"),
            }
            raise_faults(
                f"{path}: not in git, so no revision has it; `git add` it, or run the gate in its submodule"
                for path in self._paths
                if path not in known
            )
        file_of = {metric: path for path, metric in self._metrics(contents, rev)}
        _, of_images = read_images(file_of, partial(_read, rev=rev))
        return MetricFiles(contents, file_of, of_images=of_images)

    def metrics(self, rev: str | None = None) -> dict[str, Value]:
        """Read the metrics by dotted key; a top-level key that two files have begins with its file, as in DVC."""
        contents = self.read_files(rev).contents
        return {metric: value for (_, metric), value in self._metrics(contents, rev).items() if value is not None}

    def params(self, rev: str | None = None) -> dict[str, Value]:
        """Read params.yaml by dotted key."""
        content = _read(str(params.FILE), rev)
        if content is None:
            return {}
        try:
            return flatten(params.parse(content.decode("utf-8-sig")))
        except ValueError as error:
            raise UserError(f"{params.FILE}: invalid YAML: {error}; fix it") from None

    def text(self, path: str, rev: str) -> str | None:
        """Read a file at a revision; None where git has none."""
        content = _read(path, rev)
        return None if content is None else decode(content, f"{path} at {rev}", ANOTHER)

    def _metrics(self, contents: dict[str, bytes], rev: str | None) -> dict[tuple[str, str], Value]:
        side, remedy = ("here", "write it again") if rev is None else (f"at {rev}", ANOTHER)
        parsed: dict[str, Any] = {}
        for path, content in contents.items():
            try:
                values = parse(path, content, finite=rev is None)
            except MALFORMED as error:
                raise UserError(f"{path} {side}: {one_line(error)}; {remedy}") from None
            if not isinstance(values, dict):
                raise UserError(f"{path} {side}: expected a mapping of names to metrics; {remedy}")
            parsed[path] = values
        return {(path, metric): value for path, values in name(parsed).items() for metric, value in values.items()}


def _from_here(path: str) -> str:
    """Return a path from the top folder, where git looks for it. Raises UserError for one outside the repository."""
    written = Path(os.path.abspath(path))
    top = Path(git("rev-parse", "--show-toplevel").strip())
    # The top may be reached by a link; what comes below it stays as it is written, for `linked` to see.
    for place in (written, written.parent.resolve() / written.name):
        for above in place.parents:
            if above.exists() and above.samefile(top):
                return Path(os.path.relpath(top.resolve() / place.relative_to(above), Path().resolve())).as_posix()
    raise UserError(f"{path}: outside the git repository {top}; name a file in it")


def _read(path: str, rev: str | None) -> bytes | None:
    if rev is None:
        if not Path(path).is_file():
            return None
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    if not git("--literal-pathspecs", "ls-tree", rev, "--", path):
        return None
    shown = subprocess.run(["git", "show", f"{rev}:./{path}"], capture_output=True)
    if shown.returncode:
        reason = shown.stderr.decode(errors="replace").strip()
        raise UserError(f"{path} at {rev}: in git, but not in this clone ({reason}); fetch it, or {ANOTHER}")
    return shown.stdout
