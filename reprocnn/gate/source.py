"""What the source of a Python file says of the files that it runs."""

import ast
import re
import shlex
import warnings
from collections.abc import Iterator

BY_NAME = {"import_module", "__import__", "run_path", "run_module", "spec_from_file_location", "SourceFileLoader"}
# What starts a program, or runs code that it is given: of subprocess, os, asyncio and Python itself.
STARTING = re.compile(
    r"run|call|check_call|check_output|Popen|getoutput|getstatusoutput|system|popen|create_subprocess_(exec|shell)|"
    r"(exec|spawn)[lv]p?e?|posix_spawnp?|exec"
)
INVALID = (SyntaxError, ValueError, RecursionError, MemoryError)  # of code that cannot be parsed


def nodes(code: str | bytes) -> list[ast.AST]:
    """Return the nodes that run, the module itself first. Raises one of INVALID for what is no Python."""
    with warnings.catch_warnings(action="ignore"):
        return list(running(ast.parse(code)))


def importing_by_name(nodes: list[ast.AST]) -> list[ast.AST]:
    """Return the calls that import or run what a string in them names; all nodes if one's name is made elsewhere."""
    imported = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    known = BY_NAME | {alias.asname for alias in imported if alias.name in BY_NAME and alias.asname}
    uses = [node for node in nodes if last_name(node) in known]
    calls = [node for node in nodes if isinstance(node, ast.Call) and last_name(node.func) in known]
    plain = len(uses) == len(calls) and all(
        all(isinstance(one, ast.Constant) for one in [*call.args[:1], *(word.value for word in call.keywords)])
        and (call.args or call.keywords)
        for call in calls
        if last_name(call.func) != "spec_from_file_location"
    )
    return [*calls] if plain else nodes[:1]


def commands(nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the commands that calls start, as far as they are written out, with `python` in place of other words."""
    for node in nodes:
        if isinstance(node, ast.Call) and STARTING.fullmatch(last_name(node.func) or ""):
            given = [*node.args, *(one.value for one in node.keywords if one.arg != "cwd")]
            parts = [one for arg in given for one in (arg.elts if isinstance(arg, ast.List | ast.Tuple) else [arg])]
            words = [word for one in parts for word in (strings(one) or ["python"])]
            folder = [word for one in node.keywords if one.arg == "cwd" for word in strings(one.value)]
            yield shlex.join(["cd", *folder, *words] if folder else words)


def last_name(node: ast.AST) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _is_types_only(test: ast.AST) -> bool:
    """Return whether only type checkers take a condition for true."""
    match test:
        case ast.Name("TYPE_CHECKING") | ast.Attribute(ast.Name("typing"), "TYPE_CHECKING"):
            return True
    return False


def strings(tree: ast.AST) -> list[str]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk over all nodes but those that only type checkers see."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _is_types_only(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
