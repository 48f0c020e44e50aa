"""The verdict on one metric, at the edges of target, alpha and tolerance."""

import io
import math
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from reprocnn.core.errors import UserError
from reprocnn.core.startup import run
from reprocnn.gate import command, lock
from reprocnn.gate.compare import Comparison, Judgement, Row, _other_than_predicted
from reprocnn.gate.limits import Limits, limits_at
from reprocnn.gate.metric_files import MetricFiles
from reprocnn.gate.predictions import SAME_IMAGES
from reprocnn.gate.stage_files import StageFiles
from reprocnn.gate.statistics import mcnemar, two_proportions, wilson_interval


def compare(
    metric: str, direction: str, limit: float, then: dict[str, Any], now: dict[str, Any],
    alpha: float = 0.01, tolerance: float = 0.05, rev: str | None = "v1",
) -> Row:  # fmt: skip
    limits = Limits({metric: (direction, limit)}, alpha, tolerance)
    return Comparison(limits, rev, then, now).judge_metric(metric)


@pytest.mark.parametrize(
    ("direction", "then", "now", "verdict", "failed"),
    [
        ("at_most", 0.30, 0.20, "target met, better", False),
        ("at_most", 0.30, 0.30, "target met, same", False),
        ("at_most", 0.30, 0.34, "target met, worse within 0.05", False),
        ("at_most", 0.30, 0.36, "target met, WORSE (by more than 0.05)", True),
        ("at_most", 0.30, 0.40, "target met, WORSE (by more than 0.05)", True),
        ("at_most", 0.42, 0.41, "ABOVE TARGET, better", True),
        ("at_most", 0.39, 0.41, "ABOVE TARGET, worse within 0.05", True),
        ("at_most", 0.10, 0.41, "ABOVE TARGET, WORSE (by more than 0.05)", True),
        ("at_least", 0.50, 0.60, "target met, better", False),
        ("at_least", 0.50, 0.50, "target met, same", False),
        ("at_least", 0.50, 0.46, "target met, worse within 0.05", False),
        ("at_least", 0.50, 0.44, "target met, WORSE (by more than 0.05)", True),
        ("at_least", 0.50, 0.40, "target met, WORSE (by more than 0.05)", True),
        ("at_least", 0.38, 0.39, "BELOW TARGET, better", True),
        ("at_least", 0.41, 0.39, "BELOW TARGET, worse within 0.05", True),
    ],
)
def test_better_and_worse_depend_on_the_direction(direction, then, now, verdict, failed):
    row = compare("a.speed", direction, 0.4, {"a.speed": then}, {"a.speed": now})
    assert (row.verdict, row.failed) == (verdict, failed)
    assert (row.metric, row.then, row.now, row.change) == ("a.speed", then, now, pytest.approx(now - then))
    assert (row.target, row.test, row.p, row.interval) == (
        {"at_least": "≥ 0.4", "at_most": "≤ 0.4"}[direction], "tolerance alone", None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "worse"), [(0.0099, False), (0.01, False), (0.01 + 1e-13, False), (0.01 + 1e-9, True), (0.011, True)]
)
def test_a_loss_is_worse_beyond_the_tolerance_and_not_at_it(loss, worse):
    for direction, sign in (("at_least", -1), ("at_most", 1)):
        limit = 0.0 if direction == "at_least" else 9.0
        row = compare("a", direction, limit, {"a": 0.99}, {"a": 0.99 + sign * loss}, tolerance=0.01)
        assert row.failed is worse
        assert row.verdict == f"target met, {'WORSE (by more than 0.01)' if worse else 'worse within 0.01'}"
        assert not compare("a", direction, limit, {"a": 0.99}, {"a": 0.99 - sign * loss}, tolerance=0.01).failed


@pytest.mark.parametrize(("then", "now", "worse"), [(4e-13, 9e-13, True), (110010.0, 111110.1, False)])
def test_rounding_is_relative_to_the_metric(then, now, worse):
    row = compare("a", "at_most", 1e9, {"a": then}, {"a": now}, tolerance=0.01 * then)
    assert row.failed is worse


def test_a_metric_is_new_without_a_revision_and_without_a_value_there():
    for rev, then in ((None, {}), ("v1", {}), ("v1", {"a": None})):
        row = compare("a", "at_least", 0.5, then, {"a": 0.4}, rev=rev)
        assert (row.verdict, row.failed, row.change, row.test, row.p) == ("BELOW TARGET, new", True, None, None, None)
    assert compare("a", "at_most", 0.5, {}, {"a": 0.4}).verdict == "target met, new"


