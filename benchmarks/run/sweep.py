"""Measure what a sweep costs beyond its trainings: a one-stage pipeline that waits, as `dvc exp run` and as sweeps.

In a temporary folder, run sixteen experiments that wait 5 seconds each: one after the other with `dvc exp run`, then as
a sweep on one node of one core and on two; nodes are processes on this machine. Then run sweeps of more and more trials
that do not wait, and record the memory of the driver. Add what benchmarks/results/sweep.csv lacks. Needs the extra
"sweep".
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml
from ray.cluster_utils import Cluster

from benchmarks.run import command, results
from reprocnn.core.errors import UserError
from reprocnn.repository import dvc, git

TABLE, ROOT = results.FOLDER / "sweep.csv", Path(__file__).parents[2]
TRIALS, SECONDS = 16, 5
MANY = (10, 50, 1000)
STAGE = """
import json, time, yaml
params = yaml.safe_load(open("params.yaml"))
time.sleep(params["wait"])
json.dump({"seed": params["seed"]}, open("metrics.json", "w"))
"""
SIDES = {
    # nodes (0: dvc alone), seconds that a trial waits, trials
    "dvc exp run": (0, SECONDS, TRIALS),
    "sweep, 1 node of one core": (1, SECONDS, TRIALS),
    "sweep, 2 nodes of one core": (2, SECONDS, TRIALS),
    **{f"sweep of {n:,}, 2 nodes of one core": (2, 0, n) for n in MANY},
}


def main(arguments: list[str]) -> None:
    """Measure what the table lacks."""
    command.parser("sweep", __doc__).parse_args(arguments)
    known = results.known(TABLE, "side")
    for side, (nodes, wait, n) in SIDES.items():
        if (side,) in known:
            continue
        with tempfile.TemporaryDirectory() as folder:
            make_repository(Path(folder), wait)
            seconds, memory = sweep(Path(folder), nodes, n) if nodes else (one_by_one(Path(folder), n), 0)
        row = {"side": side, "trials": n, "waited": wait, "seconds": seconds, "driver_mib": memory >> 20}
        results.add(TABLE, [row | results.conditions(f"{os.cpu_count()} cores")], digits=4)


def make_repository(folder: Path, wait: int) -> None:
    """Commit a pipeline whose stage waits so many seconds."""
    stage: dict[str, Any] = {"cmd": "python stage.py", "deps": ["stage.py"], "params": ["seed", "threads", "wait"]}
    stage |= {"metrics": [{"metrics.json": {"cache": False}}]}
    params = {"seed": -1, "threads": 0, "wait": wait}
    schema: dict[str, Any] = {"properties": {key: {"type": "integer"} for key in params}, "additionalProperties": False}
    (folder / "stage.py").write_text(STAGE, encoding="utf-8")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"wait": stage}}), encoding="utf-8")
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (folder / "params.schema.json").write_text(json.dumps(schema), encoding="utf-8")
    (folder / ".gitignore").write_text("runs/\n", encoding="utf-8")
    git("init", "--quiet", cwd=folder)
    git("config", "user.name", "benchmark", cwd=folder)
    git("config", "user.email", "benchmark@localhost", cwd=folder)
    dvc("init", "--quiet", cwd=folder)
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--message=A stage that waits", cwd=folder)


def one_by_one(folder: Path, n: int) -> float:
    """Run `n` experiments with dvc alone; return the seconds."""
    start = time.perf_counter()
    for seed in range(n):
        dvc("exp", "run", "--quiet", "--set-param", f"seed={seed}", "--set-param", "threads=1", cwd=folder)
    return time.perf_counter() - start


def sweep(folder: Path, nodes: int, n: int) -> tuple[float, int]:
    """Run `n` trials on `nodes` nodes; return seconds and peak memory in bytes of the driver, without its workers."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1)
        environment = os.environ | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)}
        environment["TMPDIR"] = str(folder.parent)
        arguments = [sys.executable, "-m", "reprocnn", "sweep", f"seed=range(0,{n})", "--threads=1", "--metric=seed"]
        start, peak = time.perf_counter(), 0
        with subprocess.Popen(arguments, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as driver:
            while driver.poll() is None:
                time.sleep(0.2)
                peak = max(peak, _memory(driver.pid))
        seconds = time.perf_counter() - start
    finally:
        cluster.shutdown()
    if driver.returncode:
        raise UserError(f"the sweep ended with exit code {driver.returncode}; its message is above")
    return seconds, peak


def _memory(pid: int) -> int:
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.NoSuchProcess:
        return 0
