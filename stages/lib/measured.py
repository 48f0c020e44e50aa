"""What the modules of benchmarks/ measured, as tables and as sentences; what is not measured yet is left out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib.errors import UserError

FOLDER = Path("benchmarks")
INSIGHTS_EPOCH = 10  # the exercise's "in 10 epochs"


def read(name: str) -> pd.DataFrame | None:
    """benchmarks/NAME.csv, if it is there; an empty cell is an empty string."""
    path = FOLDER / f"{name}.csv"
    with _named(name):
        return pd.read_csv(path, keep_default_na=False) if path.exists() else None


def markdown(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True, tablefmt="github") + "\n"


def spread(accuracies: pd.Series) -> str:
    """Mean ± standard deviation, the latter in points; of one run itself."""
    mean = f"{accuracies.mean():.2%}"
    return f"{mean} ± {100 * accuracies.std():.2f}" if len(accuracies) > 1 else mean


def bench(runs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy after the last epoch, and the time to its aim: to the end of the first epoch whose mean is there.

    MNIST's aim is 99.0 %, CIFAR-10's 94.0 % averaged over views, which is known of the last epoch alone. The rest are
    medians over seeds.
    """
    fast = runs.loc[runs["side"] == "mnist-fast", "seconds"].astype(float).median()
    rows = []
    for side, own in runs.groupby("side", sort=False):
        last = own[own["epoch"] == own["epoch"].max()]
        seconds, averaged = last["seconds"], last["test_accuracy_tta"]
        if own["data_set"].iloc[0] == "mnist":
            epochs = own.groupby("epoch").agg(accuracy=("test_accuracy", "mean"), seconds=("seconds", "median"))
            reached = epochs[epochs["accuracy"] >= 0.99]
            there = [(reached.index[0], reached["seconds"].iloc[0])] if len(reached) else []
            times_fast = [f"{there[0][1] / fast:.1f}"] if there else []
        else:
            there = [(own["epoch"].max(), seconds.median())] if averaged.astype(float).mean() >= 0.94 else []
            times_fast = []
        share = 1000 * last["tflop"] / seconds / last["matrix_peak_gflops"]
        rows.append(
            {
                "side": side,
                "epochs": own["epoch"].max(),
                "test accuracy": spread(last["test_accuracy"]),
                "averaged over views": spread(averaged.astype(float)) if all(averaged != "") else "",
                "n": len(last),
                "seconds": f"{seconds.median():,.1f}",
                "to its aim": f"{there[0][1]:,.1f} s, epoch {there[0][0]}" if there else "never",
                "times mnist-fast": "".join(times_fast),
                "images/s": f"{(last['images'] / seconds).median():,.0f}",
                "TFLOP": f"{last['tflop'].median():.3g}",
                "share of peak": f"{share.median():.0%}",
                "peak memory": f"{last['peak_memory_mib'].median() / 1024:.1f} GiB",
                "first step after": f"{last['first_step_seconds'].median():.1f} s",
            }
        )
    return pd.DataFrame(rows)


def step(runs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "setting": row["setting"],
            "images": row["images"],
            "convolutions in": row["precision"].removeprefix("mixed_"),
            "GFLOP a step": f"{row['gflop_per_step']:.1f}",
            "ours": f"{row['milliseconds']:,.0f} ms",
            "Keras' own kernels": f"{row['keras_milliseconds']:,.0f} ms",
            "PyTorch": f"{row['pytorch_milliseconds']:,.0f} ms",
            "Keras' / ours": f"{row['keras_over_ours']:.2f}",
            "PyTorch / ours": f"{row['pytorch_over_ours']:.2f}",
            "matrix peak": f"{row['matrix_peak_gflops']:.0f} GFLOP/s",
            "share of peak": f"{row['share_of_peak']:.0%}",
        }
        for _, row in runs.iterrows()
    )


