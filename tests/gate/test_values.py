"""Which values are numbers, of how many images a metric is a share, and what params.yaml may ask of them."""

import math
from pathlib import Path

import pytest
import yaml

from reprocnn.core.errors import UserError
from reprocnn.gate import limits, values
from reprocnn.gate.metric_files import parse


def test_nested_keys_are_joined_by_dots():
    nested = {"a": {"b": {"c": 1, "d": None}, "e": [1, 2]}, "f": "x", "g": {}}
    assert values.flatten(nested) == {"a.b.c": 1, "a.b.d": None, "a.e": [1, 2], "f": "x"}
    assert values.flatten(nested["a"], "z") == {"z.b.c": 1, "z.b.d": None, "z.e": [1, 2]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, True), (-3, True), (0.5, True), (1.7e308, True), (-1.7e308, True), (True, False), (None, False),
        ("0.5", False), (math.nan, False), (math.inf, False), (-math.inf, False), (10**400, False), (-(10**400), False),
    ],
)  # fmt: skip
def test_a_number_is_finite_and_no_truth_value(value, expected):
    """JSON has whole numbers of any length; one of them was found by test_fuzz.py."""
    assert values.is_number(value) is expected
    assert values.numbers({"a": value, "b": 2}) == ({"a": value, "b": 2} if expected else {"b": 2})


def test_only_numbers_that_json_lacks_are_named():
    assert [values.finite(value) for value in (math.nan, -math.inf, 0.5, 3, "x", None)] == [
        "nan", "-inf", 0.5, 3, "x", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "more", "expected"),
    [
        ("a.test.accuracy", {}, 40), ("a.test.accuracy_low", {}, 40), ("accuracy", {}, 7), ("a.test.loss", {}, None),
        ("accuracy.loss", {"accuracy.n": 40, "accuracy.loss": 0.5}, None),
        ("b.accuracy", {}, None), ("a.test.precision", {}, None), ("a.test.accuracy", {"a.test.n": 0}, None),
        ("a.test.accuracy", {"a.test.n": 1}, 1), ("a.test.accuracy", {"a.test.n": -1}, None),
        ("a.test.accuracy", {"a.test.n": 40.0}, 40),
        ("a.test.accuracy", {"a.test.n": 40.5}, None), ("a.test.accuracy", {"a.test.n": "40"}, None),
        ("a.test.accuracy", {"a.test.n": 2**31 - 1}, 2**31 - 1), ("a.test.accuracy", {"a.test.n": 2**31}, None),
        ("a.test.accuracy", {"a.test.n": 10**400}, None), ("a.test.accuracy", {"a.test.accuracy": 0}, 40),
        ("a.test.accuracy", {"a.test.accuracy": 1.0}, 40), ("a.test.accuracy", {"a.test.accuracy": 1.001}, None),
        ("a.test.accuracy", {"a.test.accuracy": -0.1}, None), ("a.test.accuracy", {"a.test.accuracy": None}, None),
    ],
)  # fmt: skip
def test_an_accuracy_is_a_share_of_the_n_beside_it(metric, more, expected):
    metrics = {
        "a.test.n": 40, "a.test.accuracy": 0.5, "a.test.accuracy_low": 0.4, "a.test.loss": 0.3, "a.test.precision": 0.5,
        "n": 7, "accuracy": 0.25, "b.accuracy": 0.5,
    }  # fmt: skip
    assert values.count(metric, metrics | more) == expected


def test_bytes_that_are_not_text_are_refused():
    assert values.decode("müde".encode(), "table", "run it again") == "müde"
    with pytest.raises(UserError, match=r"^table: expected text in UTF-8 \(.* byte 0xff .*\); run it again$"):
        values.decode(b"y_true,y_pred\n\xff,\xff\n", "table", "run it again")


def test_a_key_twice_is_found_among_many():
    """Which would take minutes if each key were compared with all others."""
    keys = "".join(f'"{i}": 0, ' for i in range(80_000))
    with pytest.raises(ValueError, match="the key '79999' is there twice"):
        parse("metrics.json", f'{{{keys}"79999": 0}}'.encode())


