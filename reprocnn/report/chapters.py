"""The report's figures and words: a chapter for each data set, and one for what benchmarks/ measured."""

from pathlib import Path
from typing import Any

import pandas as pd

from reprocnn.datasets import MNIST
from reprocnn.report import choices, curves, experiments, figures, tables
from reprocnn.report.document import Chapter, Figure, Section
from reprocnn.report.evidence import Evidence
from reprocnn.report.results import Result
from reprocnn.report.sketch import draw_sketch

NORMALIZATIONS = {"center": "x / 255 - 0.5", "standardize": "(x - mean) / standard deviation, of the training images"}


def draw(result: Result, folder: Path) -> None:
    """Draw the figures of one data set, `folder`/figures/NAME_*.svg."""
    details, images, classes = result.details, result.images, result.class_names
    shapes = details["block_shapes"]
    examples = [images["examples"], *images["variations"]]
    maps = [images["examples"], *(images[f"maps_{i}"][..., None] for i in range(len(shapes)))]
    with figures.style():
        drawn = {
            "network": draw_sketch(details["layers"]),
            "curves": figures.draw_curves(result.history, result.target),
            "reliability": figures.draw_reliability(details["reliability"]),
            "confusion": figures.draw_confusion(result.predictions, classes),
            "mistakes": figures.draw_mistakes(images["index"], images["x"], result.predictions, classes),
            "examples": figures.draw_rows(examples, ["raw"] + ["augmented"] * len(images["variations"]), classes),
            "filters": figures.draw_grid(images["filters"], 8),
            "maps": figures.draw_rows(maps, ["image", *map(_shape, shapes)], classes),
        }
        for kind, figure in drawn.items():
            figures.save(figure, folder / _figure_file(result, kind))


def summarize(results: list[Result]) -> str:
    """Say in Markdown what each network reached, and how to reproduce it."""
    table = pd.DataFrame([_summary(result) for result in results], index=[result.title for result in results])
    table = table.T.rename_axis("").reset_index()
    return (
        f"{tables.markdown(table)}\nTo reproduce: `make repro`, or `dvc repro` in an environment of your own. On the "
        f"same machine with the same versions the weights have the same digest."
    )


def _summary(result: Result) -> dict[str, str]:
    test = result.test
    return {
        "test accuracy": f"**{test['accuracy']:.2%}**",
        "errors": f"{test['errors']:,} of {test['n']:,} {result.dataset.noun} wrong",
        "95 % interval": f"{test['accuracy_low']:.2%} to {test['accuracy_high']:.2%}",
        "target": _verdict(test["accuracy"], result.judged_by),
        "network": f"`{result.recipe.network}`, {result.details['parameters']:,} parameters",
        "training": f"{len(result.history)} epochs, seed {result.seed}",
        "weights": f"SHA-256 `{result.details['weights'][:12]}`",
    }


def _verdict(accuracy: float, target: float | None) -> str:
    if target is None:
        return "none"
    return f"{target:.1%}, {'met' if accuracy >= target else '**missed**'}"


def write_chapter(result: Result) -> Chapter:
    """Write of one data set: the network, how it learned, where it errs, what it sees, its data."""
    evidence = Evidence(result.dataset.name)
    return Chapter(
        result.title,
        f"The right class is among the two most probable for {result.test['top2_accuracy']:.2%} of the test images; "
        f"the loss is {result.test['loss']:.4f}.",
        (
            _network(result, evidence),
            _learning(result, evidence),
            _errors(result),
            _features(result),
            _data(result),
        ),
    )


def _network(result: Result, evidence: Evidence) -> Section:
    return Section(
        "The network, layer by layer",
        "\n".join(choices.explain_layers(result.details["layers"], result.recipe, evidence)),
        (_figure(result, "network", "the layers as blocks, with their shapes, parameters and operations"),),
    )


def _learning(result: Result, evidence: Evidence) -> Section:
    # The sample is not judged by the target, so crossing it means nothing.
    course = curves.explain(result.history, result.judged_by, result.details["validation_images"])
    reasons = choices.explain_training(result.recipe, result.peak_lr, evidence)
    return Section(
        "How it learned",
        "\n\n".join([*course, "\n".join(reasons)]),
        (_figure(result, "curves", "loss, accuracy and learning rate against epoch, training and validation"),),
    )


def _errors(result: Result) -> Section:
    calibration = explain_reliability(result.details["reliability"], result.test["calibration_error"])
    return Section(
        "Where it errs",
        f"{calibration}\n\n{tables.markdown(by_class(result.details['classes']))}",
        (
            _figure(result, "confusion", "confusion matrix, true class by predicted class"),
            _figure(result, "mistakes", "the most confident mistakes, with true class, predicted class and confidence"),
            _figure(result, "reliability", "accuracy against confidence"),
        ),
    )


