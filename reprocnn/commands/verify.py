"""Check that the committed results are what the committed code makes.

In seconds, without data and training, it checks that dvc.lock matches the code and the params, that the results in git
and the data and models in this folder match dvc.lock, and that the installed libraries are those that trained the
networks. With --full, everything runs again from the published files, in a clone of HEAD with a cache of its own. If an
output differs from dvc.lock, it names what explains that (another processor, thread count, precision ...), how much
each metric changes, and whether the test accuracies differ by more than those of two seeds
(benchmarks/results/seeds.csv).

--attest signs the outcome of the full run. --attestation checks such a statement: that the owner of a key ran the
pipeline of this dvc.lock again.

Exit code 1: something is stale, the statement is refused or, with --full, an output differs without a reason or an
accuracy differs by more than seeds explain. 2: the check itself failed.
"""

import argparse
import csv
import math
import re
import shutil
import statistics
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from reprocnn.commands import attestation
from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json
from reprocnn.core.params import load
from reprocnn.datasets import DATASETS
from reprocnn.gate import lock
from reprocnn.gate.imports import Code
from reprocnn.gate.projects import canonical
from reprocnn.gate.values import flatten, numbers
from reprocnn.repository import dvc, git

LOCK = Path("dvc.lock")
ATTESTATION = Path("attestation.json")
PINS = (Path("requirements.lock"), Path("requirements-gpu.lock"))
PIN = r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)"
SEEDS = Path("benchmarks/results/seeds.csv")
DETAILS = tuple(Path("evaluation") / f"{dataset.name}.json" for dataset in DATASETS)


