"""BERT tiny as a masked language model of Shakespeare: held-out accuracy beside PyTorch.

    python benchmarks/mlm.py [--steps=3000] [--next_sentence]

A WordPiece vocabulary is learned from the text first. Both sides start from the same weights and
learn from the same masked batches, with the same optimizer and schedule, without dropout; the peer
is the model of `transformers`. Every tenth speech is held out. Then classifiers learn of a few
sentences without their last mark whether it is ".", "?" or "!", from the trained encoder and from
the untrained one; their held-out sentences are of held-out speeches.
"""

import collections
import json
import math
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

import batches as batch_files
from absl import app, flags
from common import DATA, describe_machine

STEPS = flags.DEFINE_integer("steps", 3000, "of training")
NEXT_SENTENCE = flags.DEFINE_boolean("next_sentence", False, "predict the next sentence, too")
VOCABULARY = flags.DEFINE_integer("vocabulary", 4000, "tokens")
SENTENCES = flags.DEFINE_integer("sentences", 1000, "that a classifier learns from")
FINE_TUNINGS = flags.DEFINE_integer("fine_tunings", 3, "runs of the classifier, from each start")
SIDES = ["pytorch", "lingxi", "classifier"]
SIDE = flags.DEFINE_enum("side", None, SIDES, "internal: train this side's model")
FOLDER = flags.DEFINE_string("folder", None, "internal: of models and batches")

LENGTH, BATCH, PEAK, DECAY, CLIP, SEED = 128, 32, 2e-3, 0.01, 1.0, 1
EPOCHS, FINE_TUNING_RATE = 20, 3e-4
MARKS = {".": "statement", "?": "question", "!": "exclamation"}
INPUTS = {
    "token_ids": "input_ids",
    "padding_mask": "attention_mask",
    "segment_ids": "token_type_ids",
}


