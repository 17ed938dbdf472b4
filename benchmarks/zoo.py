"""Forward pass and training step of the zoo beside `transformers` on PyTorch.

    python benchmarks/zoo.py [--models=gpt2_small,t5_small] [--precision=float32|bfloat16]

The same sizes, random weights and token ids, batch 4 of 128 tokens (T5: 128 in, 64 out); training
with dropout, AdamW and gradients clipped to norm 1; calls by turns. bfloat16: the forward pass
wholly, training by `mixed_bfloat16` and autocast. Memory: the peak of the training processes.
"""

import numpy as np
from absl import app, flags
from common import call_by_call, describe_machine, take_turns

MODELS = flags.DEFINE_list("models", ["gpt2_small", "t5_small"], "presets to measure")
PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16"], "of both sides")
ROUNDS = flags.DEFINE_integer("rounds", 15, "calls of each side")
SIDE = flags.DEFINE_string("side", None, "internal: library, model and what to time")

BATCH, LENGTH, TARGET_LENGTH = 4, 128, 64
LEARNING_RATE = 1e-4


def main(_):
    if SIDE.value:
        library, model, what = SIDE.value.split(",")
        prepare = {
            "lingxi": {"forward": lingxi_forward, "training": lingxi_training},
            "transformers": {"forward": pytorch_forward, "training": pytorch_training},
        }[library][what]
        take_turns(prepare(model, inputs_of(model)))
        return
    print(describe_machine(), PRECISION.value)
    for model in MODELS.value:
        for what in ("forward", "training"):
            sides = [f"{library},{model},{what}" for library in ("transformers", "lingxi")]
            precision = f"--precision={PRECISION.value}"
            costs = call_by_call(__file__, sides, precision, rounds=ROUNDS.value)
            theirs, ours = costs.values()
            line = f"{model} {what}: transformers {theirs.seconds * 1e3:.0f} ms, "
            line += f"lingxi {ours.seconds * 1e3:.0f} ms, "
            line += f"{theirs.seconds / ours.seconds:.2f} times as fast"
            if what == "training":
                line += f"; {ours.memory / 1e9:.2f} GB, {ours.memory / theirs.memory:.2f} of theirs"
            print(line, flush=True)


def inputs_of(model):
    """Token ids and, for training, the ids to predict."""
    random = np.random.default_rng(0)
    source = random.integers(1, 30000, (BATCH, LENGTH)).astype("int32")
    if model.startswith("t5"):
        target = random.integers(1, 30000, (BATCH, TARGET_LENGTH)).astype("int32")
        return {"encoder_token_ids": source, "decoder_token_ids": np.roll(target, 1, 1)}, target
    return {"token_ids": source}, np.roll(source, -1, 1)


# lingxi


def lingxi_model(model, dtype):
    import lingxi

    architecture = lingxi.zoo.T5 if model.startswith("t5") else lingxi.zoo.Gpt
    return architecture.from_preset(model, dtype=dtype)


def lingxi_forward(name, data):
    import tensorflow as tf

    inputs, _ = data
    model = lingxi_model(name, PRECISION.value)
    signature = [{key: tf.TensorSpec([None, None], tf.int32) for key in inputs}]
    forward = tf.function(
        lambda x: model(x, training=False)["logits"], input_signature=signature, autograph=False
    )
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    return lambda: forward(inputs)


def lingxi_training(name, data):
    import tensorflow as tf

    import lingxi

    inputs, targets = data
    model = lingxi_model(name, "mixed_bfloat16" if PRECISION.value == "bfloat16" else None)
    optimizer = lingxi.training.AdamW(LEARNING_RATE, weight_decay=0.01, global_clipnorm=1.0)
    optimizer.build(model.trainable_variables)
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    targets = tf.constant(targets)

    @tf.function(autograph=False)
    def step(inputs, targets):
        with tf.GradientTape() as tape:
            logits = tf.cast(model(inputs, training=True)["logits"], tf.float32)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_mean(losses)
        variables = [variable.value for variable in model.trainable_variables]
        optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)
        return loss

    return lambda: step(inputs, targets).numpy()


# PyTorch


def pytorch_model(model):
    """The same architecture by the same configuration, with random weights."""
    import transformers

    import lingxi

    architecture = lingxi.zoo.T5 if model.startswith("t5") else lingxi.zoo.Gpt
    config = architecture.presets[model]
    contents = architecture.layouts[config.model_type].to_contents(config)
    config = transformers.AutoConfig.for_model(contents.pop("model_type"), **contents)
    return getattr(transformers, contents["architectures"][0])(config)


def pytorch_inputs(data):
    import torch

    inputs, targets = data
    names = {
        "token_ids": "input_ids",
        "encoder_token_ids": "input_ids",
        "decoder_token_ids": "decoder_input_ids",
    }
    inputs = {names[key]: torch.tensor(value).long() for key, value in inputs.items()}
    return inputs, torch.tensor(targets).long()


def pytorch_forward(name, data):
    import torch

    dtype = torch.bfloat16 if PRECISION.value == "bfloat16" else torch.float32
    model = pytorch_model(name).to(dtype).eval()
    inputs, _ = pytorch_inputs(data)

    def forward():
        with torch.inference_mode():
            model(**inputs, use_cache=False)

    return forward


def pytorch_training(name, data):
    import torch

    model = pytorch_model(name).train()
    inputs, targets = pytorch_inputs(data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION.value == "bfloat16"):
            logits = model(**inputs, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


if __name__ == "__main__":
    app.run(main)
