"""A character-level GPT on Shakespeare: wall time, validation loss and speed beside PyTorch.

    python benchmarks/shakespeare.py [--steps=2000] [--turns=1]

nanoGPT's recipe for a CPU: 4 layers, 4 heads, width 128, context 64, 2,000 steps of 12 blocks,
AdamW from 1e-3 to 1e-4 by a cosine after 100 steps of warm-up, betas (0.9, 0.99), weight decay 0.1
on matrices, clip norm 1, no dropout. The first 90 % of the text are for training, the rest for
validation; the loss is the mean over all of its bytes. Time is that of the training alone, with
its start and tracing, and the compilation of lingxi's steps by XLA; PyTorch runs as it is. Speed is
that of later calls of 50 steps, the sides taking turns. `pytorch` is a model as nanoGPT's,
`transformers` GPT2LMHeadModel in the same loop.
"""

import json
import math
import time

from absl import app, flags
from common import DATA, by_turns, call_by_call, describe_machine, take_turns

STEPS = flags.DEFINE_integer("steps", 2000, "of training")
TURNS = flags.DEFINE_integer(
    "turns", 1, "runs of each side, an odd number: that of the median time counts"
)
SIDES = ["transformers", "pytorch", "lingxi"]
SIDE = flags.DEFINE_enum("side", None, SIDES, "internal: train this side's model")
SPEED = flags.DEFINE_boolean("speed", False, "internal: measure only the speed of the side")

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12
VOCABULARY = 257  # the bytes and an end token
PEAK, LOWEST, WARMUP, BETAS, DECAY, CLIP = 1e-3, 1e-4, 100, (0.9, 0.99), 0.1, 1.0
SEED = 1337
GROUP, ROUNDS = 50, 30  # steps a call, and calls of the measurement of speed


def main(_):
    if SIDE.value:
        data = (DATA / "shakespeare" / "input.txt").read_text("utf-8")
        cut = int(0.9 * len(data))
        if SPEED.value:
            steps = lingxi_steps if SIDE.value == "lingxi" else pytorch_steps
            take_turns(steps(data[:cut]))
            return
        train = train_lingxi if SIDE.value == "lingxi" else train_pytorch
        print(json.dumps([train(data[:cut], data[cut:])]))
        return
    print(describe_machine())
    results = by_turns(__file__, SIDES, f"--steps={STEPS.value}", turns=TURNS.value)
    costs = call_by_call(__file__, SIDES, "--speed", rounds=ROUNDS)
    for side, (seconds, loss) in results.items():
        print(
            f"{side:12} {seconds:6.1f} s, validation loss {loss:.4f}; "
            f"{BATCH * GROUP / costs[side].seconds:.0f} blocks/s, "
            f"{costs['transformers'].seconds / costs[side].seconds:.2f} of transformers"
        )


def learning_rate(step):
    """nanoGPT's schedule."""
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    done = (step - WARMUP) / max(STEPS.value - WARMUP, 1)
    return LOWEST + 0.5 * (1 + math.cos(math.pi * done)) * (PEAK - LOWEST)


def train_lingxi(train, validation):
    """Seconds of the training and the validation loss."""
    start = time.perf_counter()
    generator = new_generator()
    generator.fit([train], batch_size=BATCH, steps_per_epoch=STEPS.value, seed=SEED, verbose=0)
    seconds = time.perf_counter() - start
    loss = generator.evaluate([validation], verbose=0, return_dict=True)["loss"]
    return seconds, loss


def lingxi_steps(train):
    """A call of a group of steps, as `fit` runs them."""
    from lingxi.tasks.language_data import blocks

    generator = new_generator()
    batches = iter(blocks([train], generator.tokenizer, CONTEXT, BATCH, True, True, SEED))
    generator.train_on_batch(*next(batches))  # builds the optimizer
    generator.make_train_function()
    return lambda: generator.train_function(batches)


