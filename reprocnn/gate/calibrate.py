"""Find the limits of a metric from what several seeds of one recipe reach.

Each FILE is from one seed: predictions (CSV with y_true, y_pred, and index if it has one) for an accuracy, or metrics
(JSON, YAML, TOML) for any metric. REV:FILE reads FILE at a revision or from a DVC experiment. With --run, COMMAND runs
once for each of --seeds seeds, with 0, 1, ... in place of {seed}, and the one FILE is what it writes; it is removed
before each run.

Two seeds of one recipe are two networks, so McNemar's test alone calls too many of them different. This prints the
`alpha` at which the gate calls another seed of the same recipe worse no more often than --false-alarms allows, the
`noise` of the metric over seeds, the smallest loss that is found with a probability of 80 %, and how many seeds a
smaller loss takes.
"""

import argparse
import math
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import dvc.api
import numpy as np
from dvc.exceptions import DvcException

from reprocnn.core.errors import UserError
from reprocnn.gate.metric_files import MALFORMED, parse
from reprocnn.gate.predictions import match_images, parse_predictions
from reprocnn.gate.statistics import NORMAL, student_cdf, student_quantile
from reprocnn.gate.values import decode, flatten, is_number, one_line

POWER = 0.8
SEEDS = (1, 3, 5, 10, 30)
REMEDY = "pass the files that the seeds wrote"
# What is known of the dispersion before any seed is seen, as if it had been measured with so many degrees of freedom.
PRIOR, PRIOR_DEGREES = 2.0, 4
FEWEST = 3


@dataclass(frozen=True)
class Calibration:
    """What seeds say of a metric; `alpha` is for McNemar's test where there are predictions, else for `two_seeds`."""

    mean: float
    noise: float  # standard deviation over seeds
    degrees: int  # of freedom, of the noise
    alpha: float
    dispersion: float = 1.0  # of the difference of two seeds, relative to McNemar's variance
    images: int | None = None  # None where there are no predictions

    def false_alarms(self, alpha: float) -> float:
        """Return the share of harmless changes that `alpha` calls worse."""
        return 1 - student_cdf(-NORMAL.inv_cdf(alpha) / math.sqrt(self.dispersion), self.degrees) if alpha else 0.0

    def found(self, seeds: int = 1, false_alarms: float = 0.01) -> float:
        """Return the smallest loss that is found with POWER, comparing means over `seeds` seeds on each side."""
        loss = 0.0
        for _ in range(100):  # converges from below
            loss = self._needed(loss, false_alarms) / math.sqrt(seeds)
        return loss

    def seeds_for(self, loss: float, false_alarms: float = 0.01) -> int:
        """Say how many seeds on each side find this loss with POWER."""
        return max(1, math.ceil((self._needed(loss, false_alarms) / loss) ** 2 - 1e-9))

    def _needed(self, loss: float, false_alarms: float) -> float:
        """Return how large a difference of two seeds has to be to be found, where their recipes differ by `loss`.

        The images that are lost add to those on which two seeds differ, by which McNemar's test measures.
        """
        lost = loss / self.images if self.images else 0.0
        threshold = student_quantile(1 - false_alarms, self.degrees) * math.sqrt(
            2 * self.noise**2 + self.dispersion * lost
        )
        return threshold + NORMAL.inv_cdf(POWER) * math.sqrt(2 * self.noise**2 + lost)


def of_predictions(correct: np.ndarray, false_alarms: float) -> Calibration:
    """Calibrate McNemar's test by which images (seeds, images) each seed classifies correctly.

    The variance of a difference of seeds is `dispersion` times the number of images on which they differ. A handful of
    seeds says little of it, so that the estimate is drawn towards PRIOR, as a variance with its degrees of freedom.
    """
    k, n = correct.shape
    counts = correct.sum(axis=1)
    changed = np.mean([(one != other).sum() for one, other in combinations(correct, 2)])
    if not changed:
        raise UserError(f"{k} seeds: all predict the same, expected those of different trainings; name other files")
    measured = 2 * counts.var(ddof=1) / changed
    degrees = PRIOR_DEGREES + k - 1
    dispersion = max(1.0, float(PRIOR_DEGREES * PRIOR + (k - 1) * measured) / degrees)
    alpha = NORMAL.cdf(-student_quantile(1 - false_alarms, degrees) * math.sqrt(dispersion))
    noise = math.sqrt(dispersion * changed / 2) / n
    return Calibration(float(counts.mean() / n), noise, degrees, alpha, dispersion, n)


def of_values(values: Sequence[float], false_alarms: float) -> Calibration:
    """Calibrate the test by noise alone, for a metric without predictions."""
    if min(values) == max(values):  # their standard deviation need not round to 0
        raise UserError(f"{len(values)} seeds: all reach {values[0]}, expected different trainings; name other files")
    with np.errstate(over="ignore", invalid="ignore"):
        noise = float(np.std(values, ddof=1))
    if not 0 < noise * noise < math.inf:
        raise UserError(f"{len(values)} seeds: found {min(values)} to {max(values)}, expected a variance; scale them")
    degrees = len(values) - 1
    alpha = NORMAL.cdf(-student_quantile(1 - false_alarms, degrees))
    return Calibration(float(np.mean(values)), noise, degrees, alpha)


