"""What every task shares: a backbone and its tokenizer, training on raw data, presets."""

import collections
import concurrent.futures
import contextlib
import functools
import numbers
import os

import keras
import numpy as np
import tensorflow as tf

from lingxi import text
from lingxi.answers.batches import split_pairs
from lingxi.answers.progress import progress
from lingxi.data import TableStream
from lingxi.tasks import text_data
from lingxi.tasks.fine_tuning import LEARNING_RATE, chosen_schedule, default_optimizer
from lingxi.tasks.text_batches import TextBatches
from lingxi.training import (
    Checkpoints,
    ProgressBar,
    Technique,
    fit_resumably,
    is_first_process,
    run_seed,
    split_rows,
)
from lingxi.training import layer_decay as rate_factors
from lingxi.zoo import preset

TOKENIZERS = {
    kind.__name__: kind
    for kind in (text.ByteBpeTokenizer, text.SentencePieceTokenizer, text.WordPieceTokenizer)
}

AT_ONCE = 2  # batches: where small operations of one leave cores idle, the other works


class Task(keras.Model):
    """A backbone and a head, trained and called on raw text.

    A subclass is registered with Keras, takes `(backbone, tokenizer, …)` and writes

    - `architectures`, the classes of its backbones, and `call`, from token ids to logits;
    - `default_loss`, `default_metrics`, `metrics_example`; `targets` and `targets_in_graph`;
      `check_columns`, if tables have other columns than texts and their labels;
    - `answers`, and `readable` if these have names, what artifacts run; the method that `verb`
      names, by `answers_to`; `disagreement`; `divergence` where outputs are probabilities;
    - `from_preset`, by `load_parts`; `preset_config` and `checkpoint_table`; and adds its own
      arguments to `get_config`, its own facts to `export_metadata`.

    Args:
        backbone: a model of `lingxi.zoo`.
        tokenizer: the backbone's `lingxi.text.Tokenizer`.
        max_length: longest sequence in tokens; longer texts are cut. By default the shorter of
            the tokenizer's and the backbone's maximum.
    """

    architectures = ()
    verb = None  # the name of the method that takes texts and gives plain answers
    target = "label"  # what `y` has for each text, in messages
    takes_pairs = True  # of texts
    takes_only_pairs = False

    def __init__(self, backbone, tokenizer, max_length=None, **kwargs):
        super().__init__(**kwargs)
        if tokenizer.vocab_size > backbone.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, but the backbone only "
                f"{backbone.config.vocab_size}; they do not belong together"
            )
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.max_length = self._longest()
        self.max_length = self.checked_max_length(max_length)
        self.technique = None
        self._compiled_by_default = True

    def checked_max_length(self, max_length=None):
        """`max_length` if this model can read so many tokens; None gives the task's own."""
        if max_length is None:
            return self.max_length
        if not isinstance(max_length, numbers.Integral):
            raise TypeError(f"max_length must be a whole number of tokens, got {max_length!r}")
        shortest = max(1, self.tokenizer.template.num_special(2))
        longest = self._longest()
        if not shortest <= max_length <= longest:
            raise ValueError(
                f"max_length must be from {shortest} to {longest} (this model's longest), "
                f"got {max_length}"
            )
        return int(max_length)

    def _longest(self):
        """Tokens that tokenizer and backbone both take; T5's relative positions have no end."""
        return min(
            self.tokenizer.max_length,
            getattr(self.backbone.config, "max_length", self.tokenizer.max_length),
        )

    def check_pairs(self, pairs):
        """Whether an artifact takes pairs of texts, where `pairs` says what is wanted.

        Raises:
            ValueError: pairs, of a task that takes only single texts.
        """
        if pairs and not self.takes_pairs:
            raise ValueError(f"a {type(self).__name__} takes single texts, not pairs")
        return pairs or self.takes_only_pairs

    def static_length(self, max_length=None):
        """To how many tokens every text is padded where shapes are static; as `max_length` says."""
        return self.checked_max_length(max_length)

    # Training

    def compile(self, optimizer=None, loss=None, metrics=None, technique=None, **kwargs):
        """As in Keras; what is left out gets the default of the task.

        Defaults: `lingxi.training.AdamW` at 5e-5 with gradients clipped to norm 1 and no decay of
        biases and norms (and, when `fit` compiles, linear warm-up over a tenth of the steps, then
        linear decay); the task's loss and metrics.

        Args:
            technique: a `lingxi.training.Technique`, such as `lingxi.training.Fgm()`.
        """
        if technique is not None and not isinstance(technique, Technique):
            raise TypeError(
                "technique must be a lingxi.training.Technique, such as lingxi.training.Fgm(), got "
                f"{technique!r}"
            )
        self._compiled_by_default = False
        self.technique = technique
        # Shapes vary, and XLA compiles for each; without it JAX would run every operation alone.
        kwargs.setdefault("jit_compile", keras.backend.backend() == "jax")
        super().compile(
            optimizer=self.default_optimizer() if optimizer is None else optimizer,
            loss=self.default_loss() if loss is None else loss,
            metrics=self.default_metrics() if metrics is None else metrics,
            **kwargs,
        )

    def default_optimizer(self, learning_rate=LEARNING_RATE, total_steps=None, **schedule):
        """What `compile` takes if it is given none; `fit` knows the number of its steps.

        Args:
            schedule: `schedule` and `warmup`, if others are wanted than the task's own.
        """
        return default_optimizer(learning_rate, total_steps, **schedule)

    def fit(
        self,
        x=None,
        y=None,
        validation_data=None,
        epochs=1,
        batch_size=None,
        class_weight=None,
        sample_weight=None,
        shuffle=True,
        seed=None,
        learning_rate=LEARNING_RATE,
        layer_decay=None,
        schedule=None,
        warmup=None,
        technique=None,
        jit_compile=None,
        resume=None,
        **kwargs,
    ):
        """Train on raw texts, in any form that the task takes, or on tokenized inputs.

        With `resume` the training writes checkpoints and, called again with the same arguments in a
        new process, goes on from the newest: whenever it was killed, weights, optimizer and history
        end as those of a training that was not, to the last bit. Weights, optimizer, the random
        numbers of layers, metrics, the history, the order of the data and the callbacks of Keras
        that wait or compare are part of it; of other callbacks see
        `lingxi.training.ResumableCallbacks`. A `tf.data.Dataset` of one's own must give the same
        batches in every process; those behind are read again. A finished training gives its history
        at once, and goes on if `epochs` are more. Bits are the same on the same machine with the
        same versions; on a GPU after `tf.config.experimental.enable_op_determinism()`.

        If the loss is no longer a number, or a checkpoint cannot be written, the training ends with
        an error that names the last good checkpoint.

        Args:
            layer_decay: each block learns by so much of the rate of the one above it, as in
                `lingxi.training.layer_decay`; of the default optimizer.
            schedule: "linear" (the default of most tasks), "constant", "cosine", "polynomial",
                "exponential" or "inverse_square_root", as in `lingxi.training.named_schedule`; of
                the default optimizer.
            warmup: share of all steps over which the rate rises, by default 0.1; or (an int) steps.
            technique: a `lingxi.training.Technique`, unless `compile` was called: it takes one too.
            jit_compile: True to have XLA compile the steps, anew for every shape of a batch: faster
                for small models and batches of one shape, as the blocks of a `TextGenerator` are;
                unless `compile` was called, which takes it too.
            resume: a directory of this training, which may not exist yet; or
                `lingxi.training.Checkpoints`, which say how often to write and what to keep.
            x, y, …: see the task.
        """
        if not self._compiled_by_default:
            refuse_of_default(
                layer_decay=layer_decay,
                schedule=schedule,
                warmup=warmup,
                technique=technique,
                jit_compile=jit_compile,
            )
        seed = run_seed(resume, seed)
        order = "shuffled" if shuffle else "given"
        data = self._batches(x, y, batch_size, order, sample_weight, seed)
        if isinstance(validation_data, tuple) and text_data.is_raw(validation_data[0]):
            x, y, *weight = validation_data
            validation_data = self._batches(x, y, batch_size, "sorted", *weight)["x"]
        elif isinstance(validation_data, (tf.data.Dataset, TableStream)):
            validation_data = self._batches(validation_data, None, batch_size, "sorted")["x"]
        # A data set of ours is shuffled already; Keras warns when asked to shuffle one again.
        kwargs["shuffle"] = shuffle and not isinstance(data["x"], tf.data.Dataset)
        if self._compiled_by_default:
            steps = kwargs.get("steps_per_epoch") or text_data.steps_per_epoch(data)
            total = steps and epochs * steps
            chosen = chosen_schedule(total, schedule, warmup)
            with self._strategy_scope():
                optimizer = self.default_optimizer(learning_rate, total, **chosen)
                if layer_decay is not None:
                    optimizer.rate_factors = rate_factors(self, layer_decay)
                own = {} if jit_compile is None else {"jit_compile": jit_compile}
                self.compile(optimizer, technique=technique, **own)
                self._create_training_state()
            self._compiled_by_default = True
        kwargs |= {
            "validation_data": validation_data,
            "epochs": epochs,
            "class_weight": class_weight,
        }
        if not is_first_process():
            kwargs["verbose"] = 0
        on_jax = keras.backend.backend() == "jax"  # where Keras would begin a pass over the data
        if not self.optimizer.built and (on_jax or resume is not None):
            self._create_training_state()
        if self._shows_speed(**kwargs):
            own = keras.tree.flatten(kwargs.get("callbacks") or [])
            kwargs["callbacks"] = [*own, ProgressBar()]
        if resume is None:
            return super().fit(**data, **kwargs)
        source = text_data.source_of_fit(data, shuffle, seed)
        kwargs["shuffle"] = False
        return fit_resumably(self, super().fit, source, Checkpoints.at(resume), seed, **kwargs)

    def train_step(self, *batch):
        batch = *batch[:-1], split_rows(batch[-1])
        if self.technique is None:
            return super().train_step(*batch)
        return self.technique.train_step(self, *batch)

    @property
    def non_trainable_variables(self):
        """Those of Keras, and the random numbers of the technique: a step on JAX is given them."""
        variables = super().non_trainable_variables
        return variables if self.technique is None else [*variables, *self.technique.variables]

    def test_step(self, *batch):
        return super().test_step(*batch[:-1], split_rows(batch[-1]))

    def divergence(self, x, y, outputs, others, sample_weight=None):
        """`KL(P ‖ Q)` of the distributions that two outputs of the model are, a mean as the loss.

        Args:
            x, y, sample_weight: of the batch, as of `compute_loss`.
            outputs, others: of the model; what they say are P and Q.

        Raises:
            TypeError: the outputs of this task are no distributions.
        """
        raise TypeError(
            f"the outputs of a {type(self).__name__} are no probabilities, so that two of them "
            "have no divergence; train it without VirtualAdversarial and RDrop (Fgm, Pgd and "
            "FreeLb take every loss)"
        )

    def _shows_speed(self, verbose="auto", callbacks=None, **_):
        """Whether the bar of `fit` is ours: it reads a count, which elsewhere is far away."""
        is_near = keras.backend.backend() == "tensorflow" and self._distribute_strategy is None
        return verbose and is_near and not isinstance(callbacks, keras.callbacks.CallbackList)

    def _strategy_scope(self):
        """That of the `tf.distribute` strategy which this task was made under."""
        if keras.backend.backend() != "tensorflow":
            return contextlib.nullcontext()
        return self.distribute_strategy.scope()

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras' own takes the mean of a batch over all replicas, and bools have none."""
        if self._distribute_strategy is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self._create_training_state()

    def _create_training_state(self):
        """The variables of optimizer and metrics: made in the first step, it is traced twice."""
        self.optimizer.build(self.trainable_variables)
        targets, logits = self.metrics_example()
        self.compute_loss(y=targets, y_pred=logits)
        self.compute_metrics(None, targets, logits)
        self.reset_metrics()

    def evaluate(self, x=None, y=None, batch_size=None, sample_weight=None, **kwargs):
        """As in Keras, on anything that `fit` takes."""
        if not self.compiled:
            self.compile()
            self._compiled_by_default = True
        data = self._batches(x, y, batch_size, "sorted", sample_weight)
        return super().evaluate(**data, **kwargs)

    def _batches(self, x, y, batch_size, order, sample_weight=None, seed=None):
        """The arguments `x`, `y`, … of `keras.Model.fit` for anything that `fit` accepts."""
        if isinstance(x, tf.data.Dataset):
            shuffle = order == "shuffled"
            dataset = text_data.tokenized_dataset(
                x, self.encode_in_graph, batch_size, shuffle, seed
            )
            return {"x": dataset}
        if isinstance(x, TableStream):
            options = {"batch_size": batch_size, "order": order, "seed": seed}
            return {"x": self.stream_batches(x, y, sample_weight, **options).dataset()}
        if not text_data.is_raw(x):
            data = {"x": x, "y": y, "batch_size": batch_size, "sample_weight": sample_weight}
            return {name: value for name, value in data.items() if value is not None}
        if y is None:
            raise ValueError(
                f"raw texts need their {self.target}s: pass y, one {self.target} for each text"
            )
        batches = self._raw_batches(x, y, batch_size, order, sample_weight, seed)
        if not batches.num_batches:
            raise ValueError(f"got no texts; pass at least one text and its {self.target}")
        return {"x": batches.dataset()}

    def stream_batches(self, stream, y=None, sample_weight=None, kind=TextBatches, **options):
        """The batches of a `lingxi.data.TableStream`.

        Args:
            kind: `lingxi.tasks.text_batches.TextBatches`, or a subclass; options are of that.

        Raises:
            ValueError: its columns are not what the task learns from; labels or weights beside it.
        """
        if y is not None or sample_weight is not None:
            raise ValueError("a TableStream has its own labels: pass neither y nor sample_weight")
        self.check_columns(stream.table)
        return kind.of_stream(self, stream, **options)

    def check_columns(self, table):
        """Raise ValueError unless `fit` can learn from a `lingxi.data.Table`."""
        if table.label_column is None:
            raise ValueError(
                f"a {type(self).__name__} learns the {self.target}s of texts, but label_column is "
                "None: name their column in TableStream(…, label_column=…)"
            )

    def _raw_batches(self, x, y, batch_size, order, sample_weight=None, seed=None, max_length=None):
        inputs, targets = self.encode(x, y, max_length)
        if sample_weight is not None:
            check_equally_many(inputs, sample_weight, "sample weight")
            sample_weight = np.asarray(sample_weight, "float32")
        return text_data.LengthBucketedBatches(
            inputs,
            targets,
            batch_size or text_data.BATCH_SIZE,
            self.tokenizer.pad_id,
            order,
            seed=seed,
            sample_weights=sample_weight,
        )

    def encode(self, x, y=None, max_length=None):
        """Raw texts, and what to learn of them if given, to `(inputs, targets)`.

        The inputs are ragged tensors `[examples, (seq)]`, the targets an array, or None.
        """
        first, second = split_pairs(x)
        max_length = self.checked_max_length(max_length)
        inputs = self.tokenizer(first, second, max_length=max_length, padding=None)
        if y is None:
            return inputs, None
        check_equally_many(inputs, y, self.target)
        return inputs, self.targets(y)

    def encode_in_graph(self, texts, targets=None, *weights):
        """A batch of a data set of raw texts to a batch of token ids."""
        first, second = texts if isinstance(texts, tuple) else (texts, None)
        inputs = self.tokenizer(first, second, max_length=self.max_length)
        inputs = text_data.lengthened(inputs, self.tokenizer.pad_id, self.max_length)
        if targets is None:
            return inputs
        return (inputs, self.targets_in_graph(targets), *weights)

    # Running

    def predict(self, x, batch_size=None, verbose="auto", **kwargs):
        """Logits `[examples, …]` for texts, pairs, a data set or tokenized inputs."""
        if isinstance(x, tf.data.Dataset):
            x = text_data.tokenized_dataset(x, self.encode_in_graph, batch_size)
        if not text_data.is_raw(x):
            return super().predict(x, batch_size=batch_size, verbose=verbose, **kwargs)
        return self._run(self._logits_graph, x, batch_size, verbose, "predict")

    def answers_to(self, x, batch_size=None, verbose=False, description="", max_length=None):
        """What `answers` gives for raw texts: arrays `[examples, …]`, in the order of the texts.

        Args:
            batch_size: texts a step; texts are grouped by length.
            verbose, description: of the progress bar, as in `lingxi.answers.progress`.
            max_length: in tokens, by default the task's.
        """
        return self._run(self._answers_graph, x, batch_size, verbose, description, max_length)

    def _run(self, graph, x, batch_size, verbose, description, max_length=None):
        batches = self._raw_batches(x, None, batch_size, "sorted", max_length=max_length)
        return run_batches(graph, batches, verbose, description)

    @functools.cached_property
    def _answers_graph(self):
        return self._graph(self.answers)

    @functools.cached_property
    def _logits_graph(self):
        return self._graph(lambda inputs: tf.cast(self(inputs, training=False), tf.float32))

    def _graph(self, function):
        """`function` of tokenized inputs, traced once for every batch and sequence length."""
        return tf.function(function, input_signature=[self.tokenized_signature()], autograph=False)

    # Serving

    def tokenized_signature(self, batch=None, length=None):
        """What the model takes: one `tf.TensorSpec` `[batch, seq]` for each input."""
        dtypes = {"token_ids": tf.int32, "segment_ids": tf.int32, "padding_mask": tf.bool}
        if not self.tokenizer.has_segments:
            del dtypes["segment_ids"]
        return {
            name: tf.TensorSpec([batch, length], dtype, name=name) for name, dtype in dtypes.items()
        }

    def tokenized(self, text, pair=None, max_length=None, padding="longest"):
        """Raw texts to what `answers` takes; arguments as of `serving_function`."""
        max_length = self.checked_max_length(max_length)
        return self.tokenizer(text, pair, max_length=max_length, padding=padding)

    def serving_function(self, text, pair=None, max_length=None, padding="longest", answers=None):
        """Raw texts to final answers: the one function that every artifact runs.

        Args:
            text, pair: string tensors `[batch]`.
            max_length: in tokens, by default the task's.
            padding: of the tokenizer.
            answers: a function to run in place of `self.answers`, such as a frozen copy of it.

        Returns:
            What `readable` makes of `answers`.
        """
        inputs = self.tokenized(text, pair, max_length, padding)
        return self.readable((answers or self.answers)(inputs))

    def readable(self, answers):
        """What callers get of `answers`: the same, unless a task has names for its numbers."""
        return answers

    def serving_arguments(self):
        """What else `answers` takes: scalars that a caller of a SavedModel may choose."""
        return {}

    def tflite_arguments(self, batch_size):
        """What else `answers` takes in a TFLite file of so many texts a call; None: any number."""
        return {}

    def tflite_kernels(self):
        """Names of the kernels of TensorFlow Text that a TFLite file from raw text needs."""
        return self.tokenizer.tflite_text_in

    @property
    def reads_text_in_tflite(self):
        """Whether TFLite has the operations from raw text to what the model takes."""
        return self.tokenizer.tflite_text_in is not None

    def export_metadata(self):
        """What an artifact must know to give plain answers, as a dict for JSON."""
        return {"task": type(self).__name__}

    def difference(self, expected, found):
        """The largest between numbers that the answers of task and artifact both have."""
        return np.max(
            [
                np.abs(found[name] - values).max()
                for name, values in expected.items()
                if name in found and values.dtype.kind == "f"
            ]
        )

    # Presets

    @classmethod
    def load_parts(cls, name, vocabulary=None, load_weights=True, dtype=None):
        """The parts of a preset: backbone, tokenizer, directory and contents of its config.json.

        The last two are None for a size without a directory.

        Args:
            name: as in the `from_preset` of `architectures`.
            vocabulary: path of a `vocab.txt`, a directory with the files of a tokenizer, or a
                `lingxi.text.Tokenizer`, for a preset that has none.
            load_weights: False for random weights.
            dtype: a Keras dtype policy.
        """
        sizes = {size for architecture in cls.architectures for size in architecture.presets}
        directory = config = None
        if name not in sizes or name in preset.pretrained_presets():
            model_types = {t: a for a in cls.architectures for t in a.layouts}
            directory = preset.resolve(name)
            config = preset.read_config(directory, model_types)
            architecture = model_types[config["model_type"]]
        else:
            architecture = next(a for a in cls.architectures if name in a.presets)
        if vocabulary is None and directory is None:
            raise ValueError(
                f"preset {name!r} is a size, without a vocabulary: pass vocabulary='…/vocab.txt', "
                f"or take a pretrained preset ({', '.join(preset.pretrained_presets())}) "
                "or a directory"
            )
        backbone = architecture.from_preset(directory or name, load_weights, dtype)
        tokenizer = _tokenizer(
            vocabulary or directory, getattr(backbone.config, "max_length", None)
        )
        return backbone, tokenizer, directory, config

    @staticmethod
    def is_trained(config, head):
        """Whether a config.json (or None) has an architecture whose name ends with `head`."""
        return any(name.endswith(head) for name in (config or {}).get("architectures") or ())

    def save_preset(self, directory):
        """Write `config.json`, `model.safetensors` and the files of the tokenizer.

        `from_preset` and the Auto classes of `transformers` load the directory. It appears only
        when it is complete; an older model there is replaced.
        """
        preset.write(directory, self.preset_config(), self.checkpoint_table(), self.tokenizer)

    def preset_config(self):
        """The contents of `config.json`."""
        return {
            **self.backbone.layout.to_contents(self.backbone.config),
            "lingxi": {"task": type(self).__name__, "max_length": self.max_length},
        }

    def over(self, backbone, tokenizer=None):
        """A copy of this task over another backbone: its settings, and the weights of its head."""
        parts = {"backbone": backbone, "tokenizer": tokenizer or self.tokenizer}
        copy = type(self)(**{**self.get_config(), **parts})
        copy.copy_head(self)
        return copy

    def copy_head(self, other):
        """Take the weights of another task of this kind, of all but the backbone."""
        for own, theirs in zip(_head_weights(self), _head_weights(other), strict=True):
            own.assign(theirs)

    # .keras files

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "tokenizer": {
                "class_name": type(self.tokenizer).__name__,
                "config": self.tokenizer.get_config(),
            },
            "max_length": self.max_length,
        }

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"))
        tokenizer = config.pop("tokenizer")
        tokenizer = TOKENIZERS[tokenizer["class_name"]](**tokenizer["config"])
        return cls(backbone, tokenizer, **config)

    def get_compile_config(self):
        """None after a default `compile`: its schedule belonged to one run of `fit`."""
        if self._compiled_by_default:
            return None
        config = super().get_compile_config()
        if self.technique is not None:
            config["technique"] = keras.saving.serialize_keras_object(self.technique)
        return config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


