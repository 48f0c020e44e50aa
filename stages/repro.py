"""The whole run for people: looks for the data first, runs `dvc repro`, prints the table.

Where no source of the real data answers it says so and shows the sample instead; under CI=true it fails.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from stages import summary
from stages.lib import commands, published
from stages.lib.errors import UserError, run
from stages.lib.params import read

RAW = Path("data/raw")


@dataclass(frozen=True)
class Params:
    source: str


def main() -> None:
    params = read(Params)
    if not Path(".git").exists():
        raise UserError("this folder is no git clone, which DVC needs: get it with git clone instead of a copy")
    if Path("data").is_symlink():
        raise UserError(
            "data: found a symbolic link, which DVC does not write through; make it a folder again and keep the bytes "
            "elsewhere with `dvc config --local cache.dir PATH` and `dvc config --local cache.type symlink`"
        )
    unanswered: list[str] = []
    if not looks_whole():
        # An earlier run's cache may have them.
        subprocess.run([sys.executable, "-m", "dvc", "checkout", "--quiet", "download"], stderr=subprocess.DEVNULL)
        unanswered = tried_in_vain() if params.source == "public" else []
    if not unanswered:
        commands.dvc("repro")
        summary.main()
        return
    told = f"no source of the real data answers; tried {', '.join(unanswered)}"
    how = "name a mirror, a folder or an address that has the files: DATASETS_MIRROR=/path/to/files make repro"
    if os.environ.get("CI") == "true":
        raise UserError(f"{told}\n{how}")
    print(f"{told}\n{how}; what follows is the embedded sample", flush=True)
    from stages import demo

    demo.main()


def looks_whole() -> bool:
    """Whether data/raw has the published files, by their sizes; their digests, which take longer, dvc knows."""
    files = published.MNIST + published.CIFAR.members
    return all((RAW / file.name).is_file() and (RAW / file.name).stat().st_size == file.size for file in files)


def tried_in_vain() -> list[str]:
    """The sources asked for a data set that is not here and that none of them has; empty if the run can start."""
    from stages import download  # here, as its import takes as long as all else does where nothing is to be done
    from stages.lib import fetch

    lacking = download.missing()
    for names, name, addresses in (
        ([file.name for file in published.MNIST], published.MNIST[0].name, published.MNIST_ADDRESSES),
        ([member.name for member in published.CIFAR.members], published.CIFAR.name, published.CIFAR_ADDRESSES),
    ):
        sources = fetch.mirrors(addresses)
        if set(names) & set(lacking) and all(fetch.answers(name, source) for source in sources):
            return sources
    return []


if __name__ == "__main__":
    run(main)
