"""What targets tolerate of their own, and what counts as loosening it."""

import json
import math
from pathlib import Path

import pytest

from reprocnn.core.errors import UserError
from reprocnn.gate.compare import Comparison
from reprocnn.gate.limits import Limits, Tolerated, judge_by, limits_at, read_limits
from tests.support.commands import ROOT

GATE = "gate: {alpha: 0.01, tolerance: 0.05}"


def read(targets: str, gate: str = GATE) -> Limits:
    limits = limits_at("v1", f"targets: {targets}\n{gate}\n")
    assert limits is not None
    return limits


@pytest.mark.parametrize(
    ("own", "then", "loss"),
    [
        ("", 0.9, 0.05),
        (", tolerance: 0.002", 0.9, 0.002),
        (", tolerance: 30", 1200, 30),
        (", relative_tolerance: 0.01", 1200, 12),
        (", relative_tolerance: 0.01", -1200, 12),
        (", relative_tolerance: 0.01", 0, 0),
        (", relative_tolerance: 0.01, tolerance: 20", 1200, 12),
        (", relative_tolerance: 0.01, tolerance: 5", 1200, 5),
        (", alpha: 0.2", 0.9, 0.05),
    ],
)
def test_a_target_may_tolerate_more_or_less_than_the_gate(own, then, loss):
    tolerated = read(f"{{a: {{at_most: 2000{own}}}, b: {{at_least: 1}}}}").of("a")
    assert tolerated.loss(then) == pytest.approx(loss)
    assert tolerated.alpha == (0.2 if "alpha" in own else 0.01)
    assert read(f"{{a: {{at_most: 2000{own}}}, b: {{at_least: 1}}}}").of("b") == Tolerated(0.01, 0.05)


@pytest.mark.parametrize(("now", "failed"), [(1201, False), (1212, False), (1212.01, True), (1300, True)])
def test_an_error_of_1200_may_grow_by_a_hundredth(now, failed):
    limits = read("{rmse: {at_most: 5000, relative_tolerance: 0.01}}")
    row = Comparison(limits, "v1", {"rmse": 1200}, {"rmse": now}).judge_metric("rmse")
    assert row.failed is failed
    assert row.verdict == ("target met, WORSE (by more than 12)" if failed else "target met, worse within 12")


def test_alpha_of_a_target_judges_its_test():
    then, now = {"a.accuracy": 0.9, "a.n": 1000}, {"a.accuracy": 0.88, "a.n": 1000}  # p = 0.09
    for alpha, failed in ((0.08, False), (0.1, True)):
        limits = read(f"{{a: {{accuracy: {{at_least: 0.5, alpha: {alpha}}}}}}}")
        assert Comparison(limits, "v1", then, now).judge_metric("a.accuracy").failed is failed


@pytest.mark.parametrize(
    "targets",
    [
        "{a: {at_least: 1, tolerance: -1}}", "{a: {at_least: 1, alpha: 0.6}}", "{a: {at_least: 1, tolerance: .nan}}",
        "{a: {at_least: 1, alpha: yes}}", "{a: {at_least: 1, relative_tolerance: '1'}}", "{a: {tolerance: 1}}",
        "{a: {at_least: 1}, b: {alpha: 0.1}}", "{a: {at_least: 1, at_most: 2, tolerance: 1}}", "{tolerance: 1}",
    ],
)  # fmt: skip
def test_a_tolerance_of_no_use_is_refused(targets):
    with pytest.raises(UserError, match=r"params\.yaml at v1: "):
        read(targets)


@pytest.mark.parametrize(
    ("base", "here", "name"),
    [
        ("", ", tolerance: 0.06", "a.tolerance"),
        ("", ", alpha: 0.001", "a.alpha"),
        ("", ", relative_tolerance: 0.0001", "a.tolerance"),  # of a value that may be large
        (", tolerance: 0.01", "", "a.tolerance"),
        (", tolerance: 0.01", ", tolerance: 0.02", "a.tolerance"),
        (", relative_tolerance: 0.01", ", relative_tolerance: 0.02", "a.relative_tolerance"),
        (", relative_tolerance: 0.01", ", tolerance: 0.01", "a.relative_tolerance"),
        (", alpha: 0.2", ", alpha: 0.1", "a.alpha"),
        (", alpha: 0.2", "", "a.alpha"),
        (", noise: 1", ", noise: 2", "a.noise"),
        (", noise: 1", "", "a.noise"),
        ("", ", noise: 1", "a.noise"),  # another test judges
    ],
)
def test_a_branch_cannot_tolerate_more_of_a_metric(base, here, name):
    then, now = (read(f"{{a: {{at_least: 1{own}}}}}") for own in (base, here))
    limits, [loosened] = judge_by(then, now, set())
    assert (loosened.name, loosened.accepted) == (name, False)
    strict, chosen = then.of("a"), limits.of("a")
    assert chosen.alpha >= strict.alpha
    assert (chosen.tolerance <= strict.tolerance, chosen.relative_tolerance <= strict.relative_tolerance) == (
        True,
        True,
    )
    limits, [loosened] = judge_by(then, now, {name})
    assert loosened.accepted
    assert limits.of("a") == now.of("a")


@pytest.mark.parametrize(
    ("base", "here"),
    [
        ("", ""), ("", ", tolerance: 0.05"), ("", ", tolerance: 0.01"), ("", ", alpha: 0.02"),
        ("", ", relative_tolerance: 0.01, tolerance: 0.05"), (", tolerance: 0.02", ", tolerance: 0.01"),
        (", noise: 2", ", noise: 1"),
    ],
)  # fmt: skip
def test_a_branch_may_tolerate_less(base, here):
    then, now = (read(f"{{a: {{at_least: 1{own}}}}}") for own in (base, here))
    limits, loosened = judge_by(then, now, set())
    assert loosened == []
    assert limits.of("a") == now.of("a")


