"""The report's figures and words: a chapter for each data set, and one for what benchmarks/ measured."""

from pathlib import Path
from typing import Any

import pandas as pd

from reprocnn.datasets import MNIST
from reprocnn.report import charts, choices, curves, evidence, experiments, figures, tables
from reprocnn.report.document import Chapter, Figure, Section
from reprocnn.report.results import Result
from reprocnn.report.sketch import draw_sketch

NORMALIZATIONS = {
    "center": "x / 255 - 0.5",
    "standardize": "(x - mean) / standard deviation, both over the training images",
}
CHARTS = {  # by table: how it is drawn, and what is seen
    "insights": (charts.draw_insights, "test accuracy of each variant, a dot for each seed"),
    "flaws": (charts.draw_flaws, "validation accuracy after each fix, a dot for each seed"),
    "bench": (charts.draw_bench, "test error against seconds of training"),
    "growth": (charts.draw_growth, "cost of an epoch against images and filters"),
}


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
        f"{tables.markdown(table)}\n{_environments(results)}\n\nTo reproduce: `make repro`, or `dvc repro` in your own "
        "environment. The same machine with the same versions gives weights with the same digest. `git log -1 metrics` "
        "names the commit and the date of these results."
    )


def _environments(results: list[Result]) -> str:
    """Say once for all data sets where they were trained, as far as that is the same."""
    titles: dict[str, list[str]] = {}
    for result in results:
        device = "{name}, {threads} threads, {precision}".format(**result.details["device"])
        versions = ", ".join(f"{name} {version}" for name, version in result.details["versions"].items())
        titles.setdefault(f"trained on {device}, with {versions}", []).append(result.title)
    return " ".join(f"{' and '.join(own)}: {where}." for where, own in titles.items())


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
    found = evidence.find(result)
    return Chapter(
        result.title,
        f"The true class is among the top two predictions for {result.test['top2_accuracy']:.2%} of the test images. "
        f"The test loss is {result.test['loss']:.4f}.",
        (
            _network(result, found),
            _learning(result, found),
            _errors(result),
            _features(result),
            _data(result),
        ),
    )


def _network(result: Result, found: evidence.Evidence) -> Section:
    return Section(
        "The network, layer by layer",
        "\n".join(choices.explain_layers(result.details["layers"], result.recipe, found)),
        (_figure(result, "network", "the layers as blocks, with their shapes, parameters and operations"),),
    )


def _learning(result: Result, found: evidence.Evidence) -> Section:
    # The sample is not judged by the target, so crossing it means nothing.
    course = curves.explain(result.history, result.judged_by, result.details["validation_images"])
    reasons = choices.explain_training(result.recipe, result.peak_lr, found)
    return Section(
        "How it learned",
        "\n\n".join([*course, "\n".join(reasons)]),
        (_figure(result, "curves", "loss, accuracy and learning rate against epoch, training and validation"),),
    )


def _errors(result: Result) -> Section:
    return Section(
        "Where it errs",
        explain_reliability(result.details["reliability"], result.test["calibration_error"]),
        (
            _figure(result, "confusion", "confusion matrix, true class by predicted class"),
            _figure(result, "mistakes", "the most confident mistakes, with true class, predicted class and confidence"),
            _figure(result, "reliability", "accuracy against confidence"),
        ),
        "Precision and recall of each class",
        tables.markdown(by_class(result.details["classes"])),
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
        explain_data(result.details),
        (_figure(result, "examples", "a training image of each class, raw and augmented as in training"),),
        "Images of each class",
        tables.markdown(counts),
    )


def _figure(result: Result, kind: str, alt: str) -> Figure:
    return Figure(_figure_file(result, kind), f"{result.title}: {alt}")


