"""What benchmarks/ measured, as specifications of tables: each column by its heading."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from reprocnn.report.cells import (
    Cell,
    accuracy,
    baseline,
    chosen,
    ends,
    exponent,
    first,
    gib,
    highest,
    last_epoch,
    last_rows,
    mean,
    median,
    of_one_processor,
    spread,
)

INSIGHTS_EPOCH = 10  # the exercise's "in 10 epochs"
MNIST_TARGET, CIFAR_TARGET = 0.99, 0.94  # test accuracies of the time to target, CIFAR-10's with TTA


@dataclass(frozen=True)
class Table:
    """A table over a CSV file: a row for each group of its rows."""

    file: str  # benchmarks/results/FILE.csv
    title: str
    text: str  # what is needed to read it
    columns: dict[str, Cell]  # a cell from a group, by heading
    by: tuple[str, ...] = ()  # columns that a group has in common; none: each row is a group
    prepare: Callable[[pd.DataFrame], pd.DataFrame] = lambda runs: runs  # before grouping


def specifications(n_val: int | None) -> dict[str, Table]:
    """Return all tables by name, the search's only if `n_val`, the number of MNIST's validation images, is known."""
    return TABLES if n_val is None else TABLES | {"search": search(n_val)}


# Peers, side by side


def _with_fast(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.assign(fast=runs.loc[runs["side"] == "mnist-fast", "seconds"].astype(float).median())


def _time_to_target(own: pd.DataFrame) -> tuple[int, float] | None:
    """Return the first epoch whose mean accuracy reaches the target and the median seconds until its end.

    CIFAR-10's target is one with TTA, which is known of the last epoch alone.
    """
    if own["data_set"].iloc[0] == "mnist":
        epochs = own.groupby("epoch").agg(accuracy=("test_accuracy", "mean"), seconds=("seconds", "median"))
        reached = epochs[epochs["accuracy"] >= MNIST_TARGET]
        return None if reached.empty else (int(reached.index[0]), float(reached["seconds"].iloc[0]))
    last = last_rows(own)
    if last["test_accuracy_tta"].astype(float).mean() < CIFAR_TARGET:
        return None
    return int(last["epoch"].iloc[0]), float(last["seconds"].median())


def _show_time_to_target(own: pd.DataFrame) -> str:
    reached = _time_to_target(own)
    return "never" if reached is None else f"{reached[1]:,.1f} s, epoch {reached[0]}"


def _relative_to_fast(own: pd.DataFrame) -> str:
    reached = _time_to_target(own)
    if reached is None or own["data_set"].iloc[0] != "mnist":
        return ""
    return f"{reached[1] / own['fast'].iloc[0]:.1f}"


def _images_per_second(own: pd.DataFrame) -> str:
    return f"{(own['images'] / own['seconds']).median():,.0f}"


def _share_of_peak(own: pd.DataFrame) -> str:
    return f"{(1000 * own['tflop'] / own['seconds'] / own['matrix_peak_gflops']).median():.0%}"


# Growth of the cost


def growing(runs: pd.DataFrame) -> pd.DataFrame:
    """Return, for each data set, the runs that differ in images alone and those that differ in filters alone."""
    parts = []
    for _, own in runs.groupby("data_set", sort=False):
        for grown, fixed in (("images", "filters"), ("filters", "images")):
            part = own[own[fixed] == own[fixed].mode()[0]].sort_values(grown)
            parts.append(part.assign(growing=grown, size=part[grown]))
    return pd.concat(parts)


def _power_of(column: str) -> Cell:
    return lambda own: f"{exponent(own['size'], own[column]):.2f}"


# CIFAR-10's settings, on a CPU and on a GPU


def _cifar_settings(runs: pd.DataFrame) -> pd.DataFrame:
    runs = runs[runs["setting"].str.startswith("cifar") & (runs["tflop"] != "")]
    runs = runs.assign(processor=runs["hardware"].str.replace(r", \w+$", "", regex=True))  # the precision
    plain = runs[runs["setting"] == "cifar-plain"].groupby("processor")["seconds"].median()
    return runs.assign(**{"relative seconds": runs["seconds"] / runs["processor"].map(plain)})


def _relative_time(own: pd.DataFrame) -> str:
    relative = own["relative seconds"].median()
    return "" if pd.isna(relative) else f"{relative:.2f}"


def _with_ratio(column: str) -> Cell:
    return lambda own: f"{own[column].median():.1f} ({own[f'relative {column}'].median():.2f})"


def _tflop(own: pd.DataFrame) -> str:
    return f"{float(own['tflop'].iloc[0]):.0f}"


def _gpu_seconds(own: pd.DataFrame) -> str:
    seconds = pd.to_numeric(own["seconds"]).median()
    return "" if pd.isna(seconds) else f"{seconds:.2f}"


def _gpu_share_of_peak(own: pd.DataFrame) -> str:
    seconds, peak = (pd.to_numeric(own[column]).median() for column in ("seconds", "matrix_peak_tflops"))
    return "" if pd.isna(seconds) else f"{own['tflop'].iloc[0] / seconds / peak:.0%}"


# Changes of a recipe


def _change(own: pd.DataFrame) -> str:
    change = str(own["change"].iloc[0])
    return f"`{change}`" if change else ""


def _beside(column: str, baseline: str, *compared: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Divide the columns `compared` by those of the same processor's row of the same seed with `baseline` in `column`.

    The results are in new columns, `relative NAME`.
    """
    keys = ["hardware", "seed"]

    def relative(runs: pd.DataFrame) -> pd.DataFrame:
        base = runs[runs[column] == baseline].set_index(keys)
        own = base.reindex(pd.MultiIndex.from_frame(runs[keys]))
        return runs.assign(**{f"relative {name}": runs[name] / own[name].to_numpy() for name in compared})

    return relative


