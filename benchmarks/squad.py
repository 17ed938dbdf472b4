"""Question answering: exact match and F1, beside PyTorch.

    python benchmarks/squad.py --data=squad|cmrc2018 [--epochs=3] [--precision=bfloat16]

SQuAD: MiniLM on a slice of it, XQuAD's English as the dev set. CMRC 2018, Chinese: an encoder of
characters from random weights, on so few questions that it learns little. The peer is
`BertForQuestionAnswering` of transformers with the same weights, optimizer, clipping, dropout,
schedule and windows; both sides' spans are read by the same rule.
"""

import tempfile
import time

import numpy as np
from absl import app, flags
from characters import encoder
from common import DATA as FOLDER
from common import describe_machine
from peer import PRECISION, peer_logits, set_precision

import lingxi
from lingxi.tasks import QuestionAnswerer
from lingxi.tasks.squad import aligned, are_chinese, read_questions, scores

FILES = {
    "squad": ("squad/train_slice.json", "xquad/en_36_articles.json"),
    "cmrc2018": ("cmrc2018/train.json", "cmrc2018/dev.json"),
}
DATA = flags.DEFINE_enum("data", "squad", list(FILES), "the data set")
EPOCHS = flags.DEFINE_integer("epochs", 3, "of training")
RATE = flags.DEFINE_float("rate", None, "peak learning rate, by default 2e-4, of CMRC 5e-4")
EXAMPLES = flags.DEFINE_integer("examples", None, "of training and of the dev set; by default all")
PEER = flags.DEFINE_boolean("peer", True, "train the PyTorch twin too")
BATCH, DEV_BATCH, SEED = 16, 32, 1
EXPORTED = 32  # questions that the SavedModel must answer as the task does


def main(_):
    set_precision()
    print(describe_machine(), DATA.value, PRECISION.value, flush=True)
    train, dev = (read_questions(FOLDER / name)[: EXAMPLES.value] for name in FILES[DATA.value])
    train, _ = aligned(train)
    is_english = DATA.value == "squad"
    epochs, rate = EPOCHS.value, RATE.value or (2e-4 if is_english else 5e-4)

    import keras

    keras.utils.set_random_seed(SEED)
    if is_english:
        task = QuestionAnswerer.from_preset("minilm_l6_en_uncased")
    else:
        texts = sorted({q.context for q in train}) + [q.question for q in train]
        task = QuestionAnswerer(*encoder(texts), overlap=64)
    if PEER.value:
        report("transformers", *peer_scores(task, train, dev, epochs, rate))
    start = time.perf_counter()
    task.fit(train, epochs=epochs, batch_size=BATCH, learning_rate=rate, seed=SEED, verbose=2)
    seconds = time.perf_counter() - start
    report("lingxi", task.evaluate(dev, batch_size=DEV_BATCH, verbose=False), seconds)
    with tempfile.TemporaryDirectory() as folder:
        examples = [(q.question, q.context) for q in dev[:EXPORTED]]
        exported = lingxi.export.saved_model(task, folder, examples=examples)
    print(f"SavedModel: {exported.agreement:.1%} agreement, {exported.size / 1e6:.1f} MB")
    size = task.count_params() / 1e6
    print(f"{size:.2f} M parameters, {epochs} epochs of {len(train)} questions")


def report(side, found, seconds):
    found = ", ".join(f"{name} {score:.2f}" for name, score in found.items())
    print(f"{side:12} {found}, trained in {seconds:.0f} s", flush=True)


def peer_scores(task, train, dev, epochs, rate):
    """Exact match and F1 of the twin, and the seconds that its training took."""
    train_pairs, dev_pairs = ([(q.question, q.context) for q in part] for part in (train, dev))
    answers = [q.answers for q in train]
    batches = task._raw_batches(train_pairs, answers, BATCH, "shuffled", seed=SEED)
    windows = task._raw_batches(dev_pairs, None, DEV_BATCH, "sorted")
    logits, seconds = peer_logits(task, batches, windows, epochs, rate)

    parts = [best_spans(x, windows[i][0], task.max_answer) for i, x in enumerate(logits)]
    place = np.argsort(np.concatenate(windows.rows))  # of each window among the sorted ones
    found = {name: np.concatenate([part[name] for part in parts])[place] for name in parts[0]}
    questions, contexts = (np.array(column, object) for column in zip(*dev_pairs, strict=True))
    reader = task.reader()
    cut = reader.cut_graph(questions, contexts)
    given = reader.answers_graph(contexts, cut.rows, cut.starts, cut.ends, found)
    texts = [text.decode() for text in given["text"].numpy()]
    wanted = [[text for text, _ in question.answers] for question in dev]
    return scores(texts, wanted, are_chinese(contexts)), seconds


def best_spans(logits, inputs, max_answer):
    """What `QuestionAnswerer.answers` gives, from logits `[windows, 2, seq]`."""
    start, end = logits[:, 0], logits[:, 1]
    can_answer = inputs["can_answer"]
    length = can_answer.shape[1]
    is_span = np.tril(np.triu(np.ones((length, length), bool)), max_answer - 1)
    is_span = is_span & can_answer[:, :, None] & can_answer[:, None, :]  # [windows, start, end]
    spans = np.where(is_span, start[:, :, None] + end[:, None, :], -1e9)
    spans = spans.reshape(len(spans), -1).astype("float32")  # [windows, start * end]
    place, best = spans.argmax(-1), spans.max(-1)
    return {
        "start": (place // length).astype("int32"),
        "end": (place % length).astype("int32"),
        "score": best,
        "no_answer": start[:, 0] + end[:, 0],
        "log_total": best + np.log(np.exp(spans - best[:, None]).sum(-1)),
    }


if __name__ == "__main__":
    app.run(main)
