"""Parse the command lines of the scripts, and call one script from another in a process of its own."""

import argparse
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

# glibc keeps what a step has freed for the next one, as TensorFlow's allocator does for the project's own side.
KEEP_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Make the parser of `python -m benchmarks NAME`; `description` is the module's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add the argument of the PyTorch peers' precision."""
    parser.add_argument("precision", choices=("float32", "mixed_bfloat16"), help="of the convolutions")


def add_step_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the PyTorch peers' `step`."""
    add_precision(parser)
    for name in ("filters", "depth", "images", "steps"):
        parser.add_argument(name, type=int)


def ask(python: str, *arguments: object) -> Any:
    """Run `PYTHON -m benchmarks ARGUMENTS` and give the JSON that it prints. Raises CalledProcessError if it fails."""
    command = [python, "-m", "benchmarks", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | KEEP_MEMORY)
    return json.loads(done.stdout)


def since_start() -> float:
    """Return the seconds since this process started, to a hundredth; psutil's may be off by a second."""
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