def new_generator():
    """A compiled one."""
    import keras

    from lingxi.tasks import TextGenerator
    from lingxi.text import ByteBpeTokenizer
    from lingxi.text.byte_bpe import byte_characters
    from lingxi.training import AdamW
    from lingxi.zoo import Gpt, GptConfig

    keras.utils.set_random_seed(SEED)
    config = GptConfig(
        vocab_size=VOCABULARY,
        hidden_dim=WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        max_length=CONTEXT,
        dropout=0.0,
        embedding_dropout=0.0,
        attention_dropout=0.0,
    )
    generator = TextGenerator(
        Gpt(config), ByteBpeTokenizer([*byte_characters(), "<|endoftext|>"], merges=[])
    )
    schedule = keras.optimizers.schedules.CosineDecay(
        PEAK / (WARMUP + 1),
        STEPS.value - WARMUP,
        alpha=LOWEST / PEAK,
        warmup_target=PEAK,
        warmup_steps=WARMUP,
    )
    beta_1, beta_2 = BETAS
    optimizer = AdamW(
        schedule, beta_1=beta_1, beta_2=beta_2, weight_decay=DECAY, global_clipnorm=CLIP
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    generator.compile(optimizer, steps_per_execution=GROUP, jit_compile=True)
    return generator


def train_pytorch(train, validation):
    """Seconds of the training and the validation loss."""
    import torch

    start = time.perf_counter()
    loss_of, step = pytorch_training(train)
    for number in range(STEPS.value):
        step(number)
    seconds = time.perf_counter() - start

    ids = torch.tensor([256, *validation.encode(), 256])
    total = 0.0
    with torch.no_grad():
        for place in range(0, len(ids) - 1, CONTEXT):
            block = ids[place : place + CONTEXT + 1]
            total += loss_of(block[None, :-1], block[None, 1:], "sum").item()
    return seconds, total / (len(ids) - 1)


def pytorch_steps(train):
    """A call of a group of steps."""
    _, step = pytorch_training(train)

    def call():
        for number in range(GROUP):
            step(number)

    return call


def pytorch_training(train):
    """The loss of inputs and targets, and a function that learns a step of this number."""
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional

    def loss_of(inputs, targets, reduction="mean"):
        logits = model(inputs).view(-1, VOCABULARY)
        return functional.cross_entropy(logits, targets.reshape(-1), reduction=reduction)

    def step(number):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number)
        places = torch.randint(len(ids) - CONTEXT, (BATCH, 1)) + torch.arange(CONTEXT)
        loss = loss_of(ids[places], ids[places + 1])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()

    torch.manual_seed(SEED)
    ids = torch.tensor(np.frombuffer(train.encode(), np.uint8).astype("int64"))
    model = transformers_model() if SIDE.value == "transformers" else nanogpt_model()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}],
        betas=BETAS,
        fused=True,
    )
    return loss_of, step


def transformers_model():
    """A function from ids to logits, with the parameters of a GPT-2 of this size."""
    import torch
    import transformers

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            config = transformers.GPT2Config(
                vocab_size=VOCABULARY,
                n_positions=CONTEXT,
                n_embd=WIDTH,
                n_layer=LAYERS,
                n_head=HEADS,
                bos_token_id=None,
                eos_token_id=None,
                **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
            )
            self.gpt = transformers.GPT2LMHeadModel(config)

        def forward(self, ids):
            return self.gpt(ids, use_cache=False).logits

    return Model()


def nanogpt_model():
    """The same, as nanoGPT has it."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
            self.output = nn.Linear(WIDTH, WIDTH)
            self.inner, self.outer = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x):
            batch, length, _ = x.shape
            parts = self.query_key_value(self.norm_1(x)).split(WIDTH, dim=2)
            query, key, value = (
                part.view(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2) for part in parts
            )
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.output(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
            inner = functional.gelu(self.inner(self.norm_2(x)), approximate="tanh")
            return x + self.outer(inner)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.positions = nn.Embedding(CONTEXT, WIDTH)
            self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
            self.norm = nn.LayerNorm(WIDTH)
            for name, parameter in self.named_parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.02)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)

        def forward(self, ids):
            x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
            return self.norm(self.blocks(x)) @ self.tokens.weight.T

    return Model()


if __name__ == "__main__":
    app.run(main)