def _head_weights(task):
    shared = {id(weight) for weight in task.backbone.weights}
    return [weight for weight in task.weights if id(weight) not in shared]


def refuse_of_default(**arguments):
    """Raise ValueError if `fit` was given what only a task that it compiles itself can take."""
    instead = {
        "layer_decay": "rate_factors=lingxi.training.layer_decay(task, …)",
        "schedule": "a schedule of keras.optimizers.schedules or lingxi.training",
        "warmup": "lingxi.training.Warmup(schedule or rate, steps)",
    }
    for name, value in arguments.items():
        if value is not None and name in ("technique", "jit_compile"):
            raise ValueError(f"this task was compiled: pass {name} to `compile`, not to `fit`")
        if value is not None:
            raise ValueError(
                f"{name} is for the default optimizer; pass yours "
                f"lingxi.training.AdamW(…) with {instead[name]}"
            )


def run_batches(graph, batches, verbose, description):
    """What `graph` gives for all batches: arrays `[examples, …]`, in the order of the examples.

    An axis of unknown length is that of the tokens.
    """
    outputs = tf.nest.map_structure(
        lambda spec: np.zeros(
            [batches.num_examples, *(n or batches.longest for n in spec.shape[1:])],
            spec.dtype.as_numpy_dtype,
        ),
        graph.get_concrete_function().structured_outputs,
    )
    for rows, answer in answers_in_turn(graph, batches, verbose, description):
        for array, values in zip(tf.nest.flatten(outputs), tf.nest.flatten(answer), strict=True):
            used = tuple(slice(length) for length in values.shape[1:])
            array[(rows, *used)] = values.numpy()
    return outputs


def answers_in_turn(graph, batches, verbose, description):
    """The numbers of the examples of each batch, and what `graph` gives for it."""
    answers = _several_at_once(lambda step: graph(batches[step][0]), batches.num_batches)
    steps = progress(batches.num_batches, description, verbose)
    for step, answer in zip(steps, answers, strict=True):
        yield batches.rows[step], answer


def _several_at_once(function, count):
    """`function` of 0, 1, … in order; `AT_ONCE` calls run while one is read."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        running = collections.deque()
        for step in range(count):
            running.append(pool.submit(function, step))
            if len(running) > AT_ONCE:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def check_equally_many(inputs, values, name):
    """Raise ValueError unless there is one of `values` for each example of `inputs`."""
    num_texts = inputs["token_ids"].shape[0]
    if len(values) != num_texts:
        raise ValueError(
            f"got {num_texts} texts, but {len(values)} {name}s; there must be one for each text"
        )


def _tokenizer(source, max_length):
    """The tokenizer that `source` is, or that its file or directory holds."""
    if isinstance(source, text.Tokenizer):
        return source
    if os.path.isdir(source):
        return text.from_directory(source, max_length)
    return text.WordPieceTokenizer(source, max_length=max_length)
