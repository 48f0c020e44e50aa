"""What is measured of the calibrated gate: seeds as noted, verdicts as the gate gives them, tables by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.run import calibration, figures, results, tables
from reprocnn.gate.calibrate import Calibration, of_predictions


def test_the_dispersion_of_pairs_by_hand():
    """Counts of 4, 2, 3 and 3 have a variance of 2/3; the first pair differs on two images, the second on two."""
    runs = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1]], dtype=bool)
    assert calibration.dispersion_of(runs) == pytest.approx(2 * (2 / 3) / 2)


@pytest.mark.parametrize("wanted", [1.0, 3.0])
def test_simulated_seeds_have_the_dispersion_that_was_asked_for(wanted):
    draw = calibration.simulated(np.random.default_rng(0), wanted)
    assert calibration.dispersion_of(draw(4000, 0.0)) == pytest.approx(wanted, rel=0.25)
    assert draw(200, 0.5).mean() < draw(200, 0.0).mean()


def test_false_alarms_are_those_of_pairs_of_seeds_that_did_not_calibrate():
    seeds = np.random.default_rng(0).random((5, 300)) < 0.9
    good, bad = np.ones(300, dtype=bool), np.zeros(300, dtype=bool)
    rates = calibration.alarm_rates(iter([(seeds, np.array([good, bad, bad, good]))]))
    assert (rates["calibrated"], rates["alpha 0.01"], rates["pairs"]) == (0.5, 0.5, 2)
    assert rates["median alpha"] == of_predictions(seeds, 0.01).alpha


def test_seeds_that_calibrate_are_not_judged():
    for n, k, pairs in ((11, 3, 4), (11, 5, 3), (6, 3, 1)):
        runs = np.eye(n, dtype=bool)
        seeds, others = calibration.split(runs, k, np.random.default_rng(0))
        assert (len(seeds), len(others)) == (k, 2 * pairs)
        assert len(np.unique(np.vstack([seeds, others]), axis=0)) == k + 2 * pairs


def test_losses_are_found_with_seeds_that_did_not_calibrate(monkeypatch):
    """The first ten, which do, are alone in getting the first image right."""
    runs = np.random.default_rng(0).random((40, 300)) < 0.9
    runs[:, 0] = np.arange(40) < 10
    names = (f"mnist-fast, {max(calibration.FILTERS)} filters", next(iter(calibration.WIDTHS)))
    monkeypatch.setattr(calibration, "retrained", lambda: dict.fromkeys(names, runs))
    judged: list[np.ndarray] = []
    monkeypatch.setattr(calibration, "found_rates", lambda base, worse, found: judged.append(base) or {})
    assert len(list(calibration.power_of_trainings(np.random.default_rng(0)))) == len(judged) == 4
    assert not any(base[:, 0].any() for base in judged)


@pytest.mark.parametrize(("share", "found"), [(0.98, 0.0), (1.02, 1.0)])
def test_the_means_of_three_seeds_find_what_their_noise_allows(share, found):
    threshold = stats.t.ppf(0.99, 10) * 0.01 * np.sqrt(2 / 3)  # the variance of each mean is a third
    base = np.ones((3, 10_000), dtype=bool)
    worse = base.copy()
    worse[:, : round(share * threshold * 10_000)] = False
    assert calibration.found_rates(base, worse, Calibration(0.9, 0.01, 10, 1e-9))["three seeds"] == found


def test_retrained_networks_are_read_as_they_were_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "FOLDER", tmp_path)
    y = np.arange(4)
    calibration._write("digits", [calibration._row("a", 0, y, np.array([0, 9, 2, 9])), calibration._row("a", 1, y, y)])
    calibration._write("mnist", [calibration._row("b", 0, y, y + 1)])
    found = calibration.retrained()
    assert found["a"].tolist() == [[True, False, True, False], [True] * 4]
    assert found["b"].tolist() == [[False] * 4]


def test_tables_and_figure_by_hand(tmp_path, monkeypatch):
    alarms = [
        {"seeds of": "simulated", "dispersion": 2.0, "seeds": k, "calibrated": rate, "alpha 0.01": raw}
        for k, rate, raw in ((3, 0.001, 0.03), (10, 0.004, 0.035), (30, 0.0123, 0.041))
    ]
    power = [{"seeds of": "simulated", "loss": 0.0037, "one seed": 0.3, "three seeds": 0.745, "promised at": 0.0084}]
    pd.DataFrame(alarms).to_csv(tmp_path / "calibration_false_alarms.csv", index=False)
    pd.DataFrame(power).to_csv(tmp_path / "calibration_power.csv", index=False)
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    assert tables.calibration().to_dict("records") == [
        {"seeds of": "simulated", "dispersion": "2", "alpha 0.01": "4.1%", "3 seeds": "0.1%", "10 seeds": "0.4%",
         "30 seeds": "1.2%"}
    ]  # fmt: skip
    assert tables.losses_found().to_dict("records") == [
        {"seeds of": "simulated", "loss, points": "0.37", "promised at": "0.84", "one seed": "30%",
         "three seeds": "74%"}
    ]  # fmt: skip
    left, right = figures.draw_calibration(pd.DataFrame(alarms), pd.DataFrame(power)).axes
    lines = {
        line.get_label(): list(np.asarray(line.get_ydata())) for panel in (left, right) for line in panel.get_lines()
    }
    assert lines["by 30 seeds"] == pytest.approx([1.23])
    assert lines["McNemar, alpha 0.01"] == pytest.approx([3.5])
    assert (lines["1 seed"], lines["3 seeds"]) == (pytest.approx([30.0]), pytest.approx([74.5]))
