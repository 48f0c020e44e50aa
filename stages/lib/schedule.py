"""The learning rate against the step."""

from typing import Any

import keras
from keras import ops


class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises to `peak` over the `warmup` share of `steps`, then falls to `end` times `peak`: two straight
    lines, the one-cycle schedule (arXiv 1708.07120) without its last, flat part."""

    def __init__(self, peak: float, steps: int, warmup: float, end: float) -> None:
        self.peak, self.steps, self.warmup, self.end = peak, steps, round(warmup * steps), end

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rise = (step + 1) / (self.warmup + 1)
        fall = 1 - (1 - self.end) * (step - self.warmup) / (self.steps - self.warmup)
        return self.peak * ops.minimum(rise, fall)
