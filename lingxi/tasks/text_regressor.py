"""Text regression: a number for a text, or for a pair of texts such as how similar they are."""

import keras
import numpy as np
import tensorflow as tf

from lingxi.tasks.labels import Labels
from lingxi.tasks.sequence_head import HEAD, SequenceHead

SURE = 1e-2  # of the numbers' spread, by which an artifact may be wrong


@keras.saving.register_keras_serializable(package="lingxi")
class TextRegressor(SequenceHead):
    """An encoder that gives a number, trained and called on raw text.

    As a Keras model it takes what `tokenizer` returns and gives `[batch, 1]`.

    Args:
        backbone, tokenizer, max_length, dropout: as of `SequenceHead`.
    """

    verb = "rate"
    target = "number"

    def __init__(self, backbone, tokenizer, max_length=None, dropout=None, **kwargs):
        super().__init__(backbone, tokenizer, 1, max_length, dropout, **kwargs)

    def default_loss(self):
        """Mean squared error."""
        return keras.losses.MeanSquaredError()

    def default_metrics(self):
        """Mean absolute error, and Pearson's correlation."""
        return [
            keras.metrics.MeanAbsoluteError(name="mae"),
            keras.metrics.PearsonCorrelation(name="pearson", axis=0),
        ]

    def metrics_example(self):
        """Targets and outputs of one example."""
        return np.zeros((1, 1), "float32"), np.zeros((1, 1), "float32")

    def divergence(self, x, y, outputs, others, sample_weight=None):
        """Of normal distributions of variance 1, as the loss takes them: `(a − b)² / 2`."""
        return keras.losses.MeanSquaredError()(outputs, others, sample_weight) / 2.0

    def targets(self, y):
        """Numbers, float32 `[examples, 1]`.

        Raises:
            TypeError: one is none. ValueError: one is infinite or not a number.
        """
        for index, value in enumerate(y):
            if isinstance(value, (str, bytes, bool)) or not np.isscalar(value):
                raise TypeError(f"y must hold numbers, got {value!r} for text {index}")
        numbers = np.asarray(y, "float32").reshape(-1, 1)
        if not np.isfinite(numbers).all():
            index = int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise ValueError(f"y must hold finite numbers, got {y[index]!r} for text {index}")
        return numbers

    def targets_in_graph(self, y):
        return tf.reshape(tf.cast(y, tf.float32), [-1, 1])

    def rate(self, texts, batch_size=None, verbose="auto"):
        """A float for each text or `(text, pair)`; arguments as of `TextClassifier.classify`."""
        return self.answers_to(texts, batch_size, verbose, "rate")["score"].tolist()

    def answers(self, inputs):
        """`score` float32 `[batch]`."""
        return {"score": tf.cast(self(inputs, training=False), tf.float32)[:, 0]}

    def disagreement(self, expected, found):
        """0 where a number is that of the task, but for a hundredth of how far its numbers spread;
        else by how much it is further away.
        """
        wanted = expected["score"]
        error = np.abs(found["score"] - wanted)
        return np.maximum(error - SURE * max(float(np.ptp(wanted)), 1e-3), 0.0)

    @classmethod
    def from_preset(
        cls, name, max_length=None, vocabulary=None, load_weights=True, dtype=None, **kwargs
    ):
        """A regressor from a pretrained encoder, or a trained regressor.

        Args:
            name: as in `lingxi.zoo.Bert.from_preset`; or a directory that `save_preset` wrote, or
                that of a `…ForSequenceClassification` of Hugging Face with one label.
            max_length, vocabulary, load_weights, dtype: as in `TextClassifier.from_preset`.
        """
        parts = cls.load_parts(name, vocabulary, load_weights, dtype)
        backbone, tokenizer, directory, config = parts
        settings = {**cls.settings_in(config, backbone, max_length), **kwargs}
        regressor = cls(backbone, tokenizer, dtype=dtype, **settings)
        if load_weights and cls.is_trained(config, HEAD) and len(Labels.names_in(config)) == 1:
            regressor.load_head(directory)
        return regressor

    def preset_config(self):
        labels = Labels(["LABEL_0"])  # the one number's name in `transformers`
        return {**super().preset_config(), "problem_type": "regression", **labels.to_config()}
