"""What a sweep costs beside its trainings: a pipeline of one stage that waits, as `dvc exp run` and as sweeps.

`python -m benchmarks.sweep` measures, in a temporary folder: sixteen experiments that wait 5 seconds each, one after
the other with `dvc exp run`, as a sweep on one node of one core, and on two, nodes being processes on this machine;
then sweeps of ever more trials that wait for nothing, with the memory of the process that started them. Needs the
`sweep` extra. Adds what benchmarks/sweep.csv lacks.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml
from ray.cluster_utils import Cluster

from stages.lib.commands import dvc, git
from stages.lib.errors import run
from stages.lib.files import whole

TABLE, ROOT = Path("benchmarks/sweep.csv"), Path.cwd()
TRIALS, SECONDS = 16, 5
MANY = (10, 50, 1000)
STAGE = """
import json, time, yaml
params = yaml.safe_load(open("params.yaml"))
time.sleep(params["wait"])
json.dump({"seed": params["seed"]}, open("metrics.json", "w"))
"""


def main() -> None:
    sides = {"dvc exp run": (0, SECONDS, TRIALS)}
    sides |= {"sweep, 1 node of one core": (1, SECONDS, TRIALS), "sweep, 2 nodes of one core": (2, SECONDS, TRIALS)}
    sides |= {f"sweep of {n:,}, 2 nodes of one core": (2, 0, n) for n in MANY}
    table = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame({"side": []})
    for side, (nodes, wait, n) in sides.items():
        if side not in set(table["side"]):
            with tempfile.TemporaryDirectory() as folder:
                make_repository(Path(folder), wait)
                seconds, memory = sweep(Path(folder), nodes, n) if nodes else (one_by_one(Path(folder), n), 0)
            row = {"side": side, "trials": n, "waited": wait, "seconds": seconds, "driver_mib": memory >> 20}
            row |= {"hardware": f"{os.cpu_count()} cores", "date": datetime.date.today().isoformat()}
            print(row, flush=True)
            table = pd.concat([table, pd.DataFrame([row])]) if len(table) else pd.DataFrame([row])
            with whole(TABLE) as partial:
                table.to_csv(partial, index=False, lineterminator="\n", float_format="%.4g")


def make_repository(folder: Path, wait: int) -> None:
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
    start = time.perf_counter()
    for seed in range(n):
        dvc("exp", "run", "--quiet", "--set-param", f"seed={seed}", "--set-param", "threads=1", cwd=folder)
    return time.perf_counter() - start


def sweep(folder: Path, nodes: int, n: int) -> tuple[float, int]:
    """Seconds from the start to the end of the command, and the largest memory that it had, without its workers'."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(nodes):
        cluster.add_node(num_cpus=1)
    environment = os.environ | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder.parent)}
    command = [sys.executable, "-m", "stages.sweep", f"seed=range(0,{n})", "--threads=1", "--metric=seed"]
    start, peak = time.perf_counter(), 0
    driver = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    while driver.poll() is None:
        time.sleep(0.2)
        peak = max(peak, _memory(driver.pid))
    seconds = time.perf_counter() - start
    cluster.shutdown()
    if driver.returncode:
        raise SystemExit(f"error: the sweep ended with exit code {driver.returncode}")
    return seconds, peak


def _memory(pid: int) -> int:
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.NoSuchProcess:
        return 0


if __name__ == "__main__":
    run(main)
