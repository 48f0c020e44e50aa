"""The reasons: each where the layers and values are so, none where they are not; what was measured beside them."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reprocnn.report import choices, tables
from reprocnn.report.evidence import Evidence
from tests.support.commands import ROOT
from tests.support.explained import LAYERS, RECIPE, layer


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    return tmp_path


def of_layers(layers=LAYERS, recipe=RECIPE, dataset="mnist") -> str:
    return "\n".join(choices.explain_layers(layers, recipe, Evidence(dataset)))


def of_training(dataset="mnist", peak_lr=0.01, **changes) -> str:
    return "\n".join(choices.explain_training(dataclasses.replace(RECIPE, **changes), peak_lr, Evidence(dataset)))


def test_each_layer_has_its_reason():
    labels = [line.split("**")[1] for line in of_layers().splitlines()]
    assert labels == [
        "Normalization as a layer.", "Cropping, 1.", "A convolution of 5×5 with stride 2.",
        "3 convolutions, 5×5 and 3×3.",
        "16 to 64 filters.", "Batch normalization.", "ReLU.", "Max pooling, 2×2.", "Flatten.", "Dropout, 0.2.",
        "10 outputs, softmax.",
    ]  # fmt: skip
    assert "one position in 4," in of_layers()
    assert "several 3×3 in a row" in of_layers()


def test_a_layer_that_is_not_there_has_none():
    bare = [layer("Conv2D", [8, 8, 8], "10×10, gelu"), layer("GlobalMaxPooling2D", [8]), layer("Dense", [10], "elu")]
    text = of_layers(bare)
    assert [line.split("**")[1] for line in text.splitlines()] == [
        "1 convolution, 10×10.", "GELU.", "Global max pooling.",
    ]  # fmt: skip
    assert "3×3" not in text
    assert "Dropout" not in of_layers([layer("Dropout", [8], "0"), layer("Dense", [10])])
    narrowing = [layer("Conv2D", [8, 8, 32], "3×3"), layer("Conv2D", [8, 8, 8], "3×3")]
    assert "filters.**" not in of_layers(narrowing)


def test_whitening_is_explained_only_when_it_is_frozen():
    assert "Whitening, 2×2" in of_layers([layer("Conv2D", [31, 31, 24], "2×2, gelu, frozen", name="whitening")])
    assert "Whitening" not in of_layers([layer("Conv2D", [31, 31, 24], "2×2, gelu", name="whitening")])
    assert "Whitening" not in of_layers([layer("Conv2D", [31, 31, 24], "2×2, gelu, frozen", name="conv2d")])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "**Adam.** AdamW"),
        ({"optimizer": "muon"}, "**Muon.**"),
        ({"peak_lr": 0.25}, "**Peak learning rate 0.25.** It rises over the first 20% of the steps"),
        ({"warmup": 0.0}, "** It falls linearly to zero"),
        ({"lr_end": 0.1}, "falls linearly to 0.1 of the peak"),
        ({"lr_end": 1.0, "warmup": 0.0}, "** It stays constant;"),
        ({"epochs": 1}, "**1 epoch.**"),
        ({"batch_size": 1000}, "**Batches of 1,000.**"),
        ({"label_smoothing": 0.3}, "a share of 0.3 of each label"),
        ({"weight_decay": 0.05}, "**Weight decay, 0.05.**"),
        ({}, "shifted by up to 2 pixels each way, by fractions of a pixel too,"),
        (
            {"rotation": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": 0.0, "shift": 1},
            "shifted by up to 1 pixel each way, because",
        ),
        ({"zoom": 0.0}, "rotated by up to 15 degrees and sheared by up to 0.2 pixels per row,"),
        ({"elastic": 1.5}, "by 1.5 pixels (standard deviation)"),
        ({"fill_mode": "reflect"}, "the reflection of what is there"),
        ({"flip": True}, "half the images are mirrored"),
        ({"zoom": 0.0, "rotation": 0.0}, "Images are sheared by up to 0.2 pixels per row, differently"),
        ({}, "rotated by up to 15 degrees, stretched by up to 15 % and sheared by up to 0.2 pixels per row,"),
        ({"rotation": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": 0.1}, "each way, by fractions of a pixel too,"),
        ({"elastic": 0.0}, "what comes in from outside is black"),
        ({"shift": 0, "rotation": 0.0, "zoom": 0.0, "shear": 0.0}, "**Edges.** What comes in from outside is black"),
        ({"shift": 0, "rotation": 0.0, "zoom": 0.0, "elastic": 0.0}, "**Edges.** What comes in from outside is black"),
        ({"first_size": 0.6}, "at 60% of their height and width, at 36% of the cost"),
        ({"dropout": 0.0}, "Weight decay, label smoothing, mirroring and dropout: each"),
    ],
)
def test_each_value_has_its_reason(changes, said):
    assert said.lower() in of_training(**changes).lower()


@pytest.mark.parametrize(
    ("changes", "unsaid"),
    [
        ({}, "Weight decay, 0"),
        ({}, "**Mirroring"),
        ({"flip": True}, "mirroring:"),
        ({"weight_decay": 0.1}, "Weight decay, label smoothing"),
        ({"first_size": 1.0}, "**Growing"),
        ({"warmup": 0.0}, "rises"),
        ({}, "**Growing images"),
        ({"shift": 0}, "**Shifts"),
        ({"elastic": 0.0}, "**Elastic bends"),
        ({"rotation": 0.0, "zoom": 0.0, "shear": 0.0}, "**Warps"),
        ({"shift": 0, "rotation": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": 0.0}, "**Edges"),
        ({"dropout": 0.0, "network": "assignment"}, "dropout"),  # it has its own
    ],
)
def test_what_is_not_so_is_not_said(changes, unsaid):
    assert unsaid not in of_training(**changes)


UNCHANGED = """change,seed,val_accuracy,val_loss
,0,0.995,0.02
,1,0.997,0.03
,2,0.9,0.9
"""
SEARCH = f"""{UNCHANGED}dropout=0,0,0.99,0.1
dropout=0,1,0.994,0.1
rotation=10 zoom=0.1,0,0.992,0.1
"""


def test_the_search_stands_beside_what_it_changed(folder):
    (folder / "search.csv").write_text(SEARCH)
    effect = "With `dropout=0` the validation error was 0.80%, without the change 0.40% (mean of 2 seeds)."
    (dropout,) = [line for line in of_layers().splitlines() if "Dropout" in line]
    assert effect in dropout
    (warps,) = [line for line in of_training().splitlines() if "Warps" in line]
    assert "With `rotation=10 zoom=0.1` the validation error was 0.80%, without the change 0.50% (one seed)." in warps
    assert of_layers(dataset="cifar").count("With `") == of_training(dataset="cifar").count("With `") == 0


def test_changes_of_the_learning_rate_are_of_its_peak(folder):
    (folder / "search.csv").write_text(SEARCH + "lr=0.005,0,0.996,0.02\n")
    effect = "With `lr=0.005` the validation error was 0.40%, without the change 0.50% (one seed)."
    (rate,) = [line for line in of_training(lr_factor=2.0).splitlines() if "Peak" in line]
    assert effect in rate
    assert "`lr=" not in of_training(peak_lr=0.1 * 0.05)  # not quite 0.005 in floats
    assert "`lr=" not in of_training(peak_lr=0.005, lr_factor=0.5)
    (folder / "search.csv").write_text(SEARCH + "lr_factor=0.5,0,0.996,0.02\n")
    assert effect.replace("lr=0.005", "lr_factor=0.5") in of_training()
    assert "`lr_factor=" not in of_training(lr_factor=0.5)


def test_values_that_do_not_size_a_quotation_have_no_evidence(folder):
    (folder / "search.csv").write_text(SEARCH)
    quotation = dataclasses.replace(RECIPE, network="assignment")
    assert "`dropout=0`" in of_layers()
    assert "`dropout=0`" not in of_layers(recipe=quotation)


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ("kernel_size=5", "3 convolutions, 5×5 and 3×3"), ("depth=1", "3 convolutions, 5×5 and 3×3"),
        ("filters=24", "16 to 64 filters"), ("dropout=0.5", "Dropout, 0.2"),
        *((f"{key}=0.7", "Peak learning rate 0.01") for key in ("lr", "lr_factor", "warmup", "lr_end")),
        ("epochs=11", "4 epochs"), ("batch_size=128", "Batches of 256"),
        ("weight_decay=0.7", "Weight decay, 0.05"), ("label_smoothing=0.7", "Label smoothing, 0.1"),
        ("shift=0", "Shifts"), ("rotation=0", "Warps"), ("zoom=0", "Warps"), ("shear=0", "Warps"),
        ("elastic=0", "Elastic bends"), ("fill_mode=reflect", "Edges"), ("flip=false", "Mirroring"),
        ("first_size=1", "Growing images"),
    ],
)  # fmt: skip
def test_each_change_stands_beside_its_choice_alone(folder, change, title):
    (folder / "search.csv").write_text(f"{UNCHANGED}{change},1,0.993,0.1\n")
    changes = {"weight_decay": 0.05, "label_smoothing": 0.1, "flip": True, "first_size": 0.5, "epochs": 4}
    lines = f"{of_layers()}\n{of_training(**changes)}".splitlines()
    found = [line for line in lines if f"`{change}`" in line]
    assert [line.split("**")[1] for line in found] == [f"{title}."]
    assert f"With `{change}` the validation error was 0.70%, without the change 0.30% (one seed)." in found[0]


@pytest.mark.parametrize("key", list(choices.OPTIONAL))
def test_a_means_that_is_tried_and_left_out_has_its_evidence(folder, key):
    (folder / "search.csv").write_text(f"{UNCHANGED}{key}=0.5,0,0.99,0.1\n")
    without: dict[str, Any] = {"shift": 0, "rotation": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": 0.0}
    (line,) = [line for line in of_training(**without).splitlines() if f"`{key}=0.5`" in line]
    assert line.startswith("- **Left out.** Weight decay, label smoothing, shifts, rotation, stretching, shearing, ")
    used = without | {key: True if key == "flip" else 2 if key == "shift" else 0.5}
    assert choices.OPTIONAL[key] not in of_training(**used).partition("**Left out")[2].lower()


@pytest.mark.parametrize(
    ("fix", "title"),
    [
        ("3x3 instead of 10x10", "3 convolutions"), ("more filters with depth", "16 to 64 filters"),
        ("relu between the layers", "ReLU"), ("softmax output", "10 outputs, softmax"),
    ],
)  # fmt: skip
def test_each_fix_stands_beside_its_layer_alone(folder, fix, title):
    assert fix in set(pd.read_csv(ROOT / "benchmarks/results/grudges.csv")["fix"])
    (folder / "grudges.csv").write_text(f"step,fix,seed,val_accuracy\n3,before,0,0.3\n4,{fix},0,0.4\n5,after,0,0.9\n")
    (line,) = [line for line in of_layers().splitlines() if fix in line]
    assert line.split("**")[1].startswith(title)
    assert f'"{fix}" took the validation accuracy from 30.0% to 40.0% (one seed).' in line


def test_the_compared_variants_are_those_of_the_insights():
    names = set(pd.read_csv(ROOT / "benchmarks/results/insights.csv")["variant"])
    assert {"two convolutions", "two convolutions, batch norm", "one convolution, batch norm"} <= names


def test_the_second_convolution_needs_two(folder):
    header, rows = "variant,seed,epoch,test_accuracy", []
    for variant, accuracies in {
        "two convolutions": (0.95, 0.97, 0.99), "two convolutions, batch norm": (0.9, 0.98, 0.99),
        "one convolution, batch norm": (0.9, 0.91, 0.98),
    }.items():  # fmt: skip
        rows += [f'"{variant}",{seed},10,{accuracy}' for seed, accuracy in enumerate(accuracies)]
    (folder / "insights.csv").write_text("\n".join([header, *rows, '"two convolutions",3,11,0.1']) + "\n")
    found = [line for line in of_layers().splitlines() if "after 10 epochs" in line]
    convolutions, norm = found
    assert (
        "one convolution, batch norm, 93.00%; two convolutions, batch norm, 95.67% (mean of 3 seeds)." in convolutions
    )
    assert "two convolutions, 97.00%; two convolutions, batch norm, 95.67% (mean of 3 seeds)." in norm
    assert norm.startswith("- **Batch normalization.")
    assert "one convolution" not in of_layers([layer("Conv2D", [8, 8, 8], "3×3"), layer("Dense", [10])])


def test_several_changes_are_one_sentence(folder):
    (folder / "search.csv").write_text(SEARCH + "elastic=0,0,0.99,0.1\nelastic=2,0,0.98,0.1\n")
    (bends,) = [line for line in of_training().splitlines() if "Elastic" in line]
    assert (
        "With `elastic=0` the validation error was 1.00%, without the change 0.50% (one seed); with `elastic=2` the "
        "validation error was 2.00%, without the change 0.50% (one seed)."
    ) in bends


def test_what_the_recipe_has_now_is_no_change(folder):
    (folder / "search.csv").write_text(SEARCH)
    (folder / "search.csv").write_text(SEARCH + "flip=true,0,0.99,0.1\nfill_mode=constant,0,0.99,0.1\n")
    assert "`fill_mode=" not in of_training()
    assert "`flip=true`" not in of_training(flip=True)
    assert "`flip=true`" in of_training()
    assert "`dropout=0`" not in of_training(dropout=0.0) + of_layers(recipe=dataclasses.replace(RECIPE, dropout=0.0))


def test_a_fix_stands_beside_its_layer(folder):
    (folder / "grudges.csv").write_text(
        "step,fix,seed,val_accuracy\n0,as it is,0,0.1\n1,softmax output,0,0.4\n1,softmax output,1,0.5\n"
    )
    (output,) = [line for line in of_layers().splitlines() if "softmax." in line]
    assert '"softmax output" took the validation accuracy from 10.0% to 45.0% (mean of 2 seeds).' in output
    assert "as it is" not in of_layers()
    assert Evidence("mnist").fix_effect("as it is") is None  # nothing before it
    (folder / "grudges.csv").write_text("step,fix,seed,val_accuracy\n0,as it is,0,0.1\n1,softmax output,0,0.1\n")
    effect = Evidence("mnist").fix_effect("softmax output")
    assert effect
    assert effect.endswith('"softmax output" left the validation accuracy at 10.0% (one seed).')


def test_the_insights_stand_beside_batch_norm_and_the_second_convolution(folder):
    header = "variant,seed,epoch,val_accuracy,test_accuracy"
    rows = [("two convolutions", 0.98), ("two convolutions, batch norm", 0.99), ("one convolution, batch norm", 0.985)]
    lines = [f'"{variant}",{seed},{epoch},0.5,{value if epoch == 10 else 0.1}'
             for variant, value in rows for seed in (0, 1) for epoch in (9, 10)]  # fmt: skip
    (folder / "insights.csv").write_text("\n".join([header, *lines]) + "\n")
    effect = "after 10 epochs: two convolutions, 98.00%; two convolutions, batch norm, 99.00% (mean of 2 seeds)."
    assert effect in of_layers()
    assert "one convolution, batch norm, 98.50%; two convolutions, batch norm, 99.00%" in of_layers()


def test_without_measurements_there_is_no_evidence():
    assert "*" not in of_layers().replace("**", "")
    assert "*" not in of_training().replace("**", "")
