"""GPT-2 small makes 128 tokens from a prompt of 16, greedily: tokens a second, side by side.

    python benchmarks/generation.py [--batch=8]

Same random weights, same prompt, same tokens: `transformers`, CTranslate2 and KerasHub, compiled by
XLA as it is by default, beside lingxi's SavedModel and TFLite files. Each side is a process of its
own; their calls take turns. The SavedModel's has TF_ONEDNN_ASSUME_FROZEN_WEIGHTS, as a server may
that does nothing else: oneDNN then packs the weights once.
"""

import json
import os
import pathlib
import tempfile

import numpy as np
from absl import app, flags
from common import (
    DATA,
    bandwidth,
    call_by_call,
    check_installed,
    describe_machine,
    take_turns,
)

PEERS = ["transformers", "ctranslate2 float32", "ctranslate2 int8", "keras_hub"]
OURS = ["saved_model", "tflite float32", "tflite int8"]
SIDE = flags.DEFINE_enum("side", None, PEERS + OURS, "internal: time this side")
FOLDER = flags.DEFINE_string(
    "folder",
    None,
    "of the exported models, which a later run finds there; by default a temporary one",
)
BATCH = flags.DEFINE_integer("batch", 1, "prompts at once")
ROUNDS = flags.DEFINE_integer("rounds", 5, "calls of each side")
PROMPT, TOKENS = 16, 128


