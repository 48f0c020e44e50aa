"""The report's words, from made-up results."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import plot
from stages.lib import measured
from stages.lib.choices import Recipe
from tests.test_choices import LAYERS, RECIPE

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "loss": [1.0, 0.5],
        "accuracy": [0.6, 0.8],
        "val_loss": [1.1, 0.7],
        "val_accuracy": [0.5, 0.7],
        "lr": [0.1, 0.05],
    }
)
TEST = {
    "n": 10_000, "errors": 36, "accuracy": 0.9964, "accuracy_low": 0.995, "accuracy_high": 0.9974,
    "top2_accuracy": 0.9997, "loss": 0.5, "calibration_error": 0.1,
}  # fmt: skip
DETAILS = {
    "parameters": 1234,
    "weights": "0123456789abcdef",
    "reliability": [{"n": 4, "confidence": 0.85, "accuracy": 0.75}],
    "validation_images": 100,
    "classes": [
        {"class": "cat", "precision": None, "recall": 0.5, "n": 2},
        {"class": "dog", "precision": 1.0, "recall": 1.0, "n": 2},
    ],
    "layers": LAYERS,
    "images": {"training": [1000, 1500], "validation": [40, 60], "test": [2, 2]},
    "normalization": {
        "method": "center",
        "check": {"min": -0.5, "max": 0.5, "mean": [-0.026], "std": [0.247]},
    },
    "block_shapes": [[14, 14, 16], [14, 14, 16], [7, 7, 32]],
}


def result(target: float | None = 0.99, recipe: Recipe = RECIPE, **details) -> plot.Result:
    return plot.Result(
        name="mnist", title="MNIST", test=TEST, target=target, recipe=recipe, lr=0.01, seed=7, history=HISTORY,
        predictions=pd.DataFrame(), details=DETAILS | details, images={"filters": np.zeros((16, 5, 5, 1), np.uint8)},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("benchmarks").mkdir()


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]


def test_the_summary_says_it_in_plain_words():
    text = plot.summarize([result()])
    assert cells(text)[2:] == [
        ["test accuracy", "**99.64%**"],
        ["in plain words", "36 of 10,000 digits wrong"],
        ["95 % interval", "99.50% to 99.74%"],
        ["target", "99.0%, met"],
        ["network", "`mnist_cnn`, 1,234 parameters"],
        ["training", "2 epochs, seed 7"],
        ["weights", "SHA-256 `0123456789ab`"],
    ]
    assert "make repro" in text


@pytest.mark.parametrize(("target", "said"), [(0.999, "99.9%, **missed**"), (None, "none")])
def test_the_summary_judges_by_the_target(target, said):
    assert ["target", said] in cells(plot.summarize([result(target)]))


def test_a_chapter_is_computed_from_its_figures():
    chapter = plot.write_chapter(result())
    text = {section.title: section.text for section in chapter.sections}
    assert "among the two most probable for 99.97%" in chapter.text
    assert "never reached the target of 99.0%" in text["How it learned"]
    assert "Rate up to 0.01" in text["How it learned"]
    assert "it is too sure" in text["Where it errs"]
    assert ["cat", "-", "50.00%", "2"] in cells(text["Where it errs"])
    assert "16 filters of the first convolution, 5×5" in text["What it sees"]
    assert ["dog", "1,500", "60", "2"] in cells(text["The data"])
    assert all(figure.alt.startswith("MNIST: ") for section in chapter.sections for figure in section.figures)
    without = plot.write_chapter(result(target=None))
    assert "target" not in without.sections[1].text


@pytest.mark.parametrize(
    ("accuracies", "error", "told"),
    [
        ((0.5, 0.8), 0.1, "off by 10.0 points on average (expected calibration error 0.1000): it is too sure."),
        ((0.7, 1.0), 0.1, "it is not sure enough."),
        ((0.5, 1.0), 0.1, ", to both sides."),
    ],
)
def test_the_calibration_error_in_words(accuracies, error, told):
    bins = [{"n": 10, "confidence": c, "accuracy": a} for c, a in zip((0.6, 0.9), accuracies, strict=True)]
    assert told in plot.explain_reliability(bins, error)


def test_the_data_in_words():
    text = plot.explain_data(DETAILS)
    assert "2,500 images for training, 100 for validation, 4 for the test." in text
    assert (
        "The rarest class of the training images is cat with 1,000, the most frequent dog with 1,500, 1.50 times"
        in text
    )
    assert "x / 255 - 0.5. Checked on the training images: values from -0.500 to 0.500, mean -0.026, " in text
    assert "trained on the first two together" not in text
    even = DETAILS | {"images": {"training": [5, 5], "validation": [1, 1], "test": [1, 1]}, "validation_images": None}
    assert "Each class has the same number of training images, 5." in plot.explain_data(even)
    assert "trained on the first two together" in plot.explain_data(even)


def test_experiments_are_those_that_are_measured():
    assert plot.write_experiments(100).sections == ()
    columns = "fed,epoch,steps,whole,hardware,date"
    (measured.FOLDER / "waits.csv").write_text(f"{columns}\narrays,1,5,10,a machine,2026-01-02\n")
    (measured.FOLDER / "search.csv").write_text("change,seed,val_accuracy,val_loss\n,0,0.99,0.1\n")
    waits, search = plot.write_experiments(100).sections
    assert ["arrays", "1", "5.0 s", "10.0 s", "10.0 s"] in cells(waits.text)
    assert waits.text.endswith("`benchmarks/waits.csv`, a machine, 2026-01-02")
    assert ["none", "1", "1", "1", "0.1000", "0.1000"] in cells(search.text)
    # Of the sample's or of no validation images nothing can be counted.
    assert [section.title for section in plot.write_experiments(None).sections] == [waits.title]
