"""Many trainings at once, on the cores of this machine or on a Ray cluster; each result is a DVC experiment here.

`python -m stages.sweep 'mnist.lr=0.003,0.01' 'seed=range(0,4)'` runs the committed pipeline once for each combination,
as `dvc exp run -S` does, with `--threads` threads each; with RAY_ADDRESS on that cluster. What several of them need,
such as the prepared data, is made once. Starting the same sweep again runs what is missing.
"""

import argparse
import functools
import hashlib
import itertools
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import networkx
from dvc.dependency import ParamsDependency
from dvc.exceptions import InvalidArgumentError
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from rich.console import Console

from stages.lib import params
from stages.lib.commands import git
from stages.lib.errors import UserError, run
from stages.lib.files import write_json

try:
    import optuna
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from stages.lib.trial import Job, MachineError, has_cache, run_job, shortcomings, versions
except ModuleNotFoundError:
    sys.exit("error: sweep: Ray and Optuna are not installed; run `pip install -e '.[sweep]'`")

RECORDS = Path("runs/sweep")  # what the trainings recorded of themselves, by experiment
Overrides = tuple[str, ...]
Tell = Callable[[float | None], None]  # takes the metric of a trial, None if that failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.sweep", description="Many trainings, each an experiment.")
    parser.add_argument("overrides", nargs="+", metavar="KEY=VALUES", help="as `dvc exp run -S` takes them")
    parser.add_argument("--search", choices=["random", "optuna"], help="draw values instead of taking all")
    parser.add_argument("--trials", type=int, metavar="N", help="how many draws")
    parser.add_argument("--metric", default="mnist.val.accuracy", help="of metrics.json (default: %(default)s)")
    parser.add_argument("--minimize", action="store_true", help="for --search optuna: lower is better")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of a trial (default: %(default)s)")
    parser.add_argument("--dry", action="store_true", help="only list the trials")
    options = parser.parse_args()
    if (options.search is None) != (options.trials is None):
        raise UserError("sweep: --search and --trials go together, as in `--search optuna --trials 20`")
    overrides = parse([*options.overrides, f"threads={options.threads}"])
    trials = [] if options.search else grid(overrides)
    total = options.trials or len(trials)
    if git("status", "--porcelain"):
        raise UserError("sweep: found changes that are not committed, which no worker would see; commit them first")
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise UserError("sweep: this clone is shallow, and workers need its history; run `git fetch --unshallow`")
    print(f"sweep: {total} trials of {options.threads} threads each", flush=True)
    if options.dry:
        for trial in trials:
            print(name(trial), *trial)
        return
    sweep = Sweep(overrides, trials, options)
    failed = sweep.run(sweep.draw(overrides, options) if options.search else ((trial, None) for trial in trials), total)
    if failed:
        raise UserError(f"sweep: {failed} of {total} trials failed; mend that and run the same command again")


def parse(texts: list[str]) -> list[Override]:
    """The overrides, in Hydra's grammar as `dvc exp run -S` takes them; each value is checked against the schema."""
    parser, parsed, faults = OverridesParser.create(), list[Override](), list[str]()
    for text in texts:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            raise UserError(f"sweep: {text}: found no override ({error.args[0]}), expected KEY=VALUES") from None
        parsed.append(override)
        for value in values(override):
            faults += refused(value)
    repeated = [key for key, n in Counter(override.key_or_group for override in parsed).items() if n > 1]
    faults += [f"{key}: given more than once (--threads gives threads)" for key in repeated]
    if faults:
        raise UserError("\n".join(f"sweep: {fault}" for fault in dict.fromkeys(faults)))
    return parsed


def refused(override: str) -> list[str]:
    """Why params.yaml cannot take it, in the words of its schema."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(params.FILE, folder))
        try:
            apply_overrides(path, [override])
        except InvalidArgumentError:
            apply_overrides(path, [f"+{override}"])  # a key that is not there, which the schema does not know either
        return params.check(params.load(path))


def _read(text: str) -> dict[str, Any]:
    """YAML as the project reads params.yaml."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return params.load(Path(file.name))


def values(override: Override) -> list[str]:
    """Those of a grid as single overrides; of an interval its ends, which are to be allowed too."""
    if override.is_interval_sweep():
        interval: Any = override.value()
        return [f"{override.key_or_group}={end}" for end in (interval.start, interval.end)]
    if not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]


