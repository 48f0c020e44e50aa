"""A user's mistake, reported in a line instead of a traceback."""


class UserError(Exception):
    """State what was expected, what was found, where, and what to do; one line per fault."""
