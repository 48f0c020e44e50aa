"""The words of a shell command."""

import shlex
from collections.abc import Iterator


def words(command: str) -> Iterator[str]:
    """Split a shell command into words, those of a quoted command within too."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        found = list(lexer)
    except ValueError:  # an open quote
        found = command.split()
    for word in found:
        yield word
        if word != command and any(character.isspace() for character in word):
            yield from words(word)
