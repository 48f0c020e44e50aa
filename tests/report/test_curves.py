"""Each sentence on a made-up history that calls for it, and on one that does not."""

import pandas as pd
import pytest

from reprocnn.report import curves


def history(val_accuracy=None, val_loss=None, loss=None, lr=None) -> pd.DataFrame:
    n = len(next(column for column in (val_accuracy, val_loss, loss, lr) if column is not None))
    columns = {
        "epoch": range(1, n + 1),
        "loss": loss or [1.0 - 0.1 * i for i in range(n)],
        "accuracy": [0.9] * n,
        "val_loss": val_loss or [0.5] * n,
        "val_accuracy": val_accuracy or [0.9] * n,
        "lr": lr or [0.1] * n,
    }
    return pd.DataFrame(columns)


def test_the_epoch_that_crosses_the_target():
    sentence = curves.crossing(history(val_accuracy=[0.97, 0.985, 0.991, 0.99]), 0.99)
    assert sentence == "The validation accuracy reached the target of 99.0% in epoch 3 of 4."
    sentence = curves.crossing(history(val_accuracy=[0.97, 0.9876, 0.985]), 0.99)
    assert sentence == "The validation accuracy never reached the target of 99.0%: its best was 98.76%, in epoch 2."
    assert curves.crossing(history(val_accuracy=[0.97, 0.995]), None) is None
    sentence = curves.crossing(history(val_accuracy=[0.5, 0.99, 0.4]), 0.99)
    assert sentence == "The validation accuracy reached the target of 99.0% in epoch 2 of 3."


def test_overfitting():
    sentence = curves.overfitting(history(val_loss=[0.5, 0.4, 0.45, 0.6], loss=[0.5, 0.3, 0.2, 0.1]))
    assert sentence == (
        "It overfits after epoch 2: the validation loss rose from 0.400 to 0.600 while the training loss fell from "
        "0.300 to 0.100."
    )


def test_overfitting_is_a_rise_by_a_twentieth():
    assert curves.overfitting(history(val_loss=[0.5, 0.4, 0.421, 0.421], loss=[0.5, 0.3, 0.2, 0.299]))
    assert curves.overfitting(history(val_loss=[0.4, 0.421, 0.421], loss=[0.5, 0.3, 0.4]))


@pytest.mark.parametrize(
    ("val_loss", "loss"),
    [
        ([0.5, 0.4, 0.419, 0.6], [0.5, 0.3, 0.2, 0.1]),  # one within 5 %
        ([0.5, 0.4, 0.6, 0.7], [0.5, 0.3, 0.2, 0.3]),  # the training loss did not fall
        ([0.5, 0.4, 0.41, 0.41], [0.5, 0.3, 0.2, 0.1]),  # within 5 % of the least
        ([0.5, 0.4, 0.9, 0.41], [0.5, 0.3, 0.2, 0.1]),  # a spike that comes back
        ([0.5, 0.45, 0.4, 0.6], [0.5, 0.3, 0.2, 0.1]),  # one epoch alone
        ([0.5, 0.4, 0.6, 0.7], [0.5, 0.3, 0.4, 0.5]),  # both rise: it diverges
    ],
)
def test_no_overfitting(val_loss, loss):
    assert curves.overfitting(history(val_loss=val_loss, loss=loss)) is None


def test_spikes():
    sentence = curves.spikes(history(val_loss=[1.0, 2.0, 1.0, 0.9, 1.5, 0.8]))
    assert sentence == "The validation loss spiked in epochs 2, 5: 2.000 at most, between 1.000 and 1.000."
    sentence = curves.spikes(history(val_loss=[1.0, 1.6, 1.04, 2.1, 0.9, 0.9]))
    assert sentence == "The validation loss spiked in epochs 2, 4: 2.100 at most, between 1.040 and 0.900."
    sentence = curves.spikes(history(val_loss=[1.0, 1.51, 1.0]))
    assert sentence == "The validation loss spiked in epoch 2: 1.510 at most, between 1.000 and 1.000."
    assert curves.spikes(history(val_loss=[1.0, 1.49, 1.0, 0.9])) is None
    assert curves.spikes(history(val_loss=[1.0, 2.0, 1.9, 0.9])) is None
    assert curves.spikes(history(val_loss=[1.9, 2.0, 1.0, 0.9])) is None
    assert curves.spikes(history(val_loss=[3.0, 1.0, 0.9, 2.0])) is None  # the first and the last have one neighbour


