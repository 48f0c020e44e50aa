"""Run dvc in processes forked from one that has loaded it, which nearly halves the time of a short trial."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import psutil

POLL_SECONDS = 0.5
CONTEXT = multiprocessing.get_context("forkserver")
# What `dvc exp run` loads late, and Ray's __main__, which each process would load otherwise. Unknown names are ignored.
LOADED = """
__main__ reprocnn.sweep.dvc_process celery.canvas dulwich.porcelain dulwich.stash dvc.cli.parser dvc.data_cloud
dvc.repo.artifacts dvc.repo.experiments.executor.local dvc.repo.experiments.queue.celery
dvc.repo.experiments.queue.workspace dvc.repo.experiments.run dvc.repo.graph dvc.repo.plots dvc.repo.stage
dvc.repo.trie dvc.utils.hydra dvc.utils.strictyaml dvc_data.hashfile.status dvc_data.index.checkout
dvc_task.proc.manager hydra._internal.config_loader_impl networkx pygit2 ruamel.yaml
"""
CONTEXT.set_forkserver_preload(LOADED.split())


def run(
    arguments: tuple[str, ...],
    folder: Path,
    environment: dict[str, str],
    log: Path,
    lock: IO[str],
    stop: Callable[[], bool] | None = None,
) -> int | None:
    """Run dvc in `folder` with its output in `log`; return its exit code, below 0 if a signal ended it.

    It holds `lock` until it ends, even if this process is killed. When `stop` becomes true, kill it and its stages, and
    return None. An error of `stop` kills them too.
    """
    held = Connection(os.dup(lock.fileno()), writable=False)  # a connection, since multiprocessing passes on no file
    process = CONTEXT.Process(target=_dvc, args=(arguments, folder, environment, log, held))
    process.start()
    held.close()
    try:
        while stop and process.is_alive():
            if stop():
                _kill(process)
                return None
            process.join(POLL_SECONDS)
        process.join()
    except Exception:
        _kill(process)
        raise
    return process.exitcode


def _kill(process: Any) -> None:
    # Not by a process group of its own: in that of Ray's worker, it ends with the worker.
    with suppress(psutil.NoSuchProcess):  # it may have ended just now
        dvc = psutil.Process(process.pid)
        dvc.suspend()  # so that it starts nothing more
        for child in dvc.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        dvc.kill()
    process.join()


def _dvc(arguments: tuple[str, ...], folder: Path, environment: dict[str, str], log: Path, lock: Connection) -> None:
    os.chdir(folder)
    sys.argv = ["dvc", *arguments]
    os.environ.clear()
    os.environ.update(environment)
    for path, flags, numbers in ((os.devnull, os.O_RDONLY, (0,)), (log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, (1, 2))):
        opened = os.open(path, flags, 0o600)
        for number in numbers:
            os.dup2(opened, number)
        os.close(opened)

    from dvc.cli import main

    sys.exit(main(list(arguments)))
