"""Limits from several seeds: false alarms as rare as asked for, on seeds that are simulated."""

import json
import math
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import yaml
from scipy import stats

from reprocnn.core.errors import UserError
from reprocnn.gate import command
from reprocnn.gate.calibrate import _plain, of_predictions, of_values
from reprocnn.gate.compare import Comparison
from reprocnn.gate.limits import limits_at
from reprocnn.gate.statistics import further_seeds, student_cdf, student_quantile, two_seeds
from tests.support.commands import call, save


def outcome(capsys, *words: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of `gate calibrate`."""
    try:
        command.main(["calibrate", *words])
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    return (code, *capsys.readouterr())


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 12, 13, 100])
def test_students_distribution_agrees_with_scipy(degrees):
    for t in (-2.5, 0.0, 0.4, 3.0):
        assert student_cdf(t, degrees) == pytest.approx(stats.t.cdf(t, degrees), abs=1e-12)
    for share in (0.5, 0.9, 0.99, 0.9999):
        assert student_quantile(share, degrees) == pytest.approx(stats.t.ppf(share, degrees), rel=1e-9, abs=1e-9)


def test_two_seeds_by_hand():
    assert two_seeds(math.sqrt(2) * 0.01 * 1.6448536, 0.01) == pytest.approx(0.05)
    assert two_seeds(0, 0.01) == 0.5
    assert (two_seeds(0.1, 0), two_seeds(0, 0)) == (0, 1)


def test_further_seeds_by_hand():
    """One seed on each side separates a loss of 1.645 times the noise of the difference from none."""
    margin = 1.6448536 * math.sqrt(2) * 0.01
    assert [further_seeds(margin * factor, 0.01) for factor in (1.001, 0.5001, 0.10001)] == [0, 3, 99]
    assert further_seeds(1, 0) == 0
    assert further_seeds(0, 0.01) is None
    assert further_seeds(-1, 0.01) is None


def simulate(rng: np.random.Generator, seeds: int, spread: float, loss: float = 0.0) -> np.ndarray:
    """Seeds of a network on 2,000 images, of which a tenth is hard; `spread` makes some seeds better than others."""
    logits = np.concatenate([np.linspace(-3, 3, 200), np.full(1800, 9.0)]) - loss
    return rng.random((seeds, 2000)) < 1 / (1 + np.exp(-(logits + spread * rng.normal(size=(seeds, 1)))))


def alarms(spread: float, seeds: int, alpha: float | None = None, loss: float = 0.0) -> float:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(250):
        limit = alpha or of_predictions(simulate(rng, seeds, spread), 0.05).alpha
        for before, after in zip(simulate(rng, 6, spread), simulate(rng, 6, spread, loss), strict=True):
            lost, won = (before & ~after).sum(), (~before & after).sum()
            found.append(stats.binom.sf(lost - 1, lost + won, 0.5) < limit)
    return float(np.mean(found))


def test_mcnemar_alone_raises_too_many_false_alarms():
    assert alarms(0.0, 5, 0.05) < 0.06
    assert alarms(0.2, 5, 0.05) > 0.11


@pytest.mark.parametrize(("spread", "seeds"), [(0.0, 3), (0.0, 20), (0.2, 3), (0.2, 20), (0.3, 20)])
def test_calibrated_they_are_as_rare_as_asked_for(spread, seeds):
    assert alarms(spread, seeds) < 0.065


def test_a_loss_is_found_as_often_as_promised():
    rng = np.random.default_rng(1)
    found = of_predictions(simulate(rng, 40, 0.2), 0.05)
    smallest = found.found(1, 0.05)
    losses = np.linspace(0, 1.5, 40)
    drops = [simulate(rng, 60, 0.2).mean() - simulate(rng, 60, 0.2, loss).mean() for loss in losses]
    loss = losses[int(np.argmin(np.abs(np.array(drops) - smallest)))]
    assert alarms(0.2, 0, found.alpha, float(loss)) == pytest.approx(0.8, abs=0.1)
    assert found.seeds_for(smallest, 0.05) == 1
    for seeds in (2, 5, 40):
        assert found.seeds_for(found.found(seeds, 0.05), 0.05) == seeds
    assert smallest / 2 < found.found(3, 0.05) < smallest / math.sqrt(3)


def test_dispersion_and_noise_by_hand():
    """Three seeds, each wrong on two images of its own: no variance, so that the assumed one is drawn to none."""
    correct = np.ones((3, 10), dtype=bool)
    for seed in range(3):
        correct[seed, [2 * seed, 2 * seed + 1]] = False
    found = of_predictions(correct, 0.01)
    assert (found.mean, found.degrees) == (pytest.approx(0.8), 6)
    assert found.dispersion == pytest.approx(4 * 2 / 6)
    assert found.noise == pytest.approx(math.sqrt(8 / 6 * 4 / 2) / 10)
    z = stats.t.ppf(0.99, 6) * math.sqrt(8 / 6)
    assert found.alpha == pytest.approx(NormalDist().cdf(-z))
    assert found.false_alarms(found.alpha) == pytest.approx(0.01)
    assert found.false_alarms(0) == 0


def test_the_dispersion_is_measured_and_at_least_1():
    """Counts of 10, 8, 6 and 4 have a variance of 20/3; pairs differ on 10/3 images on average."""
    correct = np.arange(10) >= 2 * np.arange(4)[:, None]
    assert of_predictions(correct, 0.01).dispersion == pytest.approx((4 * 2 + 3 * 4) / 7)
    assert (
        of_predictions(~np.eye(9, dtype=bool), 0.01).dispersion == 1
    )  # equal counts, so that nothing but 8/12 is left


def test_values_alone_by_hand():
    found = of_values([1, 2, 3], 0.01)
    assert (found.mean, found.noise, found.degrees) == (2, 1, 2)
    assert found.alpha == pytest.approx(NormalDist().cdf(-stats.t.ppf(0.99, 2)))


@pytest.fixture
def seeds(tmp_path, monkeypatch):
    """Files of five seeds, predictions and metrics."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for seed, correct in enumerate(simulate(rng, 5, 0.2)):
        rows = [f"{i},1,{int(right)}" for i, right in enumerate(correct)]
        Path(f"{seed}.csv").write_text("\n".join(["index,y_true,y_pred", *rows]))
        Path(f"{seed}.json").write_text(json.dumps({"house": {"rmse": 1200 + float(rng.normal())}}))
    return tmp_path


def test_the_command_prints_limits_for_params_yaml(seeds, capsys):
    code, out, _ = outcome(capsys, "--metric=digits.test.accuracy", *(f"{i}.csv" for i in range(5)))
    assert code == 0
    assert out.startswith("digits.test.accuracy: 5 seeds, 0.95")
    correct = [np.loadtxt(f"{i}.csv", delimiter=",", skiprows=1, usecols=2) == 1 for i in range(5)]
    found = of_predictions(np.array(correct), 0.01)
    assert (
        "for 1.00% false alarms, set in params.yaml, below targets.digits.test.accuracy:\n"
        f"  alpha: {_plain(found.alpha)}\n  noise: {_plain(found.noise)}\n"
    ) in out
    assert _plain(found.alpha) != _plain(found.noise)
    for seeds_each in (1, 3, 30):
        assert f"\n  {found.found(seeds_each, 0.01):.2g} with {seeds_each} seed" in out
    assert "with 1 seed on each side\n" in out
    alarms = ", ".join(f"{found.false_alarms(alpha):.2%}" for alpha in (0.05, 0.01, 0.001, 0.0001))
    assert f"false alarms with alpha 0.05, 0.01, 0.001, 0.0001: {alarms}\n" in out
    header, *rows = Path("3.csv").read_text().splitlines()
    Path("3.csv").write_text("\n".join([header, *reversed(rows)]))
    assert outcome(capsys, "--metric=digits.test.accuracy", *(f"{i}.csv" for i in range(5))) == (0, out, "")
    code, out, _ = outcome(capsys, "--metric=house.rmse", "--false-alarms=0.05", *(f"{i}.json" for i in range(5)))
    assert code == 0
    assert "house.rmse: 5 seeds, 1200" in out
    found = of_values([json.loads(Path(f"{i}.json").read_text())["house"]["rmse"] for i in range(5)], 0.05)
    assert (
        f"for 5.00% false alarms, set in params.yaml, below targets.house.rmse:\n  alpha: {_plain(found.alpha)}" in out
    )
    assert f"\n  {found.found(1, 0.05):.2g} with 1 seed on each side\n" in out
    assert f"{found.found(1, 0.05):.2g}" != f"{found.found(1):.2g}"
    half = found.found(1, 0.05) / 2
    assert f"{half:.2g}, takes {found.seeds_for(half, 0.05)} seeds on each side" in out
    assert found.seeds_for(half, 0.05) != found.seeds_for(half)
    assert "dispersion" not in out


@pytest.mark.parametrize("values", [[1e308, -1e308, 1], [10**300, 10**301, 10**302], [0, 5e-324, 1e-323]])
def test_seeds_of_which_no_variance_can_be_computed_are_refused(values):
    with pytest.raises(UserError, match=r"^3 seeds: found .* to .*, expected a variance; scale them$"):
        of_values([float(value) for value in values], 0.01)


@pytest.mark.parametrize(
    ("value", "text"), [(7.04e-5, "0.00007"), (6.66e-5, "0.000067"), (0.25, "0.25"), (3.14, "3.1"), (1234.0, "1200")]
)
def test_limits_are_written_as_every_yaml_reader_takes_them(value, text):
    assert _plain(value) == text
    assert yaml.safe_load(text) == pytest.approx(value, rel=0.05)


def test_the_command_runs_seeds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    odd = "m.toml,1.json"
    command = f"""echo '{{"a": '{{seed}}'.5}}' > {odd}"""
    code, out, _ = outcome(capsys, "--metric=a", "--run", command, "--seeds=4", odd)
    assert code == 0
    assert out.startswith("a: 4 seeds, 2 ± 1.3")
    code, out, _ = outcome(capsys, "--metric=a", "--run", "echo a = {seed}.5 > m.toml", "--seeds=4", "m.toml")
    assert (code, out.partition(" ±")[0]) == (0, "a: 4 seeds, 2")
    run = ("--metric=a", "--run", "touch ran{seed}", "m.json")
    assert outcome(capsys, *run, "--seeds=1")[2] == "error: found 1 seed, expected 3 or more; train more\n"
    assert outcome(capsys, *run[:2], "touch ran", "m.json")[2].startswith("error: --run: found no {seed}")
    assert not [*Path().glob("ran*")]
    misspelt = outcome(capsys, "--metric=b", "--run", f"touch ran{{seed}}; {command}", odd)
    assert misspelt[2].endswith("b: found None, expected a number; name a metric of that file with --metric: a\n")
    assert [path.name for path in Path().glob("ran*")] == ["ran0"]
    for broken, reason in (("false {seed}", "false 0: ended with exit code 1"), ("true {seed}", "m.json: missing")):
        code, _, err = outcome(capsys, "--metric=a", "--run", broken, "m.json")
        assert code == 2
        assert reason in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["0.csv", "1.csv"], "found 2 seeds, expected 3 or more"),
        (["0.csv", "0.csv", "0.csv"], "all predict the same"),
        (["0.json"] * 3, "all reach 1201"),
        (["tenth.json"] * 3, "all reach 0.1"),
        (["0.csv", "1.csv", "other.csv"], "1 here: not the same test images; pass the files"),
        (["0.csv", "1.csv", "2.json"], "y_pred missing); pass the files"),
        (["0.csv", "1.csv", "nosuch:2.csv"], "is not a git repository; pass"),
        (["0.csv", "1.csv", "folder.csv"], "folder.csv: [Errno 21] Is a directory"),
        (["0.json", "1.json", "twice.json"], "twice.json: the key 'a' is there twice"),
        (["0.json", "1.json", "nosuch.json"], "nosuch.json: missing"),
        (["0.json", "1.json", "2.json", "--metric=house.mse"], "house.mse: found None, expected a number"),
        (["0.csv", "1.csv", "2.csv", "--false-alarms=0"], "--false-alarms: found 0.0"),
        (["0.csv", "1.csv", "2.csv", "--metric=house.rmse"], "0.csv: predictions give an accuracy, and --metric is h"),
        (["0.csv", "1.csv", "--run=true"], "--run: found 2 files"),
        (["0.csv", "1.csv", "latin.csv"], "latin.csv: expected text in UTF-8 ('utf-8' codec can't decode byte 0xfc"),
    ],
)
def test_what_is_not_of_seeds_is_refused(seeds, capsys, words, reason):
    Path("latin.csv").write_bytes(Path("2.csv").read_bytes() + "\nmüde,1,1\n".encode("latin-1"))
    Path("other.csv").write_text("index,y_true,y_pred\n0,1,1\n")
    Path("twice.json").write_text('{"a": 1, "a": 2}')
    Path("tenth.json").write_text('{"house": {"rmse": 0.1}}')
    Path("folder.csv").mkdir()
    metric = "digits.test.accuracy" if words[0].endswith(".csv") else "house.rmse"
    code, _, err = outcome(capsys, f"--metric={metric}", *words)
    assert code == 2
    assert reason in err


