import numpy as np

from reprocnn.images.batches import batches


def test_batches_come_in_order_and_the_last_one_is_smaller():
    x, y = np.arange(14, dtype=np.uint8).reshape(7, 2), np.arange(7)
    pairs = [(a.numpy(), b.numpy().tolist()) for a, b in batches((x, y), 3)]
    assert [a.tolist() for a, _ in pairs] == [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]], [[12, 13]]]
    assert [b for _, b in pairs] == [[0, 1, 2], [3, 4, 5], [6]]
    assert {a.dtype for a, _ in pairs} == {np.dtype("uint8")}


def test_whole_batches_only_and_one_batch_only():
    y = np.arange(6)
    assert [part.numpy().tolist() for part in batches(y, 3)] == [[0, 1, 2], [3, 4, 5]]
    assert [part.numpy().tolist() for part in batches(y, 6)] == [[0, 1, 2, 3, 4, 5]]
    assert [part.numpy().tolist() for part in batches(y, 9)] == [[0, 1, 2, 3, 4, 5]]


def test_batches_do_not_autotune():
    """Autotuning delays the end of an epoch."""
    assert batches(np.zeros(3), 1).options().autotune.enabled is False
    assert batches(np.zeros(3), 2).options().autotune.enabled is False