def explain_reliability(bins: list[dict[str, float]], error: float) -> str:
    """Say what the calibration `error` means: overconfident, underconfident, or neither overall."""
    total = sum(row["n"] for row in bins)
    gap = sum(row["n"] * (row["confidence"] - row["accuracy"]) for row in bins) / total
    if abs(gap) < error / 2:
        direction = "sometimes too high, sometimes too low"
    elif gap > 0:
        direction = "the network is overconfident"
    else:
        direction = "the network is underconfident"
    return (
        f"Confidence is off by {100 * error:.1f} points on average (expected calibration error {error:.4f}): "
        f"{direction}."
    )


def explain_features(result: Result) -> str:
    """Say how to read the pictures of filters and feature maps."""
    n, height, width = result.images["filters"].shape[:3]
    if n == 0:
        return "The network has no convolution."
    return (
        f"The first figure shows the {n} filters of the first convolution, {height}×{width}: mid-grey is zero, "
        "brighter is positive. The second shows a training image of each class and its feature maps, block by block "
        "(height × width × channels), in the channels that vary most over these images."
    )


def explain_data(details: dict[str, Any]) -> str:
    """Describe the splits, how even the classes are, and the normalization with its check."""
    n = {split: sum(counts) for split, counts in details["images"].items()}
    used = "" if details["validation_images"] else " The network was trained on the first two together."
    normalization = details["normalization"]
    check = normalization["check"]
    return (
        f"{n['training']:,} images for training, {n['validation']:,} for validation, {n['test']:,} for testing."
        f"{used} {_balance(details['images']['training'], details['classes'])}\n\n"
        f"Normalization: {NORMALIZATIONS[normalization['method']]}. The training images, normalized, range from "
        f"{check['min']:.3f} to {check['max']:.3f}; mean {_numbers(check['mean'])}, standard deviation "
        f"{_numbers(check['std'])}."
    )


def _balance(counts: list[int], classes: list[dict[str, Any]]) -> str:
    fewest, most = min(counts), max(counts)
    if fewest == most:
        return f"Each class has {fewest:,} training images."
    rarest, commonest = (classes[counts.index(n)]["class"] for n in (fewest, most))
    return (
        f"The rarest class is {rarest} with {fewest:,} training images; the most frequent is {commonest} with "
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
    for name, table in experiments.specifications(_searched_images(results)).items():
        rows = tables.load(table)
        if not rows.empty:
            charted = CHARTS.get(name)
            drawn = (Figure(_chart_file(name), f"{table.title}: {charted[1]}"),) if charted else ()
            details = f"{tables.markdown(rows)}\n{tables.circumstances(table.file)}"
            sections.append(Section(table.title, table.text, drawn, "The numbers", details))
    introduction = (
        "Measured outside the pipeline, with other networks and recipes too. benchmarks/README.md lists the commands."
    )
    return [Chapter("Experiments", introduction, tuple(sections))] if sections else []


def draw_experiments(folder: Path) -> None:
    """Draw the charts of what is measured, `folder`/figures/experiments_*.svg."""
    with figures.style():
        for name, (draw_chart, _) in CHARTS.items():
            runs = tables.read(experiments.TABLES[name].file)
            if not runs.empty:
                with tables.naming(experiments.TABLES[name].file):
                    chart = draw_chart(runs)
                figures.save(chart, folder / _chart_file(name))


def _searched_images(results: list[Result]) -> int | None:
    """Count MNIST's validation images, which the search counts errors of; None if those here are others."""
    recipes = tables.read("search").get("recipe", pd.Series()).astype(str)
    for result in results:
        searched = recipes.str.contains(f" val_fraction={result.recipe.val_fraction} ", regex=False).all()
        if result.dataset == MNIST and result.judged_by is not None and searched:
            return result.details["validation_images"]
    return None


def _shape(shape: list[int]) -> str:
    height, width, channels = shape
    return f"{height}×{width}\n×{channels}"


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _chart_file(table: str) -> str:
    return f"figures/experiments_{table}.svg"


def _figure_file(result: Result, kind: str) -> str:
    return f"figures/{result.dataset.name}_{kind}.svg"
