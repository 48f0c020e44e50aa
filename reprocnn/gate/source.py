"""What the source of a Python file says of the files that it runs."""

import ast
import re
import shlex
import warnings
from collections.abc import Iterator

WALKING = {"iter_modules", "walk_packages"}  # pkgutil's, over all modules of a package
BY_NAME = {"import_module", "__import__", "run_path", "run_module", "spec_from_file_location", "SourceFileLoader"}
BY_NAME |= {"find_spec", "resolve_name", *WALKING}
# What imports a dotted name that it is given: of pydoc, hydra, and werkzeug or Django.
LOCATORS = {"locate", "get_class", "get_method", "get_object", "import_string"}
RUNNERS = {"exec", "run_path", "spec_from_file_location", "SourceFileLoader"}  # of a file
TYPING = {"typing", "typing_extensions"}
UNKNOWN = "\0"  # in a text, what is not written out
# What starts a program, or runs code that it is given: of subprocess, os, asyncio and Python itself.
STARTING = re.compile(
    r"run|call|check_call|check_output|Popen|getoutput|getstatusoutput|system|popen|create_subprocess_(exec|shell)|"
    r"(exec|spawn)[lv]p?e?|posix_spawnp?|exec"
)
# What imports the modules that a file of data names, and what imports by a name that it is given.
LOADING = re.compile(
    r"(.*\.)?(pickle|cPickle|joblib|cloudpickle|dill|torch)\.(loads?|Unpickler)|.*\.(read_pickle|load_from_checkpoint)|"
    r"shelve\.(open|\w*Shelf)|yaml\.unsafe_load(_all)?|yaml\.UnsafeLoader|jsonpickle\.decode|"
    r"(.*\.)?(keras|mlflow)\.(.*\.)?load_model"
)
LOCATING = re.compile(
    rf"(.*\.)?({'|'.join(sorted(BY_NAME - WALKING))})|(builtins\.)?exec|pydoc\.locate|"
    r"hydra\.utils\.(instantiate|call|get_(class|method|object))"
)
INVALID = (SyntaxError, ValueError, RecursionError, MemoryError)  # of code that cannot be parsed


def nodes(code: str | bytes) -> list[ast.AST]:
    """Return the nodes that run, the module itself first. Raises one of INVALID for what is no Python."""
    with warnings.catch_warnings(action="ignore"):
        return list(running(ast.parse(code)))


def imported(nodes: list[ast.AST]) -> set[str]:
    """Name the modules that a file imports, without relative ones."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def importing_by_name(nodes: list[ast.AST]) -> list[ast.AST]:
    """Return the calls that import or run what a string in them names; all nodes if one's name is made elsewhere."""
    known, calls = _calls_by_name(nodes)
    uses = [node for node in nodes if last_name(node) in known]
    plain = len(uses) == len(calls) and all(
        all(isinstance(one, ast.Constant) for one in [*call.args[:1], *(word.value for word in call.keywords)])
        and (call.args or call.keywords)
        for call in calls
        if last_name(call.func) != "spec_from_file_location"
    )
    return [*calls] if plain else nodes[:1]


def walked_packages(nodes: list[ast.AST]) -> set[str]:
    """Name the packages of which a name made at run time may be any module; "" is that of the file itself."""
    found = set()
    for call in [*_calls_by_name(nodes)[1], *_lazy_loaders(nodes)]:
        walks = last_name(call.func) in WALKING
        given = [*call.args, *(one.value for one in call.keywords)]
        if walks or not isinstance(given[0] if given else None, ast.Constant):
            texts = [text.strip(".") for one in given[not walks :] for text in strings(one)]
            names = {*texts, *(name for one in given for node in ast.walk(one) for name in _packages(node))}
            found |= names or ({""} if walks else set())
    return found


