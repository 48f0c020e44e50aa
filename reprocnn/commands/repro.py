"""Run what changed and print the results.

If no source of the real data can be reached, run the embedded sample instead, with a message; under CI=true, fail.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from reprocnn import repository
from reprocnn.commands import demo, summary
from reprocnn.core.errors import UserError
from reprocnn.core.params import Source, read
from reprocnn.datasets import DATASETS
from reprocnn.training import checkpoint

RAW = Path("data/raw")


def main(arguments: list[str]) -> None:
    """Look for the data, run `dvc repro`, remove the checkpoints of finished trainings, print the table."""
    argparse.ArgumentParser(prog="reprocnn repro", description=__doc__).parse_args(arguments)
    source = read(Source).source
    if not Path(".git").exists():
        raise UserError("this folder is not a git clone, which DVC needs: get it with git clone instead of a copy")
    if Path("data").is_symlink():
        raise UserError(
            "data: found a symbolic link, which DVC does not write through; make it a folder again and keep the bytes "
            "elsewhere with `dvc config --local cache.dir PATH` and `dvc config --local cache.type symlink`"
        )
    unreachable: list[str] = []
    if incomplete := wrong_sizes():
        # The cache of an earlier run may have them, but dvc replaces no file that it does not know.
        for path in incomplete:
            if path.is_file():
                path.unlink()
        subprocess.run([sys.executable, "-m", "dvc", "checkout", "--quiet", "download"], stderr=subprocess.DEVNULL)
        if source == "public":
            from reprocnn.sources import raw_files  # slow to import

            raw_files.remove_wrong()
            unreachable = raw_files.unreachable_sources()
    if unreachable:
        run_sample(unreachable)
        return
    demo.require_libraries()
    repository.dvc("repro")
    checkpoint.remove_finished()
    summary.main([])


def wrong_sizes() -> list[Path]:
    """List the published files that data/raw lacks or has in another size; digests take longer, and DVC knows them."""
    files = {RAW / file.name: file.size for dataset in DATASETS for file in dataset.files}
    return [path for path, size in files.items() if not path.is_file() or path.stat().st_size != size]


def run_sample(unreachable: list[str]) -> None:
    """Run the embedded sample instead of the real data. Raises UserError under CI=true."""
    message = f"no source of the real data can be reached; tried {', '.join(unreachable)}"
    advice = "name a mirror, a folder or an address that has the files: DATASETS_MIRROR=/path/to/files make repro"
    if os.environ.get("CI") == "true":
        raise UserError(f"{message}\n{advice}")
    print(f"{message}\n{advice}; what follows is the embedded sample", flush=True)
    demo.main([])
