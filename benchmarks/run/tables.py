"""The measured tables of README.md and docs/, from metrics/ and benchmarks/results/.

Write them between their markers. With --check, compare them and write nothing.
"""

import itertools
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.run import command, results
from benchmarks.run.digests import current_digest
from benchmarks.run.settings import dataset_of
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json, write_text
from reprocnn.datasets import by_name
from reprocnn.gate.statistics import mcnemar
from reprocnn.report.cells import accuracy, gib, of_one_processor, spread
from reprocnn.report.tables import markdown
from reprocnn.report.tables import tables as measured_tables

README, DOCS = Path("README.md"), Path("docs")
SEEDS, MISTAKES = results.FOLDER / "seeds.csv", results.FOLDER / "mistakes.csv"
ALPHAS = [0.05, 0.01, 0.001, 0.0001]
HEADLINES = ("mnist", "cifar", "cifar-94")  # of the README; their networks are those of params.yaml
MARKED = re.compile(r"<!-- ([a-z][\w -]*) -->\n((?:(?!<!--).)*)<!-- end -->", re.DOTALL)


class View(NamedTuple):
    """What a page shows of a table: at most six columns, so that it fits a screen; the CSV file has the rest."""

    table: str
    columns: tuple[str, ...]
    where: tuple[str, str] | None = None  # column, value: these rows alone


STEP = ("setting", "convolutions", "ours", "Keras' / ours", "PyTorch / ours", "share of peak")
VIEWS = {
    "results": View("headlines", ("data set", "setting", "test accuracy", "with TTA", "minutes", "parameters")),
    "this commit": View("this commit", ("data set", "network", "test accuracy", "95 % interval", "with TTA", "wrong")),
    "over seeds": View("over seeds", ("setting", "test accuracy", "n", "training, minutes", "peak memory")),
    "false alarms": View("false alarms", ("setting", "pairs", *(f"p < {alpha:g}" for alpha in ALPHAS))),
    "largest drops": View("false alarms", ("setting", "seeds", "mean z²", "largest drop", "stopped")),
    "calibration": View("calibration", ("seeds of", "dispersion", "alpha 0.01", *(f"{k} seeds" for k in (3, 10, 30)))),
    "losses found": View("losses found", ("seeds of", "loss, points", "one seed", "three seeds", "promised at")),
    "audit seconds": View("audit seconds", ("network", "layers", "parameters", "seconds")),
    "formats": View("formats", ("format", "accuracy", "other classes", "largest difference", "images/s", "kB")),
    "pruning": View("pruning", ("search", "trials", "pruned", "epochs", "best validation accuracy")),
    "insights": View("insights", ("network", "n", "after 10 epochs", "epochs", "last epoch")),
    "insights selection": View("insights", ("network", "epoch chosen on validation", "epoch chosen on test")),
    "flaws": View("flaws", ("fix", "parameters", "validation accuracy", "loss", "n")),
    "bench": View("bench", ("side", "epochs", "test accuracy", "with TTA", "n", "time to target")),
    "bench cost": View("bench", ("side", "seconds", "images/s", "peak memory", "time to first step")),
    "bench arithmetic": View("bench", ("side", "TFLOP", "share of peak", "relative to mnist-fast")),
    "end to end": View("end_to_end", ("process", "n", "test accuracy", "seconds", "training", "CPU seconds")),
    "airbench": View("airbench", ("processor", "precision", "epochs", "test accuracy", "with TTA", "n")),
    "growth": View("growth", ("data set", "growing", "seconds per epoch", "exponent of seconds")),
    "growth memory": View("growth", ("data set", "growing", "peak memory, MiB", "exponent of memory")),
    "overhead": View("overhead", ("what", "seconds", "baseline", "ratio")),
    "step": View("step", STEP, ("processor", "Intel(R) Xeon(R) Processor, 2 threads")),
    "step avx512": View("step", STEP, ("processor", "AMD EPYC, avx512_bf16, 2 threads")),
    "sweep": View("sweep", ("run as", "trials", "each trial waits", "seconds", "per trial")),
    "cifar": View("cifar", ("setting", "epochs", "test accuracy", "with TTA", "n", "minutes")),
    "cifar cost": View("cifar", ("setting", "processor", "relative time", "TFLOP", "peak memory")),
    "gpu": View("gpu", ("setting", "changed", "with TTA", "n", "seconds"), ("judged on", "test")),
    "gpu cost": View("gpu", ("setting", "changed", "epochs", "TFLOP", "share of peak"), ("judged on", "test")),
    "gpu validation": View("gpu", ("changed", "accuracy", "with TTA", "n"), ("judged on", "validation")),
    "gpu step": View("gpu_step", ("step by", "images", "milliseconds", "images/s", "share of peak")),
    "waits": View("waits", ("fed with", "epochs", "last step after", "fit returns after", "longest")),
    "tried": View("tried", ("change", "n", "seconds", "relative time", "validation accuracy")),
    "levers": View("levers", ("change", "n", "TFLOP", "validation accuracy", "with TTA")),
    "search": View("search", ("change", "seeds", "errors", "baseline errors")),
}