def _chosen_on_test(own: pd.DataFrame) -> str:
    by_test = chosen(own, "test_accuracy")
    gain = (by_test - chosen(own, "val_accuracy")).mean()
    return f"{by_test.mean():.2%} (+{100 * gain:.2f})"


def _one_decimal(own: pd.DataFrame) -> str:
    return f"{own['val_accuracy'].mean():.1%} ± {100 * own['val_accuracy'].std():.1f}"


def search(n_val: int) -> Table:
    """Specify the table of the search: each change beside the unchanged recipe with the same seeds."""

    def errors(runs: pd.DataFrame) -> str:
        return f"{n_val * (1 - runs['val_accuracy'].mean()):.0f}"

    def with_baseline(runs: pd.DataFrame) -> pd.DataFrame:
        own = baseline(runs, runs)
        return runs.assign(baseline_accuracy=own["val_accuracy"].to_numpy(), baseline_loss=own["val_loss"].to_numpy())

    return Table(
        file="search",
        title="The search behind the MNIST recipe",
        text="One change at a time, judged on validation images. The baseline has the same seeds and no change.",
        by=("change",),
        prepare=with_baseline,
        columns={
            "change": lambda own: _change(own) or "none",
            "seeds": len,
            f"errors of {n_val:,}": errors,
            "baseline errors": lambda own: errors(own.assign(val_accuracy=own["baseline_accuracy"])),
            "loss": mean("val_loss", "{:.4f}"),
            "baseline loss": mean("baseline_loss", "{:.4f}"),
        },
    )


