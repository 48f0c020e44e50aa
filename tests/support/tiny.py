"""A pipeline whose stages do next to nothing, and ways to sweep it on one node or several, all processes here."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.support.commands import call, environment, save

STAGE = """
import json, os, pathlib, sys, time, yaml
params = yaml.safe_load(open("params.yaml"))
with open(os.environ["SEEN"], "a") as seen:
    seen.write(f"{sys.argv[1]} {params['lr']} {params['seed']} {os.getpid()}\\n")
if sys.argv[1] == "prepare":
    pathlib.Path("data.txt").write_text(str(params["split"]))
else:
    state = pathlib.Path("runs/checkpoints")
    if state.exists():
        pathlib.Path(os.environ["SEEN"] + ".resumed").touch()
    state.mkdir(parents=True, exist_ok=True)
    wait = pathlib.Path(os.environ["SEEN"] + ".wait")
    while wait.exists():
        time.sleep(0.05)
    if params["lr"] == 0.5:
        sys.exit("ERROR: the loss is nan")
    pathlib.Path("metrics").mkdir(exist_ok=True)
    accuracy = 1 - params["lr"] + params["seed"] / 100
    pathlib.Path("metrics/val.json").write_text(json.dumps({"val": {"accuracy": accuracy}}))
    pathlib.Path("metrics/test.json").write_text(json.dumps({"test": {"accuracy": accuracy - 0.1}}))
    pathlib.Path("model.txt").write_text(f"{params['lr']} {params['seed']}")
    pathlib.Path("runs/train_it.json").write_text(json.dumps({"threads": params["threads"]}))
"""
PIPELINE = {
    "stages": {
        "prepare": {"cmd": "python stage.py prepare", "deps": ["stage.py"], "params": ["split"], "outs": ["data.txt"]},
        "train": {
            "cmd": "python stage.py train",
            "deps": ["stage.py", "data.txt"],
            "params": ["lr", "seed", "threads"],
            "outs": ["model.txt"],
            "metrics": [{"metrics/val.json": {"cache": False}}, {"metrics/test.json": {"cache": False}}],
        },
    }
}
PARAMS = {"lr": 0.1, "seed": 0, "split": 1, "threads": 0}
SCHEMA = {
    "type": "object",
    "properties": {
        "lr": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "seed": {"type": "integer"},
        "split": {"type": "integer"},
        "threads": {"type": "integer"},
    },
    "required": [*PARAMS],
    "additionalProperties": False,
}
# Of the learning rate SLOW, the training stays in its first epoch.
EPOCHS = """
    import csv
    pathlib.Path("plots").mkdir(exist_ok=True)
    rows = []
    for epoch in range(1, 9):
        rows.append([epoch, 1 - params["lr"] / epoch])
        with open("plots/part", "w", newline="") as part:
            csv.writer(part).writerows([["epoch", "accuracy"], *rows])
        os.replace("plots/part", "plots/history.csv")
        if os.environ.get("SLOW") == str(params["lr"]):
            time.sleep(1000)
    with open(os.environ["SEEN"] + ".gpus", "a") as gpus:
        gpus.write(f"{params['device']} {os.environ['CUDA_VISIBLE_DEVICES']}\\n")
    if params["lr"] == 0.5:"""
SWEEP = ("python", "-m", "reprocnn", "sweep")
METRIC = "--metric=val.accuracy"


def make(folder: Path) -> None:
    folder.mkdir()
    (folder / "stage.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (folder / "params.schema.json").write_text(json.dumps(SCHEMA))
    (folder / ".gitignore").write_text("/data.txt\n/model.txt\n")
    call(folder, "git", "init", "--quiet", "--initial-branch=main")
    call(folder, "dvc", "init", "--quiet")
    save(folder)


def make_epochs(folder: Path) -> None:
    """Let the training have eight epochs, whose accuracy it writes to plots/history.csv, and a device."""
    (folder / "stage.py").write_text(STAGE.replace('\n    if params["lr"] == 0.5:', EPOCHS))
    pipeline = yaml.safe_load((folder / "dvc.yaml").read_text())
    pipeline["stages"]["train"]["plots"] = [{"plots/history.csv": {"cache": False}}]
    pipeline["stages"]["train"]["params"].append("device")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"device": "cpu"}))
    schema = json.loads((folder / "params.schema.json").read_text())
    schema["properties"]["device"] = {"type": "string"}
    (folder / "params.schema.json").write_text(json.dumps(schema))
    save(folder)


def sweep(folder: Path, *arguments: str, code: int = 0, **more: str) -> str:
    """What the command prints once it has ended."""
    return call(folder, *SWEEP, *arguments, METRIC, code=code, **more)


def start(cluster, folder: Path, *arguments: str) -> subprocess.Popen:
    """The command, running on a cluster."""
    return subprocess.Popen(
        [*SWEEP, *arguments, METRIC, "--threads=1"],
        cwd=folder,
        env=environment(RAY_ADDRESS=cluster.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def seen(folder: Path) -> list[str]:
    """The stages that ran, with their lr and seed."""
    return [line.rsplit(" ", 1)[0] for line in (folder.parent / "seen").read_text().splitlines()]


def trainings(folder: Path) -> list[int]:
    """The processes of the trainings that have started."""
    path = folder.parent / "seen"
    lines = path.read_text().splitlines() if path.exists() else []
    return [int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("train")]


@contextmanager
def odd_node(cluster, before: str = "true", **more: str):
    """A node of one core, in a file system of its own that `before` changes."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare, to give a node other files")
    nodes = alive(cluster)
    command = f"{sys.executable} -m ray.scripts.scripts start --address={cluster.address} --num-cpus=1 --block"
    node = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"{before} && exec {command}"],
        env=os.environ | more,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: alive(cluster) == nodes + 1)
        yield
    finally:
        os.killpg(node.pid, signal.SIGKILL)


@contextmanager
def full_node(cluster, folder: Path):
    """A node of one core whose disk is full."""
    full = folder / "full"
    full.mkdir()
    with odd_node(cluster, f"mount -t tmpfs -o size=40k none {full}", TMPDIR=str(full)):
        yield


def alive(cluster) -> int:
    return sum(node["Alive"] for node in cluster.global_state.node_table())


def until(true) -> None:
    while not true():
        time.sleep(0.1)