def cifar(runs: pd.DataFrame) -> pd.DataFrame:
    """The settings of CIFAR-10 among those trained over seeds, by their mean; time as a share of cifar-plain's."""
    runs = runs[runs["setting"].str.startswith("cifar") & (runs["tflop"] != "")]
    plain = runs.loc[runs["setting"] == "cifar-plain", "seconds"].median()
    rows = []
    for (setting, _), own in runs.groupby(["setting", "training"], sort=False):
        accuracy, averaged = own["test_accuracy"].astype(float), own["test_accuracy_tta"].astype(float)
        seconds = own["seconds"].median()
        rows.append(
            {
                "setting": setting,
                "epochs": own["epochs"].iloc[0],
                "test accuracy": spread(accuracy),
                "averaged over views": spread(averaged),
                "n": len(own),
                "minutes": f"{seconds / 60:.1f}",
                "times cifar-plain": f"{seconds / plain:.2f}" if plain == plain else "",
                "TFLOP": f"{float(own['tflop'].iloc[0]):.0f}",
                "peak memory": f"{own['peak_memory_mib'].max() / 1024:.1f} GiB",
            }
        )
    return pd.DataFrame(rows)


def gpu(runs: pd.DataFrame) -> pd.DataFrame:
    """Of what was trained side by side, to search, the time is left out; medians over seeds, accuracies means."""
    rows = []
    for (setting, change), own in runs.groupby(["setting", "change"], sort=False):
        seconds, peak = (pd.to_numeric(own[key]).median() for key in ("seconds", "matrix_peak_tflops"))
        tflop = own["tflop"].iloc[0]
        rows.append(
            {
                "setting": setting,
                "changed": f"`{change}`" if change else "",
                "epochs": own["epochs"].iloc[0],
                "judged on": {"test": "test", "val": "validation"}[own["judged_on"].iloc[0]],
                "accuracy": spread(own["accuracy"]),
                "averaged over views": spread(own["accuracy_tta"]),
                "n": len(own),
                "seconds": f"{seconds:.2f}" if seconds == seconds else "",
                "TFLOP": f"{tflop:.0f}",
                "share of peak": f"{tflop / seconds / peak:.0%}" if seconds == seconds else "",
            }
        )
    return pd.DataFrame(rows)


def gpu_step(runs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a step by": row["side"],
            "images": row["images"],
            "milliseconds": f"{row['milliseconds']:.2f}",
            "images/s": f"{1000 * row['images'] / row['milliseconds']:,.0f}",
            "share of peak": f"{row['gflop'] / row['milliseconds'] / row['matrix_peak_tflops']:.0%}",
        }
        for _, row in runs.iterrows()
    )


def search(runs: pd.DataFrame, n_val: int) -> pd.DataFrame:
    """Each change of the recipe against none, by the seeds that both were trained with."""
    rows = []
    for change, changed in runs.groupby("change", sort=False):
        same = _same_seeds(runs, changed)
        rows.append(
            {
                "change": f"`{change!s}`" if change else "none",
                "seeds": len(changed),
                f"wrong of {n_val:,}": _wrong(changed, n_val),
                "against": _wrong(same, n_val),
                "loss": f"{changed['val_loss'].mean():.4f}",
                "against ": f"{same['val_loss'].mean():.4f}",
            }
        )
    return pd.DataFrame(rows)


def sweep(runs: pd.DataFrame) -> pd.DataFrame:
    """Seconds of the whole command over the trials, and the most memory of the process that started them."""
    return pd.DataFrame(
        {
            "run as": row["side"],
            "trials": f"{row['trials']:,}",
            "each waits": f"{row['waited']} s",
            "seconds": f"{row['seconds']:.0f}",
            "a trial": f"{row['seconds'] / row['trials']:.1f} s",
            "memory of the driver": f"{row['driver_mib']} MiB" if row["driver_mib"] else "-",
        }
        for _, row in runs.iterrows()
    )


def waits(runs: pd.DataFrame) -> pd.DataFrame:
    """Medians over epochs."""
    return pd.DataFrame(
        {
            "fed with": fed,
            "epochs": len(epochs),
            "until the last step": f"{epochs['steps'].median():.1f} s",
            "until fit returns": f"{epochs['whole'].median():.1f} s",
            "longest": f"{epochs['whole'].max():.1f} s",
        }
        for fed, epochs in runs.groupby("fed", sort=False)
    )


