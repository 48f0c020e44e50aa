"""Inputs that nobody thought of: hypothesis makes them from what the project reads.

A few in the ordinary tests; `make fuzz` continues for FUZZ_SECONDS. Inputs that found something have tests of their
own: here, in test_params.py and in test_gate.py.
"""

import functools
import hashlib
import io
import json
import math
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dvc.utils.serialize import parse_yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.datasets import MNIST
from reprocnn.gate import compare, predictions, render
from reprocnn.gate.metric_files import MetricFiles
from reprocnn.gate.values import decode, flatten
from reprocnn.report import chapters
from reprocnn.report import results as report_results
from reprocnn.training import checkpoint
from tests.report.test_plot import write_stage_outputs
from tests.support import odd_downloads
from tests.support.commands import ROOT

PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")
PREDICTIONS = "index,y_true,y_pred,confidence\n" + "".join(f"{i},{i % 10},{i * i % 10},0.5\n" for i in range(20))
# Where readers of YAML, CSV and JSON disagree, or numbers end.
ODD = [
    "010", "0o10", "08", "0x1F", "1_000", "1__0", "1:30", "yes", "on", "TRUE", "~", "null", "1e-05", "1e400", "-0",
    "5.", ".5", "+1", ".inf", ".nan", "NaN", "Infinity", "2001-01-01", "<<", "=", "!!int 1", "&a 1", "*a", "[1]",
    "{a: 1}", "- 1", "? 1", "|", "'", '"', "#", "%", "@", "\t1", "1\r", "\x00", "\ufeff", "\u2028", "1" * 400,
]  # fmt: skip
SCALARS = st.one_of(
    st.sampled_from(ODD),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(max_size=8),
    st.text("0123456789_.:eExobn+-", max_size=6),
)
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.floats(0, 1), st.integers(0, 2000), st.sampled_from([10**400, -(10**400), 2**63])
)
LEAVES = st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=4), st.just("sample"))


@st.composite
def edited(draw: Any, text: str, separators: str) -> bytes:
    """`text` with some values between `separators` replaced, or some bytes of it."""
    for _ in range(draw(st.integers(1, 3))):
        lines = text.split("\n")
        at = draw(st.integers(0, len(lines) - 1))
        parts = lines[at].split(separators)
        parts[draw(st.integers(0, len(parts) - 1))] = draw(SCALARS)
        lines[at] = separators.join(parts)
        text = "\n".join(lines)
    content = text.encode("utf-8", errors="surrogatepass")
    if draw(st.booleans()):
        start = draw(st.integers(0, len(content)))
        content = content[:start] + draw(st.binary(max_size=4)) + content[start + draw(st.integers(0, 40)) :]
    return content


def results(name: str = "mnist") -> Any:
    """A metrics.json, more or less."""
    test = st.fixed_dictionaries({}, optional=dict.fromkeys(["accuracy", "n", "digest", "loss", "errors"], LEAVES))
    sane = st.fixed_dictionaries({"accuracy": st.floats(0, 1), "n": st.integers(1, 2000), "digest": st.just("a")})
    section = st.one_of(LEAVES, st.fixed_dictionaries({"test": st.one_of(test, sane, LEAVES)}))
    sections = dict.fromkeys(("mnist", "cifar"), section)
    strange = st.dictionaries(
        st.text(max_size=3), st.recursive(LEAVES, lambda x: st.lists(x, max_size=2), max_leaves=3)
    )
    both = st.fixed_dictionaries({name: st.fixed_dictionaries({"test": sane}) for name in ("mnist", "cifar")})
    return st.one_of(both, st.fixed_dictionaries({"source": LEAVES}, optional=sections), strange)