def located(call: ast.Call) -> list[str]:
    """List the modules that a call names, as `locate("a.b")` and `__import__("a", fromlist=["b"])` do, and files."""
    names, function = strings(call), last_name(call.func)
    if function == "__import__":
        return [f"{names[0]}.{name}" for name in names[1:]]
    if function in RUNNERS:
        return [name for name in names if name.endswith(".py")]
    return names[:1] if function in LOCATORS else []


def runs_what_data_names(nodes: list[ast.AST]) -> bool:
    """Return whether a file unpickles, or imports or runs by a name of which nothing is written out in it."""
    known = constants(nodes)
    origins: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            start = "" if isinstance(node, ast.Import) else f"{node.module}."
            origins |= {one.asname or one.name: start + one.name for one in node.names}
    named = {call.func for call in nodes if isinstance(call, ast.Call) and _is_written_out(call, known)}
    choosing = {
        base for node in nodes if isinstance(node, ast.ClassDef) and _finds_classes(node) for base in node.bases
    }
    names = {node: _full_name(node, origins) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}
    return any(map(_allows_pickle, nodes)) or any(
        (LOADING.fullmatch(name) and node not in choosing) or (LOCATING.fullmatch(name) and node not in named)
        for node, name in names.items()
    )


def _allows_pickle(node: ast.AST) -> bool:
    """Return whether a call is one of np.load with allow_pickle=True, or with what may be that."""
    given = node.keywords if isinstance(node, ast.Call) and last_name(node.func) == "load" else []
    return any(one.arg == "allow_pickle" and getattr(one.value, "value", True) for one in given)


def _finds_classes(node: ast.ClassDef) -> bool:
    """Return whether an Unpickler chooses by itself which classes it accepts, rather than any that are named."""
    own = any(isinstance(one, ast.FunctionDef) and one.name == "find_class" for one in node.body)
    return own and not any(last_name(one) == "find_class" for one in ast.walk(node))


def _is_written_out(call: ast.Call, known: dict[str, str]) -> bool:
    """Return whether the start of what a call imports is in the file: as text, or as the name of a package."""
    given = [*call.args, *(one.value for one in call.keywords)][:2]  # a name and its package, or a name and a path
    return any(re.search(r"\w\.py$", text) for text in strings(call)) or all(
        isinstance(one, ast.Constant)
        or not text_of(one, known).startswith(UNKNOWN)
        or any(_packages(node) for node in ast.walk(one))
        for one in given
    )


def _full_name(node: ast.AST, origins: dict[str, str]) -> str:
    """Return a dotted name from the module that its start is imported from."""
    after = ""
    while isinstance(node, ast.Attribute):
        after = f".{node.attr}{after}"
        node = node.value
    return (origins.get(node.id, node.id) if isinstance(node, ast.Name) else "") + after


def _lazy_loaders(nodes: list[ast.AST]) -> Iterator[ast.Call]:
    """Yield the calls of lazy_loader, which imports a package's modules when they are used."""
    for node in nodes:
        match node:
            case ast.Call(ast.Attribute(attr="attach" | "attach_stub"), [ast.Name("__name__"), *_]):
                yield node


def _packages(node: ast.AST) -> list[str]:
    match node:
        case ast.Name("__name__" | "__package__" | "__path__"):
            return [""]
        case ast.Attribute(ast.Name(name), "__name__" | "__package__" | "__path__"):
            return ["" if name == "self" else name]
    return []


def _calls_by_name(nodes: list[ast.AST]) -> tuple[set[str], list[ast.Call]]:
    """Return what the functions that import by name are called in a file, and their calls."""
    imported = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    known = BY_NAME | {alias.asname for alias in imported if alias.name in BY_NAME and alias.asname}
    return known, [node for node in nodes if isinstance(node, ast.Call) and last_name(node.func) in known]


