"""Whether the committed results are what the committed code makes.

`python -m stages.verify`: in seconds, without data and training: dvc.lock is of this code and these params, the results
in git are those of dvc.lock, and the installed libraries are those that trained the networks.
`python -m stages.verify --full`: everything once more, from the published files, in a clone of HEAD with a cache of its
own; where an output differs from dvc.lock's, why (another processor, thread count, precision ...), by how much each
metric does, and whether the test accuracies differ by more than two trainings with other seeds do
(benchmarks/seeds.csv).

Exit code 1 if something is stale, or, in full, if an output differs without a reason, or an accuracy by more than seeds
explain.
"""

import argparse
import math
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from stages.gate import flatten
from stages.lib import lock
from stages.lib.commands import dvc, git
from stages.lib.errors import UserError, run
from stages.lib.results import TITLES, load_json

SEEDS = Path("benchmarks/seeds.csv")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.verify", description="Are the committed results current?")
    parser.add_argument("--full", action="store_true", help="run everything again in a clone and compare")
    full = parser.parse_args().full
    faults = lock.faults() + other_versions()
    if faults:
        raise UserError("\n".join(faults))
    print("verify: dvc.lock is of this code, the results of dvc.lock, the versions those that trained", flush=True)
    if full:
        verify_full()


def other_versions() -> list[str]:
    """A line for each library of which another version is installed than the one that trained the networks."""
    lines = []
    for path in (Path("evaluation") / f"{name}.json" for name in TITLES):
        for library, trained in load_json(path)["versions"].items():
            try:
                installed = version(library)
            except PackageNotFoundError:
                installed = "none"
            if installed != trained:
                lines.append(
                    f"{path}: trained with {library} {trained}, installed is {installed}; install the pinned versions "
                    f"with make, or train again with `dvc repro -f`"
                )
    return lines


def verify_full() -> None:
    """Runs the pipeline in a clone and compares; raises UserError if an output differs and nothing explains it, or a
    test accuracy by more than seeds explain."""
    if git("status", "--porcelain", "--untracked-files=no"):
        raise UserError("this folder has changes that are not committed, and the clone would not; commit them first")
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        git("clone", "--quiet", str(Path().resolve()), str(clone))
        if not Path("data/raw").is_dir():
            dvc("repro", "download")
        shutil.copytree("data/raw", clone / "data/raw")  # its digests are checked there
        dvc("repro", "--force", cwd=clone)
        differing = different_outputs(Path("dvc.lock"), clone / "dvc.lock")
        if not differing:
            print("verify: every output is the same again, byte for byte")
            return
        print("verify: other bytes than in dvc.lock:", *differing, sep="\n  ")
        reasons = other_environment(Path(), clone)
        print(*reasons, sep="\n")
        beyond = compare_metrics(load_json(Path("metrics.json")), load_json(clone / "metrics.json"))
        if not reasons:
            beyond.append(
                f"{differing[0]}: other bytes from the same processor, threads, precision, settings and versions; "
                f"commit what `dvc repro -f` gives, and if that differs each time, report it"
            )
        if beyond:
            raise UserError("\n".join(beyond))


def other_environment(committed: Path, again: Path) -> list[str]:
    """What differs between the two folders in where the networks were trained, and so explains other bits."""
    lines = []
    for name in TITLES:
        path = Path("evaluation") / f"{name}.json"
        before, after = (
            flatten({key: load_json(folder / path)[key] for key in ("device", "settings", "versions")})
            for folder in (committed, again)
        )
        lines += [
            f"{path}: the committed results are of {key} {before.get(key, 'none')}, these of {after.get(key, 'none')}; "
            f"other bits are to be expected"
            for key in before | after
            if before.get(key) != after.get(key)
        ]
    return lines


def different_outputs(committed: Path, again: Path) -> list[str]:
    """The outputs whose digest in one dvc.lock is not that in the other."""
    outs = [
        {
            out["path"]: out["md5"]
            for stage in yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].values()
            for out in stage["outs"]
        }
        for path in (committed, again)
    ]
    return [path for path in outs[0] | outs[1] if outs[0].get(path) != outs[1].get(path)]


def compare_metrics(committed: dict[str, Any], again: dict[str, Any]) -> list[str]:
    """Prints each metric that changed; gives a line for each test accuracy that seeds do not explain."""
    before, after = flatten(committed), flatten(again)
    beyond = []
    for key in [key for key in before | after if before.get(key) != after.get(key)]:
        told = f"{key}: {before.get(key)} -> {after.get(key)}"
        name = key.partition(".")[0]
        if key == f"{name}.test.accuracy":
            noise = seed_noise(name)
            if abs(float(str(after.get(key))) - float(str(before.get(key)))) <= noise:
                told += f", within seed noise (two seeds differ by up to {noise:.4f})"
            else:
                told += f", BEYOND seed noise (two seeds differ by up to {noise:.4f})"
                beyond.append(told)
        print(f"  {told}", flush=True)
    return beyond


def seed_noise(name: str) -> float:
    """How far the test accuracies of two seeds lie apart at most, 95 times of 100: 1.96 √2 standard deviations."""
    accuracy = pd.read_csv(SEEDS).query("setting == @name")["test_accuracy"]
    return 1.96 * math.sqrt(2) * float(accuracy.std())


if __name__ == "__main__":
    run(main)