@functools.cache
def written() -> dict[str, bytes]:
    """What the stages write, which `plot` reads, by path."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "params.yaml", folder)
        write_stage_outputs(folder)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@st.composite
def edited_result(draw: Any) -> tuple[str, bytes]:
    """One of the files that `plot` reads, with some values replaced or removed, or some bytes."""
    path = draw(st.sampled_from([path for path in sorted(written()) if path != "params.yaml"]))
    content = written()[path]
    if path.endswith(".csv"):
        return path, draw(edited(content.decode(), ","))
    if draw(st.booleans()):  # as text, where most of it is no longer JSON, or no archive
        start = draw(st.integers(0, len(content)))
        return path, content[:start] + draw(st.binary(max_size=4)) + content[start + draw(st.integers(0, 40)) :]
    if path.endswith(".json"):
        return path, json.dumps(draw(with_other_values(json.loads(content)))).encode()
    with np.load(io.BytesIO(content)) as archive:
        arrays = dict(archive)
    key = draw(st.sampled_from(sorted(arrays)))
    array = arrays.pop(key)
    change = draw(st.sampled_from([None, "cut", "flat", "float", "more", "objects", "reversed"]))
    changed: dict[str, Any] = {
        "cut": array[:0], "flat": array.ravel(), "float": array / 3, "more": array[None], "reversed": array[::-1],
        "objects": np.array([{}]),
    }  # fmt: skip
    file = io.BytesIO()
    np.savez(file, **arrays, **({key: changed[change]} if change else {}))
    return path, file.getvalue()


@st.composite
def with_other_values(draw: Any, values: Any) -> Any:
    """`values` with one of them, at any depth, replaced or removed."""
    if not isinstance(values, dict | list) or not values or draw(st.integers(0, 5)) == 0:
        return draw(st.one_of(LEAVES, st.lists(LEAVES, max_size=2)))
    places = list(values) if isinstance(values, dict) else range(len(values))
    place = draw(st.sampled_from(places))
    copy: Any = values.copy()
    if draw(st.integers(0, 5)) == 0:
        del copy[place]
    else:
        copy[place] = draw(with_other_values(values[place]))
    return copy


def check_results(case: tuple[str, bytes]) -> None:
    """Either the report is drawn and written, or at most three lines say which file is not right."""
    edited_path, content = case
    for path, good in (written() | {edited_path: content}).items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(good)
    Path("benchmarks/results").mkdir(parents=True, exist_ok=True)
    try:
        result = report_results.load(MNIST)
    except UserError as error:
        lines = str(error).splitlines()
        assert 1 <= len(lines) <= 3
        # What the details say of the images is expected of the other files.
        named = tuple(written()) if edited_path == "evaluation/mnist.json" else edited_path
        assert all(line.startswith(named) and len(line) < 600 for line in lines), lines
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chapters.figures, "save", lambda figure, path: None)  # takes seconds
        chapters.draw(result, Path("report"))
    text = chapters.summarize([result]) + str(chapters.write_chapter(result))
    assert text.encode()


def check_params(content: bytes) -> None:
    """Either values, the ones that DVC reads, or at most five lines that say where."""
    params.FILE.write_bytes(content)
    try:
        params.read(params.Run)
        params.read(params.Recipe, "mnist")
    except UserError as error:
        lines = str(error).splitlines()
        assert 1 <= len(lines) <= params.MAX_FAULTS
        assert all(line.startswith("params.yaml: ") and len(line) < 600 for line in lines), lines
    else:
        ours = flatten(params.load(params.FILE))
        assert flatten(parse_yaml(content.decode("utf-8-sig"), "params.yaml")) == ours
    assert params.FILE.read_bytes() == content


def check_predictions(case: tuple[bytes, bytes, float]) -> None:
    """Either each side's right and wrong images, or a line."""
    here, there, accuracy = case
    where = "plots/mnist/predictions.csv here"
    found: list[Any] = []
    for content in (here, there):
        try:
            text = decode(content, where, predictions.REMEDY)
            found.append(predictions.read_predictions(where, accuracy, text))
        except UserError as error:
            [line] = str(error).splitlines()
            assert line.startswith(f"{where}: ")
    for one in found:
        assert one is not None
        assert math.isclose(one.correct.mean(), accuracy, abs_tol=1e-9)