TABLES = {
    "insights": Table(
        file="insights",
        title="The exercise's insights",
        text=(
            "The exercise's network as it was written, and with or without the layers that its insights are about. A "
            "stroke is the mean of the seeds. Choosing the epoch on test images flatters: the gain is in brackets."
        ),
        by=("variant",),
        columns={
            "network": first("variant"),
            "n": lambda own: own["seed"].nunique(),
            f"after {INSIGHTS_EPOCH} epochs": lambda own: spread(own[own["epoch"] == INSIGHTS_EPOCH]["test_accuracy"]),
            "epochs": highest("epoch"),
            "last epoch": last_epoch(mean("test_accuracy", "{:.2%}")),
            "epoch chosen on validation": lambda own: f"{chosen(own, 'val_accuracy').mean():.2%}",
            "epoch chosen on test": _chosen_on_test,
        },
    ),
    "flaws": Table(
        file="flaws",
        title="What each flaw costs",
        text=(
            "The exercise's flawed network on CIFAR-10, fixed one flaw at a time, from top to bottom. Each fix keeps "
            "those above it, so it is judged while the flaws below it remain. A stroke is the mean of the seeds."
        ),
        by=("step", "fix"),
        prepare=lambda runs: runs.sort_values("step", kind="stable"),
        columns={
            "fix": first("fix"),
            "parameters": first("parameters", "{:,}"),
            "validation accuracy": _one_decimal,
            "loss": mean("val_loss", "{:.2f}"),
            "n": len,
        },
    ),
    "bench": Table(
        file="bench",
        title="Compared with its peers",
        text=(
            "Trained side by side. Accuracies are means, everything else medians. The target is 99.0 % for MNIST, and "
            "94.0 % with test-time augmentation (TTA) for CIFAR-10, whose curves are without. The share of peak refers "
            "to the rate of a float32 matrix product; the time to the first step starts with the process."
        ),
        by=("side",),
        prepare=_with_fast,
        columns={
            "side": first("side"),
            "epochs": highest("epoch"),
            "test accuracy": last_epoch(accuracy("test_accuracy")),
            "with TTA": last_epoch(accuracy("test_accuracy_tta")),
            "n": last_epoch(len),
            "seconds": last_epoch(median("seconds", "{:,.1f}")),
            "time to target": _show_time_to_target,
            "relative to mnist-fast": _relative_to_fast,
            "images/s": last_epoch(_images_per_second),
            "TFLOP": last_epoch(median("tflop", "{:.3g}")),
            "share of peak": last_epoch(_share_of_peak),
            "peak memory": last_epoch(lambda own: gib(own["peak_memory_mib"].median())),
            "time to first step": last_epoch(median("first_step_seconds", "{:.1f} s")),
        },
    ),
    "end_to_end": Table(
        file="end_to_end",
        title="End to end",
        text=(
            "From the start of the process to the end of the training, imports and data included. CPU seconds are "
            "those of all cores. Medians over seeds; in brackets, relative to PyTorch in the same round."
        ),
        by=("hardware", "side"),
        prepare=_beside("side", "one-epoch recipe, PyTorch", "seconds", "training_seconds", "cpu_seconds"),
        columns={
            "processor": first("hardware"),
            "process": first("side"),
            "n": len,
            "test accuracy": accuracy("test_accuracy"),
            "seconds": _with_ratio("seconds"),
            "training": _with_ratio("training_seconds"),
            "CPU seconds": _with_ratio("cpu_seconds"),
        },
    ),
    "growth": Table(
        file="growth",
        title="How the cost grows",
        text="Seconds per epoch and peak memory of training, with the exponents of the best-fitting power laws.",
        by=("data_set", "growing"),
        prepare=growing,
        columns={
            "data set": first("data_set"),
            "growing": lambda own: f"{ends('size', '{:,}')(own)} {own['growing'].iloc[0]}",
            "seconds per epoch": ends("seconds", "{:.1f}"),
            "exponent of seconds": _power_of("seconds"),
            "peak memory, MiB": ends("peak_memory_mib", "{:,}"),
            "exponent of memory": _power_of("peak_memory_mib"),
        },
    ),
    "overhead": Table(
        file="overhead",
        title="What the project adds",
        text="Compared with bare DVC, and with merely importing a stage's libraries.",
        columns={
            "what": first("what"),
            "seconds": first("seconds", "{:.2f}"),
            "baseline": first("against"),
            "baseline seconds": first("bare_seconds", "{:.2f}"),
            "ratio": first("ratio", "{:.2f}"),
        },
    ),
    "step": Table(
        file="step",
        title="What a step costs",
        text="A training step compared with the highest rate of a matrix product, and with PyTorch.",
        columns={
            "processor": first("hardware"),
            "setting": first("setting"),
            "images": first("images"),
            "convolutions": lambda own: own["precision"].iloc[0].removeprefix("mixed_"),
            "GFLOP per step": first("gflop_per_step", "{:.1f}"),
            "ours": first("milliseconds", "{:,.0f} ms"),
            "Keras' own kernels": first("keras_milliseconds", "{:,.0f} ms"),
            "PyTorch": first("pytorch_milliseconds", "{:,.0f} ms"),
            "Keras' / ours": first("keras_over_ours", "{:.2f}"),
            "PyTorch / ours": first("pytorch_over_ours", "{:.2f}"),
            "matrix peak": first("matrix_peak_gflops", "{:.0f} GFLOP/s"),
            "share of peak": first("share_of_peak", "{:.0%}"),
        },
    ),
    "sweep": Table(
        file="sweep",
        title="What a sweep costs",
        text=(
            "Experiments with a stage that only waits, one after the other and as sweeps. Nodes are processes of one "
            "machine, the driver is the process that starts the trials, and seconds are those of the whole command."
        ),
        columns={
            "run as": first("side"),
            "trials": first("trials", "{:,}"),
            "each trial waits": first("waited", "{} s"),
            "seconds": first("seconds", "{:.0f}"),
            "per trial": lambda own: f"{own['seconds'].iloc[0] / own['trials'].iloc[0]:.1f} s",
            "driver memory": lambda own: f"{own['driver_mib'].iloc[0]} MiB" if own["driver_mib"].iloc[0] else "-",
        },
    ),
    "cifar": Table(
        file="seeds",
        title="CIFAR-10: accuracy and cost",
        text=(
            "Test-time augmentation (TTA) averages the predictions for six views of an image, shifted and mirrored. "
            "Times and memory are those of one processor, time is relative to cifar-plain there; accuracies are of all."
        ),
        by=("setting", "training"),
        prepare=_cifar_settings,
        columns={
            "setting": first("setting"),
            "epochs": first("epochs"),
            "test accuracy": accuracy("test_accuracy"),
            "with TTA": accuracy("test_accuracy_tta"),
            "n": len,
            "processor": lambda own: of_one_processor(own)["processor"].iloc[0],
            "minutes": lambda own: f"{of_one_processor(own)['seconds'].median() / 60:.1f}",
            "relative time": lambda own: _relative_time(of_one_processor(own)),
            "TFLOP": _tflop,
            "peak memory": lambda own: gib(of_one_processor(own)["peak_memory_mib"].max()),
        },
    ),
    "gpu": Table(
        file="gpu",
        title="CIFAR-10 on a GPU",
        text=(
            "The same network, optimizer, learning rates and augmented images in Keras on JAX, one call per epoch. "
            "Runs judged on validation images were trained several at a time and have no seconds."
        ),
        by=("setting", "change"),
        columns={
            "setting": first("setting"),
            "changed": _change,
            "epochs": first("epochs"),
            "judged on": lambda own: {"test": "test", "val": "validation"}[own["judged_on"].iloc[0]],
            "accuracy": accuracy("accuracy"),
            "with TTA": accuracy("accuracy_tta"),
            "n": len,
            "seconds": _gpu_seconds,
            "TFLOP": _tflop,
            "share of peak": _gpu_share_of_peak,
        },
    ),
    "gpu_step": Table(
        file="gpu_step",
        title="A step on a GPU",
        text="The same network, in bfloat16. PyTorch's optimizer is not compiled.",
        columns={
            "step by": first("side"),
            "images": first("images"),
            "milliseconds": first("milliseconds", "{:.2f}"),
            "images/s": lambda own: f"{(1000 * own['images'] / own['milliseconds']).iloc[0]:,.0f}",
            "share of peak": lambda own: (
                f"{(own['gflop'] / own['milliseconds'] / own['matrix_peak_tflops']).iloc[0]:.0%}"
            ),
        },
    ),
    "waits": Table(
        file="waits",
        title="The wait at the end of an epoch",
        text="The same training, fed with arrays and with batches.py. Medians over epochs.",
        by=("fed",),
        columns={
            "fed with": first("fed"),
            "epochs": len,
            "last step after": median("steps", "{:.1f} s"),
            "fit returns after": median("whole", "{:.1f} s"),
            "longest": highest("whole", "{:.1f} s"),
        },
    ),
    "tried": Table(
        file="tried",
        title="What was tried for mnist-fast",
        text=(
            "One change at a time. Relative time is the median over seeds, compared with the unchanged recipe in the "
            "same round."
        ),
        by=("change",),
        prepare=_beside("change", "none", "seconds"),
        columns={
            "change": first("change"),
            "n": len,
            "seconds": median("seconds", "{:.2f}"),
            "relative time": _relative_time,
            "validation accuracy": accuracy("val_accuracy"),
        },
    ),
}