def overhead(runs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "what": row["what"],
            "seconds": f"{row['seconds']:.2f}",
            "against": row["against"],
            "its seconds": f"{row['bare_seconds']:.2f}",
            "ratio": f"{row['ratio']:.2f}",
        }
        for _, row in runs.iterrows()
    )


def growth(runs: pd.DataFrame) -> pd.DataFrame:
    """By what power seconds and memory grow with images and with filters, all else the same."""
    rows = []
    for name, own in runs.groupby("data_set", sort=False):
        for grown, fixed in (("images", "filters"), ("filters", "images")):
            part = own[own[fixed] == own[fixed].mode()[0]].sort_values(grown)
            rows.append(
                {
                    "data set": name,
                    "growing": f"{part[grown].iloc[0]:,} to {part[grown].iloc[-1]:,} {grown}",
                    "seconds of an epoch": f"{part['seconds'].iloc[0]:.1f} to {part['seconds'].iloc[-1]:.1f}",
                    "power": f"{exponent(part[grown], part['seconds']):.2f}",
                    "MiB at most": f"{part['peak_memory_mib'].iloc[0]:,} to {part['peak_memory_mib'].iloc[-1]:,}",
                    "power ": f"{exponent(part[grown], part['peak_memory_mib']):.2f}",
                }
            )
    return pd.DataFrame(rows)


def exponent(sizes: pd.Series, costs: pd.Series) -> float:
    """Of the power law that fits best: the slope of the logarithms, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def tried(runs: pd.DataFrame) -> pd.DataFrame:
    """The median over seeds of the time as a share of that of no change, in the same round."""
    none = runs[runs["change"] == "none"].set_index("seed")["seconds"]
    return pd.DataFrame(
        {
            "change": change,
            "n": len(own),
            "seconds": f"{own['seconds'].median():.2f}",
            "times none": f"{(own.set_index('seed')['seconds'] / none).median():.2f}",
            "validation accuracy": spread(own["val_accuracy"]),
        }
        for change, own in runs.groupby("change", sort=False)
    )


def insights(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, at the tenth and at the last epoch; the epoch chosen on test or validation images."""
    rows = []
    for variant, own in runs.groupby("variant", sort=False):
        tenth, last = (own[own["epoch"] == epoch]["test_accuracy"] for epoch in (INSIGHTS_EPOCH, own["epoch"].max()))
        by_test, by_val = chosen(own, "test_accuracy"), chosen(own, "val_accuracy")
        rows.append(
            {
                "network": variant,
                "n": own["seed"].nunique(),
                "after 10 epochs": spread(tenth),
                "epochs": own["epoch"].max(),
                "last epoch": f"{last.mean():.2%}",
                "epoch chosen on validation": f"{by_val.mean():.2%}",
                "epoch chosen on test": f"{by_test.mean():.2%} (+{100 * (by_test - by_val).mean():.2f})",
            }
        )
    return pd.DataFrame(rows)


def chosen(runs: pd.DataFrame, by: str) -> pd.Series:
    """The test accuracy of each seed at the first epoch where the column `by` is highest."""
    return runs.loc[runs.groupby("seed")[by].idxmax()].set_index("seed")["test_accuracy"]


def grudges(runs: pd.DataFrame) -> pd.DataFrame:
    """The validation accuracy after each mend, those before it kept."""
    return pd.DataFrame(
        {
            "mended": mend,
            "parameters": f"{own['parameters'].iloc[0]:,}",
            "validation accuracy": f"{own['val_accuracy'].mean():.1%} ± {100 * own['val_accuracy'].std():.1f}",
            "loss": f"{own['val_loss'].mean():.2f}",
            "n": len(own),
        }
        for (_, mend), own in runs.groupby(["step", "mend"])
    )


TABLES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "insights": insights,
    "grudges": grudges,
    "bench": bench,
    "growth": growth,
    "overhead": overhead,
    "step": step,
    "sweep": sweep,
    "tried": tried,
    "waits": waits,
    "cifar": cifar,
    "gpu": gpu,
    "gpu_step": gpu_step,
}  # and the search, which takes the number of images too
FILES = {"cifar": "seeds"}  # where a table has not the name of its file


