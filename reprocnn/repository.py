"""git and dvc, as the tools call them."""

import os
import subprocess
import sys
from pathlib import Path

from reprocnn.core.errors import UserError


def git(*arguments: str, cwd: Path = Path()) -> str:
    """Return what git prints, with names of files as `os.fsdecode` gives them.

    Raises UserError without git or a repository, and where git refuses.
    """
    try:
        return subprocess.run(
            ["git", *arguments], cwd=cwd, check=True, capture_output=True, encoding="utf-8", errors="surrogateescape"
        ).stdout
    except FileNotFoundError:
        raise UserError("git: not installed; DVC and this project need it") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"git {arguments[0]}: {error.stderr.strip() or error}") from None


def dvc(*arguments: str, cwd: Path = Path()) -> None:
    """Run dvc with this interpreter's environment first on PATH, where its stages look for `python`.

    Raises UserError where it fails; its own message is printed.
    """
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    code = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=cwd, env=os.environ | {"PATH": path}
    ).returncode
    if code:
        raise UserError(f"dvc {' '.join(arguments)}: ended with exit code {code}; its message is above")