def constants(nodes: list[ast.AST]) -> dict[str, str]:
    """Return the names of a file's strings."""
    return {
        target.id: node.value.value
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def text_of(node: ast.AST, known: dict[str, str]) -> str:
    """Return the text of a string as far as it is written out, there or in `known`, with UNKNOWN for the rest."""
    match node:
        case ast.Constant(str(text)):
            return text
        case ast.Name(name):
            return known.get(name, UNKNOWN)
        case ast.FormattedValue(value):
            return text_of(value, known)
        case ast.JoinedStr(values):
            return "".join(text_of(one, known) for one in values)
        case ast.BinOp(left, ast.Mod()):
            return re.sub(r"%\w", UNKNOWN, text_of(left, known))
        case ast.BinOp(op=ast.Add()):
            right = ""
            while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):  # a sum nests as deep as it is long
                right = text_of(node.right, known) + right
                node = node.left
            return text_of(node, known) + right
        case ast.Call(ast.Attribute(ast.Constant(str(text)), "format")):
            return re.sub(r"{.*?}", UNKNOWN, text)
        case ast.Call(ast.Attribute(ast.Constant(str(text)), "join"), [ast.List(items) | ast.Tuple(items)]):
            return text.join(text_of(one, known) for one in items)
    return UNKNOWN


def commands(nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the commands that calls start, as far as they are written out, with `python` in place of other words.

    A name stands for all that the file assigns to it.
    """
    assigned: dict[str, list[ast.expr]] = {}
    for statement in sorted((node for node in nodes if isinstance(node, ast.stmt)), key=lambda one: one.lineno):
        match statement:
            case (
                ast.Assign([ast.Name(name)], ast.expr() as value)
                | ast.AnnAssign(ast.Name(name), value=ast.expr() as value)
                | ast.AugAssign(ast.Name(name), value=ast.expr() as value)
            ):
                assigned.setdefault(name, []).append(value)
    for node in nodes:
        if isinstance(node, ast.Call) and STARTING.fullmatch(last_name(node.func) or ""):
            given = [*node.args, *(one.value for one in node.keywords if one.arg != "cwd")]
            names = dict(assigned)
            words = [word for one in given for word in _words(one, names)]
            folder = [word for one in node.keywords if one.arg == "cwd" for word in strings(one.value)]
            yield shlex.join(["cd", *folder, *words] if folder else words)


def _words(node: ast.expr, assigned: dict[str, list[ast.expr]]) -> list[str]:
    match node:
        case ast.List(items) | ast.Tuple(items):
            return [word for one in items for word in _words(one, assigned)]
        case ast.Starred(value):
            return _words(value, assigned)
        case ast.Name(name) if name in assigned:
            values = assigned.pop(name)  # once, for it may be part of its own value
            return [word for one in values for word in _words(one, assigned)]
    return strings(node) or ["python"]


def last_name(node: ast.AST) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _types_only(tree: ast.AST) -> set[str]:
    """Return what a file calls typing's TYPE_CHECKING, or a name of its own that is always False, for type checkers."""
    names, stored, false = set[str](), set[str | None](), set[ast.AST]()
    for node in ast.walk(tree):
        match node:
            case ast.Import(aliases):
                names |= {f"{one.asname or one.name}.TYPE_CHECKING" for one in aliases if one.name in TYPING}
            case ast.ImportFrom(module, aliases) if module in TYPING:
                names |= {one.asname or one.name for one in aliases if one.name == "TYPE_CHECKING"}
            case ast.Assign([ast.Name("TYPE_CHECKING") as target], ast.Constant(False)):
                names.add("TYPE_CHECKING")
                false.add(target)
            case ast.Name(ctx=ast.Store()) | ast.Attribute(ctx=ast.Store()) if node not in false:
                stored.add(_dotted(node))
    return names - stored


def _dotted(node: ast.AST) -> str | None:
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(ast.Name(module), name):
            return f"{module}.{name}"
    return None


def strings(tree: ast.AST) -> list[str]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk over all nodes but those that only type checkers see."""
    types_only = _types_only(tree)
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _dotted(node.test) in types_only:
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
