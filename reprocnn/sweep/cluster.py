"""Connect to Ray's machines, check whether they can run trials, and leave out those that cannot."""

import logging
import os
import secrets
import signal
import socket
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reprocnn.core.errors import UserError
from reprocnn.sweep.trial import Job, has_cache, shortcomings

PACKAGE = Path(__file__).parent.parent  # reprocnn/, which workers import
CONNECT_SECONDS = 10
HEAD_SECONDS = 30  # without the head; after 60, Ray ends the process with a message of its own


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names, else start one of this machine's cores. Raises UserError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        # A cluster of this process alone needs no file of the user's, which may be invalid.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            _check_port(address)
        ray.init(
            # Without an address Ray would join the one that a killed Ray has left in its temporary folder.
            address=None if address else "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"py_modules": [str(PACKAGE)]},
        )
    except (OSError, RayError, RuntimeError, ValueError) as error:
        reason = _one_line(error)[:200]
        if not address:
            raise UserError(f"sweep: Ray did not start ({reason}); fix that and run the same command again") from None
        raise UserError(
            f"sweep: no Ray at RAY_ADDRESS={address} ({reason}); start it there with `ray start`, and give this "
            f"machine its token"
        ) from None
    signal.signal(signal.SIGTERM, terminated)  # Ray's own handler dumps its stack


def _check_port(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT, where Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


class Machines:
    """The nodes of the connected cluster that have `threads` cores and `gpus` GPUs and are not left out."""

    def __init__(self, threads: int, gpus: float = 0) -> None:
        self.threads, self.gpus = threads, gpus
        self.left_out: set[str] = set()  # Ray's ids
        self.head_seen = time.monotonic()

    def usable(self) -> list[dict[str, Any]]:
        """List them as Ray describes them."""
        alive = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in self.left_out]
        return [node for node in alive if self._slots(node["Resources"]) > 0]

    def slots(self) -> int:
        """Count the trials that can run at once."""
        return sum(self._slots(node["Resources"]) for node in self.usable())

    def _slots(self, has: dict[str, float]) -> int:
        """Count the trials that a machine has cores and GPUs for; no trial gets parts of several GPUs."""
        slots = int(has.get("CPU", 0)) // self.threads
        if not self.gpus:
            return slots
        gpus = int(has.get("GPU", 0))
        return min(slots, gpus // int(self.gpus) if self.gpus >= 1 else gpus * int(1 / self.gpus))

    def inspect(self, job: Job) -> bool:
        """Ask each machine whether it can run `job`; check whether all have the folder of DVC's cache.

        Raises UserError with a line for each thing that a machine lacks; a machine that does not answer is left out.
        """
        machines = self.usable()
        if not machines:
            wanted = f"{self.threads} cores" + (f" and {self.gpus:g} GPUs" if self.gpus else "")
            raise UserError(f"sweep: no machine has {wanted}; lower --threads" + (" or --gpus" if self.gpus else ""))
        ask: Any = ray.remote(num_cpus=0)(lambda: (shortcomings(job), has_cache(job)))
        strategies = [NodeAffinitySchedulingStrategy(machine["NodeID"], soft=False) for machine in machines]
        answers: list[Any] = [ask.options(scheduling_strategy=strategy).remote() for strategy in strategies]
        faults: list[str] = []
        all_have_cache = True
        for machine, answer in zip(machines, answers, strict=True):
            host = machine["NodeManagerHostname"]
            try:
                missing, cached = ray.get(answer)
            except RayError as error:
                self.leave_out(machine["NodeID"], host, _one_line(original(error)))
                continue
            faults += [f"{host}: {line}" for line in missing]
            all_have_cache = all_have_cache and cached
        if faults:
            raise UserError("\n".join(faults))
        return all_have_cache

    def check_head(self) -> None:
        """Raise UserError if the cluster's head has been gone for HEAD_SECONDS."""
        address = os.environ.get("RAY_ADDRESS", "")
        try:
            _check_port(address)
            self.head_seen = time.monotonic()
        except OSError:
            if time.monotonic() - self.head_seen > HEAD_SECONDS:
                raise UserError(
                    f"sweep: the cluster's head at RAY_ADDRESS={address} is gone; finished trials are kept; start Ray "
                    f"there and run the same command again"
                ) from None

    def leave_out(self, node: str, host: str, reason: str) -> None:
        """Start nothing more on the machine with Ray's id `node`, and report it once."""
        if node not in self.left_out:
            print(f"sweep: {host}: left out: {reason}", flush=True)
            self.left_out.add(node)

    def options(self) -> dict[str, Any]:
        """Return the options of a Ray task that keep it away from machines that are left out."""
        if not self.left_out:
            return {}
        return {"label_selector": {"ray.io/node-id": f"!in({','.join(self.left_out)})"}}


def original(error: Exception) -> Exception:
    """Unwrap what was raised on the machine."""
    return getattr(error, "cause", None) or error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
