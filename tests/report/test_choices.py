"""The reasons: each where the layers and values are so, none where they are not; what was measured beside them."""

import dataclasses
from typing import Any

import pandas as pd
import pytest

from reprocnn.report import choices
from reprocnn.report.evidence import Evidence
from tests.support.commands import ROOT
from tests.support.explained import LAYERS, RECIPE, layer

NOTHING = Evidence()


def of_layers(layers=LAYERS, recipe=RECIPE, found=NOTHING) -> str:
    return "\n".join(choices.explain_layers(layers, recipe, found))


def of_training(found=NOTHING, peak_lr=0.01, **changes) -> str:
    return "\n".join(choices.explain_training(dataclasses.replace(RECIPE, **changes), peak_lr, found))


def test_each_layer_has_its_reason():
    labels = [line.split("**")[1] for line in of_layers().splitlines()]
    assert labels == [
        "Normalization as a layer.", "Cropping, 1.", "A convolution of 5×5 with stride 2.",
        "3 convolutions, 5×5 and 3×3.",
        "16 to 64 filters.", "Batch normalization.", "ReLU.", "Max pooling, 2×2.", "Flatten.", "Dropout, 0.2.",
        "10 outputs, softmax.",
    ]  # fmt: skip
    assert "one position in 4," in of_layers()
    assert "several 3×3 kernels in a row" in of_layers()


def test_a_layer_that_is_not_there_has_none():
    bare = [layer("Conv2D", [8, 8, 8], "10×10, gelu"), layer("GlobalMaxPooling2D", [8]), layer("Dense", [10], "elu")]
    text = of_layers(bare)
    assert [line.split("**")[1] for line in text.splitlines()] == [
        "1 convolution, 10×10.", "GELU.", "Global max pooling.",
    ]  # fmt: skip
    assert "3×3" not in text
    assert "Dropout" not in of_layers([layer("Dropout", [8], "0"), layer("Dense", [10])])
    assert "softmax.**" not in of_layers([layer("Conv2D", [8, 8, 10], "1×1, softmax")])  # a map for each class
    for widths in ([32, 8], [16, 16], [16, 8, 32]):
        assert "filters.**" not in of_layers([layer("Conv2D", [8, 8, width], "5×5") for width in widths])
    assert "several 3×3" not in of_layers([layer("Conv2D", [8, 8, 8], kernel) for kernel in ("5×5", "3×3")])


@pytest.mark.parametrize(
    ("method", "said"),
    [("center", "Pixels are scaled to x / 255 - 0.5"), ("standardize", "Inputs have mean 0 and variance 1")],
)
def test_inputs_have_the_reason_of_their_normalization(method, said):
    assert f"**Normalization as a layer.** {said}" in of_layers(
        recipe=dataclasses.replace(RECIPE, normalization=method)
    )


def test_an_average_over_the_map_is_explained():
    text = of_layers([layer("GlobalAveragePooling2D", [8]), layer("Dense", [10])])
    assert [line.split("**")[1] for line in text.splitlines()] == ["Global average pooling."]


