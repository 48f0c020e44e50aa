import numpy as np

from reprocnn.images.batches import batches


def test_batches_come_in_order_and_the_last_one_is_smaller():
    x, y = np.arange(14, dtype=np.uint8).reshape(7, 2), np.arange(7)
    pairs = [(a.numpy().tolist(), b.numpy().tolist()) for a, b in batches((x, y), 3)]
    assert pairs[0] == ([[0, 1], [2, 3], [4, 5]], [0, 1, 2])
    assert pairs[-1] == ([[12, 13]], [6])
    assert len(pairs) == 3
    assert [len(part) for part in batches(x, 7)] == [7]
    assert [part.numpy().tolist() for part in batches(y, 9)] == [[0, 1, 2, 3, 4, 5, 6]]


def test_batches_do_not_autotune():
    """Autotuning delays the end of an epoch."""
    assert batches(np.zeros(3), 1).options().autotune.enabled is False
