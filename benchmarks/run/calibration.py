"""How often the gate calls a harmless change worse, and which losses it finds: results/calibration_*.csv.

`retrain`: the recipe mnist-fast with 100 seeds and two narrower ones with 30, and scikit-learn's digits with a small
network and three narrower ones, 100 seeds each (half an hour). `judge`: those seeds, and simulated ones; a few seeds
calibrate the gate, and pairs of the others are judged (minutes).
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.run import command, results
from benchmarks.run.copies import copy_with_data
from benchmarks.run.settings import SETTINGS
from reprocnn.core.files import atomic_write
from reprocnn.gate.calibrate import Calibration, of_predictions
from reprocnn.gate.statistics import mcnemar, student_quantile

FOLDER = results.FOLDER.resolve()  # trainings run in a folder of their own
SEEDS, NOMINAL = 100, 0.01
FILTERS = {16: SEEDS, 12: 30, 8: 30}  # of mnist-fast, which has 16, and how many seeds
WIDTHS = {"digits, 32 units": 32, "digits, 24 units": 24, "digits, 16 units": 16, "digits, 12 units": 12}
CALIBRATED_BY = (3, 5, 10, 30)
DISPERSIONS = (1.0, 1.5, 2.0, 3.0, 4.0)
IMAGES, REPEATS, PAIRS = 10_000, 2_000, 4
Runs = np.ndarray  # bool (seeds, images): which images a seed classifies correctly


def main(arguments: list[str]) -> None:
    """Retrain, judge, or both."""
    parser = command.parser("calibration", __doc__)
    parser.add_argument("task", choices=("retrain", "judge"))
    if parser.parse_args(arguments).task == "retrain":
        retrain()
    else:
        judge()


def retrain() -> None:
    """Train each recipe with each seed, and note the test images that it gets wrong."""
    _write("mnist", _mnist())
    _write("digits", _digits())


def _write(name: str, rows: Iterable[dict[str, object]]) -> None:
    """Write a table once all its rows are known."""
    with atomic_write(FOLDER / f"calibration_{name}.csv") as partial:
        pd.DataFrame(rows).to_csv(partial, index=False)


def _row(recipe: str, seed: int, y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, object]:
    wrong = np.flatnonzero(y_true != y_pred)
    return {"recipe": recipe, "seed": seed, "images": len(y_true), "wrong": " ".join(map(str, wrong))}


def _digits() -> Iterator[dict[str, object]]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, test_size=0.5, random_state=0)
    for name, width in WIDTHS.items():
        for seed in range(SEEDS):
            network = MLPClassifier(width, max_iter=40, learning_rate_init=0.01, random_state=seed, n_iter_no_change=40)
            yield _row(name, seed, y_test, network.fit(x_train, y_train).predict(x_test))


def _mnist() -> Iterator[dict[str, object]]:
    """Train as the stage does, in one process and in a copy of the repository."""
    from reprocnn.backend import configure_device, keras
    from reprocnn.core.params import Recipe, Run, read
    from reprocnn.evaluation.model_files import load
    from reprocnn.evaluation.tta import predict
    from reprocnn.images import arrays
    from reprocnn.training.loop import train

    with copy_with_data(SETTINGS["mnist-fast"]) as copy, contextlib.chdir(copy):
        run, recipe = read(Run), read(Recipe, "mnist")
        device = configure_device(run.device, run.threads, run.precision, run.devices)
        test = arrays.load(Path("data/prepared/mnist/test"))
        for filters, seeds in FILTERS.items():
            for seed in range(seeds):
                keras.backend.clear_session()
                train("mnist", replace(recipe, filters=filters), run.lr * recipe.lr_factor, seed, device)
                y_pred = predict(load(Path("models/mnist")), test.x).argmax(axis=1)
                yield _row(f"mnist-fast, {filters} filters", seed, test.y.argmax(axis=1), y_pred)


def judge() -> None:
    """Write a row for each source of seeds and each number of them that calibrates."""
    rng = np.random.default_rng(0)
    alarms = [*alarms_of_simulation(rng), *alarms_of_trainings(rng)]
    pd.DataFrame(alarms).to_csv(FOLDER / "calibration_false_alarms.csv", index=False, float_format="%.4g")
    power = [*power_of_simulation(rng), *power_of_trainings(rng)]
    pd.DataFrame(power).to_csv(FOLDER / "calibration_power.csv", index=False, float_format="%.4g")


def simulated(rng: np.random.Generator, dispersion: float) -> Callable[[int, float], Runs]:
    """Return a function that draws seeds of a network with 1 % errors: easy and hard images, better and worse seeds.

    The dispersion comes from a shift of all logits of a seed, whose size is found by bisection. A loss shifts them too.
    """
    logits = np.sort(rng.normal(11, 4.5, IMAGES))
    logits = logits[logits < 12]  # an image above is wrong once in 160,000 seeds

    def draw(seeds: int, loss: float = 0.0, spread: float | None = None) -> Runs:
        shift = spread_of if spread is None else spread
        chances = 1 / (1 + np.exp(-(logits - loss + shift * rng.normal(size=(seeds, 1)))))
        return rng.random(chances.shape) < chances

    low, high, spread_of = 0.0, 1.0, 0.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if dispersion_of(draw(400, 0.0, middle)) < dispersion else (low, middle)
    spread_of = low if dispersion > 1 else 0.0
    return draw


def dispersion_of(runs: Runs) -> float:
    """Return the variance of the difference of two seeds, relative to McNemar's."""
    one, other = runs[::2], runs[1::2]
    return float(2 * runs.sum(axis=1).var(ddof=1) / (one != other).sum(axis=1).mean())