def test_the_whitening_layer_is_explained():
    """By its name: a saved network no longer says that it was frozen."""
    assert "Whitening, 2×2" in of_layers([layer("Conv2D", [31, 31, 24], "2×2, gelu", name="whitening")])
    assert "Whitening" not in of_layers([layer("Conv2D", [31, 31, 24], "2×2, gelu, frozen", name="conv2d")])
    assert "**Whitening, 2×2.**" in (ROOT / "report/report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "**Adam.** Adam"),
        ({"optimizer": "muon"}, "**Muon.**"),
        ({"peak_lr": 0.25}, "**Peak learning rate 0.25.** It rises over the first 20% of the steps"),
        ({"warmup": 0.0}, "** It falls linearly to zero"),
        ({"lr_end": 0.1}, "falls linearly to 0.1 of the peak"),
        ({"lr_end": 0.5}, "falls linearly to 0.5 of the peak"),
        ({"lr_end": 1.0, "warmup": 0.0}, "** It stays constant:"),
        ({"epochs": 1}, "**1 epoch.**"),
        ({"batch_size": 1000}, "**Batches of 1,000.**"),
        ({"label_smoothing": 0.3}, "a share of 0.3 of each label"),
        ({"weight_decay": 0.05}, "**Weight decay, 0.05.** Weights shrink"),
        ({"weight_decay": 0.05, "optimizer": "muon"}, "**Weight decay, 0.05.** Biases and dense weights"),
        ({}, "shifted by up to 2 pixels each way, by fractions of a pixel too,"),
        (
            {"rotation": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": 0.0, "shift": 1},
            "shifted by up to 1 pixel each way, because",
        ),
        ({"zoom": 0.0}, "rotated by up to 15 degrees and sheared by up to 0.2 pixels per row,"),
        ({"elastic": 1.5}, "by 1.5 pixels (standard deviation)"),
        ({"fill_mode": "reflect"}, "whatever moves in from outside the image is a reflection of the image"),
        ({"flip": True}, "half the images are mirrored"),
        ({"zoom": 0.0, "rotation": 0.0}, "Images are sheared by up to 0.2 pixels per row, differently"),
        ({}, "rotated by up to 15 degrees, stretched by up to 15 % and sheared by up to 0.2 pixels per row,"),
        ({"rotation": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": 0.1}, "each way, by fractions of a pixel too,"),
        *(
            (
                {"rotation": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": 0.0} | {key: 0.1},
                "each way, by fractions of a pixel too,",
            )
            for key in ("rotation", "zoom", "shear")
        ),
        ({"elastic": 0.0}, "whatever moves in from outside the image is black"),
        (
            {"shift": 0, "rotation": 0.0, "zoom": 0.0, "shear": 0.0},
            "**Edges.** Whatever moves in from outside the image is black",
        ),
        (
            {"shift": 0, "rotation": 0.0, "zoom": 0.0, "elastic": 0.0},
            "**Edges.** Whatever moves in from outside the image is black",
        ),
        ({"first_size": 0.6}, "at about 60% of their height and width, at about 36% of the cost"),
        *(
            (
                {"dropout": 0.0, "network": network},
                "Weight decay, label smoothing, mirroring and dropout: each",
            )
            for network in ("mnist_cnn", "cifar_cnn")
        ),
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


def found(*changes: str) -> Evidence:
    rows = [("", 0, 0.99), *((change, 0, 0.98) for change in changes)]
    return Evidence(pd.DataFrame(rows, columns=["change", "seed", "val_accuracy"]), 1000)


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ("kernel_size=5", "3 convolutions, 5×5 and 3×3"), ("depth=1", "3 convolutions, 5×5 and 3×3"),
        ("filters=24", "16 to 64 filters"), ("dropout=0.5", "Dropout, 0.2"),
        *((f"{key}=0.7", "Peak learning rate 0.01") for key in ("lr", "lr_factor", "warmup", "lr_end")),
        ("epochs=11", "4 epochs"), ("batch_size=128", "Batches of 256"),
        ("weight_decay=0.7", "Weight decay, 0.05"), ("label_smoothing=0.7", "Label smoothing, 0.1"),
        ("shift=0", "Shifts"), ("rotation=0", "Warps"), ("zoom=0", "Warps"), ("shear=0", "Warps"),
        ("rotation=10 zoom=0.1 shear=0.1", "Warps"),
        ("elastic=0", "Elastic bends"), ("fill_mode=reflect", "Edges"), ("flip=false", "Mirroring"),
        ("first_size=1", "Growing images"),
    ],
)  # fmt: skip
def test_each_change_stands_beside_its_choice_alone(change, title):
    changes = {"weight_decay": 0.05, "label_smoothing": 0.1, "flip": True, "first_size": 0.5, "epochs": 4}
    evidence = found(change)
    lines = f"{of_layers(found=evidence)}\n{of_training(evidence, **changes)}".splitlines()
    beside = [line for line in lines if f"`{change}`" in line]
    assert [line.split("**")[1] for line in beside] == [f"{title}."]
    assert beside[0].endswith(f" *{evidence.change_effect([part.partition('=')[0] for part in change.split()])}*")


@pytest.mark.parametrize("change", ["filters=24 epochs=18", "lr=0.02 batch_size=512"])
def test_a_change_of_two_choices_is_evidence_for_neither(change):
    evidence = found(change)
    assert change not in of_layers(found=evidence) + of_training(evidence)


@pytest.mark.parametrize("key", list(choices.OPTIONAL))
def test_a_technique_that_is_tried_and_left_out_has_its_evidence(key):
    without: dict[str, Any] = {"shift": 0, "rotation": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": 0.0}
    evidence = found(f"{key}=0.5")
    (line,) = [line for line in of_training(evidence, **without).splitlines() if f"`{key}=0.5`" in line]
    assert line.startswith("- **Left out.** Weight decay, label smoothing, shifts, rotation, stretching, shearing, ")
    used = without | {key: True if key == "flip" else 2 if key == "shift" else 0.5}
    left_out = of_training(evidence, **used).partition("**Left out")[2]
    assert choices.OPTIONAL[key] not in left_out.lower()
    assert f"`{key}=" not in left_out


def test_nothing_is_left_out_where_all_is_used():
    everything = {"weight_decay": 0.1, "label_smoothing": 0.1, "flip": True}
    assert "Left out" in of_training()
    assert "Left out" not in of_training(**everything)


def test_without_measurements_there_is_no_evidence():
    assert "*" not in of_layers().replace("**", "")
    assert "*" not in of_training().replace("**", "")