def write_params(path: Path, **changes) -> None:
    gate = {"alpha": 0.01, "tolerance": 0.05}
    targets = {"a": {"test": {"accuracy": {"at_least": 0.9}, "loss": {"at_most": 2}}}, "speed": {"at_least": 3}}
    path.write_text(yaml.safe_dump({"targets": targets, "gate": gate} | changes))


@pytest.fixture
def params_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def test_limits_are_read_by_metric_with_their_direction(params_file):
    write_params(params_file)
    read = limits.read_limits()
    assert read.targets == {
        "a.test.accuracy": ("at_least", 0.9), "a.test.loss": ("at_most", 2.0), "speed": ("at_least", 3.0),
    }  # fmt: skip
    assert (read.alpha, read.tolerance) == (0.01, 0.05)
    assert limits.DIRECTIONS == {"at_least": "≥", "at_most": "≤"}


@pytest.mark.parametrize("gate", [{"alpha": 0, "tolerance": 0}, {"alpha": 0.5, "tolerance": 1000}])
def test_the_bounds_of_the_gate_are_allowed(params_file, gate):
    write_params(params_file, gate=gate)
    read = limits.read_limits()
    assert {"alpha": read.alpha, "tolerance": read.tolerance} == gate


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"gate": {"alpha": 0.501, "tolerance": 0.05}},
         ["gate.alpha: found 0.501, expected a number from 0 to 0.5; set it"]),
        ({"gate": {"alpha": -0.001, "tolerance": 0.05}},
         ["gate.alpha: found -0.001, expected a number from 0 to 0.5; set it"]),
        ({"gate": {"alpha": True, "tolerance": -0.001}},
         ["gate.alpha: found True, expected a number from 0 to 0.5; set it",
          "gate.tolerance: found -0.001, expected a number of at least 0; set it"]),
        ({"gate": {"alpha": 0.01}}, ["gate.tolerance: found nothing, expected a number of at least 0; set it"]),
        ({"gate": 3}, ["gate.alpha: found nothing, expected a number from 0 to 0.5; set it",
                       "gate.tolerance: found nothing, expected a number of at least 0; set it"]),
        ({"targets": {"a": {"at_least": "high"}, "b": {"at_least": 1}}},
         ["targets.a.at_least: found 'high', expected METRIC.at_least or METRIC.at_most with a number"]),
        ({"targets": {"a": {"at_least": True}, "b": {"at_least": 1}}},
         ["targets.a.at_least: found True, expected METRIC.at_least or METRIC.at_most with a number"]),
        ({"targets": {"at_least": 0.9, "b": {"at_least": 1}}},
         ["targets.at_least: found 0.9, expected METRIC.at_least or METRIC.at_most with a number"]),
        ({"targets": {"a": {"above": 0.9}, "b": {"at_least": 1}}},
         ["targets.a.above: found 0.9, expected METRIC.at_least or METRIC.at_most with a number, and beside it at most "
          "alpha, tolerance, relative_tolerance, noise"]),
        ({"targets": {"a": {"at_least": "high"}}},
         ["targets.a.at_least: found 'high', expected METRIC.at_least or METRIC.at_most with a number"]),
        ({"targets": None},
         ["targets: found none, expected at least one, as targets.NAME.test.accuracy.at_least: 0.99"]),
    ],
)  # fmt: skip
def test_each_fault_of_the_limits_is_a_line(params_file, changes, faults):
    write_params(params_file, **changes)
    with pytest.raises(UserError) as error:
        limits.read_limits()
    assert str(error.value).splitlines() == [f"params.yaml: {fault}" for fault in faults]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("a.test.accuracy", True), ("a.test.top2_accuracy", True), ("b.accuracy", True), ("b.top2_accuracy", False),
        ("a.test.loss", False),
    ],
)  # fmt: skip
def test_of_many_kinds_of_accuracy_those_with_their_n_are_shares(metric, expected):
    metrics = {"a.test.n": 40, "a.test.top2_accuracy": 98.0, "b.top2_accuracy": 98.0}
    assert values.is_share(metric, metrics) is expected


def test_the_file_of_a_metric_may_end_in_capitals():
    assert values.split("metrics/A.JSON:test.accuracy") == ("metrics/A.JSON:", "test.accuracy")