def is_worse(before: np.ndarray, after: np.ndarray, alpha: float) -> bool:
    """Decide as the gate does, by McNemar's exact test."""
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    return lost > won and mcnemar(lost, won) < alpha


def alarm_rates(draws: Iterator[tuple[Runs, Runs]]) -> dict[str, float]:
    """Calibrate by the first runs and judge pairs of the second ones, again and again."""
    calibrated: list[bool] = []
    plain: list[bool] = []
    old: list[bool] = []
    alphas = []
    for seeds, others in draws:
        found = of_predictions(seeds, NOMINAL)
        alphas.append(found.alpha)
        for before, after in zip(others[::2], others[1::2], strict=True):
            for verdicts, alpha in ((calibrated, found.alpha), (plain, NOMINAL), (old, 0.0001)):
                verdicts.append(is_worse(before, after, alpha))
    return {
        "calibrated": float(np.mean(calibrated)), "alpha 0.01": float(np.mean(plain)),
        "alpha 0.0001": float(np.mean(old)), "median alpha": float(np.median(alphas)), "pairs": len(calibrated),
    }  # fmt: skip


def alarms_of_simulation(rng: np.random.Generator) -> Iterator[dict[str, object]]:
    for dispersion in DISPERSIONS:
        draw = simulated(rng, dispersion)
        for k in CALIBRATED_BY:
            rates = alarm_rates((draw(k, 0.0), draw(2 * PAIRS, 0.0)) for _ in range(REPEATS // 2))
            yield {"seeds of": "simulated", "dispersion": dispersion, "seeds": k, **rates}


def alarms_of_trainings(rng: np.random.Generator) -> Iterator[dict[str, object]]:
    for name, runs in retrained().items():
        for k in (k for k in CALIBRATED_BY if k + 2 <= len(runs)):
            rates = alarm_rates(split(runs, k, rng) for _ in range(REPEATS))
            yield {"seeds of": name, "dispersion": dispersion_of(runs), "seeds": k, **rates}


def split(runs: Runs, k: int, rng: np.random.Generator) -> tuple[Runs, Runs]:
    """Choose `k` seeds, and pairs of the others."""
    order = rng.permutation(len(runs))
    pairs = min(PAIRS, (len(runs) - k) // 2)
    return runs[order[:k]], runs[order[k : k + 2 * pairs]]


def retrained() -> dict[str, Runs]:
    """Read the networks that were retrained."""
    runs: dict[str, Runs] = {}
    for name in ("mnist", "digits"):
        table = pd.read_csv(FOLDER / f"calibration_{name}.csv", keep_default_na=False)
        for recipe, own in table.groupby("recipe", sort=False):
            runs[str(recipe)] = np.ones((len(own), int(own["images"].iloc[0])), dtype=bool)
            for seed, wrong in enumerate(own["wrong"]):
                runs[str(recipe)][seed, list(map(int, wrong.split()))] = False
    return runs


def found_rates(base: Runs, worse: Runs, calibration: Calibration) -> dict[str, float]:
    """Return the share of losses found by one seed on each side, and by the means over three."""
    ones = [is_worse(before, after, calibration.alpha) for before, after in zip(base, worse, strict=True)]
    means = [runs[: len(runs) // 3 * 3].mean(axis=1).reshape(-1, 3).mean(axis=1) for runs in (base, worse)]
    threshold = student_quantile(1 - NOMINAL, calibration.degrees) * calibration.noise * np.sqrt(2 / 3)
    return {
        "loss": float(base.mean() - worse.mean()), "one seed": float(np.mean(ones)),
        "three seeds": float((means[0] - means[1] > threshold).mean()),
    }  # fmt: skip


def power_of_simulation(rng: np.random.Generator) -> Iterator[dict[str, object]]:
    draw = simulated(rng, 2.0)
    calibration = of_predictions(with_easy(draw(10, 0.0)), NOMINAL)
    for loss in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.05):
        rates = found_rates(with_easy(draw(600, 0.0)), with_easy(draw(600, loss)), calibration)
        yield {"seeds of": "simulated", **rates, "promised at": calibration.found()}


def with_easy(runs: Runs) -> Runs:
    """Add the images that every seed gets right."""
    return np.hstack([runs, np.ones((len(runs), IMAGES - runs.shape[1]), dtype=bool)])


def power_of_trainings(rng: np.random.Generator) -> Iterator[dict[str, object]]:
    runs = retrained()
    for base_name in (f"mnist-fast, {max(FILTERS)} filters", max(WIDTHS, key=lambda name: WIDTHS[name])):
        base = runs[base_name]
        calibration = of_predictions(base[:10], NOMINAL)
        for name, worse in runs.items():
            if worse.shape[1] == base.shape[1]:
                befores, afters = base[rng.integers(10, len(base), 1500)], worse[rng.integers(0, len(worse), 1500)]
                rates = found_rates(befores, afters, calibration)
                yield {"seeds of": name, **rates, "promised at": calibration.found()}