def _features(result: Result) -> Section:
    return Section(
        "What it sees",
        explain_features(result),
        (
            _figure(result, "filters", "the filters of the first convolution"),
            _figure(result, "maps", "feature maps of a training image of each class, block by block"),
        ),
    )


def _data(result: Result) -> Section:
    counts = class_counts(result.details["images"], result.class_names)
    return Section(
        "The data",
        f"{explain_data(result.details)}\n\n{tables.markdown(counts)}",
        (_figure(result, "examples", "a training image of each class, raw and augmented as in training"),),
    )


def _figure(result: Result, kind: str, alt: str) -> Figure:
    return Figure(_figure_file(result, kind), f"{result.title}: {alt}")


def explain_reliability(bins: list[dict[str, float]], error: float) -> str:
    """Say what the calibration `error` means: overconfident, underconfident, or neither on the whole."""
    total = sum(row["n"] for row in bins)
    gap = sum(row["n"] * (row["confidence"] - row["accuracy"]) for row in bins) / total
    if abs(gap) < error / 2:
        direction = "in both directions"
    elif gap > 0:
        direction = "it is overconfident"
    else:
        direction = "it is underconfident"
    return (
        f"Its confidence is off by {100 * error:.1f} points on average (expected calibration error {error:.4f}): "
        f"{direction}."
    )


def explain_features(result: Result) -> str:
    """Say how to read the pictures of filters and feature maps."""
    n, height, width = result.images["filters"].shape[:3]
    if n == 0:
        return "The network has no convolution."
    return (
        f"First the {n} filters of the first convolution, {height}×{width}: zero is mid-grey, brighter is positive. "
        "Then a training image of each class and what becomes of it, block by block (height × width × channels), in "
        "the channels that vary most over these images."
    )


def explain_data(details: dict[str, Any]) -> str:
    """Describe the splits, how even the classes are, and the normalization with its check."""
    n = {split: sum(counts) for split, counts in details["images"].items()}
    used = "" if details["validation_images"] else " The network was trained on the first two together."
    normalization = details["normalization"]
    check = normalization["check"]
    return (
        f"{n['training']:,} images for training, {n['validation']:,} for validation, {n['test']:,} for the test."
        f"{used} {_balance(details['images']['training'], details['classes'])}\n\n"
        f"Normalization: {NORMALIZATIONS[normalization['method']]}. Checked on the training images: values from "
        f"{check['min']:.3f} to {check['max']:.3f}, mean {_numbers(check['mean'])}, standard deviation "
        f"{_numbers(check['std'])}."
    )


def _balance(counts: list[int], classes: list[dict[str, Any]]) -> str:
    fewest, most = min(counts), max(counts)
    if fewest == most:
        return f"Each class has the same number of training images, {fewest:,}."
    rarest, commonest = (classes[counts.index(n)]["class"] for n in (fewest, most))
    return (
        f"The rarest class of the training images is {rarest} with {fewest:,}, the most frequent {commonest} with "
        f"{most:,}, {most / fewest:.2f} times as many."
    )


def by_class(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Tabulate precision and recall of each class."""
    return pd.DataFrame(
        {
            "class": row["class"],
            "precision": _percent(row["precision"]),
            "recall": _percent(row["recall"]),
            "test images": f"{row['n']:,}",
        }
        for row in rows
    )


def class_counts(images: dict[str, list[int]], class_names: list[str]) -> pd.DataFrame:
    """Tabulate the number of images of each class in each split."""
    return pd.DataFrame(
        {"class": class_names} | {split: [f"{n:,}" for n in counts] for split, counts in images.items()}
    )


def write_experiments(results: list[Result]) -> list[Chapter]:
    """Write a chapter with a section for each table of benchmarks/, or none if nothing is measured.

    Raises UserError for a table that is broken.
    """
    sections = []
    for table in experiments.specifications(_searched_images(results)).values():
        rows = tables.load(table)
        if not rows.empty:
            text = f"{table.text}\n\n{tables.markdown(rows)}\n{tables.circumstances(table.file)}"
            sections.append(Section(table.title, text))
    introduction = "Measured apart from the pipeline, over seeds; benchmarks/README.md has the commands."
    return [Chapter("Experiments", introduction, tuple(sections))] if sections else []


def _searched_images(results: list[Result]) -> int | None:
    """Count MNIST's validation images, which the search counts errors of; those of the sample are others."""
    for result in results:
        if result.dataset == MNIST and result.judged_by is not None:
            return result.details["validation_images"]
    return None


def _shape(shape: list[int]) -> str:
    height, width, channels = shape
    return f"{height}×{width}\n×{channels}"


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _figure_file(result: Result, kind: str) -> str:
    return f"figures/{result.dataset.name}_{kind}.svg"
