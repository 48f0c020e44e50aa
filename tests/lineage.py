"""What a stage is made from, derived from the source: the modules it imports and the params it uses.

`python tests/lineage.py` compares with dvc.yaml, prints the lines to add or remove, and ends with 1 if there are any.
"""

import ast
import sys
from pathlib import Path

import yaml

PACKAGE = "stages"


def modules(root: Path, module: str) -> set[str]:
    """The project's files that importing `module` runs, directly or through others, inside functions too."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for file in _files(root, waiting.pop()):
            if file not in found:
                found.add(file)
                waiting += _imports(root, file)
    return found


def params(root: Path, stage: str) -> set[str]:
    """The dotted keys of the stage's `Params`."""
    return set(_fields(root, f"{PACKAGE}/{stage}.py", "Params", ""))


def unused(root: Path, stage: str) -> set[str]:
    """Those keys of `Params` whose name no module of the stage ever reads from an object."""
    read = {
        node.attr
        for file in modules(root, f"{PACKAGE}.{stage}")
        for node in ast.walk(_parse(root, file))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    return {key for key in params(root, stage) if key.rpartition(".")[2] not in read}


def differences(root: Path) -> list[str]:
    """A line for each place where dvc.yaml does not say what the code does."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    lines = []
    for stage, entry in stages.items():
        declared = {path for path in entry["deps"] if path.endswith(".py")}
        derived = modules(root, f"{PACKAGE}.{stage}")
        lines += [f"dvc.yaml: {stage}: deps: add      - {path}" for path in sorted(derived - declared)]
        lines += [f"dvc.yaml: {stage}: deps: remove   - {path}" for path in sorted(declared - derived)]
        keys, known = set(entry.get("params", [])), params(root, stage)
        lines += [f"dvc.yaml: {stage}: params: add      - {key}" for key in sorted(known - keys)]
        lines += [f"dvc.yaml: {stage}: params: remove   - {key}" for key in sorted(keys - known)]
        lines += [f"{PACKAGE}/{stage}.py: Params: nothing reads {key}" for key in sorted(unused(root, stage))]
    return lines


def _files(root: Path, module: str) -> list[str]:
    """The file of `module` and the __init__ of each package above it, as far as they are there."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return []
    inits = ["/".join([*parts[:depth], "__init__.py"]) for depth in range(1, len(parts) + 1)]
    return [file for file in [*inits, "/".join(parts) + ".py"] if (root / file).is_file()]


def _imports(root: Path, file: str) -> list[str]:
    """The modules that `file` imports; a name imported from a package counts if it is a module."""
    package = file.removesuffix(".py").removesuffix("/__init__").split("/")
    if not file.endswith("__init__.py"):
        package = package[:-1]
    found = []
    for node in ast.walk(_parse(root, file)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found


def _fields(root: Path, file: str, name: str, prefix: str) -> list[str]:
    """The dotted keys of the dataclass `name` that `file` defines or imports; a plain field is a key."""
    tree = _parse(root, file)
    definition = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if definition is None:
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
                origin = next(iter(_files(root, str(node.module))[-1:]), None)
                return _fields(root, origin, name, prefix) if origin else []
        return []
    keys = []
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            key = prefix + node.target.id
            inner = _fields(root, file, node.annotation.id, f"{key}.") if isinstance(node.annotation, ast.Name) else []
            keys += inner or [key]
    return keys


def _parse(root: Path, file: str) -> ast.Module:
    return ast.parse((root / file).read_text(encoding="utf-8"), file)


if __name__ == "__main__":
    found = differences(Path())
    print("\n".join(found) or "dvc.yaml says what the code does")
    sys.exit(bool(found))