def test_a_count_of_images_gives_the_interval_and_the_test():
    then, now = {"val.n": 400, "val.accuracy": 0.9}, {"val.n": 300, "val.accuracy": 0.85}
    p = two_proportions(360, 400, 255, 300)
    row = compare("val.accuracy", "at_least", 0.8, then, now, alpha=p * 1.01, tolerance=1)
    assert row.interval == wilson_interval(255, 300)
    assert (row.test, row.p, row.failed) == ("two proportions, predictions missing", p, True)
    assert row.verdict == f"target met, WORSE (p < {p * 1.01:g})"
    for alpha in (p, p * 0.99):
        row = compare("val.accuracy", "at_least", 0.8, then, now, alpha=alpha, tolerance=1)
        assert (row.verdict, row.failed) == ("target met, worse within noise", False)
    row = compare("val.accuracy", "at_least", 0.8, then, now, alpha=0, tolerance=0.04)
    assert (row.verdict, row.failed) == ("target met, WORSE (by more than 0.04)", True)


def test_shares_are_rounded_to_whole_images():
    # 28.999999999999996 images each
    then, now = {"val.n": 100, "val.accuracy": 0.29}, {"val.n": 50, "val.accuracy": 0.58}
    row = compare("val.accuracy", "at_least", 0.1, then, now)
    assert row.interval == wilson_interval(29, 50)
    assert row.p == two_proportions(29, 100, 29, 50)
    assert compare("val.accuracy", "at_least", 0.1, now, then).p == two_proportions(29, 50, 29, 100)


@pytest.mark.parametrize("section", ["", "test", "a.b.test", "held_out"])
def test_another_number_of_images_is_another_test_set(section):
    prefix = f"{section}." if section else ""
    then, now = ({f"{prefix}n": n, f"{prefix}accuracy": 0.9} for n in (1000, 20))
    with pytest.raises(UserError, match=rf"^{prefix}n: 1,000 at v1, 20 here: other test images; {SAME_IMAGES}$"):
        compare(f"{prefix}accuracy", "at_least", 0.5, then, now)


def test_a_digest_that_is_new_is_no_other_one():
    then = {"v.n": 400, "v.accuracy": 0.9}
    assert not compare("v.accuracy", "at_least", 0.5, then, then | {"v.digest": "a"}).failed


def test_an_improvement_is_never_worse_whatever_alpha():
    then, now = {"v.n": 400, "v.accuracy": 0.8}, {"v.n": 400, "v.accuracy": 0.9}
    row = compare("v.accuracy", "at_least", 0.8, then, now, alpha=0.5, tolerance=0)
    assert (row.verdict, row.failed) == ("target met, better", False)
    assert row.p == pytest.approx(two_proportions(320, 400, 360, 400))
    assert row.p is not None
    assert row.p > 0.99


def test_an_accuracy_with_an_upper_limit_and_one_whose_count_is_missing_are_judged_by_tolerance():
    counted, bare = {"v.n": 400, "v.accuracy": 0.8}, {"v.accuracy": 0.7}
    for direction, then, now in (("at_most", counted, counted), ("at_least", bare, counted)):
        row = compare("v.accuracy", direction, 0.5, then, now)
        assert (row.test, row.p) == ("tolerance alone", None)
    with pytest.raises(UserError, match=r"^v\.n: 400 at v1, no count of images here"):
        compare("v.accuracy", "at_least", 0.5, counted, bare)


def table(classes: list[int], wrong: set[int]) -> str:
    lines = [f"{label},{(label + 1) % 3 if i in wrong else label}" for i, label in enumerate(classes)]
    return "\n".join(["y_true,y_pred", *lines]) + "\n"


@pytest.fixture
def predictions(tmp_path, monkeypatch):
    """Write the predictions of both sides for n images, of which the sets `before` and `after` are wrong."""
    monkeypatch.chdir(tmp_path)

    def write(n: int, before: set[int] | None, after: set[int] | None) -> tuple[dict[str, Any], dict[str, Any]]:
        classes = [(i * i) % 3 for i in range(n)]

        def text(path: str, rev: str) -> str | None:
            assert (path, rev) == ("plots/digits/predictions.csv", "v1")
            return None if before is None else table(classes, before)

        monkeypatch.setattr(lock, "text", text)
        path = tmp_path / "plots/digits/predictions.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if after is not None:
            path.write_text(table(classes, after))
        wrong = [len(side) if side is not None else 3 for side in (before, after)]
        then, now = ({"digits.test.n": n, "digits.test.accuracy": (n - one) / n} for one in wrong)
        return then, now

    return write


