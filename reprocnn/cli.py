"""The command line: `reprocnn NAME ...`, or `python -m reprocnn NAME ...`.

A command's module is imported when it is called, so that `reprocnn --help` needs no library and no time.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from typing import NamedTuple, TextIO

from reprocnn.core.errors import UserError
from reprocnn.core.startup import INTERRUPTED, run


class Command(NamedTuple):
    """Say where a command's `main(arguments)` is, what it does, and which extra it needs."""

    module: str
    help: str
    extra: str = ""


COMMANDS = {
    "repro": Command("reprocnn.commands.repro", "run what changed and show the results", "train"),
    "demo": Command("reprocnn.commands.demo", "run the pipeline on the embedded sample, in demo/", "train"),
    "summary": Command("reprocnn.commands.summary", "show the accuracy, target and training time of each network"),
    "export": Command("reprocnn.commands.export", "write the trained networks, for Keras, ONNX and others", "train"),
    "gate": Command("reprocnn.gate.command", "compare the metrics with their targets and another revision"),
    "verify": Command("reprocnn.commands.verify", "check that the committed results belong to this code", "train"),
    "lineage": Command("reprocnn.commands.lineage", "compare dvc.yaml's deps with what each stage imports"),
    "audit": Command("reprocnn.audit.command", "find design flaws in a Keras network", "audit"),
    "sweep": Command("reprocnn.sweep.command", "run many DVC experiments on Ray", "sweep"),
    "vega": Command("reprocnn.commands.vega", "make `dvc plots` work offline", "dev"),
}
OURS = ("reprocnn", "stages", "benchmarks")
TERMINATED = 143  # as shells give it for SIGTERM
CANNOT_SAY = 2  # exit code of a judge without a judgement; 1 would be one
JUDGES = ("gate", "audit", "verify", "lineage")
IN_COPIES = ("demo", "sweep", "verify")  # they call git in other folders, too
# What git sets for its hooks and aliases: in another folder, it would lead git back to the repository around.
OF_THIS_REPOSITORY = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
)


def main() -> None:
    """Run the command that the command line names; exit code 2 if there is none."""
    name, *arguments = sys.argv[1:] or [""]
    if name in ("-h", "--help", "help", "--version"):
        text = f"reprocnn {_version()}" if name == "--version" else usage()
        sys.exit(0 if _written(text, sys.stdout) else 1)
    elif name in COMMANDS:
        signal.signal(signal.SIGTERM, _terminated)
        try:
            run(lambda: call(name, arguments))
        except SystemExit as end:
            if name in JUDGES and isinstance(end.__context__, BrokenPipeError):
                sys.exit(CANNOT_SAY)  # whoever read the judgement has had enough
            if name not in JUDGES or not isinstance(end.code, str):
                raise
            _written(end.code, sys.stderr)
            # `run` made a message of a UserError, which may be a judgement after all.
            sys.exit(getattr(end.__context__, "exit_code", CANNOT_SAY))
        except Exception:  # a bug
            if name not in JUDGES:
                raise
            _written(traceback.format_exc().rstrip(), sys.stderr)
            sys.exit(CANNOT_SAY)
    else:
        print(unknown(name) if name else usage(), file=sys.stderr)
        sys.exit(2)


def _written(text: str, stream: TextIO) -> bool:
    """Print, and return whether that worked; if not, keep Python from trying again at exit, which changes the code."""
    try:
        print(text, file=stream, flush=True)
        return True
    except OSError:  # a full disk, or a reader that has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False


def usage() -> str:
    """List the commands, a line each."""
    lines = [f"  {name:8} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["usage: reprocnn COMMAND ...", "", *lines, "", "`reprocnn COMMAND --help` says more; `reprocnn --version`."]
    )


def unknown(name: str) -> str:
    """Say that there is no command `name`, which ones there are, and which is closest."""
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"error: reprocnn {name}: unknown command; {hint}known: {', '.join(COMMANDS)}"


def call(name: str, arguments: list[str]) -> None:
    """Call the command's `main`. Raises UserError if a library is missing."""
    command = COMMANDS[name]
    for variable in OF_THIS_REPOSITORY if name in IN_COPIES else ():
        os.environ.pop(variable, None)
    try:
        importlib.import_module(command.module).main(arguments)
        print(end="", flush=True)  # while a full disk or a closed pipe is still reported in a line
    except KeyboardInterrupt:
        if name not in JUDGES:
            raise
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)  # 1 would be a judgement
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if not library or library in OURS:
            raise  # a bug of the project, for which the traceback is useful
        raise UserError(_missing(name, command.extra, library)) from None


def _terminated(*_: object) -> None:
    sys.exit(TERMINATED)  # an exception: what the command runs is killed with it, and its temporary files go


def _missing(name: str, extra: str, library: str) -> str:
    where = f"({sys.executable} lacks {library})"
    if extra:
        return f"reprocnn {name} needs the extra \"{extra}\": pip install 'reprocnn[{extra}]' {where}"
    return f"reprocnn {name} needs all of reprocnn's dependencies: pip install reprocnn {where}"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("reprocnn")
    except PackageNotFoundError:
        return "(not installed)"
