"""The data that dvc.yaml declares for a stage, beside the files that the stage opened."""

from pathlib import Path

import yaml

# They can stop a stage, and say where to resume, but not change what it makes. dvc.lock says which checkpoints of
# finished trainings are no longer needed.
ALWAYS_READ = {"params.yaml", "params.schema.json", "dvc.yaml", "dvc.lock"}
OWN_NAMES = ("__pycache__", ".partial-")  # bytecode; what is fsynced before it gets its name
CODE = ("stages/", "reprocnn/")


def data_differences(root: Path, stage: str, opened: list[str]) -> list[str]:
    """Return a line for each data file that a stage `opened` but does not declare, and each dep it never opened."""
    entry = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    outs = [name for kind in ("outs", "metrics", "plots") for out in entry.get(kind, []) for name in _names(out)]
    read = {path for path in opened if not any(name in path for name in OWN_NAMES)} - ALWAYS_READ
    known = [*entry["deps"], *outs, "runs", "data/.incoming"]
    undeclared = {path for path in read if not _is_covered(path, known) and not path.endswith(".py")}
    data = [dep for dep in entry["deps"] if not dep.startswith(CODE)]
    never = [dep for dep in data if not any(_is_covered(path, [dep]) for path in read)]
    return [
        *(f"dvc.yaml: {stage}: deps: add {path}" for path in sorted(undeclared)),
        *(f"dvc.yaml: {stage}: deps: remove {path}" for path in never),
    ]


def _names(out: str | dict[str, object]) -> list[str]:
    return [out] if isinstance(out, str) else list(out)


def _is_covered(path: str, above: list[str]) -> bool:
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in above)
