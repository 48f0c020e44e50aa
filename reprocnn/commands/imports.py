"""Which Python files of a repository a shell command runs: those that it names, and all that they import."""

import ast
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from reprocnn.core.errors import UserError

TYPES_ONLY = ("TYPE_CHECKING", "typing.TYPE_CHECKING")  # code behind them does not run


class Code:
    """The Python files below `root`, each parsed once."""

    def __init__(self, root: Path) -> None:
        """Take an absolute `root`; files are absolute paths too."""
        self.root = root
        self._trees: dict[Path, ast.Module] = {}

    def of_command(self, command: str | list[str], wdir: Path) -> set[Path]:
        """Give the files that a stage's `cmd` runs in `wdir`, directly or through others; none if it runs no Python.

        Raises UserError if one of them cannot be parsed.
        """
        words = [word for line in ([command] if isinstance(command, str) else command) for word in _words(line)]
        above = [wdir, wdir / "src", self.root, self.root / "src"]
        given = [wdir / path for word in words if word.startswith("PYTHONPATH=") for path in word[11:].split(":")]
        found: set[Path] = set()
        for word, before in zip(words, ["", *words], strict=False):
            script = self._script(word.rpartition("=")[2], wdir)
            if script:
                found |= self._closure([script], [script.parent, *given, *above])
            if before == "-m" or word.startswith("-m"):
                module = word if before == "-m" else word[2:]
                roots = [wdir, *given, *above]
                found |= self._closure(_as_main(self._find(module, roots)), roots)
        return found

    def files(self, folder: Path) -> set[Path]:
        """List the Python files below `folder`, without hidden folders and bytecode; none if it is a file."""
        found = set()
        for place, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
            found |= {Path(place) / name for name in names if name.endswith(".py")}
        return found

    def is_trivial(self, file: Path) -> bool:
        """Tell whether a module holds nothing but a docstring, so that it changes nothing; one that is invalid may."""
        try:
            body = self._parse(file).body
        except UserError:  # of a file that no stage imports, such as a template
            return False
        return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)

    def _closure(self, entries: list[Path], roots: list[Path]) -> set[Path]:
        found: set[Path] = set()
        waiting = list(entries)
        while waiting:
            file = waiting.pop()
            if file not in found:
                found.add(file)
                waiting += self._imported(file, roots)
        return found

    def _imported(self, file: Path, roots: list[Path]) -> list[Path]:
        """List the files that the imports of one file run; a name imported from a package counts if it is a module."""
        files = []
        for node in _running(self._parse(file)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    files += self._find(alias.name, roots)
            elif isinstance(node, ast.ImportFrom) and node.level:
                base = file.parents[node.level - 1]
                for alias in node.names:
                    files += _files(base, [*(node.module or "").split("."), alias.name])
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    files += self._find(f"{node.module}.{alias.name}", roots)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                name = node.args[0] if node.args else None
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    files += self._find(name.value, roots)
        return [file for file in files if file.is_relative_to(self.root)]

    def _find(self, module: str, roots: list[Path]) -> list[Path]:
        """Give the files that importing `module` runs, from the first root that has any."""
        parts = module.split(".")
        for index, root in enumerate(roots):
            # Only the first place of sys.path comes before the standard library for sure.
            if index and root != roots[0] and parts[0] in sys.stdlib_module_names:
                continue
            files = _files(root, parts) if root.is_relative_to(self.root) else []
            if files:
                return files
        return []

    def _script(self, word: str, wdir: Path) -> Path | None:
        for place in (wdir, self.root):
            path = Path(os.path.normpath(place / word))
            if path.suffix == ".py" and path.is_relative_to(self.root) and path.is_file():
                return path
        return None

    def _parse(self, file: Path) -> ast.Module:
        if file not in self._trees:
            try:
                with warnings.catch_warnings(action="ignore"):
                    self._trees[file] = ast.parse(file.read_bytes(), file)
            except (SyntaxError, ValueError, RecursionError) as error:
                where = f"{file.relative_to(self.root).as_posix()}:{getattr(error, 'lineno', None) or 1}"
                raise UserError(f"{where}: invalid Python ({getattr(error, 'msg', error)}); fix it") from None
        return self._trees[file]


def _words(command: str) -> Iterator[str]:
    """Split a shell command into words, those of a quoted command within too."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:  # an open quote
        words = command.split()
    for word in words:
        yield word
        if word != command and any(character.isspace() for character in word):
            yield from _words(word)


def _as_main(files: list[Path]) -> list[Path]:
    """Give the files that `-m` runs: of a package its __main__ too."""
    if files and files[-1].name == "__init__.py":
        return [*files, *(path for path in [files[-1].with_name("__main__.py")] if path.is_file())]
    return files


def _files(base: Path, parts: list[str]) -> list[Path]:
    """Give the files that importing the dotted name `parts` below `base` runs, as far as they are there."""
    files = []
    for part in filter(None, ["", *parts]):
        init, module = base / part / "__init__.py", base / f"{part}.py"
        if init.is_file():
            files.append(init)
        elif module.is_file():
            return [*files, module]
        elif not (base / part).is_dir():
            break
        base = base / part
    return files


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk over all nodes but those that only type checkers see."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) in TYPES_ONLY:
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
