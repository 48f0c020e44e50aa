"""Draws what the trainings and the evaluation wrote, and the report around it.

Reads metrics.json, plots/NAME/, evaluation/NAME.* and what benchmarks/ measured; never the images themselves. Writes
report/: report.md with its figures, and index.html, the same in one file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from stages.lib import choices, figures, measured
from stages.lib.choices import Recipe
from stages.lib.curves import explain
from stages.lib.document import Chapter, Figure, Section, to_markdown, to_page
from stages.lib.errors import UserError, run
from stages.lib.files import write_text
from stages.lib.params import read
from stages.lib.results import Targets, load_json, title
from stages.lib.sketch import draw_sketch

REPORT = Path("report")
NOUNS = {"mnist": "digits", "cifar": "pictures"}


@dataclass(frozen=True)
class Params:
    seed: int
    lr: float | None
    mnist: Recipe
    cifar: Recipe
    targets: Targets


@dataclass(frozen=True)
class Result:
    """What there is to tell of one data set."""

    name: str
    title: str
    test: dict[str, Any]  # metrics
    target: float | None  # the sample is judged by none
    recipe: Recipe
    lr: float
    seed: int
    history: pd.DataFrame
    predictions: pd.DataFrame
    details: dict[str, Any]
    images: dict[str, np.ndarray]

    @property
    def class_names(self) -> list[str]:
        return [row["class"] for row in self.details["classes"]]


def main() -> None:
    params = read(Params)
    metrics = load_json(Path("metrics.json"))
    sample = metrics["source"] == "sample"
    results = []
    for name, recipe in (("mnist", params.mnist), ("cifar", params.cifar)):
        with np.load(Path("evaluation") / f"{name}.npz", allow_pickle=False) as images:
            results.append(
                Result(
                    name=name,
                    title=title(metrics, name),
                    test=metrics[name]["test"],
                    target=None if sample else params.targets.accuracy(name),
                    recipe=recipe,
                    lr=recipe.lr if params.lr is None else params.lr,
                    seed=params.seed,
                    history=_read_csv(Path("plots") / name / "history.csv"),
                    predictions=_read_csv(Path("plots") / name / "predictions.csv"),
                    details=load_json(Path("evaluation") / f"{name}.json"),
                    images=dict(images),
                )
            )
    with plt.rc_context(figures.STYLE):
        for result in results:
            # As everywhere in the figures, a target that is not judged by is drawn all the same.
            draw(result, params.targets.accuracy(result.name))
    # First, since it tells of a table that is broken.
    experiments = write_experiments(None if sample else results[0].details["validation_images"])
    chapters = [write_chapter(result) for result in results]
    chapters += [experiments] if experiments.sections else []
    heading = f"Report: {' and '.join(result.title for result in results)}"
    write_text(REPORT / "report.md", to_markdown(heading, summarize(results), chapters))
    write_text(REPORT / "index.html", to_page(heading, summarize(results), chapters, REPORT))
    print(f"plot: {REPORT / 'report.md'}, {REPORT / 'index.html'}", flush=True)


def draw(result: Result, target: float) -> None:
    """The figures of one data set, report/NAME_*.svg."""
    details, images, classes = result.details, result.images, result.class_names
    examples = [images["examples"], *images["variations"]]
    maps = [images["examples"], *(images[f"maps_{i}"][..., None] for i in range(len(details["block_shapes"])))]
    filters = images["filters"]
    for kind, figure in (
        ("network", draw_sketch(details["layers"])),
        ("curves", figures.draw_curves(result.history, target)),
        ("reliability", figures.draw_reliability(details["reliability"])),
        ("confusion", figures.draw_confusion(result.predictions, classes)),
        ("mistakes", figures.draw_mistakes(images["index"], images["x"], result.predictions, classes)),
        ("examples", figures.draw_rows(examples, ["raw", *["augmented"] * len(images["variations"])], classes)),
        ("filters", figures.draw_grid(filters, 8)),
        ("maps", figures.draw_rows(maps, ["image", *map(_sides, details["block_shapes"])], classes)),
    ):
        figures.save(figure, REPORT / f"{result.name}_{kind}.svg")


def summarize(results: list[Result]) -> str:
    """What each network reached, in Markdown, and how to make it again."""
    rows = {
        "test accuracy": lambda r: f"**{r.test['accuracy']:.2%}**",
        "in plain words": lambda r: f"{r.test['errors']:,} of {r.test['n']:,} {NOUNS[r.name]} wrong",
        "95 % interval": lambda r: f"{r.test['accuracy_low']:.2%} to {r.test['accuracy_high']:.2%}",
        "target": lambda r: _verdict(r.test["accuracy"], r.target),
        "network": lambda r: f"`{r.recipe.network}`, {r.details['parameters']:,} parameters",
        "training": lambda r: f"{len(r.history)} epochs, seed {r.seed}",
        "weights": lambda r: f"SHA-256 `{r.details['weights'][:12]}`",
    }
    table = pd.DataFrame({"": list(rows), **{r.title: [row(r) for row in rows.values()] for r in results}})
    again = (
        "To make it again: `make repro`, or `dvc repro` in an environment of your own. On the same machine with the "
        "same versions the weights come out with the same digest."
    )
    return f"{measured.markdown(table)}\n{again}"


def write_chapter(result: Result) -> Chapter:
    """One data set: the network, how it learned, where it errs, what it sees, its data."""
    test, details, name = result.test, result.details, result.name
    layers = details["layers"]
    evidence = measured.Evidence(name)
    # The sample is judged by no target, so none is crossed.
    told = explain(result.history, result.target, details["validation_images"])
    normalization = details["normalization"]

    def figure(kind: str, alt: str) -> Figure:
        return Figure(f"{name}_{kind}.svg", f"{result.title}: {alt}")

    return Chapter(
        result.title,
        f"The right class is among the two most probable for {test['top2_accuracy']:.2%} of the test images; "
        f"the loss is {test['loss']:.4f}.",
        (
            Section(
                "The network, layer by layer",
                "\n".join(choices.of_layers(layers, normalization["method"], result.recipe, evidence)),
                (figure("network", "the layers as blocks, with their shapes, parameters and operations"),),
            ),
            Section(
                "How it learned",
                "\n".join(f"{sentence}\n" for sentence in told)
                + "\n"
                + "\n".join(choices.of_recipe(result.recipe, result.lr, evidence)),
                (figure("curves", "loss, accuracy and learning rate against epoch, training and validation"),),
            ),
            Section(
                "Where it errs",
                explain_reliability(details["reliability"], test["calibration_error"])
                + "\n\n"
                + measured.markdown(by_class(details["classes"])),
                (
                    figure("confusion", "confusion matrix, true class by predicted class"),
                    figure("mistakes", "the most confident mistakes, with true class, predicted class and confidence"),
                    figure("reliability", "accuracy against confidence"),
                ),
            ),
            Section(
                "What it sees",
                explain_views(result),
                (
                    figure("filters", "the filters of the first convolution"),
                    figure("maps", "feature maps of a training image of each class, block by block"),
                ),
            ),
            Section(
                "The data",
                explain_data(details) + "\n\n" + measured.markdown(class_counts(details["images"], result.class_names)),
                (figure("examples", "a training image of each class, raw and augmented as in the training"),),
            ),
        ),
    )


def explain_reliability(bins: list[dict[str, float]], error: float) -> str:
    """What the calibration error means: too sure, not sure enough, or neither on the whole."""
    total = sum(row["n"] for row in bins)
    gap = sum(row["n"] * (row["confidence"] - row["accuracy"]) for row in bins) / total
    told = f"Its confidence is off by {100 * error:.1f} points on average (expected calibration error {error:.4f})"
    if abs(gap) < error / 2:
        return f"{told}, to both sides."
    return f"{told}: it is {'too sure' if gap > 0 else 'not sure enough'}."


def explain_views(result: Result) -> str:
    """How to read the pictures of filters and feature maps."""
    n, height, width = result.images["filters"].shape[:3]
    if not n:
        return "The network has no convolution."
    return (
        f"First the {n} filters of the first convolution, {height}×{width}: zero is mid-grey, brighter is positive. "
        "Then a training image of each class and what becomes of it, block by block (height × width × channels), in "
        "the channels that vary most over these images."
    )


def explain_data(details: dict[str, Any]) -> str:
    """The splits, whether the classes are equally frequent, and the normalization with its check."""
    n = {split: sum(counts) for split, counts in details["images"].items()}
    training = details["images"]["training"]
    names = [row["class"] for row in details["classes"]]
    least, most = min(training), max(training)
    if least == most:
        balance = f"Each class has the same number of training images, {least:,}."
    else:
        rarest, commonest = names[training.index(least)], names[training.index(most)]
        balance = (
            f"The rarest class of the training images is {rarest} with {least:,}, the most frequent {commonest} with "
            f"{most:,}, {most / least:.2f} times as many."
        )
    used = "" if details["validation_images"] else " The network was trained on the first two together."
    normalization = details["normalization"]
    rules = {"center": "x / 255 - 0.5", "standardize": "(x - mean) / standard deviation, of the training images"}
    check = normalization["check"]
    return (
        f"{n['training']:,} images for training, {n['validation']:,} for validation, {n['test']:,} for the test."
        f"{used} {balance}\n\nNormalization: {rules[normalization['method']]}. Checked on the training images: values "
        f"from {check['min']:.3f} to {check['max']:.3f}, mean {_numbers(check['mean'])}, standard deviation "
        f"{_numbers(check['std'])}."
    )


def by_class(rows: list[dict[str, Any]]) -> pd.DataFrame:
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
    return pd.DataFrame(
        {"class": class_names} | {split: [f"{n:,}" for n in counts] for split, counts in images.items()}
    )


EXPERIMENTS = {
    "insights": (
        "The exercise's insights",
        "The exercise's network with and without the layers that its insights speak of, and as it was written.",
    ),
    "grudges": (
        "What each grudge costs",
        "The exercise's flawed network on CIFAR-10, mended one fault at a time; each mend keeps those before it.",
    ),
    "bench": (
        "Against its peers",
        "Trained side by side. The aim is 99.0 % of MNIST, 94.0 % of CIFAR-10 averaged over views; the share is of the "
        "rate of a float32 matrix product; the first step is counted from the start of the process.",
    ),
    "growth": (
        "How the cost grows",
        "Seconds of an epoch and peak memory of a training, with the power of the growth that fits best.",
    ),
    "overhead": ("What the project adds", "To bare DVC, and to the bare import of a stage's libraries."),
    "step": ("What a step costs", "Against the largest rate of a matrix product, and against PyTorch."),
    "sweep": (
        "What a sweep costs",
        "Experiments of a stage that only waits, one after the other and as sweeps; nodes are processes here.",
    ),
    "cifar": (
        "CIFAR-10 at several prices",
        "Each setting over seeds; averaged over views: the network asked six times, of moved and mirrored copies.",
    ),
    "gpu": (
        "CIFAR-10 on a GPU",
        "The same network, optimizer, rates and varied images in Keras on JAX, an epoch in one call; what is judged on "
        "validation images was trained several at a time, so it has no seconds.",
    ),
    "gpu_step": ("A step on a GPU", "With the same network, in bfloat16; PyTorch's optimizer is not compiled."),
    "waits": ("The wait at the end of an epoch", "The same training fed with arrays, and with batches.py."),
    "tried": (
        "What was tried for mnist-fast",
        "One change at a time, of time and of accuracy on the validation images.",
    ),
    "search": ("The search behind the MNIST recipe", "One change at a time, judged on the validation images."),
}


def write_experiments(n_val: int | None) -> Chapter:
    """A section for each table that benchmarks/ has."""
    tables = measured.tables(n_val)
    return Chapter(
        "Experiments",
        "Measured apart from the pipeline, over seeds; `make help` names the commands.",
        tuple(
            Section(heading, f"{text}\n\n{measured.markdown(tables[name])}\n{measured.circumstances(name)}")
            for name, (heading, text) in EXPERIMENTS.items()
            if name in tables
        ),
    )


def _verdict(accuracy: float, target: float | None) -> str:
    return "none" if target is None else f"{target:.1%}, {'met' if accuracy >= target else '**missed**'}"


def _sides(shape: list[int]) -> str:
    return f"{shape[0]}×{shape[1]}\n×{shape[2]}"


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _read_csv(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise UserError(f"{path}: not there; run `dvc repro`")
    return pd.read_csv(path)


if __name__ == "__main__":
    run(main)