def main(arguments: list[str]) -> None:
    """Verify the repository in the working folder. Raises UserError with a line for each fault."""
    parser = argparse.ArgumentParser(
        prog="reprocnn verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="run everything again in a clone and compare")
    parser.add_argument(
        "--attest", type=Path, metavar="KEY", help="with --full: sign the outcome with this private key (Ed25519, PEM)"
    )
    parser.add_argument("--attestation", type=Path, metavar="FILE", help="check a statement that --attest wrote")
    parser.add_argument("--key", type=Path, help="with --attestation: the public key of who signed it")
    options = parser.parse_args(arguments)
    if (options.attest and not options.full) or bool(options.attestation) != bool(options.key):
        parser.error("--attest goes with --full, and --attestation with --key")
    if options.attest:
        attestation.private_key(options.attest)  # before the long run
    try:
        with lock.one_repository():
            faults = lock.damaged() + lock.faults() + lock.undeclared_code()
            faults += version_mismatches() + unpinned_dependencies()
    except (UserError, OSError, ModuleNotFoundError):
        raise
    except Exception as error:  # it is no verdict
        print(ascii(f"error: unexpected {type(error).__name__}: {error}; report it")[1:-1], file=sys.stderr)
        sys.exit(2)
    if faults:
        raise attestation.RefusedError("\n".join(faults))
    print(
        "verify: dvc.lock matches the code, the results match dvc.lock, the installed versions are those that trained",
        flush=True,
    )
    if options.attestation:
        found = attestation.check(options.attestation, options.key)
        print("verify: signed by the owner of the key:", *_describe(found), sep="\n  ")
    if options.full:
        outcome = verify_full()
        if options.attest:
            attestation.write(ATTESTATION, options.attest, outcome)
            print(f"verify: {ATTESTATION}: signed", flush=True)


def _describe(outcome: dict[str, Any]) -> list[str]:
    if not outcome["differing"]:
        return ["every output is byte for byte the same"]
    return [f"{path}: other bytes" for path in outcome["differing"]] + outcome["reasons"]


def version_mismatches() -> list[str]:
    """Return a line for each library whose installed version is not the one that trained the networks."""
    lines = []
    for path in DETAILS:
        if not path.exists():
            lines.append(f"{path}: missing; run `dvc repro`, or verify in the top folder of this project's repository")
            continue
        for library, trained in _section(path, "versions").items():
            installed = _installed(library)
            if installed != trained:
                lines.append(
                    f"{path}: trained with {library} {trained}, installed is {installed}; install the pinned versions "
                    f"with make, or train again with `dvc repro -f`"
                )
    return lines


def unpinned_dependencies() -> list[str]:
    """Return a line for each library that a stage imports whose installed version is not the pinned one.

    Pinned is what the lock file said in the commit of dvc.lock, where the history has it: the results are of that day.
    The lock file that fits best counts: a machine has what was pinned for it.
    """
    libraries = {library: _installed(library) for library in sorted(direct_dependencies())}
    found = []
    for path in PINS:
        text = _at_the_results(path)
        if text is None:
            continue
        pins = {canonical(name): pin for name, pin in re.findall(PIN, text, re.MULTILINE)}
        found.append(
            [
                f"{path}: the results were made with {library} {pins[canonical(library)]}, installed is {installed}; "
                f"install the pinned versions with make, or make the results again with `dvc repro -f`"
                for library, installed in libraries.items()
                if pins.get(canonical(library), installed) != installed
            ]
        )
    return min(found, key=len, default=[])


def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


def _at_the_results(path: Path) -> str | None:
    """Read a file as it was when dvc.lock was committed, as it is now where git does not know; None if missing."""
    try:
        shallow = git("rev-parse", "--is-shallow-repository").strip() == "true"
        if not shallow and not git("status", "--porcelain", "--", str(LOCK)):
            commit = git("log", "-1", "--format=%H", "--", str(LOCK)).strip()
            return git("show", f"{commit}:./{path}")
    except UserError:
        pass  # no commit yet, or without this file
    return path.read_text(encoding="utf-8") if path.exists() else None


def direct_dependencies() -> set[str]:
    """List the distributions whose modules the code of a stage imports itself."""
    with lock.open_repository("workspace") as repo:
        code = Code(Path(repo.root_dir), repo.fs)
        stages = [stage for stage in repo.index.stages if getattr(stage, "cmd", None)]
        files = {file for stage in stages for file in code.of_command(stage.cmd, Path(stage.wdir))}
        modules = {module for file in files for module in code.foreign_modules(file)}
    known = packages_distributions()
    return {distribution for module in modules for distribution in known.get(module, [])}


def verify_full() -> dict[str, Any]:
    """Run the pipeline in a clone and compare; give the environment, what differed, and what explains it.

    Raises UserError if an output differs and nothing explains it, or a test accuracy by more than seeds explain.
    """
    if git("status", "--porcelain", "--untracked-files=no"):
        raise UserError("this folder has uncommitted changes, which the clone would lack; commit them first")
    if not SEEDS.exists():
        raise UserError(f"{SEEDS}: missing; restore it with git checkout")
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        git("clone", "--quiet", str(Path().resolve()), str(clone))
        if not Path("data/raw").is_dir():
            dvc("repro", "download")
        shutil.copytree("data/raw", clone / "data/raw")  # its digests are checked there
        dvc("repro", "--force", cwd=clone)
        differing, reasons = compare_runs(Path(), clone)
        environments = {path.stem: environment(clone / path) for path in DETAILS}
    return {"differing": differing, "reasons": reasons, "environment": environments}


def compare_runs(committed: Path, again: Path) -> tuple[list[str], list[str]]:
    """Print how the results in two folders differ, and give the outputs that do, with the reasons.

    Raises UserError for what nothing explains.
    """
    differing = different_outputs(committed / LOCK, again / LOCK)
    if not differing:
        print("verify: every output is byte for byte the same")
        return [], []
    print("verify: outputs that differ from dvc.lock:", *differing, sep="\n  ")
    reasons = environment_changes(committed, again)
    print(*reasons, sep="\n")
    unexplained = compare_metrics(read_metrics(committed), read_metrics(again))
    if not reasons:
        unexplained.append(
            f"{differing[0]}: other bytes from the same processor, threads, precision, settings and versions; "
            f"commit what `dvc repro -f` gives, and if that differs each time, report it"
        )
    if unexplained:
        raise attestation.RefusedError("\n".join(unexplained))
    return differing, reasons


def environment_changes(committed: Path, again: Path) -> list[str]:
    """Return a line for each difference in where the networks were trained, which explains other bits."""
    lines = []
    for path in DETAILS:
        before, after = environment(committed / path), environment(again / path)
        for key in before | after:
            if before.get(key) != after.get(key):
                lines.append(
                    f"{path}: {key}: committed results {before.get(key, 'none')}, this run {after.get(key, 'none')}; "
                    f"other bits are expected"
                )
    return lines


def environment(path: Path) -> dict[str, Any]:
    """Read device, settings and versions, by dotted key."""
    return flatten({key: _section(path, key) for key in ("device", "settings", "versions")})


def _section(path: Path, key: str) -> dict[str, Any]:
    """Read one section of a file in evaluation/. Raises UserError if it has none."""
    details = read_json(path)
    section = details.get(key) if isinstance(details, dict) else None
    if not isinstance(section, dict):
        raise UserError(
            f"{path}: {key}: found {section!r}, expected keys with values; restore it with git checkout, or run "
            f"`dvc repro`"
        )
    return section


def different_outputs(committed: Path, again: Path) -> list[str]:
    """List the outputs whose digests differ between two dvc.lock files."""
    before, after = output_digests(committed), output_digests(again)
    return [path for path in before | after if before.get(path) != after.get(path)]


def output_digests(path: Path) -> dict[str, str]:
    """Read the digest of each output of a dvc.lock."""
    return {out["path"]: out["md5"] for stage in load(path)["stages"].values() for out in stage["outs"]}


def read_metrics(folder: Path) -> dict[str, Any]:
    """Merge the metrics files, whose top-level keys are data sets."""
    metrics: dict[str, Any] = {}
    for path in sorted(folder.glob("metrics/*.json")):
        metrics |= read_json(path)
    return metrics


def compare_metrics(committed: dict[str, Any], again: dict[str, Any]) -> list[str]:
    """Print each metric that changed; give a line for each test accuracy that seeds do not explain."""
    before, after = flatten(committed), flatten(again)
    known = numbers(before).keys() & numbers(after).keys()
    unexplained = []
    for key in before | after:
        if before.get(key) == after.get(key):
            continue
        message = f"{key}: {before.get(key)} -> {after.get(key)}"
        dataset = key.partition(".")[0]
        if key == f"{dataset}.test.accuracy":
            noise = seed_noise(dataset)
            if key in known and abs(float(after[key]) - float(before[key])) <= noise:  # type: ignore[arg-type]
                message += f", within seed noise (two seeds differ by up to {noise:.4f})"
            else:
                message += f", BEYOND seed noise (two seeds differ by up to {noise:.4f})"
                unexplained.append(message)
        print(f"  {message}", flush=True)
    return unexplained


def seed_noise(dataset: str) -> float:
    """Return the most that the test accuracies of two seeds differ by, 95 times of 100: 1.96 √2 standard deviations.

    0 with fewer than two measured seeds, so that no difference counts as noise.
    """
    with SEEDS.open(encoding="utf-8", newline="") as file:
        accuracies = [float(row["test_accuracy"]) for row in csv.DictReader(file) if row["setting"] == dataset]
    if len(accuracies) < 2:
        return 0.0
    return 1.96 * math.sqrt(2) * statistics.stdev(accuracies)
