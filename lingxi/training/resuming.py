"""Training that goes on where it was killed, to the last bit."""

import hashlib
import json
import math
import time

import keras
import numpy as np
from absl import logging

from lingxi.training.checkpoints import Checkpoint, Checkpoints, numbered
from lingxi.training.distribution import agreed, is_first_process, is_in_parts, num_processes, whole

STATES = {  # what a callback of Keras knows that is not among its arguments
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    "History": ("history", "epoch"),
    "ModelCheckpoint": ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "SwapEMAWeights": ("_ema_weights_in_model",),
}


def run_seed(resume, seed):
    """The seed of a training that may be resumed: the one given, else that of its checkpoints.

    Without either one is drawn, so that it can be written down, or that all processes have the
    same; it depends on `keras.utils.set_random_seed`.

    Args:
        resume: as of `fit`; None leaves `seed` as it is.
    """
    if seed is not None or (resume is None and num_processes() == 1):
        return seed
    known = None if resume is None else Checkpoints.at(resume).seed()
    return agreed(int(np.random.randint(2**31)) if known is None else known)


def fit_resumably(
    model,
    fit,
    source,
    checkpoints,
    seed,
    epochs,
    callbacks=None,
    steps_per_epoch=None,
    class_weight=None,
    initial_epoch=0,
    verbose="auto",
    **kwargs,
):
    """Train, from the newest checkpoint on if there is one.

    Args:
        model: compiled, with built variables of optimizer and metrics.
        fit: its `keras.Model.fit`.
        source: of the batches: `num_batches` of a pass, or None; `stream(first)`, a
            `tf.data.Dataset` without end from the batch of that number on; `describe()`, a dict
            for JSON of what must be the same for the same batches.
        checkpoints: a `Checkpoints`.
        seed: of the source.
        epochs, …, kwargs: of `fit`.

    Returns:
        A `keras.callbacks.History` of the whole training.

    Raises:
        ValueError: the checkpoints are those of another training.
        FloatingPointError: the loss or a weight is no longer a finite number.
        OSError: a checkpoint cannot be written.
    """
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise NotImplementedError(
            "resume needs the TensorFlow or the JAX backend, but Keras runs on "
            f"{keras.backend.backend()}: set KERAS_BACKEND, or train without resume and with "
            "keras.callbacks.BackupAndRestore, which goes on from the last epoch"
        )
    steps = steps_per_epoch or source.num_batches
    if steps is None:
        raise ValueError(
            "resume must know where an epoch ends, but the data set does not know how many batches "
            "it has: pass steps_per_epoch=…, or give it its number by "
            "tf.data.experimental.assert_cardinality"
        )
    settings = {
        "seed": seed,
        "steps_per_epoch": steps,
        "steps_per_execution": model.steps_per_execution,
        "class_weight": class_weight and {str(k): float(w) for k, w in class_weight.items()},
        "task": type(model).__name__,
        "model": {name: _digest(value) for name, value in _plain(model.get_config()).items()},
        "data": source.describe(),
    }
    techniques = _techniques(model)
    if techniques:
        settings["technique"] = [keras.saving.serialize_keras_object(t) for t in techniques]
    optimizer = _plain(keras.saving.serialize_keras_object(model.optimizer))
    run = {"epochs": epochs, "settings": settings, "optimizer": optimizer}
    run = json.loads(json.dumps(run, default=repr))  # as it is read again

    start = _start(checkpoints, run)
    if start is not None:
        _check_same(start, run, checkpoints)
        if start.state["finished"]:
            return _finished(model, start)
    options = {"model": model, "verbose": verbose, "epochs": epochs, "steps": steps}
    callbacks = ResumableCallbacks(callbacks, checkpoints, run, start, initial_epoch, **options)
    if start is not None:
        initial_epoch = epochs if start.state["stopped"] else start.state["epoch"]
    fit(
        x=source.stream(callbacks.taken),
        epochs=epochs,
        initial_epoch=initial_epoch,
        steps_per_epoch=steps,
        class_weight=class_weight,
        callbacks=callbacks,
        **kwargs,
    )
    callbacks.save(finished=True)
    return model.history


