"""How a task trains where the user says nothing: as BERT is fine-tuned."""

import math

from lingxi.training import AdamW, WarmupLinearDecay

LEARNING_RATE = 5e-5


def default_optimizer(learning_rate=LEARNING_RATE, total_steps=None):
    """AdamW with clipped gradients and no decay of biases and norms.

    With `total_steps` the rate rises over a tenth of them, then falls to zero; else it is constant.
    """
    if total_steps:
        warmup_steps = math.ceil(total_steps / 10)
        learning_rate = WarmupLinearDecay(learning_rate, warmup_steps, total_steps)
    optimizer = AdamW(learning_rate, weight_decay=0.01, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