def test_mcnemar_counts_what_was_lost_and_what_was_won(predictions):
    then, now = predictions(50, {0, 1, 2, 3}, {2, 3, 4, 5, 6, 7, 8, 9, 10})
    row = compare("digits.test.accuracy", "at_least", 0.5, then, now, alpha=0.04, tolerance=1)
    assert row.test == "McNemar, 7 lost, 2 won"
    assert row.p == pytest.approx((36 + 9 + 1) / 2**9)  # C(9, 7) + C(9, 8) + C(9, 9)
    assert row.verdict == "target met, worse within noise"
    assert compare("digits.test.accuracy", "at_least", 0.5, then, now, alpha=0.1, tolerance=1).failed


def test_mcnemar_sees_no_loss_where_more_was_won(predictions):
    then, now = predictions(50, {2, 3, 4, 5, 6, 7, 8, 9, 10}, {0, 1, 2, 3})
    row = compare("digits.test.accuracy", "at_least", 0.5, then, now, alpha=0.5, tolerance=0)
    assert row.test == "McNemar, 2 lost, 7 won"
    assert row.p == pytest.approx(1 - (1 + 9) / 2**9)
    assert (row.verdict, row.failed) == ("target met, better", False)


def test_predictions_are_better_than_the_noise_of_seeds(predictions):
    then, now = predictions(50, {0, 1, 2, 3}, {2, 3, 4, 5, 6, 7, 8, 9, 10})
    text = "targets: {digits: {test: {accuracy: {at_least: 0.5, noise: 0.5}}}}\ngate: {alpha: 0.1, tolerance: 1}"
    limits = limits_at("v1", text)
    assert limits is not None
    row = Comparison(limits, "v1", then, now).judge_metric("digits.test.accuracy")
    assert (row.test, row.failed) == ("McNemar, 7 lost, 2 won", True)


def test_p_at_alpha_is_not_yet_worse(predictions):
    then, now = predictions(50, set(), set(range(7)))
    p = mcnemar(7, 0)
    for alpha, failed in ((p, False), (p * 1.0001, True), (0.01, True), (0.001, False)):
        row = compare("digits.test.accuracy", "at_least", 0.5, then, now, alpha=alpha, tolerance=1)
        assert row.failed is failed


@pytest.mark.parametrize(("before", "after"), [(None, {1, 2, 3, 4, 5}), ({1, 2, 3, 4, 5}, None)])
def test_where_one_side_lacks_predictions_counts_are_compared(predictions, before, after):
    then, now = predictions(40, before, after)
    row = compare("digits.test.accuracy", "at_least", 0.5, then, now)
    hits = (37, 35) if before is None else (35, 37)
    assert row.test == "two proportions, predictions missing"
    assert row.p == pytest.approx(two_proportions(hits[0], 40, hits[1], 40))


@pytest.mark.parametrize("count", [40, 40.0, None])
def test_the_predictions_count_however_their_number_is_written(predictions, count):
    then, now = predictions(40, {1}, {2, 3})
    for side in (then, now):
        side["digits.test.n"] = count
    assert compare("digits.test.accuracy", "at_least", 0.5, then, now).test == "McNemar, 2 lost, 1 won"


def test_the_predictions_count_where_several_files_share_the_first_key(predictions):
    then, now = (
        {f"metrics/a.json:{key}": value for key, value in side.items()} for side in predictions(40, {1}, {2, 3})
    )
    row = compare("metrics/a.json:digits.test.accuracy", "at_least", 0.5, then, now)
    assert row.test == "McNemar, 2 lost, 1 won"


def test_only_the_test_accuracy_is_judged_by_the_predictions(predictions):
    predictions(40, {1}, {2})
    then, now = ({"digits.val.n": 40, "digits.val.accuracy": accuracy} for accuracy in (0.5, 0.4))
    row = compare("digits.val.accuracy", "at_least", 0.1, then, now)
    assert (row.test, row.p) == ("two proportions, predictions missing", two_proportions(20, 40, 16, 40))


def test_other_predictions_than_the_metric_was_computed_from_are_refused(predictions):
    then, now = predictions(50, {0, 1}, {2, 3})
    for side, name in ((then, "at v1"), (now, "here")):
        wrong = side | {"digits.test.accuracy": 0.98}
        pair = (wrong, now) if side is then else (then, wrong)
        with pytest.raises(UserError, match=rf"predictions\.csv {name}: gives an accuracy of 0\.960000, but .* 0\.98"):
            compare("digits.test.accuracy", "at_least", 0.5, *pair)


