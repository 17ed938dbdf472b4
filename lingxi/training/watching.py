"""Seeing how a training goes: its speed, its record for `lingxi report`, trackers of others."""

import dataclasses
import importlib
import json
import os
import pathlib
import platform
import time

import keras
import numpy as np

import lingxi
from lingxi.files import atomic_path

RUN_NAME = "run.json"
EXAMPLES_NAME = "examples.jsonl"
MAX_ROWS = 1000  # of the curves by step, an even number
MAX_EXAMPLES = 10_000  # that are answered; of more, so many are drawn
# On TensorFlow each step leaves its counts at hand; on JAX Keras writes down all state for them.
READ_EVERY, STRIDE = (0.0, 1) if keras.backend.backend() == "tensorflow" else (1.0, 10)


class ProgressBar(keras.callbacks.ProgbarLogger):
    """Keras' progress bar, which shows examples per second, too.

    Place it behind the callbacks that add to the logs, as Keras places its own.
    """

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._speed = Speed(self)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._speed.begin()

    def on_train_batch_end(self, batch, logs=None):
        self._speed.step()
        super().on_train_batch_end(batch, self._with_speed(logs))

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, self._with_speed(logs))

    def _with_speed(self, logs):
        speed = self._speed.examples_per_second
        return {**(logs or {}), **({} if speed is None else {"examples/s": speed})}


class Speed:
    """How many examples a second an epoch sees.

    The first step, in which graphs are built, does not count, nor does validation.

    Args:
        callback: whose model is trained.

    Attributes:
        examples: that the epoch had seen when they were read.
        examples_per_second: None before the second step.
    """

    def __init__(self, callback):
        self._callback = callback
        self._loss = callback.model.metrics[0]  # the mean over the examples of an epoch
        self.begin()

    def begin(self):
        """An epoch begins."""
        self.examples_per_second, self._start = None, None

    def step(self, must_read=False):
        """A step has ended; on JAX its examples are not always read, if they need not be."""
        is_due = self._start is None or time.perf_counter() - self._time >= READ_EVERY
        if not (must_read or is_due):
            return
        _ = self._callback.model  # on JAX this property has the variables written down
        self.examples, self._time = float(self._loss.count), time.perf_counter()
        if self._start is None:
            self._start = self.examples, self._time
        else:
            examples, then = self._start
            self.examples_per_second = (self.examples - examples) / (self._time - then)


class RunRecord(keras.callbacks.Callback):
    """Keeps what `lingxi report` shows of a training; goes on with `fit(…, resume=…)`.

    That is the loss and the learning rate by step (of a long training the means over several
    steps), all metrics by epoch, what was trained by what and for how long, and the answers of the
    trained model. Place it behind callbacks that add to the logs, or change the weights at the end.

    Args:
        directory: where `run.json` is written after every epoch, and `examples.jsonl` at the end;
            None if `write` is called instead.
        examples: texts, or pairs of them, as the verb of the task takes them: the validation data,
            say. Of more than 10,000 so many are drawn.
        wanted: the right answer to each: a label name (several in a list, if the task gives
            several), the entities `(start, end, label)`, or a number.
        facts: what the model card shall say besides, a dict for JSON.

    Raises:
        ValueError: not as many right answers as examples.
    """

    def __init__(self, directory=None, examples=None, wanted=None, facts=None):
        super().__init__()
        self.directory = directory and pathlib.Path(directory).expanduser()
        self.facts = dict(facts or {})
        self.examples = [] if examples is None else list(examples)
        self.wanted = [] if wanted is None else list(wanted)
        if len(self.examples) != len(self.wanted):
            raise ValueError(
                f"got {len(self.examples)} examples and {len(self.wanted)} right answers; there "
                "must be one for each"
            )
        self.num_examples = len(self.examples)
        if self.num_examples > MAX_EXAMPLES:
            drawn = np.random.default_rng(0).choice(self.num_examples, MAX_EXAMPLES, replace=False)
            self.examples = [self.examples[i] for i in np.sort(drawn)]
            self.wanted = [self.wanted[i] for i in np.sort(drawn)]
        self._begin()

    def _begin(self):
        self.epochs, self.steps, self.answers = [], [], []
        self.stride = STRIDE  # steps from one of `steps` to the next
        self._step = self._first = 0  # the last step, and the last of the epoch before
        self._before = 0.0, 0.0  # examples of this epoch, and their losses, at the last of `steps`
        self._seconds, self._clock = 0.0, time.monotonic()

    def on_train_begin(self, logs=None):
        self._begin()
        self._speed = Speed(self)

    def on_epoch_begin(self, epoch, logs=None):
        self._speed.begin()
        self._before, self._first = (0.0, 0.0), self._step

    def on_train_batch_end(self, batch, logs=None):
        self._step = self._first + batch + 1
        is_row = self._step - (self.steps[-1]["step"] if self.steps else 0) >= self.stride
        self._speed.step(must_read=is_row)
        if not is_row:
            return
        examples, losses = self._before
        self._before = self._speed.examples, self._speed.examples * logs["loss"]
        count = self._before[0] - examples
        row = {"step": self._step, "loss": (self._before[1] - losses) / max(count, 1.0)}
        row |= {"examples": count, "learning_rate": self._learning_rate()}
        self.steps.append(row)
        if len(self.steps) == MAX_ROWS:
            self.steps = _merged(self.steps)
            self.stride *= 2

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "step": self._step, "seconds": self._elapsed()}
        row |= {"examples_per_second": self._speed.examples_per_second}
        row |= {name: value for name, value in logs.items() if isinstance(value, float)}
        self.epochs.append({**row, "learning_rate": self._learning_rate()})
        if self.directory is not None:
            self.write(self.directory)

    def on_train_end(self, logs=None):
        if self.examples:
            answer = getattr(self.model, self.model.verb)
            self.answers = [plain(one) for one in answer(self.examples)]
        if self.directory is not None:
            self.write(self.directory)

    def write(self, directory):
        """Write `run.json`, and `examples.jsonl` of a finished training, into a directory."""
        directory = pathlib.Path(directory)
        run = {
            "model": described(self.model),
            "facts": self.facts,
            "num_examples": self.num_examples,
            "seconds": self._elapsed(),
            "epochs": self.epochs,
            "steps": self.steps,
        }
        with atomic_path(directory / RUN_NAME) as temporary:
            temporary.write_text(json.dumps(run, default=str), "utf-8")
        if not self.answers:
            (directory / EXAMPLES_NAME).unlink(missing_ok=True)  # of a training before
            return
        rows = zip(self.examples, self.wanted, self.answers, strict=True)
        with (
            atomic_path(directory / EXAMPLES_NAME) as temporary,
            temporary.open("w", encoding="utf-8") as file,
        ):
            for example, wanted, answer in rows:
                row = {"input": plain(example), "wanted": plain(wanted), "answer": answer}
                file.write(json.dumps(row) + "\n")

    def _learning_rate(self):
        return float(self.model.optimizer.learning_rate)

    def _elapsed(self):
        return self._seconds + time.monotonic() - self._clock

    def get_state(self):
        """What a checkpoint keeps of it."""
        return {
            "epochs": self.epochs,
            "steps": self.steps,
            "stride": self.stride,
            "step": self._step,
            "first": self._first,
            "before": self._before,
            "seconds": self._elapsed(),
        }

    def set_state(self, state):
        """Go on from a checkpoint."""
        self.epochs, self.steps = list(state["epochs"]), list(state["steps"])
        self.stride, self._before = state["stride"], tuple(state["before"])
        self._step, self._first = state["step"], state["first"]
        self._seconds, self._clock = state["seconds"], time.monotonic()


