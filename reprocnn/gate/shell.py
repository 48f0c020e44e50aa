"""The words and the commands of a shell's command line."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

SHELLS = {"sh", "bash", "dash", "ksh", "zsh", "source", "."}
# What runs no code of a repository, and a shell's own words.
HARMLESS = re.compile(
    r"#.*|[\[:}]|basename|case|cat|cd|chmod|cp|curl|cut|date|dirname|done|echo|esac|exit|export|false|fi|for|grep|gunzip|"
    r"gzip|head|ln|ls|mkdir|mv|printf|pwd|rm|rmdir|sed|set|sleep|sort|tail|tar|tee|test|touch|tr|trap|true|uniq|unset|"
    r"unzip|wait|wc|wget|zip|"
)
HERE_DOCUMENT = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1([^\n]*)\n(.*?)^[ \t]*\2[ \t]*$", re.DOTALL | re.MULTILINE)
BEFORE = {"!", "do", "elif", "else", "exec", "if", "then", "time", "until", "while", "{"}  # words before a command


def words(command: str) -> Iterator[str]:
    """Split a command line into words, those of a quoted command within too."""
    for word in _split(command):
        yield word
        if word != command and any(character.isspace() for character in word):
            yield from words(word)


def commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command, and of those that `sh -c` runs in place of it."""
    found: list[list[str]] = [[]]
    for word in _split(line):
        if word and set(word) <= set("&|;()\n"):
            found.append([])
        elif found[-1] or word not in BEFORE:
            found[-1].append(word)
    for command in filter(None, found):
        code = next((at for at, word in enumerate(command) if re.fullmatch(r"-\w*c", word)), len(command))
        if starts_shell(command) and command[code + 1 :]:
            yield from commands(command[code + 1])
        else:
            yield command


def program(command: list[str]) -> str:
    """Return the name of what a command runs, after variables that are set for it."""
    return next((_name(word) for word in command if not re.match(r"\w+=", word)), "")


def starts_shell(command: list[str]) -> bool:
    """Return whether one of the words is the name of a shell."""
    return any(_name(word) in SHELLS for word in command)


def name_parts(text: str) -> set[str]:
    """Return the parts of a path or a dotted name; of a text of several words, the Python files in it."""
    if len(text.split()) != 1:
        return set(re.findall(r"[\w-]+\.py\b", text))
    word = text.rpartition("=")[2]
    return {Path(word).name, *re.findall(r"[\w-]+", word)}


def _name(word: str) -> str:
    return Path(word).name or word  # the path "." has no name


def _split(command: str) -> list[str]:
    command = HERE_DOCUMENT.sub(lambda found: f"-c {shlex.quote(dedent(found[4]))} {found[3]}", command)
    command = re.sub(r"\$PWD\b|\$\{PWD\}|\$\(pwd\)|`pwd`", ".", command.replace("\\\n", " "))
    lexer = shlex.shlex(command, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:  # an open quote
        return command.split()
