"""A task that is an encoder and a head on its outputs, which can learn alone."""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf

from lingxi.tasks.task import Task, answers_in_turn, run_batches
from lingxi.training import lora_layers

HEAD_LEARNING_RATE = 1e-3
KEPT = "features"  # name of the input in place of token ids


class HeadTask(Task):
    """`outputs(features(inputs))`: what the encoder gives, and what the head makes of it.

    A subclass writes `features` `[batch, hidden]` or `[batch, seq, hidden]` of tokenized inputs,
    and `outputs` of features; and `examples`, if its `_raw_batches` does not take all that its
    `fit` takes.
    """

    def call(self, inputs, training=None):
        features = inputs.get(KEPT)
        if features is None:
            features = self.features(inputs, training)
        return self.outputs(features, training)

    def examples(self, x, y=None):
        """Raw examples and their targets as `_raw_batches` takes them."""
        return x, y

    def fit_head(
        self,
        x,
        y=None,
        validation_data=None,
        epochs=1,
        batch_size=None,
        learning_rate=HEAD_LEARNING_RATE,
        seed=None,
        **kwargs,
    ):
        """Train the head alone: the encoder runs once over each text, without dropout.

        Many epochs then cost little. The features are kept in memory, 4 bytes a number: of a
        classifier one vector a text, of a task that reads tokens one vector a token. For features
        of an encoder that learns too, use `fit`; for one that does not but whose inputs change, set
        `backbone.trainable = False` first.

        Args:
            x, y, validation_data: raw texts and what to learn of them, as in `fit`.
            epochs, batch_size, kwargs: as in `keras.Model.fit`.
            learning_rate: of Adam, constant.
            seed: of the order of the examples.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: no texts; the head has LoRA weights (`lingxi.training.merge_lora` first).
        """
        if lora_layers(self):
            raise ValueError("this task has LoRA weights: call lingxi.training.merge_lora first")
        if seed is not None:
            keras.utils.set_random_seed(seed)
        data = self._kept_features(x, y, batch_size, "shuffled", seed)
        if validation_data is not None:
            if not isinstance(validation_data, tuple):
                validation_data = (validation_data, None)
            validation_data = self._kept_features(*validation_data, batch_size, "sorted")
            if len(validation_data) == 1:
                (validation_data,) = validation_data
        head = self.over(self.backbone)
        with _kept_as_it_is(self.backbone):
            head.compile(keras.optimizers.Adam(learning_rate))
            options = {"epochs": epochs, "batch_size": batch_size, **kwargs}
            if isinstance(data[0], tf.data.Dataset):  # whose batches are made and shuffled
                options |= {"batch_size": None, "shuffle": False}
            history = keras.Model.fit(head, *data, validation_data=validation_data, **options)
        self.copy_head(head)
        return history

    def _kept_features(self, x, y, batch_size, order, seed=None):
        """What `keras.Model.fit` takes: `(x, y)`; of features of tokens `(data set,)`."""
        batches = self._raw_batches(*self.examples(x, y), batch_size, "sorted")
        if not batches.num_examples:
            raise ValueError(f"got no texts; pass at least one text and its {self.target}")
        if self._features_graph.get_concrete_function().structured_outputs.shape.rank == 2:
            features = run_batches(self._features_graph, batches, "auto", "encode")
            return {KEPT: features}, batches.targets
        features = np.zeros([batches.splits[-1], self.backbone.config.hidden_dim], "float32")
        for rows, found in answers_in_turn(self._features_graph, batches, "auto", "encode"):
            place, real = batches.places(rows, found.shape[1])
            features[place[real]] = found.numpy()[real]
        return (batches.with_input(KEPT, features, order, seed).dataset(),)

    @functools.cached_property
    def _features_graph(self):
        return self._graph(lambda inputs: tf.cast(self.features(inputs, False), tf.float32))


@contextlib.contextmanager
def _kept_as_it_is(backbone):
    """Within it no weight of the backbone learns."""
    learning = backbone.trainable_variables
    try:
        for variable in learning:
            variable.trainable = False
        yield
    finally:
        for variable in learning:
            variable.trainable = True
