"""git and dvc, as the tools call them."""

import os
import subprocess
import sys
from pathlib import Path

from stages.lib.errors import UserError


def git(*arguments: str, cwd: Path = Path()) -> str:
    """What git prints; raises UserError where there is no git or no repository, or git refuses."""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True, encoding="utf-8"
        ).stdout
    except FileNotFoundError:
        raise UserError("git: not installed; DVC and this project need it") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"git {arguments[0]}: {error.stderr.strip() or error}") from None


def dvc(*arguments: str, cwd: Path = Path()) -> None:
    """Runs dvc with this interpreter's environment first on PATH, where its stages look for `python`."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    code = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=cwd, env=os.environ | {"PATH": path}
    ).returncode
    if code:
        raise UserError(f"dvc {' '.join(arguments)}: ended with exit code {code}; its message is above")