@pytest.mark.parametrize(("then", "now"), [({"v.digest": "a"}, {"v.digest": "b"}), ({"v.digest": "a"}, {})])
def test_metrics_of_other_images_are_not_compared(then, now):
    accuracy = {"v.n": 400, "v.accuracy": 0.9}
    message = f"digest: {then.get('v.digest')} at v1, {now.get('v.digest')} here: other test images; {SAME_IMAGES}"
    for prefix in ("v.", ""):
        sides = [{prefix + key[2:]: value for key, value in (accuracy | side).items()} for side in (then, now)]
        with pytest.raises(UserError, match=f"^{prefix}{message}$"):
            compare(f"{prefix}accuracy", "at_least", 0.5, *sides)


def making(path: str) -> dict[str, StageFiles]:
    return {"evaluate": StageFiles(outs={path}, deps=set(), params=set(), code=set(), may_use=lambda path, deps: True)}


def test_predictions_that_a_stage_makes_are_not_done_without(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metrics = {"digits.test.n": 10, "digits.test.accuracy": 0.9}
    path = "plots/digits/predictions.csv"
    [line] = _other_than_predicted(metrics, MetricFiles(stages=making(path)))
    assert line == f"{path}: missing, but a stage makes it; run `dvc pull`"
    assert not list(_other_than_predicted(metrics, MetricFiles(contents={"metrics/digits.json": b""})))


def test_malformed_predictions_of_the_base_ask_for_another_one():
    metrics = {"digits.test.accuracy": 0.9}
    source = SimpleNamespace(text=lambda path, rev: "y_true,label\n1,1\n")
    comparison = Comparison(Limits({}, 0.01, 0.05), "v1", metrics, metrics, before=MetricFiles(), source=source)
    with pytest.raises(UserError, match=r"predictions\.csv at v1: .*; name another revision with --against$"):
        comparison._lost_and_won("digits.test.accuracy", "v1")


def test_other_metrics_are_listed_where_they_changed():
    then = {"a.accuracy": 0.9, "a.loss": 0.5, "a.same": 1, "a.name": "x", "gone": 3, "was_text": "slow", "nan": 0.5}
    now = {"a.accuracy": 0.8, "a.loss": 0.75, "a.same": 1, "a.name": "y", "new": 4, "was_text": 2.0, "nan": math.nan}
    limits = Limits({"a.accuracy": ("at_least", 0.5)}, 0.01, 0.05)
    rows = Comparison(limits, "v1", then, now).list_others()
    assert [(row.metric, row.then, row.now, row.change, row.verdict) for row in rows] == [
        ("a.loss", 0.5, 0.75, 0.25, "not judged"),
        ("new", None, 4, None, "new, not judged"),
        ("was_text", "slow", 2.0, None, "new, not judged"),
        ("nan", 0.5, "nan", None, "new, not judged"),
        ("gone", 3, None, None, "gone, not judged"),
    ]
    assert not any(row.failed or row.target or row.test or row.interval for row in rows)
    assert Comparison(limits, "v1", {}, now).list_others() == []


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError(), AssertionError("\ud800"), MemoryError(), ValueError("a\nb")]
)
def test_an_unexpected_error_is_no_verdict(monkeypatch, capsys, error):
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("reprocnn.gate.compare.read_limits", fail)
    for form in command.FORMATS:
        with pytest.raises(SystemExit) as ended:
            command.main(["--format", form])
        assert ended.value.code == 2
        out, err = capsys.readouterr()
        assert "cannot judge" in out
        assert f"error: unexpected {type(error).__name__}" in err


def test_a_judgement_that_cannot_be_written_is_no_verdict(monkeypatch, capsys):
    monkeypatch.setattr(command, "judge", lambda *_: Judgement("v1", metrics=[Row("a", math.nan, math.nan)]))
    with pytest.raises(SystemExit) as ended:
        command.main(["--format=json"])
    assert ended.value.code == 2
    assert "the judgement cannot be written" in capsys.readouterr().err


def test_a_terminal_without_every_letter_gets_a_verdict_too(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1", write_through=True))
    row = Row("a", 0.5, 0.5, target="≥ 0.4", verdict="target met, same")
    monkeypatch.setattr(command, "judge", lambda *_: Judgement("v1", metrics=[row]))
    with pytest.raises(SystemExit) as ended:
        run(lambda: command.main([]))
    assert ended.value.code == 0
    assert b"\\u2265 0.4" in written.getvalue()
