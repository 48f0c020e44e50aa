"""What a stage is made from, derived from the source: the modules it imports and the params it uses.

`python tests/lineage.py` compares with dvc.yaml, prints the lines to add or remove, and ends with 1 if there are any.
"""

import ast
import sys
from pathlib import Path

import yaml

PACKAGE = "stages"
# They can stop a stage, and say where to go on, but not change what it makes.
# dvc.lock tells which states of finished trainings are no longer needed; no result is made from it.
ALWAYS_READ = {"params.yaml", "params.schema.json", "dvc.yaml", "dvc.lock"}
OWN_NAMES = ("__pycache__", ".partial-")  # bytecode; what is fsynced before it gets its name


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


def data_differences(root: Path, stage: str, opened: list[str]) -> list[str]:
    """The same for data: `opened` are the files that the stage read, as tests/audit lists them."""
    entry = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    outs = [name for kind in ("outs", "metrics", "plots") for out in entry.get(kind, []) for name in _names(out)]
    read = {path for path in opened if not any(name in path for name in OWN_NAMES)} - ALWAYS_READ
    deps = [dep for dep in entry["deps"] if not dep.endswith(".py")]
    known = [*deps, *outs, "runs", "data/.incoming"]
    undeclared = {path for path in read if not _covered(path, known) and not path.endswith(".py")}
    never = [dep for dep in deps if not any(_covered(path, [dep]) for path in read)]
    return [
        *(f"dvc.yaml: {stage}: deps: add      - {path}" for path in sorted(undeclared)),
        *(f"dvc.yaml: {stage}: deps: remove   - {path}" for path in never),
    ]


def _names(out: str | dict[str, object]) -> list[str]:
    return [out] if isinstance(out, str) else list(out)


def _covered(path: str, above: list[str]) -> bool:
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in above)


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
    """The dotted keys of the dataclass `name` that `file` has, its bases' first; a plain field is one."""
    tree = _parse(root, file)
    definition = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if definition is None:
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
                origin = next(iter(_files(root, str(node.module))[-1:]), None)
                return _fields(root, origin, name, prefix) if origin else []
        return []
    keys = [
        key for base in definition.bases if isinstance(base, ast.Name) for key in _fields(root, file, base.id, prefix)
    ]
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
