"""Run many DVC experiments at once, on the cores of this machine or on a Ray cluster.

`reprocnn sweep 'lr=0.003,0.01' 'seed=range(0,4)'` runs the committed pipeline once for each combination, as
`dvc exp run -S` does. RAY_ADDRESS names the cluster, if any. Work that several trials share, such as preparing the
data, is done once. Running the same command again runs only what is missing. Exit code 1: a trial failed.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from hydra.core.override_parser.types import Override

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.repository import git
from reprocnn.sweep.cluster import Machines, connect
from reprocnn.sweep.driver import Driver
from reprocnn.sweep.experiments import Experiments, metric_files
from reprocnn.sweep.jobs import GPU, Jobs, Sharing, pipeline_stages, template
from reprocnn.sweep.overrides import Overrides, experiment_name, grid, parse
from reprocnn.sweep.pruning import find, start
from reprocnn.sweep.search import SAMPLERS, Proposal, Search


def main(arguments: list[str]) -> None:
    """Run a sweep of the repository in the working folder. Raises UserError if a trial fails."""
    options = _options(arguments)
    overrides = parse([*options.overrides, f"threads={options.threads}", *([GPU] if options.gpus else [])])
    pruning = options.prune is not None
    search = Search(options.search, options.trials, options.minimize, pruning) if options.search else None
    trials = [] if search else grid(overrides)
    total = search.trials if search else len(trials)
    _check_repository(options.summary)
    gpus = f" and {options.gpus:g} GPUs" if options.gpus else ""
    threads = f"{options.threads} thread{'s' * (options.threads != 1)}{gpus}"
    print(f"sweep: {total} trial{'s' * (total != 1)} of {threads} each", flush=True)
    if options.dry:
        for trial in trials:
            print(experiment_name(trial), *trial)
        return
    note = _threads_note(options.threads)
    driver = _sweep(overrides, search, trials, options)
    try:
        failed = driver.run()
    finally:
        if options.summary:
            from reprocnn.sweep.page import write

            write(options.summary, driver.ended, overrides, options.metric, options.minimize, note)
            print(f"sweep: wrote {options.summary}", flush=True)
    if note:
        print(f"sweep: {note}", flush=True)
    if len(driver.ended) < total:
        print(f"sweep: {len(driver.ended)} trials; further draws only repeated them", flush=True)
    if failed:
        raise UserError(f"sweep: {failed} of {total} trials failed; fix that and run the same command again")


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="reprocnn sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "overrides", nargs="+", metavar="KEY=VALUES", help="values to try, written as for `dvc exp run -S`"
    )
    parser.add_argument("--search", choices=SAMPLERS, help="draw values instead of trying all combinations")
    parser.add_argument("--trials", type=_positive, metavar="N", help="how many trials to draw")
    parser.add_argument(
        "--metric",
        default="mnist.val.accuracy",
        help="metric to print and to optimize, by its dotted name (default: %(default)s)",
    )
    parser.add_argument("--minimize", action="store_true", help="lower values of the metric are better")
    parser.add_argument(
        "--threads", type=_positive, default=2, metavar="N", help="threads per trial (default: %(default)s)"
    )
    parser.add_argument(
        "--gpus", type=_gpus, metavar="N", help="GPUs per trial, which sets device=gpu; below 1, trials share a GPU"
    )
    parser.add_argument(
        "--prune",
        nargs="?",
        const="",
        metavar="FILE:COLUMN",
        help="with --search: stop trials whose best epoch so far is worse than the median of finished ones at the same "
        "epoch. FILE is a CSV output of the pipeline, COLUMN its metric (default for a metric NAME.val.accuracy: "
        "plots/NAME/history.csv:val_accuracy)",
    )
    parser.add_argument(
        "--summary", type=Path, metavar="FILE", help="write a page with the trials as a table and as plots"
    )
    parser.add_argument(
        "--dry", action="store_true", help="list the trials of a grid, or count those of a search, and stop"
    )
    options = parser.parse_args(arguments)
    if (options.search is None) != (options.trials is None):
        raise UserError("sweep: --search and --trials go together, as in `--search optuna --trials 20`")
    if options.prune is not None and not options.search:
        raise UserError("sweep: --prune needs --search, as in `--search random --trials 20 --prune`")
    if options.summary:
        _check_page(options.summary)
    return options


def _check_page(path: Path) -> None:
    """Raise UserError if no page can be written there, or if another file would be lost, before the first trial."""
    from reprocnn.sweep.page import TITLE  # which loads matplotlib

    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir() or not existing.is_dir():
        found = "a folder" if path.is_dir() else f"the file {existing} in place of a folder"
        raise UserError(f"sweep: --summary {path}: found {found}, expected the name of a file, as in sweep.html")
    content = path.read_bytes() if path.exists() else b""
    if content and TITLE.encode() not in content:
        raise UserError(f"sweep: --summary {path}: found a file that is no page of a sweep; give another name")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected a whole number, at least 1")
    return int(text)


def _gpus(text: str) -> float:
    try:
        gpus = float(text)
    except ValueError:
        gpus = 0
    if not (0 < gpus < 1 or (gpus >= 1 and gpus.is_integer())):
        raise argparse.ArgumentTypeError(f"found {text}, expected a whole number, or a share of one GPU such as 0.5")
    return gpus


def _check_repository(page: Path | None) -> None:
    """Raise UserError if workers would not get what is in the working folder, of which a sweep's `page` is no part."""
    if git("rev-parse", "--show-prefix").strip():
        raise UserError(
            "sweep: the git repository begins in a folder above; sweep where .dvc and .git are in one folder"
        )
    here = Path().resolve()
    own = [page.resolve().relative_to(here)] if page and page.resolve().is_relative_to(here) else []
    excluded = [f":(exclude,literal){path.as_posix()}" for path in own]
    if changed := git("status", "--porcelain", "--untracked-files=all", "--", ".", *excluded).splitlines():
        named = ", ".join(line[3:] for line in changed[:3]) + (" and more" if len(changed) > 3 else "")
        raise UserError(
            f"sweep: found uncommitted changes, which no worker would see: {named}; commit them, or let git ignore them"
        )
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise UserError("sweep: this clone is shallow, and workers need its history; run `git fetch --unshallow`")