def check_gate(case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Passed means that each target is met by a number; whatever comes, the verdict is JSON and text."""
    then, now = case
    fakes: dict[str, Any] = {
        "lock.faults": list,
        "lock.changed_results": lambda rev: [],
        "describe": lambda rev: rev,
        "choose_base": lambda rev: rev,
        "read_files": lambda rev: MetricFiles({"metrics.json": b""}),
        "lock.one_repository": nullcontext,
        "lock.undeclared_code": lambda rev=None: [],
        "lock.params": lambda rev=None: {},
        "lock.metrics": lambda rev=None: flatten(shown(then if rev else now)),
        "lock.text": lambda path, rev: None,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, fake in fakes.items():
            patch.setattr(f"reprocnn.gate.compare.{name}", fake)
        judgement = compare.judge("HEAD")
    said = json.loads(render.as_json(judgement), parse_constant=absent)
    assert said["exit_code"] == judgement.exit_code
    assert len(render.text(judgement)) + len(render.markdown(judgement)) > 0
    assert all(reason == " ".join(reason.split()) for reason in judgement.reasons)
    assert (judgement.exit_code == 0) == (not judgement.reasons)
    if judgement.exit_code == 0:
        assert "sample" not in [value for key, value in flatten(now).items() if key.split(".")[-1] == "source"]
        for name, target in params.load(params.FILE)["targets"].items():
            assert target["test"]["accuracy"]["at_least"] <= now[name]["test"]["accuracy"] < math.inf


ROWS = [{"epoch": epoch, "loss": 1 / epoch, "accuracy": 0.5, "seconds": 3.0} for epoch in (1, 2)]


@st.composite
def records(draw: Any) -> bytes:
    """The record of a checkpoint with the weights "weights", with some values replaced, or some bytes."""
    content = {"weights": hashlib.sha256(b"weights").hexdigest(), "rows": ROWS}
    values = content | {"digest": checkpoint._digest(content)}
    changed = draw(st.one_of(st.just(values), with_other_values(values), LEAVES, st.lists(LEAVES)))
    return draw(odd_downloads.changed(json.dumps(changed, indent=2).encode()))


def check_record(content: bytes) -> None:
    """Either the rows that were written, or none."""
    record, weights = Path("epoch-0002.json"), Path("epoch-0002.weights.h5")
    record.write_bytes(content)
    weights.write_bytes(b"weights")
    assert checkpoint._intact_rows(record, weights) in (ROWS, [])


def shown(metrics: Any) -> Any:
    """What dvc makes of a metrics file: no lists, no nulls."""
    kept = {key: shown(value) if isinstance(value, dict) else value for key, value in metrics.items()}
    return {key: value for key, value in kept.items() if isinstance(value, int | float | str | dict)}


def absent(*_: Any, **__: Any) -> Any:
    raise FileNotFoundError


@dataclass(frozen=True)
class Inputs:
    made: Any
    check: Callable[[Any], None]

    def run(self, examples: int, number: int | None = None) -> int:
        """Tries `examples` inputs, other ones with another `number`; how many they were."""
        tried = 0

        @settings(
            max_examples=examples, deadline=None, database=None, derandomize=number is None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(self.made)
        def try_one(made: Any) -> None:
            nonlocal tried
            tried += 1
            self.check(made)

        (try_one if number is None else seed(number)(try_one))()
        return tried


INPUTS = {
    "params.yaml": Inputs(edited(PARAMS, ":"), check_params),
    "params.yaml of bytes": Inputs(st.one_of(st.binary(), st.text().map(str.encode)), check_params),
    "predictions.csv": Inputs(
        st.tuples(edited(PREDICTIONS, ","), edited(PREDICTIONS, ","), st.sampled_from([0.2, 0.25, 0.3, 1.0])),
        check_predictions,
    ),
    "metrics.json": Inputs(st.tuples(results(), results()), check_gate),
    "results of the stages": Inputs(edited_result(), check_results),
    "records of checkpoints": Inputs(records(), check_record),
    "answers of web servers": Inputs(odd_downloads.answers(), odd_downloads.check_answer),
    "archives": Inputs(odd_downloads.archives(), odd_downloads.check_archive),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", INPUTS)
def test_a_few_inputs(project, name):
    assert INPUTS[name].run(40) >= 20


@pytest.mark.fuzz
@pytest.mark.timeout(0)
def test_many_inputs(project):
    seconds, number = float(os.environ.get("FUZZ_SECONDS", 600)), int(os.environ.get("FUZZ_SEED", 0))
    number = number or random.SystemRandom().randrange(1, 2**32)
    print(f"fuzz: FUZZ_SEED={number}")
    end, tried = time.monotonic() + seconds, Counter[str]()
    while time.monotonic() < end:
        for name, inputs in INPUTS.items():
            tried[name] += inputs.run(300, number)
        number += 1
    print("fuzz:", ", ".join(f"{count:,} of {name}" for name, count in tried.items()))
    assert min(tried.values()) >= 300