def tables(n_val: int | None) -> dict[str, pd.DataFrame]:
    """The tables of all that is measured, by name; `n_val` is the number of MNIST's validation images."""
    known = dict(TABLES)
    if n_val is not None:
        known["search"] = partial(search, n_val=n_val)
    tables = {}
    for name, table in known.items():
        file = FILES.get(name, name)
        runs = read(file)
        if runs is not None:
            with _named(file):
                tables[name] = table(runs)
    return {name: table for name, table in tables.items() if len(table)}


def circumstances(name: str) -> str:
    """Where and when the table's file was measured, as far as it says so."""
    name = FILES.get(name, name)
    runs = read(name)
    if runs is None:
        return ""
    told = [" and ".join(map(str, sorted(runs[key].unique()))) for key in ("hardware", "date") if key in runs]
    return ", ".join([f"`benchmarks/{name}.csv`", *told])


class Evidence:
    """Sentences of what was measured; each is None where it was not, or says nothing of the choice.

    The search is of MNIST's recipe, so it speaks only of the data set `name` mnist.
    """

    def __init__(self, name: str) -> None:
        self.searched = read("search") if name == "mnist" else None
        self.grudged, self.compared = read("grudges"), read("insights")

    def of_change(self, **values: object) -> str | None:
        """What the search found for other values than these of MNIST's params; the recipe's own are no change."""
        if self.searched is None:
            return None
        told = []
        for change, changed in self.searched.groupby("change", sort=False):
            settings = dict(setting.split("=") for setting in str(change).split())
            if any(key in values and not _same(value, values[key]) for key, value in settings.items()):
                same = _same_seeds(self.searched, changed)
                told.append(
                    f"with `{change}` {1 - changed['val_accuracy'].mean():.2%} of the validation images were wrong, "
                    f"without the change {1 - same['val_accuracy'].mean():.2%} ({_seeds(len(changed))})"
                )
        return _sentence("; ".join(told))

    def of_mend(self, mend: str) -> str | None:
        """What one mend of the warm-up network changed."""
        if self.grudged is None or mend not in set(self.grudged["mend"]):
            return None
        after = self.grudged[self.grudged["mend"] == mend]
        before = self.grudged[self.grudged["step"] == after["step"].iloc[0] - 1]
        if before.empty:
            return None
        was, is_now = (f"{runs['val_accuracy'].mean():.1%}" for runs in (before, after))
        changed = f"left the validation accuracy at {was}"
        if was != is_now:
            changed = f"took the validation accuracy from {was} to {is_now}"
        return f'In the warm-up network, mended step by step, "{mend}" {changed} ({_seeds(len(after))}).'

    def of_variants(self, before: str, after: str) -> str | None:
        """How two variants of the exercise's network compare after ten epochs."""
        if self.compared is None or not {before, after} <= set(self.compared["variant"]):
            return None
        tenth = self.compared[self.compared["epoch"] == INSIGHTS_EPOCH].groupby("variant")["test_accuracy"]
        return (
            f"In the exercise's network, after {INSIGHTS_EPOCH} epochs: {before}, {tenth.mean()[before]:.2%}; {after}, "
            f"{tenth.mean()[after]:.2%} ({_seeds(tenth.count()[after])})."
        )


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Says which file is at fault if it has not the rows and columns that it should have."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:150]
        path = FOLDER / f"{name}.csv"
        raise UserError(
            f"{path}: not a table of benchmarks/{name}.py ({reason}); restore it with git checkout"
        ) from None


def _same(text: str, value: object) -> bool:
    try:
        return float(text) == float(str(value))
    except ValueError:
        return text == str(value).lower()


def _same_seeds(runs: pd.DataFrame, changed: pd.DataFrame) -> pd.DataFrame:
    """The runs of the unchanged recipe with the seeds of `changed`."""
    return runs[runs["change"] == ""].set_index("seed").loc[changed["seed"]]


def _wrong(runs: pd.DataFrame, n: int) -> str:
    return f"{n * (1 - runs['val_accuracy'].mean()):.0f}"


def _seeds(n: int) -> str:
    return f"mean of {n} seeds" if n > 1 else "one seed"


def _sentence(text: str) -> str | None:
    return f"{text[0].upper()}{text[1:]}." if text else None
