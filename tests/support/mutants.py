"""Plant known faults in the code, one at a time, and see whether the tests notice: `make mutants`.

tests/mutants/*.yaml list the faults by file. Each is a text of the file that is replaced by another, and runs its own
`tests`, or those of its file, or else those that mirror the file's package, in a copy of the repository. What survives
is printed with its place; the exit code is 1.
"""

import argparse
import ast
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
LISTS = ROOT / "tests/mutants"
SECONDS = 600
# Loaded once, before a process is forked for each mutant: seconds each time. None of our own modules.
LOADED = (
    "numpy",
    "pandas",
    "scipy.stats",
    "sklearn.metrics",
    "sklearn.model_selection",
    "tensorflow",
    "keras",
    "pytest",
)


@dataclass(frozen=True)
class Mutant:
    """A fault: in `file`, the only `old` becomes `new`; `tests` are those that are to fail."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    equivalent: str  # why no test can notice it, if so

    def __str__(self) -> str:
        number = (ROOT / self.file).read_text(encoding="utf-8").partition(self.old)[0].count("\n") + 1
        return f"{self.file}:{number}: {self.old.strip()!r} -> {self.new.strip()!r}"


def read(path: Path) -> list[Mutant]:
    """Read a list of mutants. Raises ValueError if one's text is not there once, SyntaxError if it is no Python."""
    mutants = []
    for group in yaml.safe_load(path.read_text(encoding="utf-8")):
        file = group["file"]
        text = (ROOT / file).read_text(encoding="utf-8")
        for fault in group["faults"]:
            tests = fault.get("tests") or group.get("tests") or [mirror(file)]
            mutant = Mutant(file, fault["old"], fault["new"], tuple(tests), fault.get("equivalent", ""))
            count = text.count(mutant.old)
            if count != 1 or mutant.old == mutant.new:
                raise ValueError(f"{path.name}: {file}: found {count} of {mutant.old!r}, expected 1, and a change")
            if file.endswith(".py"):
                ast.parse(text.replace(mutant.old, mutant.new), file)
            mutants.append(mutant)
    return mutants


def mirror(file: str) -> str:
    """Return the tests that mirror a file's package: tests/gate of reprocnn/gate/lock.py, tests/pipeline of a stage."""
    parts = Path(file).parts
    return "tests/pipeline" if parts[0] == "stages" else f"tests/{parts[1]}"


def copy_repository(target: Path) -> None:
    """Copy what is for git into a repository of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    for command in ("init --quiet --initial-branch=main", "add --all", "commit --quiet --message=copy"):
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *command.split()], cwd=target, check=True)


def is_killed(mutant: Mutant, copy: Path, log: Path) -> bool:
    """Plant the mutant in `copy`, run its tests in a forked process, and take it out again."""
    path = copy / mutant.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return run_tests(mutant.tests, copy, log) != 0
    finally:
        path.write_text(text, encoding="utf-8")


def run_tests(tests: tuple[str, ...], copy: Path, log: Path) -> int:
    """Run tests in a forked process; give pytest's exit code, 1 after `SECONDS`. Raises RuntimeError if none ran."""
    child = os.fork()
    if child == 0:
        _run_and_exit(tests, copy, log)
    end = time.monotonic() + SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(child, 9)
            os.waitpid(child, 0)
            return 1
        time.sleep(0.05)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):
        raise RuntimeError(f"{' '.join(tests)}: pytest ended with {code}\n{log.read_text()[-3000:]}")
    return code


def _run_and_exit(tests: tuple[str, ...], copy: Path, log: Path) -> None:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(output, number)
    os.chdir(copy)
    sys.path[:0] = [str(copy)]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "reprocnn", "stages")]:
        del sys.modules[name]
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy)}
    sys.dont_write_bytecode = True
    code: Any = 3
    try:
        import pytest

        chosen = ["-m", "not (nightly or data or kill or fuzz)"]
        code = pytest.main(["-x", "-q", "--no-header", "-p", "no:cacheprovider", *chosen, *tests])
    finally:
        os._exit(int(code))


def main() -> None:
    """Run the lists that the command line names, or all, and print how many of each file's mutants were killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.mutants", description=__doc__)
    parser.add_argument("lists", nargs="*", choices=[[], *sorted(path.stem for path in LISTS.glob("*.yaml"))])
    parser.add_argument("--only", default="", help="only mutants whose file, old or new text contains this")
    arguments = parser.parse_args()
    paths = [path for path in sorted(LISTS.glob("*.yaml")) if not arguments.lists or path.stem in arguments.lists]
    mutants = [one for path in paths for one in read(path) if arguments.only in f"{one.file} {one.old} {one.new}"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    for name in LOADED:
        importlib.import_module(name)
    killed, survived, excused = Counter[str](), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        copy, log = Path(folder) / "repository", Path(folder) / "log"
        copy.mkdir()
        copy_repository(copy)
        for tests in sorted({one.tests for one in mutants}):
            if run_tests(tests, copy, log):
                sys.exit(f"{' '.join(tests)}: fail without a mutant\n{log.read_text()[-3000:]}")
        for mutant in mutants:
            if mutant.equivalent:
                excused[mutant.file] += 1
                continue
            dead = is_killed(mutant, copy, log)
            (killed if dead else survived)[mutant.file] += 1
            print(f"{'killed' if dead else 'SURVIVED'}: {mutant}", flush=True)
    for file in sorted({one.file for one in mutants}):
        print(f"{file}: {killed[file]} of {killed[file] + survived[file]} killed, {excused[file]} equivalent")
    total = killed.total() + survived.total()
    print(f"{killed.total()} of {total} killed ({killed.total() / max(1, total):.0%}), {excused.total()} equivalent")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
