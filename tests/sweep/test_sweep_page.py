"""The page of a sweep: what is in it, and that it needs nothing else."""

import base64
import re

import pytest

pytest.importorskip("ray", reason="the sweep extra is not installed")
from hydra.core.override_parser.overrides_parser import OverridesParser

from reprocnn.sweep import page
from reprocnn.sweep.driver import Ended


def write(tmp_path, ended: list[Ended], *overrides: str, minimize: bool = False) -> str:
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    page.write(tmp_path / "page.html", ended, parsed, "val.accuracy", minimize, "A note <b>.")
    return (tmp_path / "page.html").read_text()


def ended(lr: float, seed: int, value: float | None, message: str = "5 s on a", pruned: bool = False) -> Ended:
    return Ended(f"lr{lr}-seed{seed}", value, (f"lr={lr}", f"seed={seed}", "threads=2"), message, pruned)


TRIALS = [
    ended(0.1, 1, 0.7), ended(0.2, 1, 0.9), ended(0.3, 2, None, "failed: <NaN>"), ended(0.1, 2, 0.8),
    ended(0.2, 2, 0.95, "pruned after 2 epochs, 1 s on a", pruned=True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("minimize", "order"), [(False, [0.9, 0.8, 0.7, 0.95, None]), (True, [0.7, 0.8, 0.9, 0.95, None])]
)
def test_the_best_is_first_then_pruned_and_failed_trials(tmp_path, minimize, order):
    text = write(tmp_path, TRIALS, "lr=0.1,0.2,0.3", "seed=1,2", "threads=2", minimize=minimize)
    rows = re.findall(r"<tr><td>(.*?)</td><td class=\"number\">(.*?)</td>", text)
    assert [value for _, value in rows] == ["-" if value is None else f"{value:.4f}" for value in order]
    assert [name for name, _ in rows][-2:] == ["lr0.2-seed2", "lr0.3-seed2"]
    assert "5 trials, 3 of them finished, 1 pruned. All have threads=2. A note &lt;b&gt;." in text
    assert "failed: &lt;NaN&gt;" in text


def test_the_plots_have_the_values_that_differ_and_come_with_the_page(tmp_path):
    text = write(tmp_path, TRIALS, "lr=0.1,0.2,0.3", "seed=1,2", "threads=2")
    slices, together = [base64.b64decode(one).decode() for one in re.findall(r"base64,([^\"]+)", text)]
    assert all(f"<!-- {key} -->" in drawn for key in ("lr", "seed") for drawn in (slices, together))
    assert "http" not in re.sub(r"base64,[^\"]+", "", text)
    alike = write(tmp_path, [ended(0.1, 1, 0.7), ended(0.2, 1, 0.9)], "lr=0.1,0.2", "seed=1,2", "threads=2")
    assert len(re.findall("base64,", alike)) == 1  # of lr


def test_the_table_has_names_and_values_as_text(tmp_path):
    """Of equal trials, the first by name is first; what a trial was not given is empty."""
    failed = Ended("c", None, ("lr=x=<1>",), "failed", pruned=False)
    trials = [Ended(name, 0.7, ("lr=0.1", "seed=1"), "5 s", pruned=False) for name in ("b", "a")]
    text = write(tmp_path, [*trials, failed], "lr=0.1,0.2", "seed=1,2", "note='<b>'")
    assert re.findall(r"<th.*?>(.*?)</th>", text) == ["experiment", "val.accuracy", "lr", "seed", "outcome"]
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr>(<td>.*?)</tr>", text)]
    assert rows == [
        ["a", "0.7000", "0.1", "1", "5 s"], ["b", "0.7000", "0.1", "1", "5 s"],
        ["c", "-", "x=&lt;1&gt;", "", "failed"],
    ]  # fmt: skip
    assert "All have note=&#x27;&lt;b&gt;&#x27;." in text


def test_the_table_has_values_of_keys_that_are_new_and_of_lists(tmp_path):
    trials = [Ended(name, 0.7, (f"+new={value}", "layers=[1,2]"), "5 s", pruned=False) for name, value in ("ax", "by")]
    text = write(tmp_path, trials, "+new=x,y", "layers=[1,2],[3]")
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr>(<td>.*?)</tr>", text)]
    assert rows == [["a", "0.7000", "x", "[1,2]", "5 s"], ["b", "0.7000", "y", "[1,2]", "5 s"]]


@pytest.mark.parametrize("trials", [[], TRIALS[2:3], TRIALS[:1]])
def test_where_there_is_nothing_to_compare_the_table_stands_alone(tmp_path, trials):
    text = write(tmp_path, trials, "lr=0.1,0.2,0.3", "seed=1,2", "threads=2")
    assert "base64" not in text
    assert text.count("<tr>") == 1 + len(trials)


def test_pruned_trials_are_counted_apart_from_failed_ones(tmp_path):
    pruned = [ended(0.1, seed, 0.5, "pruned after 1 epochs, exists", pruned=True) for seed in (1, 2)]
    text = write(tmp_path, [*TRIALS[:1], *pruned, TRIALS[2]], "lr=0.1,0.2,0.3", "seed=1,2")
    assert "4 trials, 1 of them finished, 2 pruned." in text


@pytest.mark.parametrize(("minimize", "direction"), [(False, "MAXIMIZE"), (True, "MINIMIZE")])
def test_the_plots_know_which_values_are_better(tmp_path, monkeypatch, minimize, direction):
    made, create = [], page.optuna.create_study
    monkeypatch.setattr(page.optuna, "create_study", lambda **given: made.append(create(**given)) or made[-1])
    monkeypatch.setattr(page, "_picture", lambda draw, width, alt: "")
    write(tmp_path, TRIALS, "lr=0.1,0.2,0.3", "seed=1,2", minimize=minimize)
    assert [study.direction.name for study in made] == [direction]


def test_each_picture_says_what_it_shows(tmp_path):
    text = write(tmp_path, TRIALS, "lr=0.1,0.2,0.3", "seed=1,2")
    assert re.findall(r'<img alt="(.*?)" src="data:image', text) == [
        "val.accuracy against lr, seed", "a line for each trial through lr, seed and val.accuracy",
    ]  # fmt: skip
