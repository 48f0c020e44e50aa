"""Compare the code deps that dvc.yaml declares with the code that each stage imports, in any DVC repository.

A stage's code is the Python files that its `cmd` names (as scripts, after `-m`, or by a command of pyproject.toml) and
what they import. Imports are found in the source without running it: inside functions too, but not below
`if TYPE_CHECKING`. Scripts that the code starts, as with `subprocess.run([sys.executable, "x.py"])`, count if their
names are written out there or in a variable that the call is given. If code imports by name, as with
`importlib.import_module`, the strings of the call count; if the file builds the name elsewhere, all its strings; and if
the name is completed at run time, the whole package. A module that is neither on the path nor installed is looked for
in all folders, since code may extend `sys.path`, unless pyproject.toml, requirements.txt or environment.yml lists a
package of its name.

A dep may be a folder: it stands for all Python files below it. Params may declare a Python file that only sets values.
DVC must see what is imported, so imported files that .dvcignore names are differences too. Stages that run no Python
file of the repository are skipped, and so are modules that hold nothing but a docstring.

A dep is unneeded only if everything that its stage runs can be followed, and neither that code nor a YAML, JSON, TOML
or INI file that the stage reads names the dep. What cannot be followed, such as a shell script, is named in a line. No
dep is unneeded if the code unpickles, or if it imports by a name of which nothing is written out, as with
`hydra.utils.instantiate`.
"""

import argparse
import sys
from pathlib import Path

from dvc.repo import Repo

from reprocnn.commands import deps_lists
from reprocnn.core.files import write_text
from reprocnn.gate.lineage import Difference, compare, not_followed
from reprocnn.gate.lock import open_repository


def main(arguments: list[str]) -> None:
    """Print a line for each difference; exit code 1 if any is left."""
    parser = argparse.ArgumentParser(
        prog="reprocnn lineage",
        description=__doc__,
        epilog="Exit code 0: dvc.yaml declares the code of each stage. 1: differences, one a line. 2: no comparison; "
        "stderr says why.",
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
    with open_repository("workspace") as repo:
        unread = not_followed(repo, Path())
    none = f"dvc.yaml declares {'all other code' if unread else 'the code of each stage'}"
    print("\n".join([*unread, *map(str, found)] if found else [*unread, none]))
    if found and options.fix:
        print(
            "Edit these yourself: --fix changes neither lists of foreach, matrix and aliases nor .dvcignore, and "
            "moves no file."
        )
    sys.exit(bool(found))


def differences(root: Path) -> list[Difference]:
    """Compare each stage of the DVC repository at or above `root`.

    Raises UserError if there is no such repository, or if dvc.yaml or a module cannot be parsed.
    """
    with open_repository("workspace", root) as repo:
        return compare(repo, root)


def fix(root: Path, found: list[Difference]) -> None:
    """Edit each dvc.yaml as far as that is plain: no stage of foreach or matrix, no folder that holds too much."""
    for file in sorted({difference.file for difference in found}):
        path = (root / file).resolve()  # behind a link, which stays
        text = path.read_bytes().decode("utf-8")
        for action in ("add", "remove"):  # in this order, so that no list is empty in between
            for difference in found:
                if (difference.file, difference.action) == (file, action):
                    text = deps_lists.edit(text, difference.stage, action, difference.path)
        write_text(path, text)
    if any(one.action == "add" and not one.path.endswith(".py") for one in found):
        _ignore_bytecode(root)


def _ignore_bytecode(root: Path) -> None:
    """Keep DVC from counting bytecode among a folder's files: each machine has its own."""
    with Repo(str(root)) as repo:
        path = Path(repo.root_dir, ".dvcignore").resolve()
        if not repo.dvcignore.is_ignored_dir(str(Path(repo.root_dir, "__pycache__"))):
            text = path.read_bytes().decode("utf-8") if path.exists() else ""
            newline = "\r\n" if "\r\n" in text else "\n"
            write_text(path, f"{text}{newline if text and not text.endswith(newline) else ''}__pycache__{newline}")