class ResumableCallbacks(keras.callbacks.CallbackList):
    """The callbacks of a training, which is written to checkpoints after them and restored.

    Steps that a checkpoint has behind it are counted anew, but neither read nor trained, and no
    callback sees them. Of several processes the first one writes; they restore what it reads.

    Args:
        callbacks: of the user. The state of those of Keras in `STATES` is part of a checkpoint, and
            of others with the methods `get_state`, which gives a dict of numbers, strings, arrays
            and lists and dicts of them, and `set_state`, which takes it.
        checkpoints: a `Checkpoints`.
        run: what each checkpoint says of its training.
        start: the `Checkpoint` to begin from, or None.
        initial_epoch: of `fit`, where there is none.
        params: of `keras.callbacks.CallbackList`.
    """

    def __init__(self, callbacks, checkpoints, run, start, initial_epoch, verbose, **params):
        super().__init__(
            callbacks, add_history=True, add_progbar=verbose != 0, verbose=verbose, **params
        )
        self.checkpoints = checkpoints
        self.run = run
        self.start = start
        self.epoch = initial_epoch  # that is running; `step` of its steps are done
        self.step = 0
        self.taken = 0  # batches of the source
        self.logs = {}  # of the last epoch
        self.skipped = 0  # steps of this epoch that a checkpoint has behind it
        self.train_metrics = None  # while a validation uses the variables
        self.in_parts = any(map(is_in_parts, self._model.variables))
        if start is not None:
            for name in ("epoch", "step", "taken", "logs"):
                setattr(self, name, start.state[name])
        self._written()

    # What Keras calls

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if self.start is None:
            self.save()  # a disk without room shows at once, not after hours
        elif self.step == 0:
            self._restore()

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if self.start is not None and self.step:
            self._restore()
            self.skipped = self.step
            self._skip()
        self.epoch, self.start = epoch, None

    def on_train_batch_begin(self, batch, logs=None):
        if batch >= self.skipped:
            super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        if batch < self.skipped:
            return
        self.step = batch + 1
        self.taken += self._model.steps_per_execution  # JAX writes all state to `model`
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            self._fail(f"the loss is {loss}")
        try:
            super().on_train_batch_end(batch, logs)
        except KeyboardInterrupt:
            self._save_alone()
            raise
        if self._is_due():
            self.save()

    def on_test_begin(self, logs=None):
        self.train_metrics = [keras.ops.convert_to_numpy(v) for v in self.model.metrics_variables]
        super().on_test_begin(logs)

    def on_test_batch_end(self, batch, logs=None):
        try:
            super().on_test_batch_end(batch, logs)
        except KeyboardInterrupt:
            self._save_alone()
            raise

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.train_metrics = None
        numbers = {name: np.asarray(value) for name, value in (logs or {}).items()}
        self.logs = {name: float(value) for name, value in numbers.items() if value.ndim == 0}
        self.epoch, self.step, self.skipped = epoch + 1, 0, 0
        self.save()

    # Checkpoints

    def save(self, finished=False):
        """Write a checkpoint of what is now."""
        if not (is_first_process() or self.in_parts):
            return
        for variable in self.model.trainable_variables:
            if not np.isfinite(whole(variable)).all():
                self._fail(f"{variable.path} has values that are not finite")
        tensors = {
            numbered(group, index): variable
            for group, variables in self._variables().items()
            for index, variable in enumerate(variables)
        }
        if self.train_metrics is not None:
            tensors |= {numbered("metrics", i): v for i, v in enumerate(self.train_metrics)}
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "taken": self.taken,
            "finished": finished,
            "stopped": bool(self.model.stop_training),
            "logs": self.logs,
            **self.run,
            "callbacks": [
                [type(callback).__name__, _packed(_state_of(callback), f"callback/{i}", tensors)]
                for i, callback in enumerate(self.callbacks)
            ],
        }
        if not is_first_process():
            for tensor in tensors.values():
                whole(tensor)  # as the first one does, which needs our parts
            return
        try:
            self.checkpoints.write(state, tensors)
        except OSError as error:
            raise OSError(
                error.errno,
                f"training stopped {self._place()}: {error.strerror}. {self._how_to_go_on()}",
            ) from error
        self._written()

    def _save_alone(self):
        """Write a checkpoint, unless processes that know of no interrupt have parts of it."""
        if not self.in_parts:
            self.save()

    def _variables(self):
        model = self.model
        groups = {"model": model.variables, "optimizer": model.optimizer.variables}
        techniques = _techniques(model)
        if techniques:
            groups["technique"] = [v for technique in techniques for v in technique.variables]
        return {**groups, "metrics": model.metrics_variables}

    def _written(self):
        self._taken_then, self._time = self.taken, time.monotonic()

    def _is_due(self):
        every, seconds = self.checkpoints.every_steps, self.checkpoints.every_seconds
        due = (every is not None and self.taken - self._taken_then >= every) or (
            seconds is not None and time.monotonic() - self._time >= seconds
        )
        return agreed(due) if self.in_parts else due

    def _restore(self):
        start, optimizer = self.start, self.model.optimizer
        rate = optimizer.get_config().get("learning_rate")
        for group, variables in self._variables().items():
            start.check(group, variables)
        for group, variables in self._variables().items():
            start.restore(group, variables)
        if start.state["optimizer"] != self.run["optimizer"] and isinstance(rate, float):
            optimizer.learning_rate = rate
        saved = start.state["callbacks"]
        for callback in self.callbacks:
            mine = [row for row in saved if row[0] == type(callback).__name__]
            if mine:
                saved.remove(mine[0])
                _set_state(callback, _unpacked(mine[0][1], start))
        self.model.stop_training = start.state["stopped"]

    def _skip(self):
        """Have the first steps of this epoch done by nobody."""
        model, train = self.model, self.model.train_function
        left, logs = self.skipped // model.steps_per_execution, model.get_metrics_result()

        def skip(*arguments):
            nonlocal left
            left -= 1
            if not left:
                model.train_function = train
            state = arguments[:-1]  # before the iterator, on JAX
            return (logs, *state) if state else logs

        model.train_function = skip

    # Failures

    def _fail(self, problem):
        raise FloatingPointError(
            f"{problem} {self._place()}; training stopped. {self._how_to_go_on()} As it is it "
            "would end here again: with another optimizer it goes on from there, so try a lower "
            "learning rate, clipped gradients (global_clipnorm) or, after float16, float32"
        )

    def _place(self):
        if self.step:
            return f"in epoch {self.epoch + 1}, step {self.step} of {self.params['steps']}"
        return f"after epoch {self.epoch}" if self.epoch else "before the first step"

    def _how_to_go_on(self):
        newest = self.checkpoints.newest()
        if newest is None:
            return "There is no checkpoint yet."
        return (
            f"The checkpoint {newest.path} is whole: fit(…, resume=…) with the same arguments goes "
            "on from it."
        )


