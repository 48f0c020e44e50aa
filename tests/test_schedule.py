"""The learning rate, against values by hand."""

import pytest

from stages.lib.schedule import WarmupDecay


def test_rises_in_a_straight_line_and_falls_in_another():
    schedule = WarmupDecay(peak=0.6, steps=13, warmup=0.2, end=0.0)  # 3 steps up, of 13
    rates = [float(schedule(step)) for step in range(13)]
    assert rates[:4] == pytest.approx([0.15, 0.3, 0.45, 0.6])
    assert rates[4:] == pytest.approx([0.6 * (10 - n) / 10 for n in range(1, 10)])


def test_without_warmup_it_starts_at_the_peak_and_ends_at_its_share():
    schedule = WarmupDecay(peak=2.0, steps=4, warmup=0.0, end=0.5)
    assert [float(schedule(step)) for step in range(5)] == pytest.approx([2.0, 1.75, 1.5, 1.25, 1.0])
