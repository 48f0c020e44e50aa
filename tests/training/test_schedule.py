"""The learning rate, against values by hand."""

import pytest

from reprocnn.training.schedule import WarmupDecay, image_size


def test_rises_in_a_straight_line_and_falls_in_another():
    schedule = WarmupDecay(peak=0.6, steps=13, warmup=0.2, end=0.0)  # 3 steps up, of 13
    rates = [float(schedule(step)) for step in range(13)]
    assert rates[:4] == pytest.approx([0.15, 0.3, 0.45, 0.6])
    assert rates[4:] == pytest.approx([0.6 * (10 - n) / 10 for n in range(1, 10)])


def test_without_warmup_it_starts_at_the_peak_and_ends_at_its_share():
    schedule = WarmupDecay(peak=2.0, steps=4, warmup=0.0, end=0.5)
    assert [float(schedule(step)) for step in range(5)] == pytest.approx([2.0, 1.75, 1.5, 1.25, 1.0])


def test_a_warmup_of_all_steps_ends_at_the_peak():
    schedule = WarmupDecay(peak=1.0, steps=4, warmup=0.9, end=1.0)
    assert [float(schedule(step)) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert float(WarmupDecay(peak=1.0, steps=1, warmup=0.9, end=1.0)(0)) == 0.5


def test_sizes_grow_until_the_last_quarter():
    assert [image_size((32, 32), 0.5, epoch, 8)[0] for epoch in range(8)] == [16, 20, 20, 24, 28, 28, 32, 32]
    sizes = [image_size((32, 32), 0.5, epoch, 10)[0] for epoch in range(10)]
    assert sizes == [16, 20, 20, 24, 24, 28, 28, 32, 32, 32]  # a quarter of ten epochs is more than two
    assert [image_size((28, 20), 1.0, epoch, 2) for epoch in range(2)] == [(28, 20), (28, 20)]
    assert [image_size((32, 24), 0.5, epoch, 8) for epoch in (0, 3, 6)] == [(16, 12), (24, 16), (32, 24)]
    assert image_size((32, 32), 0.5, 0, 1) == (16, 16)
    assert image_size((31, 30), 0.9, 14, 20) == (31, 28)  # and not 32, the nearest multiple of four
    assert [image_size((32, 32), 0.5, epoch, 3)[0] for epoch in range(3)] == [16, 24, 32]


def test_a_long_schedule_ends_with_the_share_of_its_last_step():
    schedule = WarmupDecay(peak=1.0, steps=10_000, warmup=0.0, end=0.0)
    assert [float(schedule(step)) for step in (9_000, 9_999, 10_000)] == pytest.approx([0.1, 0.0001, 0.0], abs=1e-6)
