"""With this folder on PYTHONPATH, a stage that prints a line starting with $HOLD_AT then waits to be orphaned.

So a test that kills dvc at that line kills it there, however slow the machine is.
"""

import builtins
import os
import time
from typing import Any

import psutil

_print = builtins.print


def _hold(*values: Any, **options: Any) -> None:
    _print(*values, **options)
    if values and str(values[0]).startswith(os.environ["HOLD_AT"]):
        above = _above()
        while _above() == above:
            time.sleep(0.1)


def _above() -> list[int]:
    """dvc, and the shell between the two if there is one."""
    return [process.pid for process in psutil.Process().parents()[:2]]


if "DVC_STAGE" in os.environ and "HOLD_AT" in os.environ:
    builtins.print = _hold