def main(arguments: list[str]) -> None:
    """Print what the seeds say. Raises UserError for files that are not of seeds of one recipe."""
    parser = argparse.ArgumentParser(
        prog="reprocnn gate calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="predictions or metrics, one file per seed")
    parser.add_argument("--metric", required=True, help="the metric, by its dotted name, such as digits.test.accuracy")
    parser.add_argument(
        "--false-alarms", type=float, default=0.01, metavar="SHARE", help="share of harmless changes that may fail"
    )
    parser.add_argument("--run", metavar="COMMAND", help="the command that trains and evaluates seed {seed}")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="how many seeds to --run")
    options = parser.parse_args(arguments)
    if not 0 < options.false_alarms < 0.5:
        raise UserError(
            f"--false-alarms: found {options.false_alarms}, expected a share above 0 and below 0.5; give one"
        )
    if options.run and len(options.files) != 1:
        raise UserError(f"--run: found {len(options.files)} files, expected the one that each run writes; name it")
    count = options.seeds if options.run else len(options.files)
    if count < FEWEST:
        raise UserError(f"found {count} seed{'s' * (count != 1)}, expected {FEWEST} or more; train more")
    file, *_ = options.files
    of_images = Path(file).suffix.lower() == ".csv"
    if of_images and "accuracy" not in options.metric.rpartition(".")[2]:
        raise UserError(f"{file}: predictions give an accuracy, and --metric is {options.metric}; name metrics files")
    if options.run:
        if "{seed}" not in options.run:
            raise UserError("--run: found no {seed}, expected it where the command takes the seed; write it there")
        named = []
        for seed in range(count):
            named.append((f"seed {seed} of {file}", _run(options.run, seed, file)))
            if not of_images:
                _value(*named[-1], options.metric)  # a misspelt metric costs one training, not all
    else:
        named = [(file, _read(file)) for file in options.files]
    if of_images:
        (base, first), *others = [
            (name, parse_predictions(name, decode(content, name, REMEDY), REMEDY)) for name, content in named
        ]
        matched = [match_images(name, base, first, one, REMEDY) for name, one in others]
        found = of_predictions(np.array([one.correct for one in [first, *matched]]), options.false_alarms)
    else:
        found = of_values([_value(name, content, options.metric) for name, content in named], options.false_alarms)
    print(_report(options.metric, found, count, options.false_alarms))


def _run(command: str, seed: int, file: str) -> bytes:
    """Return what the command writes to `file`."""
    Path(file).unlink(missing_ok=True)  # so that no seed's result is another's
    line = command.replace("{seed}", str(seed))
    code = subprocess.run(line, shell=True).returncode
    if code:
        raise UserError(f"{line}: ended with exit code {code}; its message is above")
    return _read(file)


def _read(file: str) -> bytes:
    rev, colon, path = file.partition(":")
    try:
        if colon and not Path(file).exists():
            return bytes(dvc.api.read(path, rev=rev, mode="rb"))
        return Path(file).read_bytes()
    except FileNotFoundError:
        reason = "missing"
    except (OSError, DvcException) as error:
        reason = one_line(error)
    raise UserError(f"{file}: {reason}; {REMEDY}")


def _value(name: str, content: bytes, metric: str) -> float:
    try:
        values = flatten(parse(name, content))
    except MALFORMED as error:
        raise UserError(f"{name}: {one_line(error)}; {REMEDY}") from None
    value = values.get(metric)
    if not is_number(value):
        known = one_line(", ".join(key for key, one in values.items() if is_number(one)) or "none")
        raise UserError(
            f"{name}: {metric}: found {value!r}, expected a number; name a metric of that file with --metric: {known}"
        )
    return float(value)


def _plain(value: float) -> str:
    """Write two digits without an exponent, which not every YAML reader takes for a number (7e-05)."""
    return str(np.format_float_positional(value, precision=2, fractional=False, trim="-"))


def _report(metric: str, found: Calibration, seeds: int, false_alarms: float) -> str:
    lines = [f"{metric}: {seeds} seeds, {found.mean:.6g} ± {found.noise:.2g} (standard deviation over seeds)"]
    if found.images:
        lines.append(
            f"dispersion: {found.dispersion:.2f} (1: no noise but the choice of test images; from an assumed {PRIOR:g} "
            f"of weight {PRIOR_DEGREES} and these seeds, of weight {seeds - 1})"
        )
    lines += [
        "false alarms with alpha 0.05, 0.01, 0.001, 0.0001: "
        + ", ".join(f"{found.false_alarms(alpha):.2%}" for alpha in (0.05, 0.01, 0.001, 0.0001)),
        "",
        f"for {false_alarms:.2%} false alarms, set in params.yaml, below targets.{metric}:",
        *(f"  {key}: {_plain(value)}" for key, value in (("alpha", found.alpha), ("noise", found.noise))),
        "",
        f"the smallest loss that is found with a probability of {POWER:.0%}:",
        *(
            f"  {found.found(m, false_alarms):.2g} with {m} seed{'s' * (m > 1)} on each side"
            + (", compared by their means" if m > 1 else "")
            for m in SEEDS
        ),
    ]
    loss = found.found(1, false_alarms) / 2
    lines.append(
        f"half of what one seed finds, {loss:.2g}, takes {found.seeds_for(loss, false_alarms)} seeds on each side"
    )
    return "\n".join(lines)
