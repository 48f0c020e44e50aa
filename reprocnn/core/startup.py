"""The start and the end of a process: which interpreter runs it, who started it, and how it reports a failure.

Kept to syntax that old interpreters parse, so that they reach the message. A stage imports what is slow or might be
missing inside its `main`, so that `run` is there first.
"""

import io
import os
import sys
from typing import Callable  # noqa: UP035  # the one of collections.abc cannot be subscripted before 3.9

from reprocnn.core.errors import UserError

INTERRUPTED = 130  # as shells give it for Ctrl-C
SHELLS = ("sh", "bash", "dash", "fish", "ksh", "zsh")
# The pids of the parent and, behind a shell, of the grandparent, when `run` was called.
_starters = []  # type: list[int]


def run(main: Callable[[], None]) -> None:
    """Call `main`; a user's mistake, a failed read or write or a lack of memory ends in a line and exit code 1.

    So does Ctrl-C, with exit code 130.
    """
    try:
        check_interpreter()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text, a terminal may have no ≥
        _note_starters()
        main()
    except UserError as error:
        sys.exit("\n".join("error: " + line for line in str(error).splitlines()))
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] in ("reprocnn", "stages"):
            raise  # a fault of the project, whose traceback is of use
        sys.exit("error: " + missing_module(error.name))
    except BrokenPipeError:
        # Whoever read the output has had enough, as `head` does; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror or error}; fix that and run the same command again")
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        sys.exit(f"error: not enough memory{reason}; stop other programs, or if files were edited, restore them")
    except KeyboardInterrupt:
        print("interrupted; run the same command again: training resumes after its last epoch", file=sys.stderr)
        sys.exit(INTERRUPTED)


def check_interpreter() -> None:
    """Raise UserError if this Python is not one that the project runs on."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise UserError(
            f"this is Python {sys.version_info[0]}.{sys.version_info[1]} ({sys.executable}), expected 3.11 to 3.13; "
            f"run `make repro PYTHON=python3.13`, or activate an environment of such a Python"
        )


def missing_module(name: str) -> str:
    """Name the interpreter that lacks the library `name`, and the two ways to get it."""
    return (
        f"{sys.executable} lacks {name}; run `. .venv/bin/activate` if make has made that environment, else "
        f"`pip install -e '.[train]'`"
    )


def is_program() -> bool:
    """Return whether this process is a stage or command of the project, rather than a program that imports it."""
    return bool(_starters)


def orphaned() -> bool:
    """Return whether whoever started this process, or the shell that started it, is gone."""
    import psutil

    if not _starters:
        return False
    if os.getppid() != _starters[0]:
        return True
    try:
        return len(_starters) > 1 and psutil.Process(_starters[0]).ppid() != _starters[1]
    except psutil.NoSuchProcess:
        return True


def _note_starters() -> None:
    # dvc runs a stage in a shell. Some shells put the stage in their own place; others (dash) wait for it, and stay
    # when dvc is killed: then it is their parent that is gone.
    import psutil

    _starters[:] = [os.getppid()]
    try:
        parent = psutil.Process(_starters[0])
        if parent.name() in SHELLS:
            _starters.append(parent.ppid())
    except psutil.Error:
        pass  # gone already, or not ours to look at
