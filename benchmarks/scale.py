"""What a training needs before it is begun: memory, arithmetic, bytes between devices, days.

    python benchmarks/scale.py [--preset=bert_large|gpt3_175b|…] [--devices=8] [--model_parallel=1]

By default the rows of the table in docs/scale.md. Nothing is measured: the counts of
parameters are those of the presets, the rest is the arithmetic below, and the device is described
by flags.
"""

import dataclasses

from absl import app, flags

from lingxi.zoo import Bert, Gpt

PRESET = flags.DEFINE_enum(
    "preset", None, [*Bert.presets, *Gpt.presets], "one size; by default two of them"
)
TOKENS = flags.DEFINE_float("tokens", 300e9, "tokens of the training")
SEQUENCES = flags.DEFINE_integer("sequences", 256, "sequences of the longest length in a step")
DEVICES = flags.DEFINE_integer("devices", 8, "devices")
MODEL_PARALLEL = flags.DEFINE_integer("model_parallel", 1, "devices that share one copy of it")
SHARDED = flags.DEFINE_boolean("sharded", False, "divide the states of the copies among them, too")
MICRO = flags.DEFINE_integer("micro", 1, "sequences of a copy in one pass; gradients are summed up")
MEMORY = flags.DEFINE_float("memory", 80e9, "bytes of a device")
PEAK = flags.DEFINE_float("peak", 989e12, "bfloat16 FLOP/s of a device (H100, dense)")
USED = flags.DEFINE_float("used", 0.4, "share of the peak that a step reaches")
NEAR = flags.DEFINE_float("near", 450e9, "bytes/s of a device to its 7 neighbours, one way")
FAR = flags.DEFINE_float("far", 50e9, "bytes/s of a device to others, one way")
NEIGHBOURS = 8  # devices in a machine

# In `mixed_bfloat16` Keras keeps float32 weights, gradients and Adam's two moments.
BYTES_A_PARAMETER = 4 + 4 + 4 + 4
BYTES_A_GRADIENT = 4
BYTES_AN_ACTIVATION = 2

RUNS = [  # Devlin et al. 2018, section A.2; Brown et al. 2020, tables 2.1 and D.1
    ("bert_large", 10**6 * 256 * 512, 256, 8, 1, False, 32),
    ("bert_large", 10**6 * 256 * 512, 256, 64, 1, False, 4),
    ("gpt3_175b", 300e9, 1536, 1024, 8, False, 1),
    ("gpt3_175b", 300e9, 1536, 1024, 64, False, 1),
    ("gpt3_175b", 300e9, 1536, 1024, 8, True, 12),
]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of a training in which `devices / model_parallel` groups each hold a copy of the model.

    With `sharded` a device holds its part of its group's part, as ZeRO's third stage does
    (Rajbhandari et al. 2020): weights are gathered for each pass.
    """

    config: object
    tokens: float
    sequences: int
    devices: int
    model_parallel: int
    sharded: bool
    micro: int

    @property
    def groups(self):
        return self.devices // self.model_parallel

    @property
    def states(self):
        """Bytes on a device: weights, gradients and moments."""
        parts = self.devices if self.sharded else self.model_parallel
        return BYTES_A_PARAMETER * self.config.num_parameters / parts

    def activations(self, kept):
        """Bytes on a device for `micro` sequences.

        Korthikanti et al. 2022, section 4: a block keeps `s b h (34 + 5 a s / h)` bytes; with
        checkpointing only its input, `2 s b h`, and one block at a time is whole.

        Args:
            kept: whether all activations are kept until the backward pass.
        """
        c = self.config
        rows = c.max_length * self.micro * c.hidden_dim
        block = rows * (34 + 5 * c.num_heads * c.max_length / c.hidden_dim) / self.model_parallel
        if kept:
            return c.num_layers * block
        return c.num_layers * BYTES_AN_ACTIVATION * rows + block

    @property
    def flops(self):
        """Of the training: 6 for a parameter and token, and attention (Kaplan 2020, table 1)."""
        c = self.config
        return self.tokens * (
            6 * c.num_parameters + 12 * c.num_layers * c.max_length * c.hidden_dim
        )

    @property
    def steps(self):
        return self.tokens / (self.sequences * self.config.max_length)

    @property
    def weight_bytes(self):
        """That a device sends in a step, by rings: `2 (n - 1) / n` of its group's gradients.

        Sharded, weights are gathered on the way forth and on the way back, and gradients are summed
        up where they belong: `3 (n - 1) / n`, and the gathering once for each pass.
        """
        held = BYTES_A_GRADIENT * self.config.num_parameters / self.model_parallel
        passes = self.sequences / self.groups / self.micro
        times = 2 * passes + 1 if self.sharded else 2
        return times * (self.groups - 1) / self.groups * held

    @property
    def activation_bytes(self):
        """That a device sends in a step within its group.

        Shoeybi et al. 2019, section 3: a block adds up `[batch, seq, hidden]` twice on the way
        forth and twice on the way back.
        """
        c, n = self.config, self.model_parallel
        rows = c.max_length * self.sequences / self.groups * c.hidden_dim
        return 4 * c.num_layers * 2 * (n - 1) / n * BYTES_AN_ACTIVATION * rows

    @property
    def seconds(self):
        """Of a step: arithmetic, weights or gradients, activations; nothing overlaps."""
        inside = NEAR.value if self.model_parallel <= NEIGHBOURS else FAR.value
        between = NEAR.value if self.devices <= NEIGHBOURS else FAR.value
        return (
            self.flops / self.steps / (self.devices * PEAK.value * USED.value),
            self.weight_bytes / between,
            self.activation_bytes / inside,
        )


def main(_):
    runs = RUNS
    if PRESET.value:
        chosen = TOKENS, SEQUENCES, DEVICES, MODEL_PARALLEL, SHARDED, MICRO
        runs = [(PRESET.value, *(flag.value for flag in chosen))]
    for name, *sizes in runs:
        config = (Bert.presets | Gpt.presets)[name]
        show(name, Estimate(config, *sizes))


def show(name, estimate):
    c, e = estimate.config, estimate
    print(
        f"{name}: {c.num_parameters / 1e9:.3g} G parameters, {e.tokens:.3g} tokens in "
        f"{e.steps:,.0f} steps of {e.sequences} × {c.max_length}, on {e.devices} devices, "
        f"{e.groups} copies over {e.model_parallel}{', sharded' * e.sharded}"
    )
    print(f"  weights, gradients, moments  {e.states / 1e9:10.1f} GB a device")
    for kept, how in ((True, "kept"), (False, "checkpointed")):
        total = e.states + e.activations(kept)
        fits = "fits" if total < MEMORY.value else f"does not fit into {MEMORY.value / 1e9:.0f} GB"
        print(f"  activations {how:12}     {e.activations(kept) / 1e9:10.1f} GB, together {fits}")
    arithmetic, weights, activations = e.seconds
    print(f"  arithmetic of all            {e.flops:10.2e} FLOP, {arithmetic:.2f} s a step")
    print(f"  weights, gradients sent      {e.weight_bytes / 1e9:10.1f} GB, {weights:.2f} s")
    print(
        f"  activations sent             {e.activation_bytes / 1e9:10.1f} GB, {activations:.2f} s"
    )
    days = e.steps * sum(e.seconds) / 86400
    print(f"  days                         {days:10.1f}\n")


if __name__ == "__main__":
    app.run(main)