def grid(overrides: list[Override]) -> list[Overrides]:
    for override in overrides:
        if override.is_interval_sweep():
            raise UserError(f"sweep: {override.input_line}: an interval has no grid; add --search optuna --trials N")
    return list(itertools.product(*map(values, overrides)))


def name(overrides: Overrides) -> str:
    """The experiment's: the same for the same overrides."""
    return f"sweep-{hashlib.sha256(json.dumps(sorted(overrides)).encode()).hexdigest()[:10]}"


def connect() -> None:
    """To the cluster that RAY_ADDRESS names, else to one of this machine's cores alone, which it starts."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    package = str(Path(__file__).parent)
    try:
        if port.isdecimal() and "://" not in address:
            socket.create_connection((host, int(port)), timeout=10).close()  # Ray itself would try for minutes
        ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env={"py_modules": [package]})
    except (OSError, RayError, RuntimeError, ValueError) as error:
        raise UserError(
            f"sweep: no Ray at RAY_ADDRESS={address} ({' '.join(str(error).split())[:200]}); start it there with "
            f"`ray start`, and give this machine its token"
        ) from None


class Sweep:
    """A sweep of the repository in the working folder, run by the Ray cluster that it connects to."""

    def __init__(self, overrides: list[Override], trials: list[Overrides], options: argparse.Namespace) -> None:
        self.threads, self.metric = options.threads, options.metric
        self.revision = git("rev-parse", "HEAD").strip()
        self.refs = f"refs/exps/{self.revision[:2]}/{self.revision[2:]}"
        repo = Repo()
        self.cache = str(repo.cache.local_cache_dir)
        Path(self.cache).mkdir(parents=True, exist_ok=True)
        self.settings = json.loads(json.dumps(repo.config.read()))  # of all levels; plain strings stay absolute paths
        self.remote = repo.config["remote"].get(repo.config["core"].get("remote"), {}).get("url")
        self.stages = stages_of(repo)
        self.drawn = {one.key_or_group for one in overrides if one.is_sweep_override()} if options.search else set()
        self.needing = Counter(part for trial in trials for part in self.parts(trial).items())
        self.made: dict[tuple[str, Overrides], Any] = {}
        self.left_out: set[str] = set()
        self.apart = False  # whether some machine has not the folder of the cache

        connect()
        self.inspect()
        with tempfile.TemporaryDirectory() as folder:
            git("bundle", "create", "--quiet", f"{folder}/bundle", "HEAD")
            self.repository = ray.put(Path(folder, "bundle").read_bytes())
        self.task = ray.remote(num_cpus=self.threads)(run_job)

    def machines(self) -> list[dict[str, Any]]:
        """Ray's nodes that can run trials."""
        return [
            node
            for node in ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) >= self.threads and node["NodeID"] not in self.left_out
        ]

    def inspect(self) -> None:
        """Raises UserError if a machine of the cluster cannot run the trials; one that does not answer is left out."""
        machines = self.machines()
        if not machines:
            raise UserError(f"sweep: no machine of the cluster has {self.threads} cores; lower --threads")
        job = self.job("none", ())
        ask: Any = ray.remote(num_cpus=0)(lambda: (shortcomings(job), has_cache(job)))
        strategies = [NodeAffinitySchedulingStrategy(machine["NodeID"], soft=False) for machine in machines]
        asked: list[Any] = [ask.options(scheduling_strategy=strategy).remote() for strategy in strategies]
        lines: list[str] = []
        for machine, answer in zip(machines, asked, strict=True):
            node = machine["NodeManagerHostname"]
            try:
                lacking, shared = ray.get(answer)
                lines += [f"{node}: {line}" for line in lacking]
                self.apart |= not shared
            except RayError as error:
                self.leave_out(machine["NodeID"], node, " ".join(str(_cause(error)).split()))
        if lines:
            raise UserError("\n".join(lines))

    def leave_out(self, machine: str, node: str, what: str) -> None:
        """Nothing more starts on that machine, and what trials share is started anew if a machine is why it failed."""
        if machine not in self.left_out:
            print(f"sweep: {node}: left out: {what}", flush=True)
            self.left_out.add(machine)
        for part, job in list(self.made.items()):
            try:
                ray.get(job, timeout=0)
            except MachineError:
                del self.made[part]
            except RayError:  # it goes on, or failed for its own sake
                pass

    def job(self, experiment: str, overrides: Overrides, target: str | None = None) -> Job:
        variables = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")}
        return Job(
            name=experiment,
            revision=self.revision,
            overrides=overrides,
            target=target,
            cache=self.cache,
            remote=self.remote,
            apart=self.apart,
            settings=self.settings,
            versions=versions(),
            variables=variables,
        )

    def parts(self, trial: Overrides) -> dict[str, Overrides]:
        """Of each stage, in the order of the pipeline, the overrides that it or a stage before it depends on."""
        return {
            stage: tuple(one for one in trial if any(_touch(one.partition("=")[0], key) for key in keys))
            for stage, (keys, _) in self.stages.items()
        }

    def submit(self, trial: Overrides) -> Any:
        """Starts it behind what other trials need too, which is made once."""
        parts = self.parts(trial)
        for stage, own in parts.items():
            if (stage, own) not in self.made and self._is_shared(stage, own):
                before = [self.made[up, parts[up]] for up in self.stages[stage][1] if (up, parts[up]) in self.made]
                job = self.job(f"{stage}-{name(own)}", own, stage)
                self.made[stage, own] = self.start(job, *before)
        needed = [self.made[part] for part in parts.items() if part in self.made]
        return self.start(self.job(name(trial), trial), *needed)

    def start(self, job: Job, *needed: Any) -> Any:
        avoid = {"label_selector": {"ray.io/node-id": f"!in({','.join(self.left_out)})"}} if self.left_out else {}
        return self.task.options(**avoid).remote(job, self.repository, *needed)

    def _is_shared(self, stage: str, overrides: Overrides) -> bool:
        if self.drawn:
            return not any(one.partition("=")[0] in self.drawn for one in overrides)
        return self.needing[stage, overrides] > 1

    def run(self, proposed: Iterator[tuple[Overrides, Tell | None]], total: int) -> int:
        """Runs what is proposed and has no experiment yet, a line for each; gives the number of those that failed."""
        console, running, ran, failed = Console(soft_wrap=True), dict[Any, tuple[Overrides, Tell | None]](), 0, 0
        there = self.experiments()
        with console.status("") as status:
            while True:
                slots = sum(int(machine["Resources"]["CPU"]) // self.threads for machine in self.machines())
                while len(running) < max(1, slots) and (trial := next(proposed, None)):
                    if name(trial[0]) in there:
                        ran += 1
                        self._tell(console, trial, "is there")
                    elif self.left_out and not slots:
                        ran, failed = ran + 1, failed + 1
                        self._tell(console, trial, "failed: no machine is left")
                    else:
                        running[self.submit(trial[0])] = trial
                if not running:
                    return failed
                status.update(f"{ran} of {total} trials ended, {failed} of them failed; {len(running)} running")
                (ended, *_), _ = ray.wait(list(running), num_returns=1)
                trial = running.pop(ended)
                try:
                    outcome = ray.get(ended)
                    self.receive(trial[0], outcome)
                    told = f"{outcome['seconds']:.0f} s on {outcome['node']}"
                except (RayError, UserError) as error:
                    cause = _cause(error)
                    if isinstance(cause, MachineError):
                        self.leave_out(*cause.args)
                        proposed = itertools.chain([trial], proposed)
                        continue
                    failed += 1
                    told = f"failed: {str(cause).strip() or type(cause).__name__}"
                ran += 1
                self._tell(console, trial, told)

    def _tell(self, console: Console, trial: tuple[Overrides, Tell | None], what: str) -> None:
        overrides, tell = trial
        value = self.result(name(overrides))
        shown = "-" if value is None else f"{value:.4f}"
        console.print(f"{name(overrides)}  {self.metric} {shown:6}  {' '.join(overrides)}  {what}", markup=False)
        if tell:
            tell(value)

    def receive(self, overrides: Overrides, outcome: dict[str, Any]) -> None:
        """Makes the outcome an experiment of this repository, with its outputs in the cache."""
        experiment, pushed = name(overrides), outcome.pop("pushed")
        ref = f"{self.refs}/{experiment}"
        with tempfile.NamedTemporaryFile() as bundle:
            bundle.write(outcome.pop("bundle"))
            bundle.flush()
            git("fetch", "--quiet", bundle.name, f"{ref}:{ref}")
        write_json(RECORDS / f"{experiment}.json", {"overrides": overrides} | outcome)
        if pushed:
            repo = Repo()
            remotes = {"remote": repo.config["remote"]}  # in the committed config DVC resolves relative paths otherwise
            try:
                repo.fetch(revs=[git("rev-parse", ref).strip()], workspace=False, config=remotes)
            except Exception as error:  # DVC's, or one of the many libraries of its remotes
                raise UserError(
                    f"outputs not fetched: {error}; `dvc exp apply {experiment}` and `dvc pull` do"
                ) from None

    def experiments(self) -> set[str]:
        """The names of those that this commit has."""
        return set(git("for-each-ref", "--format=%(refname:lstrip=4)", self.refs).split())

    def result(self, experiment: str) -> float | None:
        """The metric of an experiment, None if there is none."""
        if experiment not in self.experiments():
            return None
        metrics = json.loads(git("show", f"{self.refs}/{experiment}:metrics.json"))
        try:
            return float(params.at(metrics, self.metric))
        except (KeyError, TypeError):
            raise UserError(
                f"sweep: --metric {self.metric}: not in metrics.json, which has {_leaves(metrics)}"
            ) from None

    def draw(self, overrides: list[Override], options: argparse.Namespace) -> Iterator[tuple[Overrides, Tell]]:
        """Optuna's draws; experiments of the same keys that are there count as such, and it learns from them."""
        space = {one.key_or_group: distribution(one) for one in overrides if one.is_sweep_override()}

        def trial_of(drawn: dict[str, Any]) -> Overrides:
            return tuple(
                f"{key}={drawn[key]}" if (key := one.key_or_group) in space else str(one.input_line)
                for one in overrides
            )

        def tell(trial: Any, value: float | None) -> None:
            study.tell(trial, value, optuna.trial.TrialState.FAIL if value is None else None)

        earlier = []
        for experiment in self.experiments():
            values = _read(git("show", f"{self.refs}/{experiment}:params.yaml"))
            drawn = {key: params.at(values, key) for key in space}
            if name(trial_of(drawn)) == experiment:
                earlier.append(optuna.create_trial(params=drawn, distributions=space, value=self.result(experiment)))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = (optuna.samplers.RandomSampler if options.search == "random" else optuna.samplers.TPESampler)(
            seed=len(earlier)
        )
        study = optuna.create_study(direction="minimize" if options.minimize else "maximize", sampler=sampler)
        study.add_trials(earlier)
        for _ in range(options.trials - len(earlier)):
            trial = study.ask(space)
            yield trial_of(trial.params), functools.partial(tell, trial)


def stages_of(repo: Repo) -> dict[str, tuple[set[str], list[str]]]:
    """The pipeline's stages in order: the params that each or one before it depends on, and those before it."""
    graph = repo.index.graph
    own = {
        stage: {key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params} for stage in graph
    }
    return {
        stage.name: (
            own[stage].union(*(own[before] for before in networkx.descendants(graph, stage))),
            [before.name for before in networkx.descendants(graph, stage)],
        )
        for stage in networkx.topological_sort(graph.reverse())
    }


def distribution(override: Override) -> Any:
    """Optuna's words for Hydra's sweeps; `tag(log, interval(a, b))` is even on a logarithmic scale."""
    swept: Any = override.value()
    if override.is_interval_sweep():
        whole = isinstance(swept.start, int) and isinstance(swept.end, int)
        kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
        return kind(swept.start, swept.end, log="log" in swept.tags)
    return optuna.distributions.CategoricalDistribution(
        [_read(f"value: {text}")["value"] for text in override.sweep_string_iterator()]
    )


def _cause(error: Exception) -> Exception:
    """What was raised on the machine."""
    return getattr(error, "cause", None) or error


def _touch(override: str, key: str) -> bool:
    """Whether one of two dotted keys is the other or above it."""
    return f"{override}.".startswith(f"{key}.") or f"{key}.".startswith(f"{override}.")


def _leaves(values: Any, prefix: str = "") -> str:
    if not isinstance(values, dict):
        return prefix.rstrip(".")
    return ", ".join(_leaves(value, f"{prefix}{key}.") for key, value in values.items())


if __name__ == "__main__":
    run(main)
