"""Draw trials with Optuna, at random or guided by the results of earlier ones."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import optuna
from hydra.core.override_parser.types import Override

from reprocnn.core import params
from reprocnn.sweep.experiments import Experiments
from reprocnn.sweep.overrides import Overrides, experiment_name

SAMPLERS = {"random": optuna.samplers.RandomSampler, "optuna": optuna.samplers.TPESampler}


@dataclass(frozen=True)
class Proposal:
    """A trial to run, and a function that receives its metric (None if it failed)."""

    overrides: Overrides
    report: Callable[[float | None], None] | None = None


@dataclass(frozen=True)
class Search:
    """How trials are drawn: by which of SAMPLERS, how many, and whether a lower metric is better."""

    sampler: str
    trials: int
    minimize: bool

    def proposals(self, overrides: list[Override], experiments: Experiments) -> Iterator[Proposal]:
        """Draw trials. Experiments of the same keys that exist count as drawn, and Optuna learns from them."""
        space = {one.key_or_group: distribution(one) for one in overrides if one.is_sweep_override()}
        earlier = _earlier_trials(overrides, space, experiments)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            direction="minimize" if self.minimize else "maximize", sampler=SAMPLERS[self.sampler](seed=len(earlier))
        )
        study.add_trials(earlier)
        for _ in range(self.trials - len(earlier)):
            trial = study.ask(space)
            yield Proposal(_with_values(overrides, trial.params), functools.partial(_report, study, trial))


def distribution(override: Override) -> Any:
    """Translate Hydra's sweep to Optuna; `tag(log, interval(a, b))` is even on a logarithmic scale."""
    swept: Any = override.value()
    if not override.is_interval_sweep():
        choices = [params.parse(f"value: {text}")["value"] for text in override.sweep_string_iterator()]
        return optuna.distributions.CategoricalDistribution(choices)
    integers = isinstance(swept.start, int) and isinstance(swept.end, int)
    kind = optuna.distributions.IntDistribution if integers else optuna.distributions.FloatDistribution
    return kind(swept.start, swept.end, log="log" in swept.tags)


def _with_values(overrides: list[Override], drawn: dict[str, Any]) -> Overrides:
    """Put drawn values in the place of sweeps."""
    return tuple(
        f"{one.key_or_group}={drawn[one.key_or_group]}" if one.key_or_group in drawn else str(one.input_line)
        for one in overrides
    )


def _earlier_trials(overrides: list[Override], space: dict[str, Any], experiments: Experiments) -> list[Any]:
    """Read experiments that this search could have drawn, as Optuna's trials."""
    trials = []
    for name in experiments.names():
        values = experiments.params(name)
        drawn = {key: params.at(values, key) for key in space}
        if experiment_name(_with_values(overrides, drawn)) == name:
            trials.append(optuna.create_trial(params=drawn, distributions=space, value=experiments.value(name)))
    return trials


def _report(study: Any, trial: Any, value: float | None) -> None:
    study.tell(trial, value, optuna.trial.TrialState.FAIL if value is None else None)