def test_a_change_of_the_gate_is_reported_once():
    then, now = read("{a: {at_least: 1}}"), read("{a: {at_least: 1}}", "gate: {alpha: 0.01, tolerance: 9}")
    limits, loosened = judge_by(then, now, set())
    assert [one.name for one in loosened] == ["gate.tolerance"]
    assert limits.of("a") == Tolerated(0.01, 0.05, math.inf)
    limits, loosened = judge_by(then, now, {"gate.tolerance"})
    assert [one.name for one in loosened] == ["gate.tolerance"]
    assert limits.of("a") == Tolerated(0.01, 9)
    now = read("{a: {at_least: 1}}", "gate: {alpha: 0.001, tolerance: 0.05}")
    for accept in (set[str](), {"gate.alpha"}):
        limits, [loosening] = judge_by(then, now, accept)
        assert (loosening.name, loosening.what) == ("gate.alpha", "0.01 -> 0.001")
        assert limits.of("a") == Tolerated(0.001 if accept else 0.01, 0.05)


def test_a_removed_target_keeps_what_it_tolerated():
    limits, [loosened] = judge_by(
        read("{a: {at_least: 1, tolerance: 0.01}, b: {at_least: 1}}"), read("{b: {at_least: 1}}"), set()
    )
    assert loosened.name == "a"
    assert limits.of("a") == Tolerated(0.01, 0.01)


@pytest.mark.parametrize(("now", "limit", "names"), [(0.3, 0.2, ["a"]), (0.1, 0.1, [])])
def test_a_limit_from_above_is_looser_if_it_is_higher(now, limit, names):
    then, here = (read(f"{{a: {{at_most: {value}}}}}") for value in (0.2, now))
    limits, loosened = judge_by(then, here, set())
    assert limits.targets["a"] == ("at_most", limit)
    assert [one.name for one in loosened] == names


@pytest.mark.parametrize("targets", ["", "{}"])
def test_a_base_without_a_target_is_one_before_the_gate(targets):
    assert limits_at("v1", f"targets: {targets}\n{GATE}\n") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("targets: {a.at_least: 1}\ngate: {alpha: 2, tolerance: 0}", "gate.alpha: found 2, expected a number from .*"),
        ("targets: {a: {at_least: 1, at_most: 2}}\n" + GATE, "targets.a: found at_least and at_most, expected one .*"),
        ("targets: [", "invalid YAML: .*"),
    ],
)
def test_nobody_is_asked_to_change_the_limits_of_the_base(text, found):
    with pytest.raises(
        UserError, match=rf"^params\.yaml at v1: {found}; name another revision with --against$"
    ) as error:
        limits_at("v1", text)
    assert not any(remedy in str(error.value) for remedy in ("set it", "remove the other"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with limits in params.yaml, and a param that is not of this project."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"errors: 20\ntargets: {{a: {{at_least: 1}}}}\n{GATE}\n")
    return tmp_path


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "required": ["foo"], "additionalProperties": False},
        {"oneOf": [{"type": "null"}]},
        {"$ref": "http://127.0.0.1:9/x.json"},
        {"properties": {"errors": {"oneOf": [{"type": "null"}]}, "targets": {}, "gate": {}}},
        {"title": "params.yaml", "properties": {"errors": {"type": "null"}}},
        {"title": "params.yaml", "properties": []},
        [],
        False,
    ],
)
def test_a_schema_of_somebody_else_is_not_the_gates(here, schema):
    Path("params.schema.json").write_text(json.dumps(schema))
    assert read_limits().targets == {"a": ("at_least", 1)}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("#/$defs/dataset", "http://127.0.0.1:9/x.json", r"found 'http://127\.0\.0\.1:9/x\.json', expected references"),
        (
            '"type": "object"',
            '"type": "object", "anyOf": [{"$id": "http://127.0.0.1:9/"}]',
            "found .*, expected references",
        ),
        ("#/$defs/dataset", "#/$defs/nosuch", r"invalid \(.*nosuch"),
        ('"type": "object"', '"type": "object", "$ref": "#"', r"invalid \(RecursionError"),
        ('"type": "object"', '"type": 3', r"invalid \("),
        ("{", "", "invalid JSON"),
    ],
)
def test_a_schema_of_no_use_is_a_line_and_nothing_is_fetched(here, old, new, said):
    text = (ROOT / "params.schema.json").read_text()
    Path("params.schema.json").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=rf"^params\.schema\.json: {said}"):
        read_limits()


def test_a_new_target_may_tolerate_more_than_the_gate():
    now = read("{a: {at_least: 1}, b: {at_least: 1, tolerance: 1}}")
    limits, loosened = judge_by(read("{a: {at_least: 1}}"), now, set())
    assert loosened == []
    assert limits.of("b") == Tolerated(0.01, 1)


@pytest.mark.parametrize("text", ["targets: {a: {at_least: 1}}", "lr: 0.1", "", None])
def test_a_base_without_limits_is_one_before_the_gate(text):
    assert limits_at("v1", text) is None


def test_a_schema_may_say_where_it_is_published(here):
    schema = {"$id": "https://example.org/params.json", "properties": {"targets": {}, "gate": {}}}
    Path("params.schema.json").write_text(json.dumps(schema))
    assert read_limits().targets == {"a": ("at_least", 1)}
