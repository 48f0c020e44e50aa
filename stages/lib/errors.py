"""What a person did wrong or can mend, told in a line instead of a traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Says what was expected, what was found, where, and what to do; one line a fault."""


def run(main: Callable[[], None]) -> None:
    """Calls `main`; a UserError or a failed write or read ends the process with its line and exit code 1."""
    try:
        main()
    except UserError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror or error}; mend that and run the same command again")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from the last finished epoch")