def main(_):
    if SIDE.value:
        call = CALLS[SIDE.value.split()[0]]()
        tokens = np.array(call())  # [batch, tokens]
        np.save(pathlib.Path(FOLDER.value) / f"{SIDE.value}.npy", tokens)
        take_turns(call)
        return
    check_installed("ctranslate2", "keras_hub")
    print(describe_machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = FOLDER.value or temporary
        sizes = export(folder)
        sides = PEERS + OURS
        arguments = f"--folder={folder}", f"--batch={BATCH.value}"
        costs = call_by_call(__file__, sides, *arguments, rounds=ROUNDS.value)
        seconds = {side: cost.seconds for side, cost in costs.items()}
        made = {side: np.load(pathlib.Path(folder) / f"{side}.npy") for side in sides}
    peer = seconds["transformers"]
    for side, value in seconds.items():
        speed = BATCH.value * TOKENS / value
        same = (made[side] == made["transformers"]).mean()
        line = f"{side:20} {speed:7.1f} tokens/s, {peer / value:.2f} of transformers"
        if side in sizes:  # every step reads all weights once
            line += f", reads {sizes[side] * speed / BATCH.value / 1e9:.1f} GB/s of weights"
        print(f"{line}, {same:.0%} equal tokens")
    for side, other in (
        ("saved_model", "keras_hub"),
        ("tflite float32", "keras_hub"),
        ("tflite int8", "ctranslate2 int8"),
    ):
        print(f"{side} is {seconds[other] / seconds[side]:.2f} times as fast as {other}")
    print(f"memory: {bandwidth():.1f} GB/s (a matrix times a vector)")


def export(folder):
    """The same weights for all sides, into `folder`; bytes of the weights of our sides."""
    import ctranslate2
    import keras

    import lingxi
    from lingxi.tasks import TextGenerator
    from lingxi.text import ByteBpeTokenizer
    from lingxi.zoo import Gpt

    keras.utils.set_random_seed(1)
    folder = pathlib.Path(folder)
    tokenizer = ByteBpeTokenizer.from_directory(DATA / "vocab" / "gpt2")
    # Without an end token, so that every side makes all tokens.
    decoding = {"max_tokens": TOKENS, "eos_id": ()}
    task = TextGenerator(
        Gpt.from_preset("gpt2_small", load_weights=False), tokenizer, decoding=decoding
    )
    for weight in task.backbone.trainable_weights:  # so that the tokens are not all the same
        weight.assign(weight.value * 2.0)
    size = 4 * task.backbone.count_params()
    sizes = {"saved_model": size, "tflite float32": size, "tflite int8": size // 4}

    few = ["The river"]
    if not (folder / "transformers").exists():
        task.save_preset(folder / "transformers")
    if not (folder / "saved_model").exists():
        lingxi.export.saved_model(task, folder / "saved_model", examples=few)
    for quantize, precision in ((None, "float32"), ("int8", "int8")):
        if not tflite_file(folder, precision).exists():
            lingxi.export.tflite(
                task,
                tflite_file(folder, precision),
                quantize=quantize,
                input="ids",
                max_length=PROMPT,
                batch_size=BATCH.value,
                examples=few,
                min_agreement=0.0,
            )
        if not (folder / f"ctranslate2 {precision}").exists():
            converter = ctranslate2.converters.TransformersConverter(str(folder / "transformers"))
            converter.convert(str(folder / f"ctranslate2 {precision}"), quantization=precision)
    return sizes


def tflite_file(folder, precision):
    return pathlib.Path(folder) / f"{precision}, {BATCH.value} a call.tflite"


def prompts():
    return np.random.default_rng(0).integers(1000, 30000, (BATCH.value, PROMPT))


def transformers_call():
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(
        os.path.join(FOLDER.value, "transformers")
    ).eval()
    ids = torch.tensor(prompts())
    options = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False}

    def call():
        with torch.inference_mode():
            made = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        return made[:, PROMPT:].numpy()

    return call


def ctranslate2_call():
    import ctranslate2

    generator = ctranslate2.Generator(os.path.join(FOLDER.value, SIDE.value), intra_threads=2)
    with open(os.path.join(FOLDER.value, "transformers", "vocab.json"), encoding="utf-8") as file:
        tokens = {i: token for token, i in json.load(file).items()}
    texts = [[tokens[i] for i in row] for row in prompts()]

    def call():
        made = generator.generate_batch(
            texts,
            max_length=TOKENS,
            min_length=TOKENS,
            include_prompt_in_result=False,
            sampling_topk=1,
        )
        return [result.sequences_ids[0] for result in made]

    return call


def keras_hub_call():
    import keras_hub

    folder = os.path.join(FOLDER.value, "transformers")
    model = keras_hub.models.GPT2CausalLM.from_preset(folder, preprocessor=None)
    model.compile(sampler="greedy")
    ids = np.zeros((BATCH.value, PROMPT + TOKENS), "int32")
    ids[:, :PROMPT] = prompts()
    mask = np.arange(PROMPT + TOKENS) < np.full((BATCH.value, 1), PROMPT)
    inputs = {"token_ids": ids, "padding_mask": mask}

    def call():
        made = model.generate(inputs, stop_token_ids=None)
        return np.asarray(made["token_ids"])[:, PROMPT:]

    return call


def saved_model_call():
    os.environ["TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"] = "1"
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's operations

    served = tf.saved_model.load(os.path.join(FOLDER.value, "saved_model", "1"))
    ids = tf.constant(prompts(), tf.int32)
    inputs = {"token_ids": ids, "padding_mask": tf.ones_like(ids, tf.bool)}
    return lambda: served.signatures["token_ids"](**inputs)["token_ids"].numpy()[:, 0]


def tflite_call():
    from ai_edge_litert.interpreter import Interpreter

    path = tflite_file(FOLDER.value, SIDE.value.split()[1])
    interpreter = Interpreter(str(path), num_threads=2)
    run = interpreter.get_signature_runner("serving_default")
    ids = prompts().astype("int32")
    mask = np.ones_like(ids, "bool")
    return lambda: run(token_ids=ids, padding_mask=mask)["token_ids"][:, 0]


CALLS = {
    "transformers": transformers_call,
    "ctranslate2": ctranslate2_call,
    "keras_hub": keras_hub_call,
    "saved_model": saved_model_call,
    "tflite": tflite_call,
}

if __name__ == "__main__":
    app.run(main)
