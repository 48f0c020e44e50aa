"""What a training's curves show, in sentences computed from its history; each is said only where it holds.

A history has a row per epoch: epoch, loss, accuracy, val_loss, val_accuracy (NaN where those images were trained on
too) and lr, the learning rate at the start of the epoch.
"""

import math

import pandas as pd

RISE = 1.05  # of the validation loss over its minimum: less is noise
SPIKE = 1.5  # of the validation loss over both its neighbours
FALL = 0.5  # of the learning rate from its peak: less is no schedule


def explain(history: pd.DataFrame, target: float | None, n_val: int | None) -> list[str]:
    """Write at most one sentence per rule, in the order in which a curve is read; none without validation.

    `n_val` is the number of validation images, which separates a change from chance.
    """
    if n_val is None or history[["val_loss", "val_accuracy"]].isna().any(axis=None):
        return []
    sentences = [
        crossing(history, target),
        overfitting(history),
        spikes(history),
        schedule(history, n_val),
        ending(history, n_val),
    ]
    return [sentence for sentence in sentences if sentence]


def crossing(history: pd.DataFrame, target: float | None) -> str | None:
    """Say when the validation accuracy reached the target, if there is one, or how close it came."""
    if target is None:
        return None
    reached = history[history["val_accuracy"] >= target]
    if len(reached):
        first = int(reached["epoch"].iloc[0])
        return f"The validation accuracy reached the target of {target:.1%} in epoch {first} of {len(history)}."
    best = history.iloc[int(history["val_accuracy"].to_numpy().argmax())]
    return (
        f"The validation accuracy never reached the target of {target:.1%}: its best was {best['val_accuracy']:.2%}, "
        f"in epoch {int(best['epoch'])}."
    )


def overfitting(history: pd.DataFrame) -> str | None:
    """Say from where on the training loss falls while the validation loss rises and stays high."""
    lowest = int(history["val_loss"].to_numpy().argmin())
    after = history.iloc[lowest + 1 :]
    best, last = history.iloc[lowest], history.iloc[-1]
    rises = (after["val_loss"] > RISE * best["val_loss"]).all()
    # At least two epochs: a single high one at the end may be a spike.
    if len(after) < 2 or not rises or last["loss"] >= best["loss"]:
        return None
    return (
        f"It overfits after epoch {int(best['epoch'])}: the validation loss rose from {best['val_loss']:.3f} to "
        f"{last['val_loss']:.3f} while the training loss fell from {best['loss']:.3f} to {last['loss']:.3f}."
    )


def spikes(history: pd.DataFrame) -> str | None:
    """Name the epochs whose validation loss stands out above both neighbours."""
    loss = history["val_loss"].to_numpy()
    found = [i for i in range(1, len(loss) - 1) if loss[i] > SPIKE * max(loss[i - 1], loss[i + 1])]
    if not found:
        return None
    highest = max(found, key=lambda i: loss[i])
    noun = "epoch" if len(found) == 1 else "epochs"
    epochs = ", ".join(str(int(history["epoch"].iloc[i])) for i in found)
    return (
        f"The validation loss spiked in {noun} {epochs}: {loss[highest]:.3f} at most, between {loss[highest - 1]:.3f} "
        f"and {loss[highest + 1]:.3f}."
    )


def schedule(history: pd.DataFrame, n_val: int) -> str | None:
    """Say what the validation accuracy gained after the learning rate had halved, if more than by chance."""
    peak = history["lr"].max()
    since = history[(history["lr"] <= FALL * peak) & (history.index > history["lr"].idxmax())]
    if not len(since) or since.index[0] == 0:
        return None
    before, last = history.iloc[since.index[0] - 1], history.iloc[-1]
    gain = last["val_accuracy"] - before["val_accuracy"]
    if gain <= _noise(before["val_accuracy"], n_val):
        return None
    return (
        f"The validation accuracy gained {100 * gain:.1f} points after epoch {int(before['epoch'])}, while the "
        f"learning rate fell from {since['lr'].iloc[0]:.2g} (half its peak or less) to {last['lr']:.2g}."
    )


def ending(history: pd.DataFrame, n_val: int) -> str | None:
    """Say whether the last fifth of the epochs changed the validation accuracy by more than chance does."""
    tail = max(1, math.ceil(len(history) / 5))
    if len(history) < 4:
        return None
    before, last = history.iloc[-1 - tail]["val_accuracy"], history.iloc[-1]["val_accuracy"]
    noise = _noise(before, n_val)
    epochs = f"the last {tail} epochs" if tail > 1 else "the last epoch"
    if last - before > noise:
        return f"It was still improving at the end: {epochs} gained {100 * (last - before):.1f} points."
    if abs(last - before) <= noise:
        return f"It had levelled off at the end: {epochs} changed the validation accuracy no more than chance would."
    return f"It got worse at the end: {epochs} cost {100 * (before - last):.1f} points."


def _noise(accuracy: float, n: int) -> float:
    """Return two standard errors of a proportion."""
    return 2 * math.sqrt(accuracy * (1 - accuracy) / n)
