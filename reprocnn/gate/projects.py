"""What the projects of a repository declare: the packages that they require, and commands of their own."""

import re
import tomllib
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

# Lists of required packages, an item of one, and what packages are imported as where that is not their own name.
REQUIREMENTS = re.compile(r"requirements.*\.txt|(environment|conda)\.ya?ml")
PACKAGE = re.compile(r"\s*(?:- +)?[\"']?(?:[\w-]+::)?([A-Za-z0-9][\w.-]*)(?=[\s\[=<>!~;@#\"']|$)")
IMPORTED_AS = {
    "beautifulsoup4": "bs4", "gitpython": "git", "opencv-python": "cv2", "opencv-python-headless": "cv2",
    "pillow": "pil", "python-dotenv": "dotenv", "pytorch": "torch", "pyyaml": "yaml", "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}  # fmt: skip


class Projects:
    """The projects in the folders at and below `root`, each file read once."""

    def __init__(self, root: Path, fs: Any) -> None:
        """Take an absolute `root` in a file system of DVC's."""
        self._root, self._fs = root, fs
        self._required: dict[Path, set[str]] = {}

    def require(self, module: str, near: Path) -> bool:
        """Return whether a project of the folder `near`, or of one above it, requires a package of a module's name."""
        name = canonical(module)
        return any(
            name in self._requires(folder) for folder in (near, *near.parents) if folder.is_relative_to(self._root)
        )

    @cached_property
    def commands(self) -> dict[str, str]:
        """The commands that pyproject.toml declares, with their modules."""
        values = self._toml(self._root)
        try:
            scripts = {
                **values.get("tool", {}).get("poetry", {}).get("scripts", {}),
                **values.get("project", {}).get("scripts", {}),
            }
            return {name: target.partition(":")[0] for name, target in scripts.items()}
        except (TypeError, AttributeError):  # of another form
            return {}

    def _requires(self, folder: Path) -> set[str]:
        """Name the packages that files in a folder list, as they are imported, without those of the repository."""
        if folder not in self._required:
            values = self._toml(folder)
            try:
                lines, own = _requirements(values)
            except (TypeError, AttributeError):  # of another form
                lines, own = [], set()
            for name in filter(REQUIREMENTS.fullmatch, next(iter(self._fs.walk(str(folder))), ("", [], []))[2]):
                with suppress(OSError):
                    lines += self._fs.cat_file(str(folder / name)).decode("utf-8", "replace").splitlines()
            found = {canonical(item[1]) for line in lines if "file:" not in line and (item := PACKAGE.match(line))}
            self._required[folder] = {IMPORTED_AS.get(name, name) for name in found - own}
        return self._required[folder]

    def _toml(self, folder: Path) -> dict[str, Any]:
        """Read a folder's pyproject.toml; nothing if there is none, or if it is no TOML."""
        file = folder / "pyproject.toml"
        with suppress(ValueError):
            return tomllib.loads(self._fs.cat_file(str(file)).decode()) if self._fs.isfile(str(file)) else {}
        return {}


def _requirements(values: dict[str, Any]) -> tuple[list[str], set[str]]:
    """Return what a pyproject.toml requires, and the names of packages that are of the repository itself."""
    project, tool = values.get("project", {}), values.get("tool", {})
    poetry = tool.get("poetry", {})
    groups = [*project.get("optional-dependencies", {}).values(), *values.get("dependency-groups", {}).values()]
    lines = [line for group in [project.get("dependencies", []), *groups] for line in group if isinstance(line, str)]
    for table in (poetry, *poetry.get("group", {}).values()):
        lines += [name for name, version in table.get("dependencies", {}).items() if "path" not in version]
    return lines, {canonical(name) for name in (project.get("name", ""), *tool.get("uv", {}).get("sources", {}))}


def canonical(package: str) -> str:
    """Write a package's name as lock files do."""
    return re.sub(r"[-_.]+", "-", package).lower()
