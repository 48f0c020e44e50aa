"""The report's words, from made-up results."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reprocnn.core.errors import UserError
from reprocnn.core.files import write_json
from reprocnn.core.params import Recipe
from reprocnn.datasets import CIFAR, MNIST
from reprocnn.report import chapters, results, tables
from reprocnn.report.results import Result
from tests.support.commands import ROOT, call
from tests.support.explained import LAYERS, RECIPE

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
    "accuracy_tta": 0.9966, "top2_accuracy": 0.9997, "loss": 0.5, "calibration_error": 0.1,
}  # fmt: skip
DETAILS: dict[str, Any] = {
    "source": "sample",
    "test": {"n": 4, "accuracy_low": 0.3, "accuracy_high": 0.999, "digest": "fedcba"},
    "parameters": 1234,
    "weights": "0123456789abcdef",
    "device": {"kind": "cpu", "name": "a processor", "threads": 2, "precision": "float32"},
    "versions": {"keras": "3.0", "numpy": "2.0"},
    "reliability": [{"n": 4, "confidence": 0.85, "accuracy": 0.75}],
    "validation_images": 100,
    "classes": [
        {"class": "cat", "precision": None, "recall": 0.5, "n": 2},
        {"class": "dog", "precision": 0.9, "recall": 0.975, "n": 3456},
    ],
    "layers": LAYERS,
    "images": {"training": [1000, 1500], "validation": [40, 60], "test": [3, 4]},
    "normalization": {
        "method": "center",
        "check": {"min": -0.5, "max": 0.5, "mean": [-0.026], "std": [0.247]},
    },
    "block_shapes": [[14, 12, 16], [14, 12, 16], [7, 6, 32]],
}


def result(target: float = 0.99, source: str = "public", recipe: Recipe = RECIPE, **details) -> Result:
    return Result(
        dataset=MNIST, source=source, test=TEST, target=target, recipe=recipe, peak_lr=0.01, seed=7, history=HISTORY,
        predictions=pd.DataFrame(), details=DETAILS | details, images={"filters": np.zeros((16, 5, 3, 1), np.uint8)},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("benchmarks/results").mkdir(parents=True)


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]


def test_the_summary_says_it_in_plain_words():
    text = chapters.summarize([result()])
    assert cells(text)[2:] == [
        ["test accuracy", "**99.64%**"],
        ["errors", "36 of 10,000 digits wrong"],
        ["95 % interval", "99.50% to 99.74%"],
        ["target", "99.0%, met"],
        ["network", "`mnist_cnn`, 1,234 parameters"],
        ["training", "2 epochs, seed 7"],
        ["weights", "SHA-256 `0123456789ab`"],
    ]
    assert "make repro" in text


def test_the_summary_has_a_column_for_each_data_set():
    other = dataclasses.replace(result(), dataset=CIFAR, test=TEST | {"errors": 1234}, seed=8)
    table = cells(chapters.summarize([result(), other]))
    assert table[0] == ["", "MNIST", "CIFAR-10"]
    assert ["errors", "36 of 10,000 digits wrong", f"1,234 of 10,000 {CIFAR.noun} wrong"] in table
    assert ["training", "2 epochs, seed 7", "2 epochs, seed 8"] in table


def test_the_summary_says_where_the_networks_were_trained_once_if_it_is_the_same():
    same = dataclasses.replace(result(), dataset=CIFAR)
    where = "trained on a processor, 2 threads, float32, with keras 3.0, numpy 2.0."
    assert f"\nMNIST and CIFAR-10: {where}\n" in chapters.summarize([result(), same])
    gpu = {"name": "a GPU", "threads": 2, "precision": "mixed_bfloat16"}
    other = dataclasses.replace(result(device=gpu), dataset=CIFAR)
    assert f"\nMNIST: {where} CIFAR-10: trained on a GPU, 2 threads, mixed_bfloat16, with keras 3.0, numpy 2.0.\n" in (
        chapters.summarize([result(), other])
    )


@pytest.mark.parametrize(
    ("target", "source", "verdict"),
    [
        (0.999, "public", "99.9%, **missed**"), (0.9964, "public", "99.6%, met"),
        (0.9965, "public", "99.7%, **missed**"), (0.5, "sample", "none"),
    ],
)  # fmt: skip
def test_the_summary_judges_by_the_target(target, source, verdict):
    assert ["target", verdict] in cells(chapters.summarize([result(target, source)]))


def test_a_chapter_is_computed_from_its_figures():
    chapter = chapters.write_chapter(result())
    text = {section.title: f"{section.text}\n{section.details}" for section in chapter.sections}
    assert chapter.title == "MNIST"
    assert chapter.text == (
        "The true class is among the top two predictions for 99.97% of the test images. The test loss is 0.5000."
    )
    assert "never reached the target of 99.0%" in text["How it learned"]
    assert "Peak learning rate 0.01." in text["How it learned"]
    assert "the network is overconfident" in text["Where it errs"]
    assert cells(text["Where it errs"])[::2] == [
        ["class", "precision", "recall", "test images"],
        ["cat", "-", "50.00%", "2"],
    ]
    assert cells(text["Where it errs"])[3] == ["dog", "90.00%", "97.50%", "3,456"]
    assert "16 filters of the first convolution, 5×3:" in text["What it sees"]
    assert cells(text["The data"])[::2] == [["class", "training", "validation", "test"], ["cat", "1,000", "40", "3"]]
    assert cells(text["The data"])[3] == ["dog", "1,500", "60", "4"]
    alts = {figure.file: figure.alt for section in chapter.sections for figure in section.figures}
    assert all(alt.startswith("MNIST: ") for alt in alts.values())
    words = {"network": "blocks", "curves": "loss, accuracy", "confusion": "confusion matrix", "mistakes": "mistakes",
             "reliability": "confidence", "filters": "filters", "maps": "maps", "examples": "augmented"}  # fmt: skip
    assert alts.keys() == {f"figures/mnist_{kind}.svg" for kind in words}
    assert [kind for kind, word in words.items() if word not in alts[f"figures/mnist_{kind}.svg"]] == []
    sample = chapters.write_chapter(result(source="sample"))
    assert sample.title == "sample: digits"
    assert "target" not in sample.sections[1].text


@pytest.mark.parametrize(
    ("accuracies", "error", "sentence"),
    [
        # Gaps of 0.1 and 0.1, of 0.02 over 100 images and -0.1 over 20, and of 0.08 and -0.1: 0.05 on the whole.
        (
            (0.5, 0.8),
            0.1,
            "off by 10.0 points on average (expected calibration error 0.1000): the network is overconfident.",
        ),
        (
            (0.7, 1.0),
            0.1,
            "off by 10.0 points on average (expected calibration error 0.1000): the network is underconfident.",
        ),
        (
            (0.58, 1.0),
            0.0333,
            "off by 3.3 points on average (expected calibration error 0.0333): sometimes too high, sometimes too low.",
        ),
        ((0.52, 1.0), 0.0833, ": the network is overconfident."),
        ((0.52, 1.0), 0.11, ": sometimes too high, sometimes too low."),
    ],
)
def test_the_calibration_error_in_words(accuracies, error, sentence):
    bins = [{"n": n, "confidence": c, "accuracy": a}
            for n, c, a in zip((100, 20), (0.6, 0.9), accuracies, strict=True)]  # fmt: skip
    assert chapters.explain_reliability(bins, error).endswith(sentence)


def test_the_data_in_words():
    text = chapters.explain_data(DETAILS)
    assert "2,500 images for training, 100 for validation, 7 for testing." in text
    assert (
        "The rarest class is cat with 1,000 training images; the most frequent is dog with 1,500, 1.50 times as many."
        in text
    )
    assert text.endswith(
        "Normalization: x / 255 - 0.5. The training images, normalized, range from -0.500 to 0.500; mean -0.026, "
        "standard deviation 0.247."
    )
    check = {"min": -0.4242, "max": 2.8216, "mean": [0.1, -0.2], "std": [1.5, 0.9]}
    text = chapters.explain_data(DETAILS | {"normalization": {"method": "standardize", "check": check}})
    assert text.endswith(
        "(x - mean) / standard deviation, both over the training images. The training images, normalized, range from "
        "-0.424 to 2.822; mean 0.100, -0.200, standard deviation 1.500, 0.900."
    )
    reversed_counts = DETAILS["images"] | {"training": [1500, 1000]}
    assert "is dog with 1,000 training images; the most frequent is cat with" in chapters.explain_data(
        DETAILS | {"images": reversed_counts}
    )
    assert "trained on the first two together" not in text
    even = DETAILS | {"images": {"training": [5, 5], "validation": [1, 1], "test": [1, 1]}, "validation_images": None}
    assert "Each class has 5 training images." in chapters.explain_data(even)
    assert "trained on the first two together" in chapters.explain_data(even)


@pytest.mark.parametrize(
    ("images", "sentence"), [(1000, "It was still improving at the end"), (10, "It had levelled off at the end")]
)
def test_the_validation_images_separate_change_from_chance(images, sentence):
    history = pd.concat([HISTORY, HISTORY.assign(epoch=[3, 4], val_accuracy=[0.7, 0.8])], ignore_index=True)
    chapter = chapters.write_chapter(dataclasses.replace(result(validation_images=images), history=history))
    assert sentence in chapter.sections[1].text


def test_a_network_without_a_convolution_has_no_filters():
    nothing = dataclasses.replace(result(), images={"filters": np.zeros((0, 0, 0, 1), np.uint8)})
    assert chapters.explain_features(nothing) == "The network has no convolution."


def test_each_figure_is_of_its_part_of_the_result(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)

    def images(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, np.uint8)

    arrays = {
        "index": np.array([21]), "x": images(1, 8, 6, 1), "examples": images(2, 8, 6, 1),
        "variations": images(3, 2, 8, 6, 1), "filters": images(16, 5, 3, 1),
        **{f"maps_{i}": images(2, *shape[:2]) for i, shape in enumerate(DETAILS["block_shapes"])},
    }  # fmt: skip
    predictions = pd.DataFrame(
        {"y_true": [0, 0, 1], "y_pred": [0, 1, 1], "confidence": [0.9, 0.8, 0.7]}, index=[20, 21, 22]
    )
    figures: dict[str, Any] = {}
    monkeypatch.setattr(chapters.figures, "save", lambda figure, path: figures.update({str(path): figure}))
    drawn = dataclasses.replace(result(target=0.65), images=arrays, predictions=predictions)
    chapters.draw(drawn, Path("folder"))
    figures = {Path(path).stem.removeprefix("mnist_"): figure.axes[0] for path, figure in figures.items()}
    shown = {name: [np.asarray(image.get_array()) for image in axes.images] for name, axes in figures.items()}
    texts = {name: [text.get_text() for text in axes.texts] for name, axes in figures.items()}

    def same(name: str, expected: np.ndarray) -> bool:
        return all(np.array_equal(one, two) for one, two in zip(shown[name], expected, strict=True))

    assert same("filters", arrays["filters"][..., 0])
    assert same("mistakes", arrays["x"][..., 0])
    assert texts["mistakes"] == ["is cat\nsaid dog\n80.0%"]
    assert same("examples", np.concatenate([arrays["examples"], *arrays["variations"]])[..., 0])
    assert texts["examples"] == ["cat", "dog", "raw", "augmented", "augmented", "augmented"]
    maps = [arrays["examples"][..., 0], *(arrays[f"maps_{i}"] for i in range(3))]
    assert same("maps", [image for row in maps for image in row])
    assert texts["maps"] == ["cat", "dog", "image", "14×12\n×16", "14×12\n×16", "7×6\n×32"]
    assert texts["network"][0] == "image"
    assert np.asarray(figures["reliability"].collections[0].get_offsets()).tolist() == [[0.85, 0.75]]
    assert sorted(texts["confusion"]) == ["1", "1", "1"]
    (error,) = figures["confusion"].patches
    column, row = (round(edge + 0.5) for edge in error.get_xy())
    assert figures["confusion"].get_yticklabels()[row].get_text() == "cat"
    assert figures["confusion"].get_xticklabels()[column].get_text() == "dog"
    assert figures["curves"].lines[1].get_ydata().tolist() == [1.1, 0.7]
    target = [line for line in figures["curves"].figure.axes[1].lines if line.get_label() == "target 0.65"]
    assert len(target) == 1


def test_experiments_are_those_that_are_measured():
    assert chapters.write_experiments([result()]) == []
    columns = "fed,epoch,steps,whole,hardware,date"
    (tables.FOLDER / "waits.csv").write_text(f"{columns}\narrays,1,5,10,a machine,2026-01-02\n")
    (tables.FOLDER / "search.csv").write_text("change,seed,val_accuracy,val_loss\n,0,0.99,0.1\n")
    cifar = dataclasses.replace(result(validation_images=777), dataset=CIFAR)
    (chapter,) = chapters.write_experiments([cifar, result()])
    assert chapter.title == "Experiments"
    waits, search = chapter.sections
    assert ["arrays", "1", "5.0 s", "10.0 s", "10.0 s"] in cells(waits.details)
    assert waits.details.endswith("`benchmarks/results/waits.csv`, a machine, 2026-01-02")
    assert ["none", "1", "1", "1", "0.1000", "0.1000"] in cells(search.details)
    # Errors cannot be counted of the sample's validation images, nor of none.
    more = "\n,0,0.99,0.1,lr=1 val_fraction=0.05 zoom=0"  # a search on other images than those of this recipe
    (tables.FOLDER / "search.csv").write_text(f"change,seed,val_accuracy,val_loss,recipe{more}\n")
    for other in (result(), result(source="sample"), result(validation_images=None)):
        (chapter,) = chapters.write_experiments([other])
        assert [section.title for section in chapter.sections] == [waits.title]


def test_a_data_set_has_a_title_for_its_source():
    assert results.title(MNIST, "public") == "MNIST"
    assert results.title(CIFAR, "sample") == "sample: shapes"


def test_targets_come_from_the_params(project):
    assert results.target("mnist") == 0.99
    with pytest.raises(UserError, match=r"params\.yaml: targets\.letters\.test\.accuracy\.at_least: missing"):
        results.target("letters")


def test_a_result_is_read_from_what_the_stages_wrote(project):
    write_stage_outputs(project)
    write_stage_outputs(project, "cifar")
    values = Path("params.yaml").read_text()
    values = values.replace("\nseed: 0 ", "\nseed: 5 ").replace(" split_seed: 0", " split_seed: 6")
    Path("params.yaml").write_text(values)
    loaded = results.load(MNIST)
    assert (loaded.title, loaded.judged_by, loaded.target) == ("sample: digits", None, 0.99)
    assert (loaded.seed, loaded.recipe.split_seed, loaded.peak_lr) == (5, 6, pytest.approx(0.01))
    assert loaded.class_names == ["cat", "dog"]
    assert loaded.test == TEST | DETAILS["test"]
    assert loaded.source == "sample"
    assert loaded.details == DETAILS
    assert loaded.history["val_accuracy"].tolist() == [0.5, 0.7]
    assert loaded.predictions["y_pred"].tolist() == [0, 1, 1, 1]
    assert loaded.images["filters"].shape == (16, 5, 3, 1)
    other = results.load(CIFAR)
    assert (other.dataset, other.recipe.network, other.target) == (CIFAR, "cifar_cnn", 0.915)
    assert other.peak_lr == pytest.approx(0.2)  # 20 times 0.01
    write_json(project / "evaluation/cifar.json", DETAILS | {"source": "public"})
    assert (results.load(CIFAR).title, results.load(CIFAR).judged_by) == ("CIFAR-10", 0.915)


@pytest.mark.parametrize("dataset", [MNIST, CIFAR], ids=["mnist", "cifar"])
@pytest.mark.parametrize(
    "path",
    ["metrics/{}.json", "evaluation/{}.json", "evaluation/{}.npz", "plots/{}/history.csv", "plots/{}/predictions.csv"],
)
def test_a_missing_output_is_named_although_the_other_data_set_has_it(project, path, dataset):
    for name in ("mnist", "cifar"):
        write_stage_outputs(project, name)
    missing = path.format(dataset.name)
    (project / missing).unlink()
    with pytest.raises(UserError, match=f"^{missing}: missing; run `dvc repro`"):
        results.load(dataset)


@pytest.mark.slow
def test_the_stage_writes_the_same_report_again_without_keras(project):
    """The real stage, in a process of its own, on made-up results of both data sets."""
    for dataset in (MNIST, CIFAR):
        write_stage_outputs(project, dataset.name)
    program = "import sys; from stages import plot; plot.main(); print({'keras', 'tensorflow'} & set(sys.modules))"
    written = []
    for _ in range(2):
        assert call(project, "python", "-c", program, PYTHONPATH=str(ROOT)).splitlines() == [
            "plot: report/report.md, report/index.html", "set()",
        ]  # fmt: skip
        written.append({path.name: path.read_bytes() for path in (project / "report").rglob("*") if path.is_file()})
    assert written[0] == written[1]
    kinds = ["network", "curves", "reliability", "confusion", "mistakes", "examples", "filters", "maps"]
    figures = {f"{name}_{kind}.svg" for name in ("mnist", "cifar") for kind in kinds}
    assert set(written[0]) == figures | {"report.md", "index.html"}
    text = written[0]["report.md"].decode()
    assert text.startswith("# Report: sample: digits and sample: shapes\n")
    assert set(re.findall(r"\]\(figures/(\w+\.svg)\)", text)) == figures


def write_stage_outputs(folder: Path, name: str = "mnist") -> None:
    """Write what the plot stage reads of the data set `name`, two classes of the sample, after two epochs."""
    params = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(re.sub(r"  epochs: \d+", "  epochs: 2", params))
    for parent in ("metrics", "evaluation", f"plots/{name}"):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    metrics = {key: value for key, value in TEST.items() if key not in DETAILS["test"]}
    write_json(folder / f"metrics/{name}.json", {name: {"test": metrics, "val": {"accuracy": 0.5}}})
    write_json(folder / f"evaluation/{name}.json", DETAILS)
    HISTORY.to_csv(folder / f"plots/{name}/history.csv", index=False)
    predictions = pd.DataFrame({"y_true": [0, 0, 1, 1], "y_pred": [0, 1, 1, 1], "confidence": [0.9, 0.8, 0.7, 0.6]})
    predictions.to_csv(folder / f"plots/{name}/predictions.csv", index_label="index")
    rng = np.random.default_rng(0)

    def images(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, np.uint8)

    arrays: dict[str, Any] = {f"maps_{i}": images(2, *shape[:2]) for i, shape in enumerate(DETAILS["block_shapes"])}
    np.savez(
        folder / f"evaluation/{name}.npz",
        index=np.array([1]),
        x=images(1, 8, 8, 1),
        examples=images(2, 8, 8, 1),
        variations=images(2, 2, 8, 8, 1),
        filters=images(16, 5, 3, 1),
        **arrays,
    )