def _techniques(model):
    """Those of a task, or of the tasks that a model has."""
    tasks = getattr(model, "tasks", {"": model}).values()
    found = (getattr(task, "technique", None) for task in tasks)
    return [technique for technique in found if technique is not None]


def _start(checkpoints, run):
    """The checkpoint that a training begins from, or None: that which the first process finds."""
    start = None
    if is_first_process():
        checkpoints.clean()
        start = checkpoints.newest(lambda f: not f.state["finished"] or not _lasts(f, run))
    name = agreed(start and start.path.name)
    if name is not None and start is None:
        return Checkpoint.read(checkpoints.directory / name)
    return start


def _lasts(found, run):
    """Whether a training that has finished shall now have more epochs."""
    return run["epochs"] > found.state["epochs"]


def _finished(model, checkpoint):
    """The history of a training that has finished, and the model as it was then."""
    checkpoint.restore("model", model.variables)
    checkpoint.restore("optimizer", model.optimizer.variables)
    model.history = keras.callbacks.History()
    model.history.set_model(model)
    (state,) = (state for name, state in checkpoint.state["callbacks"] if name == "History")
    _set_state(model.history, _unpacked(state, checkpoint))
    return model.history


def _check_same(start, run, checkpoints):
    """Raise ValueError unless a checkpoint is of this training; warn of another optimizer."""
    differing = _differences(start.state["settings"], run["settings"])
    if run["epochs"] < start.state["epochs"]:
        differing.append(f"epochs were {start.state['epochs']}, but are {run['epochs']}")
    if differing:
        raise ValueError(
            f"the checkpoints in {checkpoints.directory} are those of another training: "
            f"{'; '.join(differing)}. Pass what it was started with, or another directory"
        )
    differing = _differences(start.state["optimizer"], run["optimizer"])
    if differing:
        logging.warning("the training goes on with another optimizer: %s", "; ".join(differing))


def _differences(then, now):
    """What differs between two nested dicts, in words."""
    then, now = _flat(then), _flat(now)
    return [
        f"{name} was {then.get(name)}, but is {now.get(name)}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def _flat(tree, prefix=""):
    """`{"a.b": value}` of nested dicts."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        key: value
        for name, branch in tree.items()
        for key, value in _flat(branch, f"{prefix}.{name}" if prefix else name).items()
    }


def _plain(config):
    """A config without the names of layers, which number them within a process."""
    if isinstance(config, (list, tuple)):
        return [_plain(item) for item in config]
    if not isinstance(config, dict):
        return config
    is_layer = len(config) > 1  # a policy is its name, and no more
    return {n: _plain(value) for n, value in config.items() if not (is_layer and n == "name")}


def _digest(value):
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _state_of(callback):
    if hasattr(callback, "get_state"):
        return callback.get_state()
    return {name: getattr(callback, name) for name in STATES.get(type(callback).__name__, ())}


def _set_state(callback, state):
    if hasattr(callback, "set_state"):
        callback.set_state(state)
        return
    for name, value in state.items():
        setattr(callback, name, value)


def _packed(value, name, tensors):
    """A state as JSON has it; its arrays move to `tensors`."""
    if isinstance(value, dict):
        return {key: _packed(item, f"{name}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
    if isinstance(value, np.ndarray):
        tensors[name] = value
        return {"tensor": name}
    return value.item() if isinstance(value, np.generic) else value


def _unpacked(value, checkpoint):
    if isinstance(value, dict):
        if value.keys() == {"tensor"}:
            return checkpoint.tensor(value["tensor"])
        return {key: _unpacked(item, checkpoint) for key, item in value.items()}
    if isinstance(value, list):
        return [_unpacked(item, checkpoint) for item in value]
    return value