def test_gain_while_the_learning_rate_fell():
    falling = [1.0, 0.8, 0.5, 0.2]
    sentence = curves.schedule(history(val_accuracy=[0.5, 0.6, 0.8, 0.9], lr=falling), 1000)
    assert sentence == (
        "The validation accuracy gained 30.0 points after epoch 2, while the learning rate fell from 0.5 (half its "
        "peak or less) to 0.2."
    )
    assert curves.schedule(history(val_accuracy=[0.5, 0.6, 0.8, 0.9], lr=[1.0] * 4), 1000) is None
    # 0.6 and 1,000 images: two standard errors are 2 * sqrt(0.6 * 0.4 / 1000) = 0.03098.
    assert curves.schedule(history(val_accuracy=[0.5, 0.6, 0.62, 0.6309], lr=falling), 1000) is None
    assert curves.schedule(history(val_accuracy=[0.5, 0.6, 0.62, 0.6311], lr=falling), 1000)
    assert curves.schedule(history(val_accuracy=[0.5, 0.6, 0.8, 0.9], lr=[1.0, 0.9, 0.51, 0.51]), 1000) is None
    # A warm-up is below half the peak before the peak.
    sentence = curves.schedule(history(val_accuracy=[0.1, 0.5, 0.6, 0.8, 0.9], lr=[0.1, 0.4, 1.0, 0.4, 0.3]), 1000)
    assert str(sentence).startswith("The validation accuracy gained 30.0 points after epoch 3, while the learning rate")
    assert curves.schedule(history(val_accuracy=[0.5, 0.6, 0.8, 0.9], lr=[0.1, 0.4, 1.0, 0.9]), 1000) is None


@pytest.mark.parametrize(
    ("val_accuracy", "start"),
    [
        ([0.5, 0.6, 0.7, 0.8, 0.9], "It was still improving at the end: the last epoch gained 10.0 points."),
        (
            [0.5, 0.6, 0.9, 0.9, 0.9],
            "It had levelled off at the end: the last epoch changed the validation accuracy no more",
        ),
        ([0.5, 0.6, 0.9, 0.9, 0.8], "It got worse at the end: the last epoch cost 10.0 points."),
        ([0.5] * 8 + [0.6, 0.7], "It was still improving at the end: the last 2 epochs gained 20.0 points."),
        ([0.1] * 3 + [0.5, 0.6, 0.7], "It was still improving at the end: the last 2 epochs gained 20.0 points."),
        ([0.1, 0.2, 0.8, 0.75], "It got worse at the end: the last epoch cost 5.0 points."),
        # Two standard errors of 0.8 are 0.0253.
        ([0.1, 0.2, 0.8, 0.8252], "It had levelled off at the end: the last epoch changed"),
        ([0.1, 0.2, 0.8, 0.8254], "It was still improving at the end: the last epoch gained 2.5 points."),
        ([0.1, 0.2, 0.8, 0.7748], "It had levelled off at the end: the last epoch changed"),
        ([0.1, 0.2, 0.8, 0.7746], "It got worse at the end: the last epoch cost 2.5 points."),
    ],
)
def test_the_end(val_accuracy, start):
    assert str(curves.ending(history(val_accuracy=val_accuracy), 1000)).startswith(start)


def test_too_short_for_an_end():
    assert curves.ending(history(val_accuracy=[0.5, 0.6, 0.7]), 1000) is None


def test_without_validation_nothing_is_said():
    trained_on_all = history(val_accuracy=[float("nan")] * 5, val_loss=[float("nan")] * 5, lr=[1, 0.8, 0.6, 0.4, 0.2])
    assert curves.explain(trained_on_all, 0.99, 1000) == []
    known = history(val_accuracy=[0.5, 0.6, 0.7, 0.8])
    assert curves.explain(known, 0.99, 1000)
    assert curves.explain(known, 0.99, None) == []
    assert curves.explain(known.assign(val_loss=[0.5, 0.4, 0.3, float("nan")]), 0.99, 1000) == []


def test_all_of_a_curve_in_order():
    sentences = curves.explain(
        history(val_accuracy=[0.5, 0.4, 0.8, 0.9], val_loss=[1.0, 2.0, 0.8, 0.5], lr=[1, 0.7, 0.4, 0.1]), 0.85, 1000
    )
    assert [sentence.split()[0:3] for sentence in sentences] == [
        ["The", "validation", "accuracy"], ["The", "validation", "loss"],
        ["The", "validation", "accuracy"], ["It", "was", "still"],
    ]  # fmt: skip
    assert [sentence.split()[3] for sentence in sentences[:3]] == ["reached", "spiked", "gained"]
    # The fewer images, the more is chance: from 0.8, two standard errors of 10 images are 0.25.
    few = curves.explain(history(val_accuracy=[0.5, 0.4, 0.8, 0.9], lr=[1, 0.7, 0.4, 0.1]), None, 10)
    assert [sentence.split()[2] for sentence in few] == ["accuracy", "levelled"]