def _merged(steps):
    """Rows of which each is the mean of two neighbours."""
    rows = []
    for first, second in zip(steps[::2], steps[1::2], strict=True):
        examples = first["examples"] + second["examples"]
        losses = sum(row["loss"] * row["examples"] for row in (first, second))
        rows.append({**second, "loss": losses / max(examples, 1.0), "examples": examples})
    return rows


def described(model):
    """What a model card says of a model by itself, a dict for JSON."""
    backbone, backend = getattr(model, "backbone", None), keras.backend.backend()
    config = getattr(backbone, "config", None)
    metadata = getattr(model, "export_metadata", None)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    technique = getattr(model, "technique", None)
    return {
        "task": type(model).__name__,
        "verb": getattr(model, "verb", None),
        "architecture": None if backbone is None else type(backbone).__name__,
        "config": dataclasses.asdict(config) if dataclasses.is_dataclass(config) else {},
        "num_parameters": model.count_params(),
        "num_trainable": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "precision": model.dtype_policy.name if backbone is None else backbone.dtype_policy.name,
        "optimizer": type(optimizer).__name__,
        "technique": None if technique is None else type(technique).__name__,
        "metadata": {} if metadata is None else metadata(),
        "versions": {
            "lingxi": lingxi.__version__,
            "keras": keras.__version__,
            backend: importlib.import_module(backend).__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def plain(value):
    """An answer of a task, or a right one, as JSON has it; floats with 6 digits."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return float(f"{value:.6g}") if isinstance(value, float) else value


# Trackers of others


def wandb_logger(log_freq="epoch"):
    """The callback of Weights & Biases, `wandb.integration.keras.WandbMetricsLogger`.

    Begin by `wandb.init(project=…)`; with `mode="offline"` it writes to `./wandb` and sends
    nothing.

    Args:
        log_freq: "epoch", "batch", or a number of steps.

    Raises:
        ImportError: the extra `wandb` is not installed.
    """
    return _extra("wandb.integration.keras", "wandb").WandbMetricsLogger(log_freq=log_freq)


def mlflow_logger(log_every_n_steps=None):
    """The callback of MLflow, `mlflow.keras.MlflowCallback`: metrics by epoch, or by steps.

    Use it within `mlflow.start_run()`; `mlflow.set_tracking_uri` says where the run is written,
    which may be a directory.

    Args:
        log_every_n_steps: None for metrics by epoch.

    Raises:
        ImportError: the extra `mlflow` is not installed.
    """
    return _extra("mlflow.keras", "mlflow").MlflowCallback(
        log_every_epoch=log_every_n_steps is None, log_every_n_steps=log_every_n_steps
    )


def _extra(module, extra):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is not installed: pip install 'lingxi[{extra}]'") from error
