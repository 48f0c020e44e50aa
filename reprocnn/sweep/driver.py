"""The loop of a sweep: start as many trials as there are free slots, receive what ends, report each in a line."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from rich.console import Console

from reprocnn.core.errors import UserError
from reprocnn.sweep.cluster import Machines, original
from reprocnn.sweep.experiments import Experiments, finite
from reprocnn.sweep.jobs import Jobs
from reprocnn.sweep.overrides import Overrides, experiment_name
from reprocnn.sweep.search import Proposal
from reprocnn.sweep.trial import MachineError

POLL_SECONDS = 1


@dataclass(frozen=True)
class Ended:
    """A trial that ended, as its line shows it."""

    name: str
    value: float | None  # of the metric; the last epoch's if the trial was pruned
    overrides: Overrides
    message: str
    pruned: bool


class Driver:
    """Runs `total` proposed trials, except those that are experiments already."""

    def __init__(
        self, machines: Machines, jobs: Jobs, experiments: Experiments, proposals: Iterator[Proposal], total: int
    ) -> None:
        self.machines, self.jobs, self.experiments = machines, jobs, experiments
        self.proposals, self.total = proposals, total
        self.console = Console(soft_wrap=True)
        self.running: dict[Any, Proposal] = {}  # by Ray's reference to the outcome
        self.ended: list[Ended] = []
        self.failed = 0

    def run(self) -> int:
        """Run all trials; return the number of those that failed. Raises UserError if the cluster's head is gone."""
        with self.console.status("") as status:
            self._start()
            while self.running:
                status.update(
                    f"{len(self.ended)} of {self.total} trials ended, {self.failed} of them failed; "
                    f"{len(self.running)} running"
                )
                self._take_one()
                self._start()
        return self.failed

    def _start(self) -> None:
        """Start trials until all slots are taken; at least one, which Ray starts when a machine joins."""
        slots = self.machines.slots()
        while len(self.running) < max(1, slots):
            proposal = next(self.proposals, None)
            if proposal is None:
                return
            name = experiment_name(proposal.overrides)
            if self.experiments.exists(name):
                self._finish(proposal, "exists")
            elif name in self.experiments.pruned:
                self._prune(proposal, self.experiments.pruned[name]["pruned"], "exists")
            elif self.machines.left_out and not slots:
                self._fail(proposal, "no machine is left")
            else:
                self.running[self.jobs.submit(proposal.overrides)] = proposal

    def _take_one(self) -> None:
        """Wait for a trial to end, and stop those that are behind; propose one again that its machine failed."""
        ended: list[Any] = []
        while not ended:
            ended, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL_SECONDS)
            self.machines.check_head()
            self.jobs.stop({experiment_name(one.overrides): one.is_behind for one in self.running.values()})
        proposal = self.running.pop(ended[0])
        try:
            outcome = ray.get(ended[0])
            self.experiments.receive(proposal.overrides, outcome)
        except (RayError, UserError) as error:
            cause = original(error)
            if isinstance(cause, MachineError):
                self.machines.leave_out(*cause.args)
                self.jobs.forget_failed()
                self.proposals = itertools.chain([proposal], self.proposals)
                return
            self._fail(proposal, str(cause).strip() or type(cause).__name__)
            return
        message = f"{outcome.seconds:.0f} s on {outcome.node}"
        if outcome.pruned is None:
            self._finish(proposal, message)
        else:
            self._prune(proposal, outcome.pruned, message)

    def _finish(self, proposal: Proposal, message: str) -> None:
        try:
            value = self.experiments.value(experiment_name(proposal.overrides))
        except UserError as error:  # such a trial may have no such metric
            self._fail(proposal, str(error).removeprefix("sweep: "))
        else:
            self._report(proposal, value, message)

    def _fail(self, proposal: Proposal, reason: str) -> None:
        self.failed += 1
        self._report(proposal, None, f"failed: {reason}")

    def _prune(self, proposal: Proposal, values: Sequence[float | None], where: str) -> None:
        self._report(proposal, finite(values[-1]), f"pruned after {len(values)} epochs, {where}", pruned=True)

    def _report(self, proposal: Proposal, value: float | None, message: str, pruned: bool = False) -> None:
        """Print the line of a trial that ended, and give its metric to whoever drew it."""
        name = experiment_name(proposal.overrides)
        self.ended.append(Ended(name, value, proposal.overrides, message, pruned))
        shown = "-" if value is None else f"{value:.4f}"
        overrides = " ".join(proposal.overrides)
        self.console.print(
            f"{name}  {self.experiments.metric} {shown:6}  {overrides}  {message}", markup=False, emoji=False
        )
        proposal.end(value, pruned)
