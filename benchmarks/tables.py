"""The README's tables, from metrics.json and from what the other modules here measured.

`python -m benchmarks.tables` writes them into README.md, between their markers; with --check it only compares.
"""

import hashlib
import itertools
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.settings import SETTINGS
from stages.gate import mcnemar
from stages.lib import measured
from stages.lib.errors import UserError, run
from stages.lib.files import write_text
from stages.lib.measured import markdown
from stages.lib.results import TITLES, load_json

README, LOCK = Path("README.md"), Path("dvc.lock")
ALPHAS = [0.05, 0.01, 0.001, 0.0001]
SEEDS, MISTAKES = Path("benchmarks/seeds.csv"), Path("benchmarks/mistakes.csv")


def main() -> None:
    text = README.read_text(encoding="utf-8")
    filled = fill(text)
    if "--check" not in sys.argv[1:]:
        write_text(README, filled)
    elif filled != text:
        changed = next(new for old, new in zip(text.splitlines(), filled.splitlines(), strict=False) if old != new)
        raise UserError(f"{README}: its tables are not those of the results, which give\n{changed}\nrun `make readme`")
    else:
        print(f"verify: the tables of {README} are those of the results")


def fill(text: str) -> str:
    """The README's text with its tables as they should be."""
    tables = {
        "this commit": this_commit(),
        "over seeds": over_seeds(),
        "false alarms": false_alarms(),
    }
    n_val = load_json(Path("evaluation/mnist.json"))["validation_images"]
    tables |= {name: markdown(table) for name, table in measured.tables(n_val).items()}
    for marker, table in tables.items():
        between = re.compile(f"(<!-- {marker} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, found = between.subn(lambda match, table=table: match[1] + table + match[2], text)  # type: ignore[misc]
        if found != 1:
            raise UserError(f"{README}: expected one <!-- {marker} --> with its <!-- end -->, found {found}")
    return text


def this_commit() -> str:
    metrics = load_json(Path("metrics.json"))
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    rows = []
    for name, title in TITLES.items():
        test = metrics[name]["test"]
        target = params["targets"][name]["test"]["accuracy"]["at_least"]
        rows.append(
            {
                "data set": title,
                "network": params[name]["network"],
                "parameters": f"{load_json(Path('evaluation') / f'{name}.json')['parameters']:,}",
                "test accuracy": f"**{test['accuracy']:.2%}**",
                "averaged over views": f"{test['accuracy_tta']:.2%}",
                "95 % interval": f"{test['accuracy_low']:.2%} to {test['accuracy_high']:.2%}",
                "wrong": f"{test['errors']:,} of {test['n']:,}",
                "target": f"{target:.1%}",
                "epochs": params[name]["epochs"],
            }
        )
    return markdown(pd.DataFrame(rows))


def over_seeds() -> str:
    """Mean ± standard deviation; a row measured on other code, data or params than dvc.lock's says so."""
    rows = []
    for (setting, digest), runs in pd.read_csv(SEEDS).groupby(["setting", "training"], sort=False):
        accuracy, minutes = runs["test_accuracy"], runs["seconds"] / 60
        first = runs.iloc[0]
        rows.append(
            {
                "setting": str(setting) + _age(str(setting), str(digest)),
                "test accuracy": measured.spread(accuracy),
                "n": len(runs),
                "training, minutes": f"{minutes.mean():.2g} ({minutes.min():.2g} to {minutes.max():.2g})",
                "peak memory": f"{runs['peak_memory_mib'].max() / 1024:.1f} GiB",
                "hardware": first["hardware"],
                "versions": first["versions"],
                "command": f"`python -m benchmarks.seeds {setting} {len(runs)}`",
                "training code": digest,
            }
        )
    return markdown(pd.DataFrame(rows))


def false_alarms() -> str:
    """For every ordered pair of seeds of one recipe: would the gate call the second one worse?"""
    gate = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["gate"]
    seeds = pd.read_csv(SEEDS)
    rows = []
    for (setting, digest), runs in seeds.groupby(["setting", "training"], sort=False):
        drops, p, z = compare_seeds(str(setting), runs["seed"].tolist())
        if drops:
            stopped = sum(q < gate["alpha"] or drop > gate["tolerance"] for drop, q in zip(drops, p, strict=True))
            rows.append(
                {
                    "setting": str(setting) + _age(str(setting), str(digest)),
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
    """For every ordered pair: the drop of the test accuracy, McNemar's p of it, and its z, of variance 1 by chance."""
    n = load_json(Path("metrics.json"))[_data_set(setting)]["test"]["n"]
    mistakes = pd.read_csv(MISTAKES).query("setting == @setting")
    wrong = {seed: set(mistakes.loc[mistakes["seed"] == seed, "index"]) for seed in seeds}
    drops, p, z = [], [], []
    for then, now in itertools.permutations(seeds, 2):
        lost, won = len(wrong[now] - wrong[then]), len(wrong[then] - wrong[now])
        drops.append((lost - won) / n)
        p.append(mcnemar(lost, won))
        z.append((lost - won) / math.sqrt(lost + won) if lost + won else 0.0)
    return drops, p, z


def training_digest(stage: dict[str, Any]) -> str:
    """What a training was made from, as dvc.lock has it: code, data and params, but for the seed and the threads."""
    params = {key: value for key, value in stage["params"]["params.yaml"].items() if key not in ("seed", "threads")}
    made_from = {"deps": {dep["path"]: dep["md5"] for dep in stage["deps"]}, "params": params}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]


def _age(setting: str, digest: str) -> str:
    stage = yaml.safe_load(LOCK.read_text(encoding="utf-8"))["stages"][f"train_{_data_set(setting)}"]
    stage["params"]["params.yaml"] |= SETTINGS[setting]
    return "" if digest == training_digest(stage) else " (older code)"


def _data_set(setting: str) -> str:
    return setting.split("-")[0]


if __name__ == "__main__":
    run(main)
