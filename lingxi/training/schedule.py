"""Learning-rate schedules."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="lingxi")
class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from 0 to `peak` over `warmup_steps`, then linear to 0 at `total_steps`.

    The recipe of Devlin et al. 2018, section A.2.
    """

    def __init__(self, peak, warmup_steps, total_steps):
        if not 0 <= warmup_steps <= total_steps:
            raise ValueError(
                f"need 0 <= warmup_steps <= total_steps, got {warmup_steps} and {total_steps}"
            )
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step):
        step = ops.cast(step, "float32") + 1.0
        warmup = step / max(self.warmup_steps, 1)
        decay = (self.total_steps + 1 - step) / max(self.total_steps + 1 - self.warmup_steps, 1)
        return self.peak * ops.clip(ops.minimum(warmup, decay), 0.0, 1.0)

    def get_config(self):
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }


@keras.saving.register_keras_serializable(package="lingxi")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Linear to `peak` over `warmup_steps`, then as `1 / √step`.

    `peak · min(step / warmup, √(warmup / step))`, which is equation 3 of Vaswani et al. 2017 for
    `peak = 1 / √(hidden_dim · warmup)`; see `for_width`.
    """

    def __init__(self, peak, warmup_steps):
        if warmup_steps < 1:
            raise ValueError(f"warmup_steps must be at least 1, got {warmup_steps}")
        self.peak = peak
        self.warmup_steps = warmup_steps

    @classmethod
    def for_width(cls, hidden_dim, warmup_steps=4000):
        """The schedule of the paper: `hidden_dim^-0.5 · min(step^-0.5, step · warmup^-1.5)`."""
        return cls((hidden_dim * warmup_steps) ** -0.5, warmup_steps)

    def __call__(self, step):
        relative = (ops.cast(step, "float32") + 1.0) / self.warmup_steps
        return self.peak * ops.minimum(relative, ops.rsqrt(relative))

    def get_config(self):
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}
