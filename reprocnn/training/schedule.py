"""What changes while a network trains: the learning rate from step to step, the size of the images between epochs."""

from typing import Any

from reprocnn.backend import keras, ops


class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Raise the learning rate to `peak` over the `warmup` share of `steps`, then lower it to `end` times `peak`.

    Both parts are linear: the one-cycle schedule (arXiv 1708.07120) without its last, flat part.
    """

    def __init__(self, peak: float, steps: int, warmup: float, end: float) -> None:
        self.peak, self.steps, self.warmup, self.end = peak, steps, round(warmup * steps), end

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        rise = (step + 1) / (self.warmup + 1)
        fall = 1 - (1 - self.end) * (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak * ops.minimum(rise, fall)


def image_size(full: tuple[int, ...], first: float, epoch: int, epochs: int) -> tuple[int, int]:
    """Return height and width of the images in an epoch, counted from 0.

    They start at the share `first` of the `full` size and grow evenly, in steps of 4 pixels, until the last quarter of
    the epochs, which has full size. A single epoch has the first size.
    """
    share = min(1, first + (1 - first) * epoch / max(1, int(0.75 * epochs)))
    height, width = (side if share == 1 else min(side, 4 * round(share * side / 4)) for side in full)
    return height, width
