"""Killed at random moments, over and over, the pipeline ends in the bytes of an uninterrupted run."""

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.commands import ROOT, STAGES, environment, ran, wait_until_gone

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills process groups")

# After which line of the output a kill comes, and at most how many seconds later. The next moments follow each other in
# a run; "saving" is when a checkpoint is being written.
MOMENTS = {
    "download": (r"Running stage 'download'", 3.0),
    "prepare": (r"Running stage 'prepare'", 3.0),
    "train_mnist": (r"Running stage 'train_mnist'", 12.0),
    "train_mnist, an epoch": (r"train_mnist: epoch 1/", 2.0),
    "train_mnist, saving": (r"train_mnist: epoch \d/|resuming", 0.05),
    "train_mnist, its end": (r"train_mnist: \d+ s of training", 0.6),
    "train_cifar": (r"Running stage 'train_cifar'", 12.0),
    "train_cifar, saving": (r"train_cifar: .* parameters", 0.05),
    "train_cifar, an epoch": (r"train_cifar: epoch \d/", 2.0),
    "train_cifar, its end": (r"train_cifar: \d+ s of training", 0.6),
    "evaluate_mnist": (r"Running stage 'evaluate_mnist'", 10.0),
    "evaluate_cifar, its end": (r"evaluate: cifar: test accuracy", 1.5),
    "plot": (r"Running stage 'plot'", 4.0),
}


class Repro:
    """A `dvc repro` in a process group of its own, and what it has printed."""

    def __init__(self, folder: Path, *arguments: str, **more: str) -> None:
        self.folder = folder
        # A shell's background job ignores it, and so would dvc.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.dvc = subprocess.Popen(
            ["dvc", "repro", *arguments], cwd=folder, env=environment(WARM="", **more), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.output = ""

    def wait_for(self, pattern: str) -> bool:
        """Whether a line with `pattern` came before the end."""
        assert self.dvc.stdout is not None
        for line in self.dvc.stdout:
            self.output += line
            if re.search(pattern, line):
                return True
        return False

    def wait_for_saving(self) -> None:
        """Until a checkpoint is being written, or the end."""
        while self.dvc.poll() is None and not list(self.folder.glob("runs/checkpoints/*/.partial-*")):
            time.sleep(0.001)

    def end(self, send: Callable[[], None]) -> None:
        """Sends a signal, waits for all processes to be gone and reads what they still printed."""
        processes = [psutil.Process(self.dvc.pid)] if self.dvc.poll() is None else []
        processes += [child for process in processes for child in process.children(recursive=True)]
        send()
        wait_until_gone(processes)
        self.dvc.wait()
        assert self.dvc.stdout is not None
        self.output += self.dvc.stdout.read()

    def kill(self) -> None:
        self.end(lambda: os.killpg(self.dvc.pid, signal.SIGKILL))


def kill_and_finish(folder: Path, moments: list[str], number: random.Random) -> list[str]:
    """Starts `dvc repro` and kills it at each of the `moments`, then lets it finish; what each run printed.

    A moment that never comes, since the kill before fell behind it, is passed over.
    """
    outputs = []
    for moment in moments:
        pattern, seconds = MOMENTS[moment]
        repro = Repro(folder)
        if not repro.wait_for(pattern):
            outputs.append(repro.output)
            break
        if moment.endswith("saving"):
            repro.wait_for_saving()
        time.sleep(number.uniform(0, seconds))
        repro.kill()
        outputs.append(repro.output)
        during = re.findall(r"Running stage '(\w+)'", repro.output)[-1:]
        print("killed:", moment, "->", *during, flush=True)
    last = Repro(folder)
    last.wait_for("never")
    assert last.dvc.wait() == 0, last.output
    return [*outputs, last.output]


def check(folder: Path, finished: Path, outputs: list[str]) -> None:
    """The bytes of an uninterrupted run; no epoch that was finished was trained again; nothing is left."""
    assert (folder / "dvc.lock").read_bytes() == (finished / "dvc.lock").read_bytes()
    epochs = Counter(re.findall(r"^(train_\w+: epoch \d+)/", "".join(outputs), re.MULTILINE))
    assert max(epochs.values()) == 1, epochs
    # What is left is of finished trainings, and the next training removes it.
    left = list((folder / "runs/checkpoints").iterdir())
    assert len(left) <= 2
    assert all((place / "result").exists() for place in left)
    assert [path for path in folder.rglob(".partial-*") if ".dvc" not in path.parts] == []
    assert not (folder / "data/.incoming").exists()
    assert ran(outputs[-1]) <= STAGES


@pytest.mark.nightly
def test_killed_three_times(fresh, finished):
    """The hardest moments: while a checkpoint is written, before dvc.lock has a finished training, while figures are
    drawn."""
    folder = fresh()
    outputs = kill_and_finish(folder, ["train_mnist, saving", "train_cifar, its end", "plot"], random.Random(0))
    assert len(outputs) == 4
    check(folder, finished, outputs)


@pytest.mark.kill
@pytest.mark.timeout(0)
def test_killed_many_times(fresh, finished, tmp_path):
    kills = int(os.environ.get("KILLS", 30))
    seed = int(os.environ.get("KILL_SEED", 0)) or random.SystemRandom().randrange(1, 2**32)
    print(f"kill: KILLS={kills} KILL_SEED={seed}", flush=True)
    number, done = random.Random(seed), 0
    while done < kills:
        # About half of the moments in each repository: all of them are met in two or three.
        moments = [moment for moment in MOMENTS if number.random() < 0.6][: kills - done]
        folder = fresh().rename(tmp_path / f"killed-{done}")
        outputs = kill_and_finish(folder, moments, number)
        check(folder, finished, outputs)
        done += len(outputs) - 1
        print(f"kill: {done} survived", flush=True)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGTERM, False), (signal.SIGINT, True), (signal.SIGTERM, True)],
    ids=["SIGTERM to dvc", "Ctrl-C", "SIGTERM to all"],
)
def test_asked_to_end(fresh, finished, number, group):
    """The training ends by itself, nothing keeps writing, and the next run resumes."""
    folder = fresh()
    hold = {"PYTHONPATH": str(ROOT / "tests/support/hold"), "HOLD_AT": "train_mnist: epoch 1/"}
    repro = Repro(folder, "train_mnist", **({} if group else hold))
    assert repro.wait_for("train_mnist: epoch 1/")
    repro.end(lambda: (os.killpg if group else os.kill)(repro.dvc.pid, number))
    assert "Traceback" not in repro.output
    if not group:
        assert "stopped, since the dvc that started it is gone" in repro.output
    elif number == signal.SIGINT:
        assert "interrupted; run the same command again: a training resumes" in repro.output
    again = Repro(folder, "train_mnist")
    assert again.wait_for("train_mnist: resuming after epoch [12] of 3")
    again.wait_for("never")
    assert "train_mnist: epoch 1/" not in again.output
    weights = "models/mnist/model.weights.h5"
    assert (folder / weights).read_bytes() == (finished / weights).read_bytes()


@pytest.mark.nightly
def test_ctrl_c_to_dvc_alone_stops_nothing(fresh, finished):
    """dvc leaves it to the stage, which does not get it: the run continues to its end."""
    folder = fresh()
    repro = Repro(folder, "train_mnist")
    assert repro.wait_for("train_mnist: epoch 1/")
    os.kill(repro.dvc.pid, signal.SIGINT)
    repro.wait_for("never")
    weights = "models/mnist/model.weights.h5"
    assert (folder / weights).read_bytes() == (finished / weights).read_bytes()
