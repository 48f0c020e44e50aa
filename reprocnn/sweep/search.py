"""Draw trials with Optuna, at random or guided by the results of earlier ones, and give up those that fall behind."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from optuna.trial import TrialState

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.sweep.experiments import Experiments
from reprocnn.sweep.overrides import Overrides, experiment_name, key_of

REPEATED = 100  # draws in a row that gave nothing new
SAMPLERS = {"random": optuna.samplers.RandomSampler, "optuna": optuna.samplers.TPESampler}


@dataclass
class Proposal:
    """A trial to run; if it was drawn, `trial` of Optuna's `study` gets its metric."""

    overrides: Overrides
    study: Any = None
    trial: Any = None
    epochs: int = 0  # that the study knows

    def is_behind(self, values: list[float]) -> bool:
        """Return whether the study's pruner gives the trial up, whose epochs had `values`."""
        for epoch in range(self.epochs, len(values)):
            self.trial.report(values[epoch], epoch + 1)
        self.epochs = max(self.epochs, len(values))
        return bool(values) and self.trial.should_prune()

    def end(self, value: float | None, pruned: bool = False) -> None:
        """Report the final metric, None if the trial failed."""
        if self.study and pruned:
            self.study.tell(self.trial, state=TrialState.PRUNED)
        elif self.study:
            self.study.tell(self.trial, value, TrialState.FAIL if value is None else None)


@dataclass(frozen=True)
class Search:
    """How trials are drawn: by which of SAMPLERS, how many, whether a lower metric is better, and bad ones stopped."""

    sampler: str
    trials: int
    minimize: bool
    prune: bool = False

    def proposals(self, overrides: list[Override], experiments: Experiments) -> Iterator[Proposal]:
        """Draw different trials, after those of the same keys that were run before, from which Optuna learns.

        Ends early if draw after draw repeats an earlier one: the values may have fewer combinations.
        """
        space = as_distributions(overrides)
        earlier = _earlier_trials(overrides, space, experiments)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            direction="minimize" if self.minimize else "maximize",
            sampler=SAMPLERS[self.sampler](seed=len(earlier)),
            pruner=optuna.pruners.MedianPruner() if self.prune else optuna.pruners.NopPruner(),
        )
        study.add_trials(earlier.values())
        yield from map(Proposal, earlier)
        known, repeated = set(earlier), 0
        while len(known) < self.trials and repeated < REPEATED:
            trial = study.ask(space)
            drawn = _with_values(overrides, trial.params)
            if drawn in known:
                study.tell(trial, state=TrialState.FAIL)
                repeated += 1
            else:
                known.add(drawn)
                repeated = 0
                yield Proposal(drawn, study, trial)


def as_distributions(overrides: list[Override]) -> dict[str, Any]:
    """Translate what is swept to Optuna, by key."""
    return {one.key_or_group: distribution(one) for one in overrides if one.is_sweep_override()}


def as_values(trial: Overrides, space: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a trial for those keys of `space` that it has."""
    texts = {key_of(one): one.partition("=")[2] for one in trial}
    return {key: _value(texts[key]) for key in space if key in texts}


def distribution(override: Override) -> Any:
    """Translate Hydra's sweep to Optuna; `tag(log, interval(a, b))` is even on a logarithmic scale."""
    swept: Any = override.value()
    if not override.is_interval_sweep():
        choices = [_value(text) for text in override.sweep_string_iterator()]
        return optuna.distributions.CategoricalDistribution(choices)
    integers = isinstance(swept.start, int) and isinstance(swept.end, int)
    kind = optuna.distributions.IntDistribution if integers else optuna.distributions.FloatDistribution
    return kind(swept.start, swept.end, log="log" in swept.tags)


def _value(text: str) -> Any:
    if text.isdecimal() and text == str(int(text)):
        return int(text)  # parsing takes a millisecond
    value = OverridesParser.create().parse_override(f"value={text}").value()
    return value if value is None or isinstance(value, str | int | float) else text  # Optuna's plots take no lists


def _text(override: Override, drawn: Any) -> str:
    """Return a drawn value as it was written, such as null or '1'; numbers are as Python writes them."""
    if override.is_interval_sweep() or type(drawn) in (int, float):
        return str(drawn)
    texts = map(str, override.sweep_string_iterator())
    return next((text for text in texts if repr(_value(text)) == repr(drawn)), str(drawn))


def _with_values(overrides: list[Override], drawn: dict[str, Any]) -> Overrides:
    """Put drawn values in the place of sweeps."""
    return tuple(
        f"{one.get_key_element()}={_text(one, drawn[one.key_or_group])}"
        if one.key_or_group in drawn
        else str(one.input_line)
        for one in overrides
    )


def _earlier_trials(
    overrides: list[Override], space: dict[str, Any], experiments: Experiments
) -> dict[Overrides, optuna.trial.FrozenTrial]:
    """Read experiments, and pruned trials, that this search could have drawn, as Optuna's trials."""
    trials = {}
    for name in sorted(experiments.names() | experiments.pruned.keys()):
        record = experiments.pruned.get(name)
        drawn = as_values(record["overrides"], space) if record else _drawn(experiments, name, space)
        trial = _with_values(overrides, drawn)
        if drawn.keys() != space.keys() or experiment_name(trial) != name:
            continue
        # A failed trial has no metric; a value may be outside of this search's intervals and choices.
        with suppress(UserError, ValueError):
            value, epochs = (None, record["pruned"]) if record else (experiments.value(name), experiments.history(name))
            trials[trial] = optuna.create_trial(
                params=drawn,
                distributions=space,
                value=value,
                intermediate_values={epoch: one for epoch, one in enumerate(epochs, 1) if one is not None},
                state=TrialState.PRUNED if record else TrialState.COMPLETE,
            )
    return trials


def _drawn(experiments: Experiments, name: str, space: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment's values of the keys of `space`, none if it lacks one of them."""
    try:
        values = experiments.params(name)
        return {key: params.at(values, key) for key in space}
    except (KeyError, TypeError, ValueError):
        return {}