def main(_):
    if SIDE.value:
        run = {"pytorch": train_pytorch, "lingxi": train_lingxi, "classifier": classify}
        print(json.dumps(run[SIDE.value](pathlib.Path(FOLDER.value))))
        return
    print(describe_machine(), f"{STEPS.value} steps", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        prepare(pathlib.Path(folder))
        for side in SIDES[:2]:
            seconds, scores = in_a_process(side, folder)
            named = ", ".join(f"{name} {score:.1%}" for name, score in scores.items())
            print(f"{side:8} {seconds:6.1f} s, held-out accuracy: {named}", flush=True)
        for start, accuracies in in_a_process("classifier", folder).items():
            mean = sum(accuracies) / len(accuracies)
            print(f"last mark, {start}: {mean:.1%} ({', '.join(f'{a:.1%}' for a in accuracies)})")


def in_a_process(side, folder):
    arguments = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    command = [sys.executable, __file__, f"--side={side}", f"--folder={folder}", *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def speeches():
    """Those to learn from, and every tenth."""
    text = (DATA / "shakespeare" / "input.txt").read_text("utf-8")
    parts = re.split(r"\n\s*\n", text)
    return [part for i, part in enumerate(parts) if i % 10], parts[::10]


def prepare(folder):
    """The tokenizer, the untrained model and all batches, into `folder`."""
    import keras

    from lingxi.tasks import MaskedLanguageModel
    from lingxi.text import WordPieceTokenizer
    from lingxi.zoo import Bert, BertConfig

    train, held_out = speeches()
    (folder / "text.txt").write_text("\n\n".join(train), "utf-8")
    command = ["tokenizer", "train", "--kind=wordpiece", f"--vocab_size={VOCABULARY.value}"]
    command += [f"--output={folder / 'vocabulary'}", str(folder / "text.txt")]
    command = [sys.executable, "-m", "lingxi.cli.main", *command]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    keras.utils.set_random_seed(SEED)
    tokenizer = WordPieceTokenizer.from_directory(folder / "vocabulary", max_length=LENGTH)
    sizes = {"hidden_dim": 128, "num_layers": 2, "num_heads": 2, "intermediate_dim": 512}
    sizes |= {"vocab_size": tokenizer.vocab_size, "max_length": LENGTH}
    config = BertConfig(**sizes, dropout=0.0, attention_dropout=0.0)
    task = MaskedLanguageModel(Bert(config), tokenizer, NEXT_SENTENCE.value)
    task.save_preset(folder / "untrained")
    batches = task.masked_batches(train, BATCH, shuffle=True, seed=SEED, repeat=True)
    batch_files.write(folder / "train.npz", batches.take(STEPS.value).as_numpy_iterator())
    tests = task.masked_batches(held_out, BATCH)
    batch_files.write(folder / "held_out.npz", tests.as_numpy_iterator())


def train_lingxi(folder):
    """Seconds of the training, and `{name: held-out accuracy}`."""
    import keras
    import tensorflow as tf

    from lingxi.tasks import MaskedLanguageModel

    batches, tests = (batch_files.read(folder / name) for name in ("train.npz", "held_out.npz"))
    keras.utils.set_random_seed(SEED)
    task = MaskedLanguageModel.from_preset(folder / "untrained")

    def dataset(batches):
        signature = tf.nest.map_structure(
            lambda x: tf.TensorSpec([None] * x.ndim, x.dtype), batches[0]
        )
        made = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=signature)
        return made.apply(tf.data.experimental.assert_cardinality(len(batches)))

    start = time.perf_counter()
    task.fit(dataset(batches), learning_rate=PEAK, shuffle=False, verbose=0)
    seconds = time.perf_counter() - start
    scores = task.evaluate(dataset(tests), verbose=0, return_dict=True)
    task.save_preset(folder / "trained")
    return seconds, {name: score for name, score in scores.items() if "accuracy" in name}


def train_pytorch(folder):
    """The same, of `transformers`."""
    import torch
    import transformers

    batches, tests = (batch_files.read(folder / name) for name in ("train.npz", "held_out.npz"))
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(SEED)
    name = "BertForPreTraining" if NEXT_SENTENCE.value else "BertForMaskedLM"
    model = getattr(transformers, name).from_pretrained(folder / "untrained").train()
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups["bias" not in name and "norm" not in name.lower()].append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": DECAY},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=PEAK,
    )
    warmup = math.ceil(len(batches) / 10)

    def share(step):
        return min((step + 1) / warmup, (len(batches) - step) / max(1, len(batches) - warmup))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)

    def logits_of(inputs, targets):
        """Pairs of logits and labels, `[…, classes]` and `[…]`; the head works on masks only."""
        given = {INPUTS[n]: torch.tensor(v).long() for n, v in inputs.items() if n in INPUTS}
        outputs = model.bert(**given)
        places = torch.tensor(inputs["masked_positions"]).long()
        rows = torch.arange(len(places)).unsqueeze(1)
        hidden = outputs.last_hidden_state[rows, places]  # [batch, masked, hidden]
        if not NEXT_SENTENCE.value:
            return {"accuracy": (model.cls.predictions(hidden), torch.tensor(targets).long())}
        tokens, follows = model.cls(hidden, outputs.pooler_output)
        labels = {name: torch.tensor(values).long() for name, values in targets.items()}
        return {
            "tokens_accuracy": (tokens, labels["tokens"]),
            "next_sentence_accuracy": (follows, labels["next_sentence"]),
        }

    start = time.perf_counter()
    for inputs, targets in batches:
        loss = sum(
            torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
            for logits, labels in logits_of(inputs, targets).values()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - start
    model.eval()
    right, count = collections.Counter(), collections.Counter()
    with torch.inference_mode():
        for inputs, targets in tests:
            for name, (logits, labels) in logits_of(inputs, targets).items():
                right[name] += int((logits.argmax(-1) == labels).sum())
                count[name] += int((labels >= 0).sum())
    return seconds, {name: right[name] / count[name] for name in count}


def classify(folder):
    """`{start: held-out accuracies}` of classifiers of how a sentence ends, and of none."""
    import keras

    from lingxi.tasks import TextClassifier

    train, test = (sentences(side) for side in speeches())
    accuracies = {"untrained": [], "trained": []}
    for seed in range(FINE_TUNINGS.value):
        few = random.Random(seed).sample(train, SENTENCES.value)
        for start, found in accuracies.items():
            keras.utils.set_random_seed(seed)
            task = TextClassifier.from_preset(folder / start, labels=list(MARKS.values()))
            options = {"epochs": EPOCHS, "learning_rate": FINE_TUNING_RATE, "seed": seed}
            task.fit(*zip(*few, strict=True), **options, verbose=0)
            scores = task.evaluate(*zip(*test, strict=True), return_dict=True, verbose=0)
            found.append(scores["accuracy"])
    statements = sum(kind == MARKS["."] for _, kind in test)
    return {"always a statement": [statements / len(test)], **accuracies}


def sentences(speeches):
    """`(sentence without its last mark, what it is)`s, without the names of those who speak."""
    texts = (speech.split("\n", 1)[1] for speech in speeches if "\n" in speech)
    found = (match for text in texts for match in re.findall(r"([^.?!]+)([.?!])", text))
    return [(sentence.strip(), MARKS[mark]) for sentence, mark in found if sentence.strip()]


if __name__ == "__main__":
    app.run(main)
