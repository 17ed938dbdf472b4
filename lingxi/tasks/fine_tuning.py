"""How a task trains where the user says nothing: as BERT is fine-tuned."""

from lingxi.training import AdamW, named_schedule

LEARNING_RATE = 5e-5


def default_optimizer(learning_rate=LEARNING_RATE, total_steps=None, schedule="linear", warmup=0.1):
    """AdamW with clipped gradients and no decay of biases and norms.

    With `total_steps` the rate follows a schedule, by default it rises over a tenth of them, then
    falls to zero; else it is constant.

    Args:
        schedule, warmup: as of `lingxi.training.named_schedule`.
    """
    if total_steps:
        learning_rate = named_schedule(schedule, learning_rate, total_steps, warmup)
    optimizer = AdamW(learning_rate, weight_decay=0.01, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def chosen_schedule(total_steps, schedule, warmup):
    """What a caller of `fit` said of `schedule` and `warmup`, as arguments of `default_optimizer`.

    Raises:
        ValueError: one is said, but the number of steps is not known.
    """
    chosen = {"schedule": schedule, "warmup": warmup}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if chosen and not total_steps:
        raise ValueError(
            f"{' and '.join(chosen)} must know how many steps the training has: pass "
            "steps_per_epoch, or give the data set its number of batches by "
            "tf.data.experimental.assert_cardinality"
        )
    return chosen
