"""Deps that share files with a folder that DVC keeps, in a clone whose cache lacks the list of the folder's files.

Only the digests in dvc.lock are known then. What they cannot be is found by comparing them with another revision's.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from reprocnn.gate.limits import Loosening
from reprocnn.gate.values import repro

REMEDY = "run `dvc fetch` and judge again"


@dataclass(frozen=True)
class Part:
    """A dep inside an out, or around it, with what dvc.lock has of both."""

    stage: str
    dep: str
    out: str
    is_inside: bool
    of_dep: str | None
    of_out: str | None


def judge_parts(here: Iterable[Part], then: Iterable[Part]) -> tuple[list[str], list[Loosening], list[str]]:
    """Return faults, loosenings and warnings of the parts `here` that nothing else can judge.

    The parts `then` are those of the other revision, whose stages may have other names.
    """
    deps, outs = set[tuple[str | None, ...]](), set[tuple[str | None, ...]]()
    for part in then:
        deps.add((part.dep, part.out, part.of_dep))
        outs.add((part.dep, part.out, part.of_out))
    changes: dict[tuple[str, str, bool], list[tuple[Part, bool, bool]]] = {}
    for part in here:
        dep_changed = (part.dep, part.out, part.of_dep) not in deps
        out_changed = (part.dep, part.out, part.of_out) not in outs
        changes.setdefault((part.stage, part.out, part.is_inside), []).append((part, dep_changed, out_changed))
    faults: list[str] = []
    loosened: list[Loosening] = []
    warnings: list[str] = []
    for (stage, out, is_inside), parts in changes.items():
        out_changed = any(one for *_, one in parts)
        names = ", ".join(part.dep for part, *_ in parts)
        changed = [part.dep for part, dep_changed, _ in parts if dep_changed]
        if is_inside and changed and not out_changed:
            faults.append(
                f"dvc.lock: {stage}: out of date ({', '.join(changed)} changed, but not {out} around it); run "
                f"`{repro(stage)}` and commit"
            )
        elif not is_inside and out_changed and not changed:
            faults.append(
                f"dvc.lock: {stage}: out of date ({out} changed, but not {names} around it); run `{repro(stage)}` and "
                f"commit"
            )
        elif out_changed and not changed:
            loosened += [
                Loosening(part.dep, f"{out} changed, and {stage} may not have run since; {REMEDY}")
                for part, *_ in parts
            ]
        elif out_changed:
            warnings.append(f"dvc.lock: {stage}: {names} may be of another run than {out}; {REMEDY}")
    return faults, loosened, warnings
