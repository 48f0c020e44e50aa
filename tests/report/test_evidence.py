"""What the search is evidence of: of changes of the recipe that it was made with, beyond what chance explains."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.run import results as benchmarks
from reprocnn.datasets import CIFAR, MNIST
from reprocnn.report import evidence, tables
from reprocnn.report.results import Result
from tests.support.explained import RECIPE


def result(peak_lr: float = 0.01, dataset=MNIST, source: str = "public", **changes: Any) -> Result:
    return Result(
        dataset=dataset, source=source, test={}, target=0.99, recipe=dataclasses.replace(RECIPE, **changes), seed=0,
        peak_lr=peak_lr, history=pd.DataFrame(), predictions=pd.DataFrame(), details={"validation_images": 1000},
        images={},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Return a folder with the results of a search around `RECIPE`."""
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    recipe = evidence.describe(RECIPE, 0.01)
    rows = [("", 0.99), ("depth=1", 0.98)]
    benchmarks.write(
        tmp_path / "search.csv",
        [{"change": change, "seed": 0, "val_accuracy": value, "recipe": recipe} for change, value in rows],
    )
    return tmp_path


def effect(*rows: tuple[str, int, float], keys=("depth",), n: int = 1000) -> str | None:
    search = pd.DataFrame([("", 0, 0.99), *rows], columns=["change", "seed", "val_accuracy"])
    return evidence.Evidence(search, n).change_effect(keys)


@pytest.mark.parametrize(
    ("accuracy", "verdict"),
    [
        # 10 errors without the change. Two standard errors of the difference are 2 * sqrt(10 + n): 11.8 of 25 errors,
        # 11.7 of 24, 12 of 26; 6.6 of 1 and 6.3 of none.
        (0.978, "made 22 errors instead of 10 on 1,000 validation images (one seed), more than chance explains: "
                "this supports the choice."),
        (0.979, "made 21 errors instead of 10 on 1,000 validation images (one seed), a difference that chance "
                "explains."),
        (0.99, "made 10 errors instead of 10 on 1,000 validation images (one seed), no difference."),
        (0.997, "made 3 errors instead of 10 on 1,000 validation images (one seed), a difference that chance "
                "explains."),
        (0.998, "made 2 errors instead of 10 on 1,000 validation images (one seed), fewer than chance explains: "
                "this refutes the choice."),
    ],
)  # fmt: skip
def test_a_change_supports_or_refutes_a_choice_only_beyond_chance(accuracy, verdict):
    assert effect(("depth=1", 0, accuracy)) == f"`depth=1` {verdict}"


def test_more_seeds_separate_more():
    """With 16 errors instead of 10, noise is 10.2 for one seed and 5.1 for four."""
    rows = [("", seed, 0.99) for seed in (1, 2, 3)]
    assert "(one seed), a difference that chance explains" in str(effect(("depth=1", 0, 0.984)))
    rows += [("depth=1", seed, accuracy) for seed, accuracy in enumerate((0.984, 0.98, 0.984, 0.988))]
    assert "16 errors instead of 10 on 1,000 validation images (mean of 4 seeds), more than" in str(effect(*rows))


def test_a_change_is_compared_with_its_own_seeds():
    assert "made 50 errors instead of 90 on" in str(effect(("", 7, 0.91), ("depth=1", 7, 0.95)))


def test_numbers_of_errors_that_are_written_alike_do_not_differ():
    """Errors of three seeds: 10, 10 and 11 instead of 10."""
    rows = [("", 1, 0.99), ("", 2, 0.99), ("depth=1", 0, 0.99), ("depth=1", 1, 0.99), ("depth=1", 2, 0.989)]
    assert str(effect(*rows)).endswith(
        "10 errors instead of 10 on 1,000 validation images (mean of 3 seeds), no difference."
    )


def test_a_recipe_is_written_in_the_order_of_the_letters():
    """As in the tables that earlier versions wrote, however the fields are ordered here."""
    keys = [setting.partition("=")[0] for setting in evidence.describe(RECIPE, 0.01).split()]
    assert keys[:2] == ["batch_size", "depth"]
    assert keys == [*sorted(keys[:-1]), "lr"]


def test_changes_are_in_the_order_of_the_table():
    text = str(effect(("shift=2", 0, 0.99), ("depth=1", 0, 0.99), keys=("depth", "shift")))
    assert text.index("`shift=2`") < text.index("`depth=1`")


def test_several_changes_are_several_sentences():
    text = effect(("depth=1", 0, 0.9), ("depth=3 kernel_size=5", 0, 0.99), keys=("depth", "kernel_size"), n=500)
    assert text == (
        "`depth=1` made 50 errors instead of 5 on 500 validation images (one seed), more than chance explains: this "
        "supports the choice. `depth=3 kernel_size=5` made 5 errors instead of 5 on 500 validation images (one seed), "
        "no difference."
    )


def test_a_change_of_other_params_too_is_no_evidence():
    assert effect(("depth=1 epochs=9", 0, 0.9)) is None
    assert effect(("epochs=9", 0, 0.9)) is None
    assert effect(("epochs=9", 0, 0.9), keys=()) is None
    assert evidence.Evidence().change_effect(["depth"]) is None


def test_the_search_is_evidence_for_its_own_recipe(folder):
    found = evidence.find(result())
    assert found.n == 1000
    assert "`depth=1` made 20 errors instead of 10" in str(found.change_effect(["depth"]))
    assert evidence.find(result(peak_lr=0.1 * 0.1)).search is not None  # not quite 0.01 in floats
    assert evidence.find(result(lr_factor=0.5)).search is not None  # with twice the base learning rate


OTHER: dict[str, Any] = {
    field.name: {int: 99, float: 0.123, bool: True}.get(type(getattr(RECIPE, field.name)), "another")
    for field in dataclasses.fields(RECIPE)
    if field.name != "lr_factor"
}


@pytest.mark.parametrize("key", OTHER)
def test_the_search_is_no_evidence_for_another_recipe(folder, key):
    assert evidence.find(result(**{key: OTHER[key]})) == evidence.Evidence()


@pytest.mark.parametrize("changes", [{"dataset": CIFAR}, {"source": "sample"}, {"peak_lr": 0.02}])
def test_the_search_is_no_evidence_for_other_data_or_another_learning_rate(folder, changes):
    assert evidence.find(result(**changes)) == evidence.Evidence()


@pytest.mark.parametrize("content", [None, "change,seed,val_accuracy\n,0,0.99\ndepth=1,0,0.98\n"])
def test_without_the_recipe_there_is_no_evidence(folder, content):
    (folder / "search.csv").unlink()
    if content:
        (folder / "search.csv").write_text(content)
    assert evidence.find(result()) == evidence.Evidence()
