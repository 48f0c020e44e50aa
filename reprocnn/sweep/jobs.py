"""Submit the jobs of a trial to Ray: stages that it shares with other trials, once each, then the trial itself."""

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import networkx
import ray
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from ray.exceptions import RayError

from reprocnn.repository import git
from reprocnn.sweep.cluster import Machines
from reprocnn.sweep.overrides import Overrides, experiment_name, key_of
from reprocnn.sweep.trial import Job, MachineError, run_job, versions

PROGRESS_SECONDS = 10  # to wait for an answer
GPU = "device=gpu"  # the override of a trial that gets GPUs
Part = tuple[str, Overrides]  # a stage, and the overrides of a trial that reach it


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline, as far as sharing it is concerned."""

    keys: frozenset[str]  # dotted params that it or a stage upstream depends on
    upstream: tuple[str, ...]  # names of all stages before it


def pipeline_stages(repo: Repo) -> dict[str, Stage]:
    """Read the stages by name, in the order of the pipeline, from DVC's graph."""
    graph = repo.index.graph
    own = {
        stage: {key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params} for stage in graph
    }
    stages = {}
    for stage in networkx.topological_sort(graph.reverse()):
        if not stage.cmd:
            continue  # data that a .dvc file names: there is nothing to run
        upstream = [before for before in networkx.descendants(graph, stage) if before.cmd]
        keys = own[stage].union(*(own[before] for before in upstream))
        stages[stage.addressing] = Stage(frozenset(keys), tuple(before.addressing for before in upstream))
    return stages


def parts_of(trial: Overrides, stages: dict[str, Stage]) -> dict[str, Overrides]:
    """Map each stage, in the order of the pipeline, to those overrides of the trial that reach it."""
    return {
        name: tuple(one for one in trial if any(_overlap(key_of(one), key) for key in stage.keys))
        for name, stage in stages.items()
    }


def _overlap(key: str, other: str) -> bool:
    """Check whether one of two dotted keys is the other or above it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def template(repo: Repo, revision: str) -> Job:
    """Describe the whole pipeline of `revision` without overrides, as run from this repository."""
    cache = Path(repo.cache.local_cache_dir)
    cache.mkdir(parents=True, exist_ok=True)
    return Job(
        name="",
        revision=revision,
        overrides=(),
        target=None,
        cache=str(cache),
        remote=repo.config["remote"].get(repo.config["core"].get("remote"), {}).get("url"),
        gpus=0,
        watched=None,
        apart=False,
        settings=json.loads(json.dumps(repo.config.read())),  # of all levels; as plain strings, paths stay absolute
        versions=versions(),
        variables={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")},
    )


class Sharing:
    """The parts of trials that run once for all: those of several `trials`, or those that no `drawn` key reaches."""

    def __init__(self, stages: dict[str, Stage], trials: list[Overrides], drawn: set[str]) -> None:
        self.drawn = drawn
        self.uses = Counter(part for trial in trials for part in parts_of(trial, stages).items())

    def __contains__(self, part: Part) -> bool:
        if self.drawn:
            return not any(key_of(one) in self.drawn for one in part[1])
        return self.uses[part] > 1


class Jobs:
    """The jobs of a sweep, all derived from one `job` with other names, overrides and targets."""

    def __init__(self, machines: Machines, job: Job, stages: dict[str, Stage], sharing: Sharing) -> None:
        self.machines, self.job, self.stages, self.sharing = machines, job, stages, sharing
        self.shared: dict[Part, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            git("bundle", "create", "--quiet", f"{folder}/bundle", "HEAD")
            self.repository = ray.put(Path(folder, "bundle").read_bytes())
        self.task = ray.remote(num_cpus=machines.threads)(run_job)

    def submit(self, trial: Overrides) -> Any:
        """Start a trial, and before it what it shares with others; return Ray's reference to its outcome."""
        parts = parts_of(trial, self.stages)
        for part in parts.items():
            if part not in self.shared and part in self.sharing:
                stage, overrides = part
                before = [(name, parts[name]) for name in self.stages[stage].upstream]
                readable = re.sub(r"[^\w.@-]+", "-", stage)  # one in a subfolder is called sub/dvc.yaml:train
                name = "-".join([readable, experiment_name(overrides)] if overrides else [readable])
                job = replace(self.job, name=name, overrides=overrides, target=stage, watched=None)
                self.shared[part] = self._start(job, before)
        return self._start(replace(self.job, name=experiment_name(trial), overrides=trial), list(parts.items()))

    def _start(self, job: Job, before: list[Part]) -> Any:
        needed = [self.shared[part] for part in before if part in self.shared]
        gpus = self.machines.gpus if GPU in job.overrides else 0
        options = self.machines.options() | {"num_gpus": gpus}
        return self.task.options(**options).remote(replace(job, gpus=gpus), self.repository, *needed)

    def stop(self, behind: dict[str, Callable[[list[float]], bool]]) -> None:
        """Stop those running trials, by name, that are behind, given the watched metric of their epochs."""
        if not self.job.watched:
            return
        progress = self.job.watched.progress
        with suppress(RayError):  # the next call asks again
            for name, values in ray.get(progress.take.remote(), timeout=PROGRESS_SECONDS).items():
                if name in behind and behind[name](values):
                    progress.stop.remote(name)

    def forget_failed(self) -> None:
        """Forget shared parts that failed because of a machine, so that the next trial starts them again."""
        for part, reference in list(self.shared.items()):
            try:
                ray.get(reference, timeout=0)
            except MachineError:
                del self.shared[part]
            except RayError:  # still running, or failed for its own sake
                pass
