"""Which Python files of a repository a shell command runs: those that it names, and all that they import or start."""

import ast
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from importlib.machinery import PathFinder
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from dvc.fs import GitFileSystem

from reprocnn.core.errors import UserError
from reprocnn.gate import shell, source
from reprocnn.gate.projects import Projects
from reprocnn.gate.source import last_name, running, strings

MODULE = re.compile(r"-[bBdEiIOPqsSuvx]*m(.*)")  # python's -m, with other options before it and the name behind
PYTHON = re.compile(r"python[\d.]*")
CODE = re.compile(r"-[bBdEiIOPqsSuvx]*c")
# Of texts that may name code, and how it is named there: dotted, or by the path of a file.
TEXTS = (".yaml", ".yml", ".json", ".toml", ".ini", ".cfg")
NAME_IN_TEXT = re.compile(r"(?<![\w./-])(?:[^\W\d]\w*(?:\.[^\W\d]\w*)+|[\w./-]+\.py)(?!\.?[\w/-])")
MOST_TEXTS, MOST_BYTES = 1000, 100_000  # of a folder, and of a text; what is larger is rather data
NOT_CODE = {"__pycache__", "site-packages", "node_modules"}
# What may take the place of the standard library or run before a program; builtins always come first.
SHADOWED = sys.stdlib_module_names - set(sys.builtin_module_names) | {"sitecustomize", "usercustomize"}


class Roots(NamedTuple):
    """The folders that a program imports from."""

    first: tuple[Path, ...]  # before the standard library: that of the script, or where -m looks, and PYTHONPATH
    others: tuple[Path, ...]  # perhaps, after what is installed


