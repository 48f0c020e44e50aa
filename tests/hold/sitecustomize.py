"""With this folder on PYTHONPATH, a stage that prints a line starting with $HOLD_AT then waits to be orphaned.

So a test that kills dvc at that line kills it there, however slow the machine is.
"""

import builtins
import os
import time
from typing import Any

_parent, _print = os.getppid(), builtins.print


def _hold(*values: Any, **options: Any) -> None:
    _print(*values, **options)
    if values and str(values[0]).startswith(os.environ["HOLD_AT"]):
        for _ in range(600):  # a minute
            if os.getppid() != _parent:
                return
            time.sleep(0.1)


if "DVC_STAGE" in os.environ and "HOLD_AT" in os.environ:
    builtins.print = _hold
