"""MiniLM on a slice of SQuAD: exact match and F1 on XQuAD's English, beside PyTorch.

    python benchmarks/squad.py [--epochs=2] [--rate=5e-5] [--examples=N] [--nopeer]

The peer is `BertForQuestionAnswering` of transformers with the same weights, optimizer, clipping,
dropout, schedule and windows, in a process of its own; both sides' spans are read by the same rule.
"""

import json
import pathlib
import pickle
import subprocess
import sys
import tempfile
import time

from absl import app, flags
from common import DATA, describe_machine

from lingxi.zoo import preset

EPOCHS = flags.DEFINE_integer("epochs", 2, "of the training")
RATE = flags.DEFINE_float("rate", 5e-5, "peak learning rate")
EXAMPLES = flags.DEFINE_integer("examples", None, "of training and of the dev set; by default all")
PEER = flags.DEFINE_boolean("peer", True, "train the PyTorch baseline too")
SEED = flags.DEFINE_integer("seed", 1, "of the head, of dropout and of the order")
SIDE = flags.DEFINE_enum("side", None, ["lingxi", "pytorch"], "internal: run this side")
WINDOWS = flags.DEFINE_string("windows", None, "internal: what the PyTorch side reads and answers")

PRESET = "minilm_l6_en_uncased"
BATCH, DEV_BATCH = 16, 32


def main(_):
    if SIDE.value == "pytorch":
        pytorch()
    elif SIDE.value == "lingxi":
        lingxi()
    else:
        print(describe_machine(), flush=True)
        subprocess.run([sys.executable, *sys.argv, "--side=lingxi"], check=True)
        if PEER.value:
            beside_pytorch()


def data():
    """Questions to learn, and the dev set."""
    from lingxi.tasks.squad import read_questions

    names = ("squad/train_slice.json", "xquad/en_36_articles.json")
    return [read_questions(DATA / name)[: EXAMPLES.value] for name in names]


def new_task():
    import keras

    from lingxi.tasks import QuestionAnswerer

    keras.utils.set_random_seed(SEED.value)
    return QuestionAnswerer.from_preset(PRESET)


def report(side, scores, seconds):
    scores = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
    print(f"{side:8} {scores}, trained in {seconds:.0f} s", flush=True)


def lingxi():
    train, dev = data()
    task = new_task()
    start = time.perf_counter()
    task.fit(
        train,
        epochs=EPOCHS.value,
        batch_size=BATCH,
        learning_rate=RATE.value,
        seed=SEED.value,
        verbose=2,
    )
    seconds = time.perf_counter() - start
    report("lingxi", task.evaluate(dev, batch_size=DEV_BATCH, verbose=False), seconds)


def beside_pytorch():
    """Train the peer on the windows that lingxi makes, and score the spans that it finds."""
    import tensorflow as tf

    from lingxi.tasks.squad import scores

    train, dev = data()
    task = new_task()
    train_pairs, dev_pairs = ([(q.question, q.context) for q in part] for part in (train, dev))
    train_batches = task._raw_batches(
        train_pairs, [q.answers for q in train], BATCH, "shuffled", seed=SEED.value
    )
    dev_batches = task._raw_batches(dev_pairs, None, DEV_BATCH, "sorted")
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "windows.pickle")
        path.write_bytes(pickle.dumps((train_batches, dev_batches, task.max_answer)))
        command = [sys.executable, *sys.argv, "--side=pytorch", f"--windows={path}"]
        subprocess.run(command, check=True)
        found, seconds = pickle.loads(path.read_bytes())
    questions, contexts = (tf.constant(column) for column in zip(*dev_pairs, strict=True))
    reader = task.reader()
    cut = reader.cut_graph(questions, contexts)
    answers = reader.answers_graph(contexts, cut.rows, cut.starts, cut.ends, found)
    texts = [text.decode() for text in answers["text"].numpy()]
    wanted = [[text for text, _ in question.answers] for question in dev]
    report("pytorch", scores(texts, wanted), seconds)
    print(json.dumps([[q.question, t] for q, t in zip(dev[:3], texts, strict=False)]))


def pytorch():
    """Train on pickled windows, and put the best spans of others in their place."""
    import numpy as np
    import torch
    import transformers

    path = pathlib.Path(WINDOWS.value)
    train, dev, max_answer = pickle.loads(path.read_bytes())
    torch.manual_seed(SEED.value)
    model = transformers.BertForQuestionAnswering.from_pretrained(preset.resolve(PRESET))
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=RATE.value,
    )
    steps = EPOCHS.value * train.num_batches
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, -(-steps // 10), steps)

    def logits(inputs):
        """Of start and end, low where no answer can stand: `[windows, seq]` each."""
        outputs = model(
            input_ids=torch.tensor(inputs["token_ids"]).long(),
            attention_mask=torch.tensor(inputs["padding_mask"]).long(),
            token_type_ids=torch.tensor(inputs["segment_ids"]).long(),
        )
        allowed = torch.tensor(inputs["can_answer"])
        allowed[:, 0] = True
        return [x.masked_fill(~allowed, -1e9) for x in (outputs.start_logits, outputs.end_logits)]

    model.train()
    begin = time.perf_counter()
    for epoch in range(EPOCHS.value):
        train.rows = train._draw_batches()
        total = 0.0
        for index in range(train.num_batches):
            inputs, targets = train[index]
            targets = torch.tensor(targets).long()
            losses = [
                torch.nn.functional.cross_entropy(side, targets[:, i])
                for i, side in enumerate(logits(inputs))
            ]
            loss = sum(losses) / 2
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"pytorch epoch {epoch + 1}: loss {total / train.num_batches:.4f}", flush=True)
    seconds = time.perf_counter() - begin

    model.eval()
    types = {"start": "int32", "end": "int32", "score": "float32", "no_answer": "float32"}
    found = {name: np.zeros(dev.num_examples, dtype) for name, dtype in types.items()}
    found["log_total"] = np.zeros(dev.num_examples, "float32")
    for index, rows in enumerate(dev.rows):
        (inputs,) = dev[index]
        with torch.no_grad():
            start, end = logits(inputs)
        length = start.shape[1]
        can_answer = torch.tensor(inputs["can_answer"])
        spans = torch.ones(length, length, dtype=torch.bool).triu().tril(max_answer - 1)
        spans = spans & can_answer[:, :, None] & can_answer[:, None, :]
        spans = (start[:, :, None] + end[:, None, :]).masked_fill(~spans, -1e9).flatten(1)
        best, place = spans.max(1)
        values = (
            place // length,
            place % length,
            best,
            start[:, 0] + end[:, 0],
            spans.logsumexp(1),
        )
        for array, value in zip(found.values(), values, strict=True):
            array[rows] = value.numpy()
    path.write_bytes(pickle.dumps((found, seconds)))


if __name__ == "__main__":
    app.run(main)