class Code:
    """The Python files below `root`, each read once."""

    def __init__(self, root: Path, fs: Any) -> None:
        """Take an absolute `root` in a file system of DVC's, which may be that of a revision; so are all files."""
        self.root = root
        self._fs = fs
        self._projects = Projects(root, fs)
        self._nodes: dict[Path, list[ast.AST]] = {}
        self._next: dict[tuple[Path, Roots], list[tuple[Path, Roots]]] = {}
        self._installed: dict[str, bool] = {}
        self._uses: dict[tuple[Any, ...], tuple[set[Path], set[str]] | None] = {}
        self._texts: dict[Path, set[str]] = {}

    def of_command(self, command: str | list[str], wdir: Path) -> set[Path]:
        """Return the files that a stage's `cmd` runs in `wdir`, directly or through others; none if it runs no Python.

        Raises UserError if one of them cannot be parsed.
        """
        return set().union(*(self._closure(files, roots, wdir) for files, roots in self.started(command, wdir)))

    def started(self, command: str | list[str], wdir: Path) -> list[tuple[list[Path], Roots]]:
        """List the files that the command names, each script or module with the folders that it imports from."""
        words = [word for line in _lines(command) for word in shell.words(line)]
        others = (wdir, wdir / "src", self.root, self.root / "src")
        found = []
        place, given = wdir, list[str]()
        for word, before in zip(words, ["", *words], strict=False):
            place = Path(os.path.normpath(place / word)) if before == "cd" else place
            given = word[11:].split(":") if word.startswith("PYTHONPATH=") else given
            path = [Path(os.path.normpath(start / name)) for name in given for start in (place, wdir)]
            name = word.rpartition("=")[2]
            after_python = bool(PYTHON.fullmatch(Path(before).name))
            script = self._script(name, place, after_python) or self._script(name, wdir, after_python)
            if script is None and after_python:
                script = self._script(f"{name}/__main__.py", place)
            if script:
                tests = self._conftests(script) if "pytest" in {Path(one).name for one in words} else []
                found.append(([script, *tests], Roots((script.parent, *path), others)))
            roots = Roots((place, *path), others)
            flag, flag_before = MODULE.fullmatch(word), MODULE.fullmatch(before)
            module = word if flag_before and not flag_before[1] else flag[1] if flag else ""
            if module:
                files = self._find(module, roots, place) or self._find(module, Roots(others, ()))
                found.append((self._as_main(files), roots))
            if word in self._projects.commands:
                roots = Roots((*path,), others)
                found.append((self._find(self._projects.commands[word], roots, place), roots))
            if CODE.fullmatch(before):
                with suppress(*source.INVALID):  # a shell's command
                    nodes = source.nodes(word)
                    found.append((self._imported_by(nodes, place / "-c", roots), roots))
                    found += [([file], its_roots) for file, its_roots in self._started_by(nodes, place / "-c", wdir)]
        return [(files + self._shadowing(roots), roots) for files, roots in found if files]

    def unfollowed(self, command: str | list[str], wdir: Path) -> list[str]:
        """List the commands of a stage's `cmd` that may run code, and are no Python that is read here."""
        found = []
        place, given = wdir, list[str]()
        for words in (words for line in _lines(command) for words in shell.commands(line)):
            program = shell.program(words)
            given += [word for word in words if word.startswith("PYTHONPATH=")]
            if program == "cd":
                place = Path(os.path.normpath(place.joinpath(*words[1:2])))
            elif not shell.HARMLESS.fullmatch(program) and (
                shell.starts_shell(words) or not self._is_python(program, [*given, *words], (place, wdir))
            ):
                found.append(" ".join(words))
        return found

    def may_use(
        self, command: str | list[str], wdir: Path, path: Path, reads: list[Path], declared: Iterable[Path] = ()
    ) -> bool:
        """Return whether a stage that `reads` files and folders may use a file, or a folder beside what is `declared`.

        It may where it runs it, where its code, its command or a shell script names it, in a string or as a module that
        is installed too, where a text that it reads names it, or where not all that it runs is followed.
        """
        below = self.files(path) or {path}
        beside = {file for file in below if not any(file.is_relative_to(one) for one in declared)}
        code = {file for file in beside if self._is_file(file) and not self.is_trivial(file)}
        if not code:
            return False
        key = (*_lines(command), wdir, *reads)
        if key not in self._uses:
            self._uses[key] = self._used(command, wdir, reads)
        used = self._uses[key]
        if used is None:
            return True
        own = {name for file in code for name in (file.name, *file.relative_to(path).parts)}
        own |= {path.stem} if beside == below else set()
        return bool(code & used[0] or own & used[1])

    def files(self, folder: Path) -> set[Path]:
        """List the Python files below `folder`, without hidden folders, bytecode and what is installed.

        Empty if it is a file.
        """
        return set(self._ending(folder, (".py",)))

    def count_all(self, folder: Path) -> int:
        """Count the files below `folder`, without bytecode."""
        walk = self._fs.walk(str(folder))
        return sum(len(names) for place, _, names in walk if not place.endswith("__pycache__"))

    def place(self, path: Path) -> Path:
        """Return the place of a file or folder that no linked folder leads to: DVC does not look into those.

        A revision is given as it is: there, a link leads nowhere.
        """
        if isinstance(self._fs, GitFileSystem):
            return path
        return path.resolve() if path.is_dir() else path.parent.resolve() / path.name

    def is_trivial(self, file: Path) -> bool:
        """Return whether a module holds nothing but a docstring, so that it changes nothing."""
        try:
            nodes = self._parse(file)
        except UserError:  # of a file that no stage imports, such as a template
            return False
        return all(isinstance(node, ast.Module | ast.Expr | ast.Constant) for node in nodes)

    def body(self, file: Path) -> list[ast.stmt]:
        """Return the statements of a file; none if it is not there."""
        module = self._parse(file)[0] if self._is_file(file) else None
        return module.body if isinstance(module, ast.Module) else []

    def foreign_modules(self, file: Path) -> set[str]:
        """Name the top modules that a file imports from neither the standard library nor, it seems, the repository."""
        nodes = self._parse(file)
        names = source.imported(nodes)
        for part in source.importing_by_name(nodes):
            names |= {name for name in strings(part) if re.fullmatch(r"\w+(\.\w+)*", name)}
        tops = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
        return {top for top in tops if not self._find(top, Roots((self.root, self.root / "src", file.parent), ()))}

    def _ending(self, folder: Path, ends: tuple[str, ...]) -> Iterator[Path]:
        for place, folders, names in self._fs.walk(str(folder)):
            folders[:] = [name for name in folders if not name.startswith(".") and name not in NOT_CODE]
            yield from (Path(place) / name for name in names if name.endswith(ends))

    def _is_python(self, program: str, words: list[str], places: tuple[Path, Path]) -> bool:
        """Return whether a command runs code that is on its line, or a file that is here."""
        code = PYTHON.fullmatch(program) and any(CODE.fullmatch(word) for word in words)
        return bool(code or any(self.started(shlex.join(words), place) for place in places))

    def _used(self, command: str | list[str], wdir: Path, reads: list[Path]) -> tuple[set[Path], set[str]] | None:
        """Return the files that a stage uses and the names that it knows others by; None if it may use any."""
        if self.unfollowed(command, wdir):
            return None
        ran = self.of_command(command, wdir)
        if any(map(source.runs_what_data_names, [*map(self._parse, ran), *_written_out(_lines(command))])):
            return None
        files = ran | self._named_in_texts(reads, {roots for _, roots in self.started(command, wdir)}, wdir)
        return {self.place(file) for file in files}, self._names(_lines(command), ran, wdir)

    def _named_in_texts(self, reads: list[Path], all_roots: set[Roots], wdir: Path) -> set[Path]:
        """List the files that importing the modules runs that texts name, such as a configuration its classes."""
        found = set()
        for name in set().union(*map(self._names_in_texts, reads)):
            script = self._script(name, wdir) if name.endswith(".py") else None
            for roots in all_roots:
                files = [script] if script else self._find(name, roots, wdir)
                found |= set(files)
                with suppress(UserError):  # of a file that no stage may run
                    found |= self._closure(files, roots, wdir)
        return found

    def _names_in_texts(self, path: Path) -> set[str]:
        """List what may be a name of code in a text, or in all below a folder."""
        if path not in self._texts:
            texts = [path] if self._is_file(path) and path.suffix in TEXTS else self._ending(path, TEXTS)
            found = set[str]()
            for text in sorted(texts)[:MOST_TEXTS]:
                with suppress(OSError), self._fs.open(str(text), "rb") as file:
                    found |= set(NAME_IN_TEXT.findall(file.read(MOST_BYTES).decode("utf-8", "replace")))
            stems = self._stems if found else set()
            self._texts[path] = {name for name in found if name.endswith(".py") or name.partition(".")[0] in stems}
        return self._texts[path]

    def _names(self, lines: list[str], files: set[Path], wdir: Path) -> set[str]:
        """List the parts of all paths and dotted names in command lines, code, and the shell scripts that both name."""
        waiting = [word for line in lines for word in shell.words(line)]
        for file in files:
            waiting += [*strings(self._parse(file)[0]), *source.imported(self._parse(file))]
        found: set[str] = set()
        while waiting:
            word = waiting.pop()
            named = {place / name for name in re.findall(r"\S+\.sh\b", word) for place in (wdir, self.root)}
            for script in filter(self._is_file, named if word not in found else ()):
                waiting += shell.words(self._fs.cat_file(str(script)).decode("utf-8", "replace"))
            found.add(word)
        return set().union(*map(shell.name_parts, found))

    def _closure(self, entries: list[Path], roots: Roots, wdir: Path) -> set[Path]:
        found: set[tuple[Path, Roots]] = set()
        waiting = [(file, roots) for file in entries]
        while waiting:
            file, roots = waiting.pop()
            key = (file, roots)
            if key not in found:
                found.add(key)
                if key not in self._next:
                    nodes = self._parse(file)
                    self._next[key] = [(one, roots) for one in self._imported_by(nodes, file, roots)]
                    self._next[key] += self._started_by(nodes, file, wdir)
                waiting += self._next[key]
        return {file for file, _ in found}

    def _started_by(self, nodes: list[ast.AST], file: Path, wdir: Path) -> Iterator[tuple[Path, Roots]]:
        """Yield the files that calls in one file start, each with the folders that it imports from."""
        for command in source.commands(nodes):
            for place in (wdir, file.parent):
                for files, roots in self.started(command, place):
                    yield from ((one, roots) for one in files)

    def _imported_by(self, nodes: list[ast.AST], file: Path, roots: Roots) -> list[Path]:
        """List the files that the imports of one file run; a name imported from a package counts if it is a module."""
        files = []
        for node in nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    files += self._find(alias.name, roots, file.parent)
            elif isinstance(node, ast.ImportFrom):
                names = [alias.name for alias in node.names]
                package = self._from(file, node, "", roots) if names == ["*"] else []
                for name in names + self._exported(package):
                    files += self._from(file, node, name, roots)
            elif isinstance(node, ast.Call):
                for name in source.located(node):
                    files += self._named(file, name, [], roots) or self._nearest(file, name)
        known = source.constants(nodes)
        for part in source.importing_by_name(nodes):
            for text in {source.text_of(node, known) for node in running(part)}:
                files += self._named(file, text, strings(part), roots)
        for name in source.walked_packages(nodes):
            files += self._below(name, file, roots)
        return [file for file in files if file.is_relative_to(self.root)]

    def _from(self, file: Path, node: ast.ImportFrom, name: str, roots: Roots) -> list[Path]:
        """Return the files that an import of `name` from a package runs."""
        if node.level:
            above = self._above(file, node.level)
            return self._files(above, [*(node.module or "").split("."), name]) if above else []
        return self._find(f"{node.module}.{name}", roots, file.parent)

    def _above(self, file: Path, level: int) -> Path | None:
        """Return the folder from which so many dots start, None where that is not in the repository."""
        above = file.parents[level - 1] if level <= len(file.parents) else None
        return above if above and self._holds(above) else None

    def _conftests(self, script: Path) -> list[Path]:
        """List the conftest.py files that pytest runs before a file of tests."""
        above = [folder / "conftest.py" for folder in script.parents if self._holds(folder)]
        return [file for file in above if self._is_file(file)]

    def _exported(self, package: list[Path]) -> list[str]:
        """List the strings of a package's `__all__`, which `import *` imports where they are modules."""
        nodes = self._parse(package[-1]) if package and package[-1].name == "__init__.py" else []
        lists = [node for node in nodes if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)]
        named = [node for node in lists if any(last_name(one) == "__all__" for one in ast.walk(node))]
        return [name for node in named for name in strings(node)]

    def _named(self, file: Path, text: str, beside: list[str], roots: Roots) -> list[Path]:
        """List what code that imports by name may import with a string: a module or a Python file.

        If a name is completed at run time, as in f"networks.{name}", every module of the package counts. A relative
        name may start from any string `beside` it.
        """
        start, unknown, _ = text.partition(source.UNKNOWN)
        if unknown:
            package = (start.replace("/", ".") if text.endswith(".py") else start).rpartition(".")[0]
            return self._below(package, file, roots) if re.fullmatch(r"\w+(\.\w+)*", package) else []
        if text.endswith(".py"):
            places = [root / text for root in (*roots.first, *roots.others, file.parent)]
            return [path for path in places if self._is_file(path)]
        name = re.fullmatch(r"(\.*)(\w+(?:\.\w+)*)(:[\w.]+)?", text)  # the last of pkgutil.resolve_name
        if not name:
            return []
        above = self._above(file, max(len(name[1]), 1))
        own = self._files(above, name[2].split(".")) if above else []
        names = [package + text for package in beside] if name[1] else [name[2]]
        return own + [path for one in names for path in self._find(one, roots)]

    def _nearest(self, file: Path, end: str) -> list[Path]:
        """Return the file nearest to `file` whose path has this end, as one that is put together at run time has."""
        ends = (path for path in self.files(self.root) if end.endswith(".py") and path.match(end))
        return sorted(ends, key=lambda path: _distance(path, file.parent))[:1]

    def _below(self, package: str, file: Path, roots: Roots) -> list[Path]:
        """List all files of a package; of that which `file` is in, for an empty name, unless it is a top module."""
        if not package:
            top = file.parent in (*roots.first, *roots.others) and not self._is_file(file.with_name("__init__.py"))
            return [] if top else [*self.files(file.parent)]
        parts = package.split(".")
        for place in filter(self._holds, [*self._places(parts[0], roots), file.parent]):
            below = self.files(place.joinpath(*parts))
            if below:
                return [*self._files(place, parts), *below]
        return []

    def _find(self, module: str, roots: Roots, near: Path | None = None) -> list[Path]:
        """Return the files that importing `module` runs, from the first root that has any.

        What the package of the folder `near` imports of itself is there, wherever else it is installed. A module that
        is nowhere is looked for in all folders, the nearest first: the path may be set at run time. Not so a package
        that the project requires, which is only not installed here.
        """
        parts = module.split(".")
        own = [folder.parent for folder in ((near, *near.parents) if near else ()) if folder.name == parts[0]]
        places = [*self._places(parts[0], roots), *own]
        if near and not self._is_installed(parts[0]) and not self._projects.require(parts[0], near):
            places += sorted(self._homes.get(parts[0], ()), key=lambda home: _distance(home, near))
        for root in places:
            files = self._files(root, parts) if self._holds(root) else []
            if files:
                return files
        return []

    def _places(self, module: str, roots: Roots) -> list[Path]:
        """List the folders from which a top module may come: if it is installed, only those that come before that."""
        return [*roots.first, *(() if self._is_installed(module) else roots.others)]

    def _is_installed(self, module: str) -> bool:
        """Return whether Python has a top module of its own, not of the repository; a folder alone is none."""
        if module in {target.partition(".")[0] for target in self._projects.commands.values()}:
            return False
        if module not in self._installed:
            places = [path for path in sys.path if "site-packages" in path or not self._holds(Path(path).resolve())]
            spec = PathFinder.find_spec(module, places) if module not in sys.stdlib_module_names else None
            self._installed[module] = module in sys.stdlib_module_names or bool(spec and spec.origin)
        return self._installed[module]

    def _holds(self, path: Path) -> bool:
        return path.is_relative_to(self.root)

    @cached_property
    def _stems(self) -> set[str]:
        """The names of all modules and of all folders above them."""
        files = self.files(self.root)
        return {place.stem for place in files.union(*(file.parents for file in files))}

    @cached_property
    def _homes(self) -> dict[str, set[Path]]:
        """The folders, other than packages, in which top modules and packages are, by their names."""
        files = self.files(self.root)
        homes: dict[str, set[Path]] = {}
        for place in files.union(*(file.parents for file in files)):
            if self._holds(place.parent) and place.parent / "__init__.py" not in files:
                homes.setdefault(place.name.removesuffix(".py"), set()).add(place.parent)
        return homes

    def _shadowing(self, roots: Roots) -> list[Path]:
        """List the modules that programs find in the place of the standard library's, which imports them itself."""
        found: list[Path] = []
        for root in filter(self._holds, dict.fromkeys(roots.first)):
            _, folders, names = next(iter(self._fs.walk(str(root))), ("", [], []))
            for name in sorted(SHADOWED & {*folders, *(name.removesuffix(".py") for name in names)}):
                found += self._files(root, [name])
        return found

    def _script(self, word: str, wdir: Path, after_python: bool = False) -> Path | None:
        for place in (wdir, self.root):
            path = Path(os.path.normpath(place / word))
            if self._holds(path) and self._is_file(path) and self._is_script(path, after_python):
                return path
        return None

    def _is_script(self, path: Path, after_python: bool) -> bool:
        if path.suffix:
            return path.suffix == ".py"
        if after_python:
            with suppress(UserError):  # of what is rather an argument
                return bool(self._parse(path))
            return False
        with self._fs.open(str(path), "rb") as file:
            return bool(re.match(rb"#!.*python", file.read(100)))

    def _as_main(self, files: list[Path]) -> list[Path]:
        """Return the files that `-m` runs: of a package its __main__ too."""
        main = files[-1].with_name("__main__.py") if files and files[-1].name == "__init__.py" else None
        return [*files, main] if main and self._is_file(main) else files

    def _files(self, base: Path, parts: list[str]) -> list[Path]:
        """Return the files that importing the dotted name `parts` below `base` runs, as far as they are there."""
        files = []
        for part in filter(None, ["", *parts]):
            init, module = base / part / "__init__.py", base / f"{part}.py"
            if self._is_file(init):
                files.append(init)
            elif self._is_file(module):
                return [*files, module]
            elif not self._fs.isdir(str(base / part)):
                break
            base = base / part
        return files

    def _is_file(self, path: Path) -> bool:
        return bool(self._fs.isfile(str(path)))

    def _parse(self, file: Path) -> list[ast.AST]:
        """Return the nodes that run, the module itself first."""
        if file not in self._nodes:
            try:
                self._nodes[file] = source.nodes(self._fs.cat_file(str(file)))
            except source.INVALID as error:
                where = f"{Path(os.path.relpath(file, self.root)).as_posix()}:{getattr(error, 'lineno', None) or 1}"
                reason = str(getattr(error, "msg", error)) or "nested too deep"  # all that MemoryError means here
                version = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
                raise UserError(
                    f"{where}: invalid {version} ({reason}); fix it, or use the Python that runs it"
                ) from None
        return self._nodes[file]


def _written_out(lines: list[str]) -> Iterator[list[ast.AST]]:
    """Yield the code behind `python -c` in command lines."""
    for before, word in (pair for line in lines for pair in pairwise(shell.words(line))):
        if CODE.fullmatch(before):
            with suppress(*source.INVALID):  # a shell's command
                yield source.nodes(word)


def _distance(path: Path, start: Path) -> tuple[int, Path]:
    """Return by how many folders `path` is away, and itself to order what is as far."""
    return len(os.path.relpath(path, start).split(os.sep)), path


def _lines(command: str | list[str]) -> list[str]:
    return [command] if isinstance(command, str) else command
