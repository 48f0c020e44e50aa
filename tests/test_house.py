"""The packages: which may import which, how large each is, and that importing one does nothing."""

import ast
import functools
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ROOT

# A room imports only rooms on lower floors.
FLOORS = [
    ("core",),
    ("backend", "datasets", "repository"),
    ("sources",),
    ("splits",),
    ("images",),
    ("networks",),
    ("training",),
    ("evaluation",),
    ("report",),
    ("gate", "audit", "sweep"),
    ("commands",),
    ("cli",),
    ("__main__",),
]
STAGES_MAY_IMPORT = [room for floor in FLOORS[:9] for room in floor]
LARGEST = 0.25  # of the lines that are not blank


def files(root: Path) -> list[Path]:
    return sorted([*(root / "reprocnn").rglob("*.py"), *(root / "stages").rglob("*.py")])


@functools.cache  # the copies differ from the original in a file each
def nodes_of(text: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text)))


@functools.cache
def work_in(text: str) -> list[str]:
    """Say line and code of each exit, print and change of the environment that importing a module makes."""
    found = []
    waiting: list[Any] = list(ast.parse(text).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if does_work(node):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        waiting += [child for child in ast.iter_child_nodes(node) if hasattr(child, "lineno")]
    return found


def room_of(parts: tuple[str, ...]) -> str:
    """Return the package or module below reprocnn that a dotted name or path lies in; stages is one room."""
    if parts[0] == "stages" or len(parts) == 1:
        return parts[0]
    return parts[1]


def arrows(root: Path) -> dict[tuple[str, str], str]:
    """Map (importing room, imported room) to a place in the source, without the package reprocnn itself."""
    found = {}
    for path in files(root):
        relative = path.relative_to(root)
        start = room_of(relative.with_suffix("").parts)
        for node in nodes_of(path.read_text()):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                if name.split(".")[0] in ("reprocnn", "stages"):
                    end = room_of(tuple(name.split(".")))
                    if end != start:
                        found[start, end] = f"{relative.as_posix()}:{node.lineno}"
    return found


def arrows_up(root: Path) -> list[str]:
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    faults = []
    for (start, end), place in arrows(root).items():
        if start == "stages":
            allowed = end in STAGES_MAY_IMPORT
        else:
            allowed = end in floor_of and floor_of[end] < floor_of.get(start, -1)
        if not allowed:
            faults.append(f"{place}: {start} imports {end}")
    return sorted(faults)


def shares(root: Path) -> dict[str, float]:
    """Return each room's share of the lines that are not blank; a room inside another, as audit/rules, counts alone."""
    lines: dict[str, int] = defaultdict(int)
    for path in files(root):
        parts = path.relative_to(root).with_suffix("").parts
        room = "/".join(parts[1:-1]) if len(parts) > 3 else room_of(parts)
        lines[room] += sum(bool(line.strip()) for line in path.read_text().splitlines())
    return {room: count / sum(lines.values()) for room, count in lines.items()}


def too_large(root: Path) -> list[str]:
    return [f"{room}: {share:.0%} of the code" for room, share in shares(root).items() if share >= LARGEST]


def strange_stages(root: Path) -> list[str]:
    """Say what stages/ holds beside six to eight stage files."""
    found = [path for path in (root / "stages").iterdir() if path.name != "__pycache__"]
    stages = [path for path in found if path.suffix == ".py" and not path.name.startswith("_")]
    faults = [path.name for path in found if path not in stages]
    return faults if 6 <= len(stages) <= 8 else [*faults, f"{len(stages)} stages"]


def work_at_import(root: Path) -> list[str]:
    """Name each exit, print and change of the environment that an import makes; only the backend may set variables."""
    faults = []
    for path in files(root):
        name = path.relative_to(root).as_posix()
        if name != "reprocnn/backend.py":
            faults += [f"{name}:{work}" for work in work_in(path.read_text())]
    return faults


def does_work(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        changes = ("setdefault", "update", "pop", "clear")
        return called in ("sys.exit", "exit", "print", "os.putenv", "os._exit") or (
            called.startswith(("os.environ.", "environ.")) and called.endswith(changes)
        )
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return ast.unparse(node.value) in ("os.environ", "environ")
    return isinstance(node, ast.AugAssign) and ast.unparse(node.target) in ("os.environ", "environ")


@pytest.fixture
def copy_of_the_code(tmp_path: Path) -> Path:
    for name in ("reprocnn", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def append(path: Path, text: str) -> None:
    path.write_text(f"{path.read_text() if path.exists() else ''}\n{text}\n")


def test_every_room_has_its_floor():
    floors = [room for floor in FLOORS for room in floor]
    assert len(floors) == len(set(floors))
    assert {room for room in shares(ROOT) if "/" not in room} - {"__init__", "reprocnn", "stages"} == set(floors)


def test_arrows_go_down():
    """So there is no circle either."""
    assert arrows_up(ROOT) == []


@pytest.mark.parametrize(
    ("path", "line", "fault"),
    [
        ("core/files.py", "import reprocnn.datasets", "core imports datasets"),
        ("repository.py", "from reprocnn import datasets", "repository imports datasets"),
        ("images/arrays.py", "def f():\n    from reprocnn.training import loop", "images imports training"),
        ("gate/render.py", "from reprocnn.audit.rules import base", "gate imports audit"),
        ("evaluation/tta.py", "from reprocnn.cli import main", "evaluation imports cli"),
        ("audit/command.py", "from stages import plot", "audit imports stages"),
        ("../stages/plot.py", "from reprocnn.gate import lock", "stages imports gate"),
        ("attic/old.py", "from reprocnn.core import files", "attic imports core"),
    ],
)
def test_an_arrow_up_is_found(copy_of_the_code, path, line, fault):
    file = copy_of_the_code / "reprocnn" / path
    file.parent.mkdir(exist_ok=True)
    append(file, line)
    assert any(found.endswith(f": {fault}") for found in arrows_up(copy_of_the_code))


def test_no_room_is_a_quarter_of_the_house():
    assert too_large(ROOT) == []


def test_a_room_that_is_too_large_is_found(copy_of_the_code):
    append(copy_of_the_code / "reprocnn/splits/more.py", "x = 1\n" * 5000)
    assert [fault.split(":")[0] for fault in too_large(copy_of_the_code)] == ["splits"]


def test_stages_holds_stages_alone():
    assert strange_stages(ROOT) == []


@pytest.mark.parametrize("name", ["helper.txt", "__init__.py", "_private.py", "lib"])
def test_what_is_no_stage_is_found(copy_of_the_code, name):
    path = copy_of_the_code / "stages" / name
    path.mkdir() if name == "lib" else path.write_text("")
    assert strange_stages(copy_of_the_code) == [name]


def test_a_ninth_stage_is_found(copy_of_the_code):
    for name in ("one", "two"):
        (copy_of_the_code / f"stages/{name}.py").write_text("")
    assert strange_stages(copy_of_the_code) == ["9 stages"]


def test_importing_does_no_work():
    assert work_at_import(ROOT) == []


@pytest.mark.parametrize(
    "line",
    [
        "sys.exit(1)",
        "print('hello')",
        "os.environ['A'] = 'b'",
        "os.environ.setdefault('A', 'b')",
        "os.environ |= {'A': 'b'}",
        "if sys.version_info < (3, 9):\n    sys.exit('old')",
        "try:\n    import numpy\nexcept ImportError:\n    print('none')",
        "class A:\n    print('within')",
        "del os.environ['A']",
    ],
)
def test_work_at_import_is_found(copy_of_the_code, line):
    append(copy_of_the_code / "reprocnn/core/files.py", line)
    assert [fault.split(":")[0] for fault in work_at_import(copy_of_the_code)] == ["reprocnn/core/files.py"]


def test_work_in_a_function_or_as_a_program_is_fine(copy_of_the_code):
    text = "def f():\n    print('hello')\n\n\nif __name__ == '__main__':\n    print('hello')"
    append(copy_of_the_code / "reprocnn/core/files.py", text)
    assert work_at_import(copy_of_the_code) == []
