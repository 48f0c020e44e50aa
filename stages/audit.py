"""Names the design faults of a built Keras model: what was seen, why it hurts, how to mend it.

`python -m stages.audit NAME_OR_FILE [--format text|json]`, a network of params.yaml by its name, with the sizes written
there, or a .keras file, of which no code is run; `python -m stages.audit --rules` writes the rules as docs/audit.md.
Exit code 0: no error-level finding. 1: at least one. 2: the model cannot be read; stderr says why.

For programs: `audit(model)` gives the findings as a list.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

# Before Keras, which then is quiet and finds its backend.
from stages.lib import device  # isort: skip
import keras
import numpy as np

from stages.lib import graph, networks, params
from stages.lib.errors import UserError
from stages.lib.rules import LEVELS, RULES, Finding, Loss, Task

# The images that each network was made for, and the data set whose sizes params.yaml gives it.
SHAPES = {
    "assignment": (28, 28, 1), "one_conv": (28, 28, 1), "warmup": (100, 100, 3),
    "mnist_cnn": (28, 28, 1), "cifar_cnn": (32, 32, 3),
}  # fmt: skip
LOSSES = ("categorical_crossentropy", "sparse_categorical_crossentropy", "binary_crossentropy")


@dataclasses.dataclass(frozen=True)
class Sizes:
    filters: int
    depth: int
    kernel_size: int
    dropout: float


@dataclasses.dataclass(frozen=True)
class Params:
    mnist: Sizes
    cifar: Sizes


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.audit", description="Names a model's design faults. Exit codes: 0, 1, 2."
    )
    parser.add_argument("model", nargs="?", metavar="NAME_OR_FILE", help=f"{', '.join(SHAPES)}, or a .keras file")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--rules", action="store_true", help="write docs/audit.md to stdout instead")
    arguments = parser.parse_args()
    if arguments.rules:
        print(rules_page(), end="")
        return
    if arguments.model is None:
        parser.error("name a network or a .keras file")
    try:
        device.set_up("cpu", threads=0)
        findings = audit_by_name(arguments.model)
    except (UserError, OSError) as error:
        print(*[f"error: {line}" for line in str(error).splitlines()], sep="\n", file=sys.stderr)
        sys.exit(2)
    print(as_json(findings) if arguments.format == "json" else text(arguments.model, findings))
    sys.exit(any(finding.level == "error" for finding in findings))


def audit(
    model: keras.Model, *, loss: Any = None, num_classes: int | None = None, x: Any = None, y: Any = None
) -> list[Finding]:
    """The faults of a built model, the worst first; the model is left as it was.

    `loss` as for `compile`, by default the one it was compiled with. `x` and `y` as for `fit`: the first images of `x`
    run through the model instead of noise, the labels `y` are compared with loss and outputs. What is not known is not
    judged, nor are loss and labels of a model with several outputs.

    Raises UserError if the model is not built or cannot compute the batch.
    """
    read = graph.read(model, x)
    loss = _read_loss(loss if loss is not None else getattr(model, "loss", None))
    task = Task(None, None, None, None)
    if len(read.outputs) == 1:
        task = Task(loss, num_classes, *_read_labels(y, loss, read.outputs[0].output.shape))
        if num_classes is None and task.one_hot:
            task = dataclasses.replace(task, num_classes=np.shape(y)[-1])
    findings = [
        Finding(rule.code, rule.level, layer, message, rule.why, rule.mend)
        for rule in RULES
        for layer, message in rule.find(read, task)
    ]
    # A layer that is used twice is told once.
    return sorted(dict.fromkeys(findings), key=lambda finding: list(LEVELS).index(finding.level))


def audit_by_name(name: str) -> list[Finding]:
    """The faults of a network of params.yaml, with the project's loss and ten classes, or of a .keras file."""
    if name in SHAPES:
        keras.utils.set_random_seed(0)
        return audit(build(name), loss="categorical_crossentropy", num_classes=10)
    return audit(load(Path(name)))


def build(name: str) -> keras.Model:
    """The network as params.yaml sizes it, untrained, with the exercise's normalization."""
    sizes = params.read(Params)
    chosen = sizes.cifar if SHAPES[name][-1] == 3 else sizes.mnist
    normalization = keras.layers.Rescaling(1 / 255, -0.5, name="normalization")
    return networks.build(name, SHAPES[name], 10, normalization, **dataclasses.asdict(chosen))


def load(path: Path) -> keras.Model:
    """A .keras file's model; raises UserError for what is none, or holds code or layers that Keras does not know."""
    if path.suffix != ".keras":
        raise UserError(f"{path}: expected one of {', '.join(SHAPES)}, or a file that ends in .keras; name such a one")
    if not path.is_file():
        raise UserError(f"{path}: not there; `make export` writes export/mnist.keras and export/cifar.keras")
    try:
        return keras.models.load_model(path, safe_mode=True)
    except Exception as with_loss:  # Keras raises whatever a file's content leads to
        try:
            # An optimizer or loss that is not Keras' own is no reason not to look at the layers.
            return keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception:
            reason = graph.in_a_line(with_loss)
    raise UserError(
        f"{path}: cannot be loaded without running its code ({reason}); save it anew from Keras' own layers"
    )


def text(name: str, findings: list[Finding]) -> str:
    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    listed = ", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items())
    lines = [f"audit: {name}: {listed}"]
    for finding in findings:
        lines += ["", f"{finding.level}: {finding.code}: {finding.layer}: {finding.message}"]
        lines += [f"  why:  {finding.why}", f"  mend: {finding.mend}"]
    return "\n".join(lines)


def as_json(findings: list[Finding]) -> str:
    return json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2, ensure_ascii=False)


def rules_page() -> str:
    """docs/audit.md: the rules in their own words."""
    lines = [
        "# What the audit finds",
        "",
        "Made by `python -m stages.audit --rules > docs/audit.md` from `stages/lib/rules.py`.",
        "",
        "The audit reads the graph of a model, nested models too, and runs one seeded batch forward and backward.",
        "The inside of layers that Keras' graph does not show (attention, recurrent cells, subclassed models) is",
        "judged by its weights and gradients alone.",
        "",
        *(f"- **{level}**: {meaning}" for level, meaning in LEVELS.items()),
        "",
        "| code | level |",
        "|---|---|",
        *(f"| [{rule.code}](#{rule.code}) | {rule.level} |" for rule in RULES),
    ]
    for rule in RULES:
        lines += ["", f"## {rule.code}", "", f"*{rule.level}.* {rule.what}", ""]
        lines += [f"Why: {rule.why}", "", f"Mend: {rule.mend}"]
    return "\n".join(lines) + "\n"


def _read_labels(y: Any, loss: Loss | None, output: tuple[int, ...]) -> tuple[bool | None, int | None]:
    """Whether the labels are one-hot rows, and if not, the highest; None, None where they are not of classes."""
    if y is None or loss is None or "categorical" not in loss.kind:
        return None, None
    y = np.asarray(y)
    one_hot = y.ndim == len(output) and y.shape[-1] > 1
    return one_hot, None if one_hot else int(y.max())


def _read_loss(loss: Any) -> Loss | None:
    """What is known of a loss as `compile` takes it; None for those that no rule knows, and for several."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    name = getattr(loss, "__name__", None) or type(loss).__name__
    kind = next((kind for kind in LOSSES if name in (kind, kind.title().replace("_", ""))), None)
    return Loss(kind, bool(getattr(loss, "from_logits", False))) if kind else None


if __name__ == "__main__":
    main()
