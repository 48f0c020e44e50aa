"""With this folder on PYTHONPATH, each stage that dvc starts lists the files of the project that it opens to read."""

import atexit
import os
import sys
from typing import Any


def _watch(stage: str, folder: str) -> None:
    root, opened = os.getcwd() + os.sep, set()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            reads = arguments[2] & os.O_ACCMODE == os.O_RDONLY
            if path.startswith(root) and reads and os.path.isfile(path):
                opened.add(path.removeprefix(root))

    sys.addaudithook(hook)

    @atexit.register
    def write() -> None:
        listed = sorted(opened)
        with open(os.path.join(folder, stage), "w", encoding="utf-8") as file:
            file.writelines(f"{path}\n" for path in listed)


if "DVC_STAGE" in os.environ and "OPENED_FOLDER" in os.environ:
    _watch(os.environ["DVC_STAGE"], os.environ["OPENED_FOLDER"])