def _threads_note(threads: int) -> str:
    """Say that trials have other bits than the workspace, if they have other threads."""
    usual = params.load(params.FILE).get("threads")
    if usual == threads:
        return ""
    cores = " (all cores)" if usual == 0 else ""
    return (
        f"Trials have threads={threads}, params.yaml has threads: {usual}{cores}: other threads give other bits, so "
        f"compare trials with each other."
    )


def _sweep(
    overrides: list[Override], search: Search | None, trials: list[Overrides], options: argparse.Namespace
) -> Driver:
    """Connect to the cluster, check its machines, and put the parts of the sweep together."""
    revision = git("rev-parse", "HEAD").strip()
    try:
        repo = Repo()
        stages = pipeline_stages(repo)
    except DvcException as error:  # no DVC repository, or a faulty dvc.yaml
        raise UserError(f"sweep: {error}") from None
    watched = None if options.prune is None else find(repo, options.prune, options.metric)
    experiments = Experiments(revision, options.metric, metric_files(repo), watched)
    experiments.check_metric(repo)
    job = template(repo, revision)
    connect()
    machines = Machines(options.threads, options.gpus or 0)
    job = replace(job, apart=not machines.inspect(job))
    if watched:
        job = replace(job, watched=start(watched))
    if search:
        drawn = {one.key_or_group for one in overrides if one.is_sweep_override()}
        proposals = search.proposals(overrides, experiments)
    else:
        drawn = set()
        proposals = (Proposal(trial) for trial in trials)
    jobs = Jobs(machines, job, stages, Sharing(stages, trials, drawn))
    return Driver(machines, jobs, experiments, proposals, len(trials) or options.trials)
