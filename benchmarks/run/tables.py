"""The tables of README.md and docs/guide.md, from metrics/ and benchmarks/results/.

Writes them between their markers; with --check, compares them and writes nothing.
"""

import hashlib
import itertools
import json
import math
from pathlib import Path

import pandas as pd

from benchmarks.run import command, results
from benchmarks.run.settings import SETTINGS, dataset_of
from reprocnn.commands.demo import change
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json, write_text
from reprocnn.datasets import by_name
from reprocnn.gate.statistics import mcnemar
from reprocnn.report.cells import spread
from reprocnn.report.tables import markdown
from reprocnn.report.tables import tables as measured_tables

PAGES, LOCK = (Path("README.md"), Path("docs/guide.md")), Path("dvc.lock")
BETWEEN = "\f"  # pages, while they are filled as one text
SEEDS, MISTAKES = results.FOLDER / "seeds.csv", results.FOLDER / "mistakes.csv"
ALPHAS = [0.05, 0.01, 0.001, 0.0001]


def main(arguments: list[str]) -> None:
    """Write or check the tables."""
    parser = command.parser("tables", __doc__)
    parser.add_argument("--check", action="store_true", help="fail if the tables are not those of the results")
    check = parser.parse_args(arguments).check
    text = BETWEEN.join(page.read_text(encoding="utf-8") for page in PAGES)
    filled = fill(text)
    pages = " and ".join(map(str, PAGES))
    if not check:
        for page, content in zip(PAGES, filled.split(BETWEEN), strict=True):
            write_text(page, content)
    elif filled != text:
        changed = next(new for old, new in zip(text.splitlines(), filled.splitlines(), strict=False) if old != new)
        raise UserError(f"{pages}: not the tables of the results, which give\n{changed}\nrun `make readme`")
    else:
        print(f"verify: the tables of {pages} are those of the results")


def fill(text: str) -> str:
    """Give the pages' text with its tables as they should be. Raises UserError for a marker not found once."""
    tables = {"this commit": this_commit(), "over seeds": over_seeds(), "false alarms": false_alarms()}
    n_val = read_json(Path("evaluation/mnist.json"))["validation_images"]
    tables |= {name: markdown(table) for name, table in measured_tables(n_val).items()}
    for marker, table in tables.items():
        start = f"<!-- {marker} -->\n"
        before, _, rest = text.partition(start)
        _, end, after = rest.partition("<!-- end -->")
        if text.count(start) != 1 or not end:
            found = text.count(start)
            raise UserError(
                f"{PAGES[0]}, {PAGES[1]}: expected one {start.strip()} and its <!-- end -->, found {found}; add it"
            )
        text = before + start + table + end + after
    return text


def this_commit() -> str:
    """Tabulate the metrics of the committed networks, those that have a target."""
    values = params.load(params.FILE)
    rows = []
    for name, targets in values["targets"].items():
        test, target = _metrics(name)["test"], targets["test"]["accuracy"]["at_least"]
        rows.append(
            {
                "data set": by_name(name).title,
                "network": values[name]["network"],
                "parameters": f"{read_json(Path('evaluation') / f'{name}.json')['parameters']:,}",
                "test accuracy": f"**{test['accuracy']:.2%}**",
                "with TTA": f"{test['accuracy_tta']:.2%}",
                "95 % interval": f"{test['accuracy_low']:.2%} to {test['accuracy_high']:.2%}",
                "wrong": f"{test['errors']:,} of {test['n']:,}",
                "target": f"{target:.1%}",
                "epochs": values[name]["epochs"],
            }
        )
    return markdown(pd.DataFrame(rows))


def over_seeds() -> str:
    """Tabulate mean ± standard deviation over seeds; rows of other code, data or params than dvc.lock's say so."""
    rows = []
    for (setting, digest), runs in pd.read_csv(SEEDS).groupby(["setting", "training"], sort=False):
        accuracy, minutes = runs["test_accuracy"], runs["seconds"] / 60
        first = runs.iloc[0]
        rows.append(
            {
                "setting": _with_age(str(setting), str(digest)),
                "test accuracy": spread(accuracy),
                "n": len(runs),
                "training, minutes": f"{minutes.mean():.2g} ({minutes.min():.2g} to {minutes.max():.2g})",
                "peak memory": f"{runs['peak_memory_mib'].max() / 1024:.1f} GiB",
                "hardware": first["hardware"],
                "versions": first["versions"],
                "command": f"`python -m benchmarks seeds {setting} {len(runs)}`",
                "training code": digest,
            }
        )
    return markdown(pd.DataFrame(rows))


def false_alarms() -> str:
    """Tabulate, over the ordered pairs of seeds of one recipe, how often the gate would call the second one worse."""
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
                    f"stopped with alpha {gate['alpha']:g}, tolerance {gate['tolerance']:g}": f"{stopped / len(p):.0%}",
                }
            )
    return markdown(pd.DataFrame(rows))


def compare_seeds(setting: str, seeds: list[int]) -> tuple[list[float], list[float], list[float]]:
    """Compare every ordered pair of seeds: drop of the test accuracy, McNemar's p, and z, of variance 1 by chance."""
    n = _metrics(dataset_of(setting))["test"]["n"]
    mistakes = pd.read_csv(MISTAKES).query("setting == @setting")
    wrong = {seed: set(mistakes.loc[mistakes["seed"] == seed, "index"]) for seed in seeds}
    drops, p, z = [], [], []
    for then, now in itertools.permutations(seeds, 2):
        lost, won = len(wrong[now] - wrong[then]), len(wrong[then] - wrong[now])
        drops.append((lost - won) / n)
        p.append(mcnemar(lost, won))
        z.append((lost - won) / math.sqrt(lost + won) if lost + won else 0.0)
    return drops, p, z


def training_digest(lock: Path, dataset: str, changes: dict[str, object] | None = None) -> str:
    """Digest what a dvc.lock says that the training was made from: code, data and params, without seed and threads.

    `changes` are other params, at dotted keys.
    """
    stage = params.load(lock)["stages"][f"train_{dataset}"]
    values = change(stage["params"]["params.yaml"], changes or {})
    kept = {key: value for key, value in values.items() if key not in ("seed", "threads")}
    made_from = {"deps": {dep["path"]: dep["md5"] for dep in stage["deps"]}, "params": kept}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]


def current_digest(setting: str) -> str:
    """Compute the digest that a training of `setting` has if its code and data are those of dvc.lock."""
    return training_digest(LOCK, dataset_of(setting), SETTINGS[setting])


def _with_age(setting: str, digest: str) -> str:
    return setting if digest == current_digest(setting) else f"{setting} (older code)"


def _metrics(dataset: str) -> dict[str, dict[str, float]]:
    metrics: dict[str, dict[str, float]] = read_json(Path("metrics") / f"{dataset}.json")[dataset]
    return metrics
