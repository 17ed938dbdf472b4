"""Several tasks over one encoder, which learns from the data of all of them."""

import functools
import pathlib

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from lingxi.files import atomic_path
from lingxi.tasks import loading, squad, text_data
from lingxi.tasks.fine_tuning import LEARNING_RATE, chosen_schedule, default_optimizer
from lingxi.tasks.question_answerer import QuestionAnswerer
from lingxi.tasks.sequence_head import SequenceHead
from lingxi.tasks.tagged_data import read_tagged
from lingxi.tasks.task import TOKENIZERS, refuse_of_default
from lingxi.tasks.text_classifier import TextClassifier
from lingxi.tasks.text_regressor import TextRegressor
from lingxi.tasks.token_classifier import TokenClassifier
from lingxi.training import Checkpoints, fit_resumably, run_seed
from lingxi.training import layer_decay as rate_factors
from lingxi.zoo import preset

HEADS = (TextClassifier, TextRegressor, TokenClassifier, QuestionAnswerer)
PROPORTIONAL = "proportional"


@keras.saving.register_keras_serializable(package="lingxi")
class MultiTask(keras.Model):
    """Several tasks that share one encoder and learn together (MT-DNN, Liu et al. 2019).

    Every batch is of one task, and has the loss, metrics and technique that this task is compiled
    with: `tagger.compile(metrics=[…])` before, or the defaults. `multi["names"]` is the task
    itself, with its verb, `evaluate` and exports. As a Keras model it takes what `tokenizer`
    returns and gives the outputs of every task by its name.

    Args:
        tasks: `{name: task}`, a `TextClassifier`, `TextRegressor`, `TokenClassifier` or
            `QuestionAnswerer` each, all made with the same backbone and tokenizer object. A name
            is a Python identifier: metrics, directories and signatures have it in their names.
    """

    def __init__(self, tasks, **kwargs):
        super().__init__(**kwargs)
        _check_tasks(tasks)
        self.tasks = dict(tasks)
        self._loss_weights = {}
        self._compiled_by_default = True
        pooler = self.backbone.pooler
        if pooler is not None and self.backbone.trainable:  # a task that reads none froze it
            pooler.trainable = any(_reads_pooler(task) for task in tasks.values())
        self.built = True

    def __getitem__(self, name):
        """The task of that name."""
        if name not in self.tasks:
            raise KeyError(f"no task {name!r}; the tasks are {list(self.tasks)}")
        return self.tasks[name]

    @property
    def backbone(self):
        """The model of `lingxi.zoo` that all tasks share."""
        return next(iter(self.tasks.values())).backbone

    @property
    def tokenizer(self):
        """The tokenizer that all tasks share."""
        return next(iter(self.tasks.values())).tokenizer

    def call(self, inputs, training=None):
        return {name: task(inputs, training=training) for name, task in self.tasks.items()}

    # Training

    def compile(self, optimizer=None, **kwargs):
        """As in Keras, for the optimizer; by default that of `Task.compile`.

        Raises:
            ValueError: losses or metrics, which are those of the tasks.
        """
        for argument in ("loss", "loss_weights", "metrics", "weighted_metrics", "technique"):
            if kwargs.get(argument) is not None:
                raise ValueError(
                    f"each task has its own: pass {argument} to the `compile` of a task, or "
                    "loss_weights={name: weight} to `fit`"
                )
        self._compiled_by_default = False
        kwargs.setdefault("jit_compile", False)  # shapes vary: XLA would compile for each
        super().compile(default_optimizer() if optimizer is None else optimizer, **kwargs)

    def fit(
        self,
        x,
        validation_data=None,
        epochs=1,
        batch_size=None,
        sampling=PROPORTIONAL,
        loss_weights=None,
        steps_per_epoch=None,
        seed=None,
        learning_rate=LEARNING_RATE,
        layer_decay=None,
        schedule=None,
        warmup=None,
        resume=None,
        **kwargs,
    ):
        """Train on the raw data of several tasks, in batches of one task each.

        The history has "loss", the mean over all batches, and the loss and metrics of each task by
        its name: "names_loss", "names_f1", and, of validation data, "val_names_f1".

        Args:
            x: `{name: data}`, for each task `(x, y)` or `(x, y, sample_weight)` as its own `fit`
                takes them, or only `x`: the path of a file, the name of a prepared TFDS data set, a
                batched `tf.data.Dataset`. The heads of tasks without data stay as they are.
            validation_data: as `x`, for all of these tasks or for some.
            batch_size: examples a batch, 32 by default; or `{name: batch_size}`.
            sampling: how an epoch is mixed of tasks that have `n` batches each: "proportional",
                every batch of every task once, in random order (algorithm 1 of MT-DNN); or a
                temperature `T`, as many steps, of which a task gets the share `p ∝ n^(1/T)`. 1 is
                proportional, `float("inf")` gives all tasks as many; small data sets are then
                repeated, and large ones go on in the next epoch where they stopped.
            loss_weights: `{name: weight}` of a task's loss, by default 1.
            steps_per_epoch: batches of an epoch in place of the sum over the tasks.
            seed: of the order of tasks and examples.
            learning_rate, layer_decay, schedule, warmup: of the default optimizer, as in the `fit`
                of a task.
            resume: a directory to go on from after a failure, see `Task.fit`.
            epochs, kwargs: as in `keras.Model.fit`.
        """
        if not self._compiled_by_default:
            refuse_of_default(layer_decay=layer_decay, schedule=schedule, warmup=warmup)
        if self.distribute_strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "a MultiTask trains on one device: replicas would have batches of different tasks; "
                "make it outside of the scope of a distribution strategy"
            )
        seed = run_seed(resume, seed)
        temperature = _temperature(sampling)
        self._set_loss_weights(loss_weights)
        datasets = self._datasets(x, "train", batch_size, "shuffled", seed)
        num_batches = [_num_batches(name, dataset) for name, dataset in sorted(datasets.items())]
        steps = steps_per_epoch or sum(num_batches)
        if validation_data is not None:
            validation_data = self._datasets(validation_data, "validation", batch_size, "sorted")
            validation_data = functools.reduce(
                lambda first, second: first.concatenate(second), _labelled(validation_data)
            )
        if self._compiled_by_default:
            chosen = chosen_schedule(epochs * steps, schedule, warmup)
            optimizer = default_optimizer(learning_rate, epochs * steps, **chosen)
            if layer_decay is not None:
                optimizer.rate_factors = rate_factors(self, layer_decay)
            self.compile(optimizer)
            self._compiled_by_default = True
        self._create_training_state()
        turns = tasks_in_turn(num_batches, steps, epochs, temperature, seed)
        mixture = {"sampling": temperature, "loss_weights": self._loss_weights}
        source = _source_in_turn(datasets, turns, mixture)
        kwargs |= {
            "validation_data": validation_data,
            "epochs": epochs,
            "steps_per_epoch": steps,
            "shuffle": False,  # it is mixed already
        }
        if resume is None:
            return super().fit(source.stream(0), **kwargs)
        return fit_resumably(self, super().fit, source, Checkpoints.at(resume), seed, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", **kwargs):
        """What the `evaluate` of each task gives, by its name: `{"names_f1": …, …}`.

        Args:
            x: `{name: data}` as in `fit`, of all tasks or of some.
            batch_size: a number, or `{name: batch_size}`.
            verbose: as in `keras.Model.evaluate`.
        """
        if not isinstance(x, dict):  # the validation of `fit`
            return super().evaluate(x, y, batch_size, verbose, **kwargs)
        self._check_data(x)
        results = {}
        for name, data in x.items():
            data, targets, sample_weight = _columns(data)
            options = {} if sample_weight is None else {"sample_weight": sample_weight}
            size = self.setting(batch_size, name)
            found = self.tasks[name].evaluate(
                data, targets, size, verbose=verbose, return_dict=True, **options
            )
            results |= {f"{name}_{key}": value for key, value in found.items()}
        return results

    def train_step(self, data):
        return self._step(data, self._learn)

    def test_step(self, data):
        return self._step(data, self._measure)

    def _step(self, data, run):
        """Run one batch, `(number, {name: batch})`, where all but that of one task are empty."""
        number, batches = data
        names = sorted(batches)
        branches = [functools.partial(run, name, batches[name]) for name in names]
        loss, num_examples = tf.switch_case(number, branches)
        self._loss_tracker.update_state(loss, sample_weight=num_examples)
        return self._results(names)

    def _learn(self, name, batch):
        task = self.tasks[name]
        variables = task.trainable_variables

        def scale_loss(loss):
            return self.optimizer.scale_loss(self._loss_weights.get(name, 1.0) * loss)

        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        if task.technique is None:
            with tf.GradientTape() as tape:
                outputs = task(x, training=True)
                loss = task.compute_loss(x, y, outputs, sample_weight, training=True)
                scaled = scale_loss(loss)
            gradients = tape.gradient(scaled, variables)
        else:
            loss, outputs, gradients = task.technique.loss_and_gradients(
                task, x, y, sample_weight, scale_loss
            )
        learnt = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        self.optimizer.apply_gradients(learnt)
        return self._counted(name, batch, outputs, loss)

    def _measure(self, name, batch):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        outputs = self.tasks[name](x, training=False)
        loss = self.tasks[name].compute_loss(x, y, outputs, sample_weight, training=False)
        return self._counted(name, batch, outputs, loss)

    def _counted(self, name, batch, outputs, loss):
        """The weighted loss of a batch of one task, and its examples; its metrics count them."""
        task = self.tasks[name]
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        num_examples = tf.shape(x["token_ids"])[0]
        task._loss_tracker.update_state(loss, sample_weight=num_examples)
        task.compute_metrics(x, y, outputs, sample_weight)
        return self._loss_weights.get(name, 1.0) * loss, num_examples

    def _create_training_state(self):
        """The variables of optimizer and metrics, which must not be made within a branch."""
        self.optimizer.build(self.trainable_variables)
        for task in self.tasks.values():
            if not task.compiled:
                task.compile()
                task._compiled_by_default = True
            targets, outputs = task.metrics_example()
            task.compute_loss(y=targets, y_pred=outputs)
            task.compute_metrics(None, targets, outputs)
        self.reset_metrics()

    @property
    def metrics(self):
        metrics = [self._loss_tracker] if self.compiled else []
        return metrics + [metric for task in self.tasks.values() for metric in task.metrics]

    def get_metrics_result(self):
        return self._results(self.tasks)

    def _results(self, names):
        results = {"loss": self._loss_tracker.result()}
        for name in names:
            for key, value in self.tasks[name].get_metrics_result().items():
                several = value if isinstance(value, dict) else {key: value}
                results |= {f"{name}_{key}": value for key, value in several.items()}
        return results

    def _set_loss_weights(self, loss_weights):
        loss_weights = dict(loss_weights or {})
        self._check_names(loss_weights, "loss_weights")
        for name, weight in loss_weights.items():
            if not 0.0 <= weight < float("inf"):
                raise ValueError(f"the loss weight of {name!r} must be 0 or more, got {weight}")
        if loss_weights != self._loss_weights:  # they are constants of the traced steps
            self._loss_weights = loss_weights
            self.train_function = self.test_function = None

    def _datasets(self, data, split, batch_size, order, seed=None):
        """Batches of each task, as a data set."""
        self._check_data(data)
        datasets = {}
        for name, given in data.items():
            task = self.tasks[name]
            x, y, sample_weight = _examples(task, given, split)
            size = self.setting(batch_size, name)
            try:
                batches = task._batches(x, y, size, order, sample_weight, seed)["x"]
            except (TypeError, ValueError) as error:
                error.add_note(f"This is about the task {name!r}.")
                raise
            if not isinstance(batches, tf.data.Dataset):
                raise TypeError(
                    f"the data of {name!r} must be raw or a tf.data.Dataset, got "
                    f"{type(x).__name__}; of tokenized inputs make a data set of batches"
                )
            datasets[name] = batches
        return datasets

    def setting(self, given, name):
        """Of a setting that is one for all tasks, or `{name: setting}`, that of one task, or None.

        Raises:
            ValueError: it names a task that there is not.
        """
        if not isinstance(given, dict):
            return given
        self._check_names(given, "settings")
        return given.get(name)

    def _check_data(self, data):
        if not isinstance(data, dict) or not data:
            raise TypeError(
                f"a MultiTask takes {{name: data}} of its tasks {list(self.tasks)}, got {data!r}"
            )
        self._check_names(data, "data")

    def _check_names(self, named, what):
        unknown = [name for name in named if name not in self.tasks]
        if unknown:
            raise ValueError(f"{what} of no task: {unknown}; the tasks are {list(self.tasks)}")

    # Presets

    @classmethod
    def from_preset(cls, name, tasks=None, vocabulary=None, load_weights=True, dtype=None):
        """Tasks over a pretrained encoder, or trained ones.

        For example `MultiTask.from_preset("minilm_l6_en_uncased", {"names":
        functools.partial(TokenClassifier, labels=["person", "place"]), "similarity":
        TextRegressor})`.

        Args:
            name: as in `lingxi.zoo.Bert.from_preset`; or a directory that `save_preset` wrote.
            tasks: `{name: function of backbone and tokenizer}`, such as the class of a task, or a
                `functools.partial` of it with its arguments. Not needed for a directory that
                `save_preset` wrote; if given, new heads are put on its encoder.
            vocabulary, load_weights, dtype: as in `TextClassifier.from_preset`.

        Raises:
            ValueError: no tasks were given and the directory has none; a head was trained apart
                since they were saved together, so that its encoder is another one.
        """
        parts = SequenceHead.load_parts(name, vocabulary, load_weights, dtype)
        backbone, tokenizer, directory, config = parts
        if tasks is not None:
            return cls({head: make(backbone, tokenizer) for head, make in tasks.items()})
        own = (config or {}).get("lingxi", {})
        if own.get("task") != cls.__name__:
            raise ValueError(
                f"{name!r} is no trained MultiTask, so it needs tasks={{name: task class, or "
                "functools.partial(task class, labels=[…])}"
            )
        tasks = {}
        for head in own["tasks"]:
            task = loading.load(directory / head, load_weights=load_weights)
            if load_weights:
                _check_same_encoder(backbone, task.backbone, directory / head)
            tasks[head] = task.over(backbone, tokenizer)
        return cls(tasks)

    def save_preset(self, directory):
        """Write the encoder and its tokenizer, and each task into a subdirectory of its name.

        `from_preset` loads it; `from_preset` of a task, and the Auto classes of `transformers`,
        load a subdirectory, which is complete. The directory appears only when it is complete; an
        older model there is replaced.

        Raises:
            FileExistsError: what is there is no model.
        """
        directory = pathlib.Path(directory)
        is_model = (directory / preset.CONFIG_NAME).is_file()
        if directory.is_dir() and any(directory.iterdir()) and not is_model:
            raise FileExistsError(
                f"{directory} holds files, but no {preset.CONFIG_NAME}, so it is no model to "
                "replace; choose a new or an empty directory"
            )
        config = {
            **self.backbone.layout.to_contents(self.backbone.config),
            "lingxi": {"task": type(self).__name__, "tasks": list(self.tasks)},
        }
        with atomic_path(directory) as temporary:
            table = self.backbone.checkpoint_table()
            preset.write(temporary, config, table, self.tokenizer)
            for name, task in self.tasks.items():
                task.save_preset(temporary / name)

    def over(self, backbone):
        """A copy of this task over another backbone, as `Task.over`."""
        return type(self)({name: task.over(backbone) for name, task in self.tasks.items()})

    # .keras files

    def get_config(self):
        shared = next(iter(self.tasks.values())).get_config()
        own = {}
        for name, task in self.tasks.items():
            config = task.get_config()
            del config["backbone"], config["tokenizer"]
            own[name] = {
                "class_name": keras.saving.get_registered_name(type(task)),
                "config": config,
            }
        return {
            **super().get_config(),
            "backbone": shared["backbone"],
            "tokenizer": shared["tokenizer"],
            "tasks": own,
        }

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"))
        tokenizer = config.pop("tokenizer")
        tokenizer = TOKENIZERS[tokenizer["class_name"]](**tokenizer["config"])
        tasks = {}
        for name, task in config.pop("tasks").items():
            kind = keras.saving.get_registered_object(task["class_name"])
            tasks[name] = kind(backbone, tokenizer, **task["config"])
        return cls(tasks, **config)

    def get_compile_config(self):
        """What was given to `compile`, here and of tasks; a default belonged to one `fit`."""
        own = None if self._compiled_by_default else super().get_compile_config()
        tasks = {name: task.get_compile_config() for name, task in self.tasks.items()}
        tasks = {name: config for name, config in tasks.items() if config is not None}
        return {"own": own, "tasks": tasks} if own or tasks else None

    def compile_from_config(self, config):
        for name, settings in config["tasks"].items():
            self.tasks[name].compile(**keras.saving.deserialize_keras_object(settings))
        if config["own"]:
            self.compile(**keras.saving.deserialize_keras_object(config["own"]))
            self.optimizer.build(self.trainable_variables)


def tasks_in_turn(num_batches, steps, epochs, temperature, seed=None):
    """Of which task each batch is, int64 `[epochs * steps]`; every epoch has the same shares.

    Task `i` gets the share `p_i = n_i^(1/T) / Σ_j n_j^(1/T)` of the steps, rounded.

    Args:
        num_batches: `n`, of each task.
        temperature: `T`.
        seed: of the order.
    """
    logits = np.log(num_batches) / temperature
    powers = np.exp(logits - logits.max())
    wanted = steps * powers / powers.sum()
    counts = np.floor(wanted).astype(int)
    rounded_up = np.argsort(counts - wanted, kind="stable")[: steps - counts.sum()]
    counts[rounded_up] += 1
    tasks = np.repeat(np.arange(len(counts)), counts)
    random = np.random.default_rng(seed)
    return np.concatenate([random.permutation(tasks) for _ in range(epochs)])


def _source_in_turn(datasets, turns, mixture):
    """The `text_data.Source` of the batches of several tasks.

    Args:
        datasets: `{name: dataset}`, batches of each task.
        turns: from `tasks_in_turn`, of the names in their order.
        mixture: a dict for JSON of what made the turns.
    """
    names = sorted(datasets)
    sources = [text_data.source_of_fit({"x": datasets[name]}, False, None) for name in names]

    def stream(first):
        taken = np.bincount(turns[:first], minlength=len(names))
        own = {
            name: source.stream(int(count))
            for name, source, count in zip(names, sources, taken, strict=True)
        }
        rest = tf.data.Dataset.from_tensor_slices(turns[first:])
        mixed = tf.data.Dataset.choose_from_datasets(
            _labelled(own), rest, stop_on_empty_dataset=False
        )
        return mixed.prefetch(2)

    def describe():
        tasks = {name: source.describe() for name, source in zip(names, sources, strict=True)}
        return {"tasks": tasks, **mixture}

    return text_data.Source(None, stream, describe)


def _reads_pooler(task):
    return isinstance(task, SequenceHead) and task.hidden is None


def _check_tasks(tasks):
    if not isinstance(tasks, dict) or not tasks:
        raise ValueError(f"a MultiTask needs tasks by name, {{name: task}}, got {tasks!r}")
    (first_name, first), *others = tasks.items()
    for name, task in tasks.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(
                f"a task's name must be a Python identifier, such as 'sentiment', got {name!r}"
            )
        if not isinstance(task, HEADS):
            raise TypeError(
                f"{name!r} is a {type(task).__name__}; a MultiTask takes "
                f"{', '.join(kind.__name__ for kind in HEADS)}"
            )
    for name, task in others:
        for part in ("backbone", "tokenizer"):
            if getattr(task, part) is not getattr(first, part):
                raise ValueError(
                    f"the tasks {first_name!r} and {name!r} do not share one {part}: make the "
                    f"second one by {type(task).__name__}(first.backbone, first.tokenizer, …), or "
                    "all of them by MultiTask.from_preset"
                )
    if len({id(task) for task in tasks.values()}) < len(tasks):
        raise ValueError("a task has two names; make a task for each")


def _check_same_encoder(backbone, other, directory):
    """Raise ValueError unless both have the same weights, but for poolers: some tasks save none."""
    own, others = (
        [weight for weight in encoder.weights if "pooler" not in weight.path]
        for encoder in (backbone, other)
    )
    for weight, wanted in zip(others, own, strict=True):
        if not np.array_equal(ops.cast(weight, wanted.dtype), wanted):
            raise ValueError(
                f"{directory} has another encoder than {directory.parent}: it was trained apart "
                "since; load it by itself, or save its MultiTask again"
            )


def _temperature(sampling):
    if sampling == PROPORTIONAL:
        return 1.0
    is_number = isinstance(sampling, (int, float)) and not isinstance(sampling, bool)
    if not is_number or not sampling > 0:
        raise ValueError(
            f'sampling must be "{PROPORTIONAL}" or a temperature above 0, got {sampling!r}'
        )
    return float(sampling)


def _num_batches(name, dataset):
    count = int(dataset.cardinality())
    if count <= 0:
        raise ValueError(
            f"nobody knows how many batches the data set of {name!r} has, which decides how tasks "
            "are mixed: apply tf.data.experimental.assert_cardinality(…) to it"
        )
    return count


def _labelled(datasets):
    """A list of data sets of `(number, {name: batch})`, sorted by name: see `MultiTask._step`."""
    names = sorted(datasets)
    empty = {
        name: tf.nest.map_structure(
            lambda spec: tf.zeros([0, *(size or 0 for size in spec.shape[1:])], spec.dtype),
            datasets[name].element_spec,
        )
        for name in names
    }

    def labelled(number, name):
        return datasets[name].map(lambda *batch: (number, {**empty, name: batch}))

    return [labelled(number, name) for number, name in enumerate(names)]


def _columns(data):
    """`(x, y, sample_weight)` of what a task is given."""
    if not isinstance(data, tuple):
        return data, None, None
    return (*data, None)[:3]


def _examples(task, data, split):
    """The same, with what the `fit` of the task does before it makes batches."""
    x, y, sample_weight = _columns(data)
    if isinstance(task, TextClassifier) and isinstance(x, str):
        x, y = text_data.load_tfds(x, split)
    elif isinstance(task, TokenClassifier) and isinstance(x, (str, pathlib.Path)):
        x = read_tagged(x, split=split)
    elif isinstance(task, QuestionAnswerer) and text_data.is_raw(x):
        questions, kept = squad.aligned(squad.read_questions(x, y))
        x = [(question.question, question.context) for question in questions]
        y = [question.answers for question in questions]
        sample_weight = None if sample_weight is None else np.asarray(sample_weight)[kept]
    return x, y, sample_weight