def test_a_file_with_a_colon_in_its_name_is_no_revision(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [f"seed:{seed}.json" for seed in range(3)]
    for seed, name in enumerate(names):
        Path(name).write_text(json.dumps({"rmse": seed}))
    code, out, _ = outcome(capsys, "--metric=rmse", *names)
    assert (code, out.partition(" (")[0]) == (0, "rmse: 3 seeds, 1 ± 1")


def test_seeds_may_be_revisions(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call(tmp_path, "git", "init", "--quiet", "--initial-branch=main")
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    for seed in range(3):
        Path("m.json").write_text(json.dumps({"rmse": seed}))
        save(tmp_path)
        call(tmp_path, "git", "tag", f"seed{seed}")
    code, out, _ = outcome(capsys, "--metric=rmse", *(f"seed{seed}:m.json" for seed in range(3)))
    assert code == 0
    assert out.startswith("rmse: 3 seeds, 1 ± 1 ")


def test_noise_judges_a_metric_without_predictions():
    limits = limits_at("v1", "targets: {rmse: {at_most: 5000, noise: 2}}\ngate: {alpha: 0.01, tolerance: 20}")
    assert limits is not None
    z = NormalDist().inv_cdf(0.99) * math.sqrt(2) * 2  # what two seeds of one recipe lose once in a hundred
    for rmse, verdict in (
        (1200 + 1.01 * z, "target met, WORSE (p < 0.01)"),
        (1200 + 0.99 * z, "target met, worse within noise"),
        (1200 - 1, "target met, better"),
        (1230, "target met, WORSE (p < 0.01)"),
    ):
        row = Comparison(limits, "v1", {"rmse": 1200}, {"rmse": rmse}).judge_metric("rmse")
        assert (row.verdict, row.test) == (verdict, "two seeds, noise 2")


def test_a_gain_is_never_inconclusive():
    limits = limits_at("v1", "targets: {rmse: {at_most: 5000, noise: 2}}\ngate: {alpha: 0.0001, tolerance: 30}")
    assert limits is not None
    row = Comparison(limits, "v1", {"rmse": 1230}, {"rmse": 1201}).judge_metric("rmse")
    assert row.verdict == "target met, better"


def test_a_loss_close_to_what_is_tolerated_is_inconclusive():
    limits = limits_at("v1", "targets: {rmse: {at_most: 5000, noise: 2}}\ngate: {alpha: 0.0001, tolerance: 5}")
    assert limits is not None
    verdicts = {
        # One-sided 95 %: m seeds on each side leave 1.645 * 2 * sqrt(2 / m) below the margin; one seed each is there.
        1204: "target met, worse within noise, inconclusive: 21 more seeds on each side would decide",
        1201: "target met, worse within noise, inconclusive: 1 more seed on each side would decide",
        1200: "target met, same",
        1205: "target met, worse within noise, inconclusive: the loss uses up the tolerance",
    }
    for rmse, verdict in verdicts.items():
        assert Comparison(limits, "v1", {"rmse": 1200}, {"rmse": rmse}).judge_metric("rmse").verdict == verdict


def test_a_margin_that_so_many_seeds_just_show_takes_no_further_one():
    z = NormalDist().inv_cdf(0.95)
    assert [further_seeds(z * math.sqrt(2 / k) * 0.3, 0.3) for k in (3, 6, 10)] == [2, 5, 9]
