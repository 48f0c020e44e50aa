"""The loop of a sweep: start as many trials as there are free slots, receive what ends, report each in a line."""

import itertools
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayError
from rich.console import Console

from reprocnn.core.errors import UserError
from reprocnn.sweep.cluster import Machines, original
from reprocnn.sweep.experiments import Experiments
from reprocnn.sweep.jobs import Jobs
from reprocnn.sweep.overrides import experiment_name
from reprocnn.sweep.search import Proposal
from reprocnn.sweep.trial import MachineError


class Driver:
    """Runs `total` proposed trials, except those that are experiments already."""

    def __init__(
        self, machines: Machines, jobs: Jobs, experiments: Experiments, proposals: Iterator[Proposal], total: int
    ) -> None:
        self.machines, self.jobs, self.experiments = machines, jobs, experiments
        self.proposals, self.total = proposals, total
        self.console = Console(soft_wrap=True)
        self.running: dict[Any, Proposal] = {}  # by Ray's reference to the outcome
        self.ended = self.failed = 0

    def run(self) -> int:
        """Run all trials; return the number of those that failed."""
        with self.console.status("") as status:
            self._start()
            while self.running:
                status.update(
                    f"{self.ended} of {self.total} trials ended, {self.failed} of them failed; "
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
            if experiment_name(proposal.overrides) in self.experiments.names():
                self._report(proposal, "exists")
            elif self.machines.left_out and not slots:
                self.failed += 1
                self._report(proposal, "failed: no machine is left")
            else:
                self.running[self.jobs.submit(proposal.overrides)] = proposal

    def _take_one(self) -> None:
        """Wait for a trial to end; one that failed because of its machine is proposed again."""
        (ended, *_), _ = ray.wait(list(self.running), num_returns=1)
        proposal = self.running.pop(ended)
        try:
            outcome = ray.get(ended)
            self.experiments.receive(proposal.overrides, outcome)
        except (RayError, UserError) as error:
            cause = original(error)
            if isinstance(cause, MachineError):
                self.machines.leave_out(*cause.args)
                self.jobs.forget_failed()
                self.proposals = itertools.chain([proposal], self.proposals)
                return
            self.failed += 1
            message = f"failed: {str(cause).strip() or type(cause).__name__}"
        else:
            message = f"{outcome.seconds:.0f} s on {outcome.node}"
        self._report(proposal, message)

    def _report(self, proposal: Proposal, message: str) -> None:
        """Print the line of a trial that ended, and give its metric to whoever drew it."""
        self.ended += 1
        name = experiment_name(proposal.overrides)
        value = self.experiments.value(name)
        shown = "-" if value is None else f"{value:.4f}"
        overrides = " ".join(proposal.overrides)
        self.console.print(f"{name}  {self.experiments.metric} {shown:6}  {overrides}  {message}", markup=False)
        if proposal.report:
            proposal.report(value)
