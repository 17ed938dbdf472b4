"""How many named entities a model finds."""

from typing import NamedTuple

import keras
import tensorflow as tf

from lingxi.text.tags import TagScheme
from lingxi.training.losses import IGNORED


@keras.saving.register_keras_serializable(package="lingxi")
class EntityScores(keras.metrics.Metric):
    """Precision, recall and F1 of whole entities, over all types together.

    An entity is found if one of the same type is predicted from its first to its last word. What
    is an entity is said by `lingxi.text.tags.TagScheme`; the numbers are those of seqeval. On the
    TensorFlow backend.

    `result` is a dict: `fit` logs "precision", "recall" and "f1" and, of validation data,
    "val_f1" and so on.

    Args:
        names: of the tags, in the order of the logits.
    """

    def __init__(self, names, name="entity_f1", **kwargs):
        super().__init__(name=name, **kwargs)
        self.scheme = TagScheme(names)
        self.found, self.predicted, self.gold = (
            self.add_weight(shape=(), initializer="zeros", name=count)
            for count in ("found", "predicted", "gold")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count the entities of a batch.

        Args:
            y_true: int `[batch, seq]`, tags; positions that are `IGNORED` are left out of both.
            y_pred: `[batch, seq, tags]`, of which the greatest is the predicted tag.
            sample_weight: `[batch]` or `[batch, seq]`: an entity weighs what its first word does.
        """
        labels = tf.cast(y_true, tf.int32)
        is_word = labels != IGNORED
        rows = tf.cast(tf.where(is_word)[:, 0], tf.int32)
        gold = tf.boolean_mask(labels, is_word)
        predicted = tf.boolean_mask(tf.argmax(y_pred, axis=-1, output_type=tf.int32), is_word)
        gold_types, gold_ends = self._entities(gold, rows)
        types, ends = self._entities(predicted, rows)

        weights = tf.ones_like(gold, tf.float32)
        if sample_weight is not None:
            sample_weight = tf.cast(sample_weight, tf.float32)
            if sample_weight.shape.rank == 1:
                sample_weight = tf.expand_dims(sample_weight, 1)
            weights = tf.boolean_mask(tf.broadcast_to(sample_weight, tf.shape(labels)), is_word)

        def count(variable, is_counted):
            variable.assign_add(tf.reduce_sum(tf.where(is_counted, weights, 0.0)))

        count(self.gold, gold_types >= 0)
        count(self.predicted, types >= 0)
        count(self.found, (types >= 0) & (types == gold_types) & (ends == gold_ends))

    def _entities(self, tag_ids, row_ids):
        """Of each word that starts an entity its type and its end, exclusive; else -1 and -1."""
        starts = self.scheme.starts_in_graph(tag_ids, row_ids)
        types = tf.gather(self.scheme.type_ids, tag_ids)
        starts_or_outside = starts | (types < 0)
        # The last word of an entity is the last before the next start or the next outside.
        run = tf.cumsum(tf.cast(starts_or_outside, tf.int32)) - 1
        after = tf.range(tf.size(tag_ids)) + 1
        ends = tf.gather(tf.math.unsorted_segment_max(after, run, tf.size(tag_ids)), run)
        return tf.where(starts, types, -1), tf.where(starts, ends, -1)

    def result(self):
        """`{"precision", "recall", "f1"}`, of which 0 / 0 is 0."""
        found, predicted, gold = (
            tf.convert_to_tensor(count) for count in (self.found, self.predicted, self.gold)
        )
        return {
            "precision": tf.math.divide_no_nan(found, predicted),
            "recall": tf.math.divide_no_nan(found, gold),
            "f1": tf.math.divide_no_nan(2.0 * found, predicted + gold),
        }

    def get_config(self):
        return {**super().get_config(), "names": self.scheme.names}


class EntityReport(NamedTuple):
    """The scores of one entity type; `count` is how many there are to find."""

    precision: float
    recall: float
    f1: float
    count: int


def entity_report(names, gold, predicted):
    """`{type: EntityReport}` for every type among the tag names.

    Args:
        names: of the tags.
        gold, predicted: a list of tag ids for each text.

    Raises:
        ValueError: not as many texts, or tags of one, in both.
    """
    scheme = TagScheme(names)
    if len(gold) != len(predicted):
        raise ValueError(f"got tags of {len(gold)} texts, but predictions of {len(predicted)}")
    wanted, got = set(), set()
    for row, (tags, guesses) in enumerate(zip(gold, predicted, strict=True)):
        if len(tags) != len(guesses):
            raise ValueError(f"text {row} has {len(tags)} tags, but {len(guesses)} predictions")
        wanted |= {(row, *entity) for entity in scheme.entities(tags)}
        got |= {(row, *entity) for entity in scheme.entities(guesses)}

    def report(kind):
        found, predicted, count = (
            sum(entity[-1] == kind for entity in entities)
            for entities in (wanted & got, got, wanted)
        )
        return EntityReport(
            found / predicted if predicted else 0.0,
            found / count if count else 0.0,
            2 * found / (predicted + count) if predicted + count else 0.0,
            count,
        )

    return {kind: report(kind) for kind in scheme.types}