def main(arguments: list[str]) -> None:
    """Write or check the tables."""
    parser = command.parser("tables", __doc__)
    parser.add_argument("--check", action="store_true", help="fail if a table is not that of the results")
    check = parser.parse_args(arguments).check
    pages = {page: page.read_text(encoding="utf-8") for page in (README, *sorted(DOCS.rglob("*.md")))}
    filled = fill(pages)
    for page, text in filled.items():
        if not check and text != pages[page]:
            write_text(page, text)
        elif text != pages[page]:
            line = next(
                new for old, new in zip(pages[page].splitlines(), text.splitlines(), strict=False) if old != new
            )
            raise UserError(f"{page}: expected the table of the results, which has\n{line}\nRun `make generate`.")
    if check:
        print(f"verify: the tables of {README} and {DOCS}/ are those of the results")


def fill(pages: dict[Path, str]) -> dict[Path, str]:
    """Return the pages with their tables as they should be. Raises UserError unless each table is there once."""
    tables = views()
    found = [marker for text in pages.values() for marker, _ in MARKED.findall(text)]
    for marker in dict.fromkeys([*found, *tables]):
        if marker not in tables:
            raise UserError(f"<!-- {marker} -->: unknown table, known: {', '.join(tables)}. Remove or rename it.")
        if found.count(marker) != 1:
            raise UserError(
                f"{README}, {DOCS}/: <!-- {marker} --> and its <!-- end -->: expected once, got {found.count(marker)}. "
                "Add or remove one."
            )

    def replace(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{tables[match[1]]}<!-- end -->"

    return {page: MARKED.sub(replace, text) for page, text in pages.items()}


def views() -> dict[str, str]:
    """Write what each view shows as Markdown, by marker."""
    n_val = read_json(Path("evaluation/mnist.json"))["validation_images"]
    if n_val is None:
        raise UserError(
            "evaluation/mnist.json: validation_images: found none, expected their number, for the errors in the table "
            "of the search. Train with mnist.train_on: train."
        )
    tables = measured_tables(n_val)
    tables |= {"headlines": headlines(), "this commit": this_commit()}
    tables |= {"over seeds": over_seeds(), "false alarms": false_alarms()}
    tables |= {"calibration": calibration(), "losses found": losses_found(), "formats": formats()}
    tables |= {"pruning": pruning(), "audit seconds": audit_seconds(), "airbench": airbench()}
    tables["levers"] = levers()
    gone = sorted({table for table, *_ in VIEWS.values()} - tables.keys())
    if gone:
        raise UserError(f"{results.FOLDER / gone[0]}.csv: missing; restore it with git checkout")
    tables["search"] = tables["search"].rename(columns={f"errors of {n_val:,}": "errors"})
    texts = {}
    for marker, (table, columns, where) in VIEWS.items():
        shown = tables[table]
        if where:
            shown = shown[shown[where[0]] == where[1]]
        texts[marker] = markdown(shown[list(columns)])
    return texts


def headlines() -> pd.DataFrame:
    """Tabulate the settings that the README shows, over seeds."""
    seeds = pd.read_csv(SEEDS)
    rows = []
    for setting in HEADLINES:
        own, dataset = seeds[seeds["setting"] == setting], dataset_of(setting)
        own = own[own["training"] == own["training"].iloc[-1]]
        is_current = own["training"].iloc[0] == current_digest(setting)
        rows.append(
            {
                "data set": by_name(dataset).title,
                "setting": _with_age(setting, str(own["training"].iloc[0])),
                "test accuracy": accuracy("test_accuracy")(own),
                "with TTA": accuracy("test_accuracy_tta")(own),
                "minutes": f"{of_one_processor(own)['seconds'].median() / 60:.0f}",
                "parameters": f"{_details(dataset)['parameters']:,}" if is_current else "",
            }
        )
    return pd.DataFrame(rows)


def this_commit() -> pd.DataFrame:
    """Tabulate the metrics of the committed networks, those that have a target."""
    values = params.load(params.FILE)
    rows = []
    for name in values["targets"]:
        test = _details(name)["test"] | read_json(Path("metrics") / f"{name}.json")[name]["test"]
        rows.append(
            {
                "data set": by_name(name).title,
                "network": values[name]["network"],
                "test accuracy": f"**{test['accuracy']:.2%}**",
                "with TTA": f"{test['accuracy_tta']:.2%}",
                "95 % interval": f"{test['accuracy_low']:.2%} to {test['accuracy_high']:.2%}",
                "wrong": f"{test['errors']:,} of {test['n']:,}",
            }
        )
    return pd.DataFrame(rows)


def over_seeds() -> pd.DataFrame:
    """Tabulate mean ± standard deviation over seeds; rows of other code, data or params than dvc.lock's say so."""
    rows = []
    for (setting, digest), runs in pd.read_csv(SEEDS).groupby(["setting", "training"], sort=False):
        timed = of_one_processor(runs)
        minutes = timed["seconds"] / 60
        rows.append(
            {
                "setting": _with_age(str(setting), str(digest)),
                "test accuracy": spread(runs["test_accuracy"]),
                "n": len(runs),
                "training, minutes": f"{minutes.median():.2g} ({minutes.min():.2g} to {minutes.max():.2g})",
                "peak memory": gib(timed["peak_memory_mib"].max()),
            }
        )
    return pd.DataFrame(rows)


def false_alarms() -> pd.DataFrame:
    """Tabulate how often the gate would call one seed worse than another, over all ordered pairs of one recipe."""
    gate = params.load(params.FILE)["gate"]
    rows = []
    for (setting, digest), runs in pd.read_csv(SEEDS).groupby(["setting", "training"], sort=False):
        drops, p, z = compare_seeds(str(setting), runs["seed"].tolist())
        if drops:
            stopped = sum(q < gate["alpha"] or drop > gate["tolerance"] for drop, q in zip(drops, p, strict=True))
            rows.append(
                {
                    "setting": _with_age(str(setting), str(digest)),
                    "seeds": len(runs),
                    "pairs": len(p),
                    **{f"p < {alpha:g}": f"{sum(q < alpha for q in p) / len(p):.0%}" for alpha in ALPHAS},
                    "mean z²": f"{sum(value**2 for value in z) / len(z):.1f}",
                    "largest drop": f"{100 * max(drops):.2f} points",
                    "stopped": f"{stopped / len(p):.0%}",
                }
            )
    return pd.DataFrame(rows)


def calibration() -> pd.DataFrame:
    """Tabulate the false alarms of calibrated gates, by what calibrated them."""
    measured = pd.read_csv(results.FOLDER / "calibration_false_alarms.csv")
    rows = []
    for (name, dispersion), own in measured.groupby(["seeds of", "dispersion"], sort=False):
        raw = own.loc[own["seeds"] == own["seeds"].max(), "alpha 0.01"].item()
        rates = {f"{k} seeds": f"{rate:.1%}" for k, rate in zip(own["seeds"], own["calibrated"], strict=True)}
        rows.append({"seeds of": name, "dispersion": f"{dispersion:.2g}", "alpha 0.01": f"{raw:.1%}", **rates})
    return pd.DataFrame(rows).fillna("-")  # too few seeds


def losses_found() -> pd.DataFrame:
    """Tabulate how often a gate that ten seeds calibrated finds the loss of a worse recipe."""
    measured = pd.read_csv(results.FOLDER / "calibration_power.csv")
    table = measured[["seeds of"]].copy()
    for column, heading in (("loss", "loss, points"), ("promised at", "promised at")):
        table[heading] = [f"{100 * value:.2f}" for value in measured[column]]
    for column in ("one seed", "three seeds"):
        table[column] = [f"{value:.0%}" for value in measured[column]]
    return table


def audit_seconds() -> pd.DataFrame:
    """Tabulate how long an audit takes."""
    measured = pd.read_csv(results.FOLDER / "audit.csv")
    return measured.assign(parameters=measured["parameters"].map("{:,}".format))


def formats() -> pd.DataFrame:
    """Tabulate what the exported formats compute and how fast."""
    measured = pd.read_csv(results.FOLDER / "formats.csv")
    columns = {
        "format": measured["format"], "accuracy": [f"{value:.2%}" for value in measured["accuracy"]],
        "other classes": measured["other classes"],
        "largest difference": [f"{value:.0e}" if value else "0" for value in measured["largest difference"]],
        "images/s": [f"{value:,}" for value in measured["images/s"]],
        "kB": [f"{value / 1000:.0f}" for value in measured["bytes"]],
    }  # fmt: skip
    return pd.DataFrame(columns)


def airbench() -> pd.DataFrame:
    """Tabulate airbench in PyTorch, a row per processor and precision."""
    measured = pd.read_csv(results.FOLDER / "airbench.csv")
    rows = [
        {
            "processor": hardware, "precision": precision, "epochs": own["epochs"].max(),
            "test accuracy": spread(own["test_accuracy"]), "with TTA": spread(own["test_accuracy_tta"]), "n": len(own),
        }
        for (hardware, precision), own in measured.groupby(["hardware", "precision"])
    ]  # fmt: skip
    return pd.DataFrame(rows)


def levers() -> pd.DataFrame:
    """Tabulate single changes to the CIFAR-10 recipe; rows of other code than dvc.lock's say so."""
    rows = []
    for (name, digest), own in pd.read_csv(results.FOLDER / "levers.csv").groupby(["change", "training"], sort=False):
        rows.append(
            {
                "change": name if digest == current_digest("cifar") else f"{name} (outdated)",
                "n": len(own),
                "TFLOP": f"{own['tflop'].iloc[0]:.1f}",
                "validation accuracy": spread(own["val_accuracy"]),
                "with TTA": spread(own["val_accuracy_tta"]),
            }
        )
    return pd.DataFrame(rows)


def pruning() -> pd.DataFrame:
    """Tabulate a search in full and pruned."""
    measured = pd.read_csv(results.FOLDER / "pruning.csv")
    measured["best validation accuracy"] = measured["best"].map("{:.2%}".format)
    return measured.rename(columns={"side": "search"})


def compare_seeds(setting: str, seeds: list[int]) -> tuple[list[float], list[float], list[float]]:
    """Compare every ordered pair of seeds: drop of the test accuracy, McNemar's p, and z, of variance 1 by chance."""
    n = _details(dataset_of(setting))["test"]["n"]
    mistakes = pd.read_csv(MISTAKES).query("setting == @setting")
    wrong = {seed: set(mistakes.loc[mistakes["seed"] == seed, "index"]) for seed in seeds}
    drops, p, z = [], [], []
    for then, now in itertools.permutations(seeds, 2):
        lost, won = len(wrong[now] - wrong[then]), len(wrong[then] - wrong[now])
        drops.append((lost - won) / n)
        p.append(mcnemar(lost, won))
        z.append((lost - won) / math.sqrt(lost + won) if lost + won else 0.0)
    return drops, p, z


def _with_age(setting: str, digest: str) -> str:
    return setting if digest == current_digest(setting) else f"{setting} (outdated)"


def _details(dataset: str) -> dict[str, Any]:
    return read_json(Path("evaluation") / f"{dataset}.json")
