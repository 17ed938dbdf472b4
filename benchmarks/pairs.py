"""What the benchmarks on pairs of texts share: a training of so many minutes, here and in PyTorch.

The peer is `torch.nn.Transformer` of the same size, dropout, initial values and optimizer, on the
same batches of the same token ids; it decodes greedily. With `--at_once` both sides train at the
same time, each on its half of the processors, and a minute is one of each of them: other work on
the machine makes the training last longer, and no worse.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import batches as batch_files
from absl import flags
from common import describe_machine

from lingxi.training import AdamW, InverseSquareRoot
from lingxi.training.evaluation import text_scores
from lingxi.zoo import TransformerConfig

MINUTES = flags.DEFINE_float("minutes", 40.0, "of training, on each side")
PEER = flags.DEFINE_boolean("peer", True, "train the PyTorch baseline too")
WIDTH = flags.DEFINE_integer("width", 128, "hidden_dim")
INTERMEDIATE = flags.DEFINE_integer("intermediate", 256, "intermediate_dim")
LAYERS = flags.DEFINE_integer("layers", 4, "of the encoder, and of the decoder")
HEADS = flags.DEFINE_integer("heads", 4, "num_heads")
DROPOUT = flags.DEFINE_float("dropout", 0.3, "rate")
TOKENS = flags.DEFINE_integer("tokens", 4096, "source and target tokens of a batch")
PEAK = flags.DEFINE_float("peak", 3e-3, "learning rate at the end of the warm-up")
WARMUP = flags.DEFINE_integer("warmup", 600, "steps")
AVERAGE = flags.DEFINE_float("average", 0.998, "momentum of the average of the weights")
AT_ONCE = flags.DEFINE_boolean("at_once", False, "each side on half of the processors")
SEED = flags.DEFINE_integer("seed", 1, "of weights, dropout and order")
SIDE = flags.DEFINE_string("side", None, "internal: train this side")
REPORT_SECONDS = 60
LABEL_SMOOTHING = 0.1
PEER_EPOCHS = 20  # drawn for the peer, which then begins again


def run(task_class, train, held_out, metrics, vocab_size, max_length=256, **decoding):
    """Train on pairs and print how good the texts for the held-out sources are.

    Args:
        task_class: `Translator` or `Summarizer`.
        train, held_out: `(sources, targets)`.
        metrics: for `lingxi.training.evaluation.text_scores`.
        decoding: options of the verb.
    """
    if SIDE.value is None:
        run_sides(["lingxi", "pytorch"] if PEER.value else ["lingxi"])
        return
    if SIDE.value not in ("lingxi", "pytorch"):
        raise SystemExit(f"--side must be lingxi or pytorch, got {SIDE.value!r}")

    task = new_task(task_class, train, vocab_size, max_length)
    batches = task.pair_batches(*train, TOKENS.value, order="shuffled", seed=SEED.value)
    if SIDE.value == "pytorch":
        ids = task.encode(held_out[0])[0]["token_ids"].to_list()
        made, seconds = run_pytorch(task, batches, ids, decoding["max_tokens"])
        report("pytorch", "greedy", task.tokenizer.decode(made), held_out, metrics, seconds)
        return
    train_lingxi(task, batches)
    for name, beams in (("greedy", 1), ("beam 4", 4)):
        task.write(held_out[0][:1], beams=beams, **decoding)  # traces
        start = time.perf_counter()
        texts = task.write(held_out[0], beams=beams, verbose=False, **decoding)
        report("lingxi", name, texts, held_out, metrics, time.perf_counter() - start)
    for source, target, made in list(zip(*held_out, texts, strict=True))[:3]:
        print(json.dumps([source[:200], target, made], ensure_ascii=False))


def new_task(task_class, train, vocab_size, max_length=256):
    """A task with random weights, of the size that the flags say."""
    import keras

    keras.utils.set_random_seed(SEED.value)
    config = TransformerConfig(
        hidden_dim=WIDTH.value,
        intermediate_dim=INTERMEDIATE.value,
        num_encoder_layers=LAYERS.value,
        num_decoder_layers=LAYERS.value,
        num_heads=HEADS.value,
        dropout=DROPOUT.value,
        norm_first=True,
    )
    return task_class.from_scratch(
        *train,
        config=config,
        vocab_size=vocab_size,
        max_length=max_length,
        label_smoothing=LABEL_SMOOTHING,
    )


def run_sides(sides):
    """A process for each, one after the other or at once."""
    cores = sorted(os.sched_getaffinity(0))
    if AT_ONCE.value and len(cores) < len(sides):
        raise SystemExit(f"--at_once needs {len(sides)} processors, got {len(cores)}")
    share = len(cores) // len(sides) if AT_ONCE.value else len(cores)
    how = f"{MINUTES.value:g} minutes on {share} cores" + (", at once" if AT_ONCE.value else "")
    print(f"{describe_machine()}, each side {how}", flush=True)
    running = []
    for index, side in enumerate(sides):
        running.append(subprocess.Popen([sys.executable, *sys.argv, f"--side={side}"]))
        if AT_ONCE.value:
            os.sched_setaffinity(running[-1].pid, cores[index * share : (index + 1) * share])
        else:
            running[-1].wait()
    failed = [side for side, process in zip(sides, running, strict=True) if process.wait()]
    if failed:
        raise SystemExit(f"failed: {failed}")


def report(side, name, texts, held_out, metrics, seconds):
    scores = text_scores(texts, held_out[1], metrics)
    scores = ", ".join(f"{metric} {score:.2f}" for metric, score in scores.items())
    print(f"{side:8} {name:7} {scores}, {len(texts) / seconds:.1f} texts/s", flush=True)


def run_pytorch(task, batches, held_out, max_tokens):
    """Train the peer in a process in which TensorFlow runs nothing: their threads slow each other.

    Returns:
        The ids that it makes of the held-out ids, and the seconds that this took.
    """
    work = {
        "config": dataclasses.asdict(task.backbone.config),
        "max_length": task.max_length,
        "held_out": held_out,
        "max_tokens": max_tokens,
        "num_batches": batches.num_batches,
        "tokens_per_batch": tokens_per_batch(batches),
    }
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        (directory / "work.json").write_text(json.dumps(work))
        drawn = batch_files.in_epochs(batches, PEER_EPOCHS)
        batch_files.write(directory / "batches.npz", drawn)
        arguments = [argument for argument in sys.argv[1:] if argument.startswith("--")]
        script = pathlib.Path(__file__).with_name("pairs_pytorch.py")
        command = [sys.executable, script, f"--data={directory}", *arguments]
        subprocess.run(command, check=True)
        result = json.loads((directory / "result.json").read_text())
        return result["made"], result["seconds"]


def tokens_per_batch(batches):
    """Source and target tokens, the mean over an epoch."""
    lengths = zip(batches.sources.lengths, batches.targets.lengths, strict=True)
    return int(sum(map(sum, lengths))) / batches.num_batches


class Progress:
    """Says when the time is over, and now and then how the training is."""

    def __init__(self, num_batches, tokens_per_batch):
        self.tokens_per_batch = tokens_per_batch
        self.num_batches = num_batches
        self.steps = 0
        self.start = self.reported = now()
        self.first = None  # when the first step was over, which traces and compiles

    def is_over(self, loss):
        """Called after each step; `loss` is a function that tells it."""
        self.steps += 1
        time_now = now()
        self.first = self.first or time_now
        over = time_now - self.start > 60 * MINUTES.value
        if over or time_now - self.reported > REPORT_SECONDS:
            self.reported = time_now
            rate = (self.steps - 1) * self.tokens_per_batch / max(time_now - self.first, 1e-9)
            print(
                f"{SIDE.value:8} {(time_now - self.start) / 60:5.1f} min, "
                f"epoch {self.steps / self.num_batches:5.2f}, step {self.steps}, "
                f"{rate:.0f} tokens/s, loss {loss():.3f}",
                flush=True,
            )
        return over


def now():
    """Seconds; those of a processor's work where other work goes on."""
    if AT_ONCE.value:
        return time.process_time() / len(os.sched_getaffinity(0))
    return time.perf_counter()


def train_lingxi(task, batches):
    import keras

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.progress = Progress(batches.num_batches, tokens_per_batch(batches))

        def on_train_batch_end(self, batch, logs=None):
            if self.progress.is_over(lambda: logs["loss"]):
                self.model.stop_training = True

    schedule = InverseSquareRoot(PEAK.value, WARMUP.value)
    optimizer = AdamW(
        schedule,
        weight_decay=0.0,
        beta_2=0.98,
        epsilon=1e-9,
        global_clipnorm=1.0,
        use_ema=True,
        ema_momentum=AVERAGE.value,
    )
    task.compile(optimizer, metrics=[])
    task.fit(batches.dataset(), epochs=1000, callbacks=[Watch()], verbose=0)
