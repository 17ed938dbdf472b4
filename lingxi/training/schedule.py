"""Learning-rate schedules."""

import math

import keras
from keras import ops
from keras.optimizers import schedules

SCHEDULES = ("linear", "constant", "cosine", "polynomial", "exponential", "inverse_square_root")


@keras.saving.register_keras_serializable(package="lingxi")
class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from 0 to `peak` over `warmup_steps`, then linear to 0 at `total_steps`.

    The recipe of Devlin et al. 2018, section A.2. Without a warm-up the first step is at the peak.
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
        at_peak = max(self.warmup_steps, 1)
        warmup = step / at_peak
        decay = (self.total_steps + 1 - step) / max(self.total_steps + 1 - at_peak, 1)
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


@keras.saving.register_keras_serializable(package="lingxi")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Linear over `warmup_steps` to where another schedule begins, which goes on from there.

    Args:
        schedule: any schedule of Keras, or a number: the rate stays there.
        warmup_steps: the last of them is the first one of `schedule`; 0 for none.
    """

    def __init__(self, schedule, warmup_steps):
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must be 0 or more, got {warmup_steps}")
        self.schedule = schedule
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        last = max(self.warmup_steps, 1) - 1
        rate = self.schedule
        if callable(rate):
            rate = rate(ops.maximum(step - last, 0.0))
        return rate * ops.minimum((step + 1.0) / (last + 1), 1.0)

    def get_config(self):
        schedule = self.schedule
        if callable(schedule):
            schedule = keras.saving.serialize_keras_object(schedule)
        return {"schedule": schedule, "warmup_steps": self.warmup_steps}

    @classmethod
    def from_config(cls, config):
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["warmup_steps"])


def named_schedule(name, peak, total_steps, warmup=0.1):
    """A schedule with warm-up, by its name.

    - "constant"
    - "linear": to 0, `WarmupLinearDecay`
    - "cosine": half a wave to 0 (Loshchilov & Hutter 2017)
    - "polynomial": `(1 − t)²` of the time `t` from the peak to the end
    - "exponential": `0.01^t`, to a hundredth of the peak
    - "inverse_square_root": `1 / √step`, of any end

    Args:
        peak: the highest rate.
        total_steps: of the training.
        warmup: a share of all steps, rounded up; or, if an int, steps.

    Raises:
        ValueError: an unknown name, or a warm-up longer than the training.
    """
    if name not in SCHEDULES:
        raise ValueError(
            f"schedule must be one of {', '.join(SCHEDULES)}, got {name!r}; for others pass an "
            "optimizer to `compile`, such as lingxi.training.AdamW(lingxi.training.Warmup(…))"
        )
    steps = warmup if isinstance(warmup, int) else math.ceil(round(warmup * total_steps, 6))
    if not 0 <= steps <= total_steps:
        raise ValueError(
            f"warmup must be a share of all steps, from 0.0 to 1.0, or (an int) steps, at most "
            f"all {total_steps}; got {warmup!r}"
        )
    if name == "linear":
        return WarmupLinearDecay(peak, steps, total_steps)
    if name == "inverse_square_root":
        return InverseSquareRoot(peak, max(steps, 1))
    after = max(total_steps + 1 - max(steps, 1), 1)  # from the step at the peak to the end
    if name == "cosine":
        return Warmup(schedules.CosineDecay(peak, after), steps)
    if name == "polynomial":
        decay = schedules.PolynomialDecay(peak, after, end_learning_rate=0.0, power=2.0)
        return Warmup(decay, steps)
    if name == "exponential":
        return Warmup(schedules.ExponentialDecay(peak, after, decay_rate=0.01), steps)
    return Warmup(peak, steps)
