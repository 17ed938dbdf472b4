"""How many named entities a model finds."""

from typing import NamedTuple

import keras
from keras import ops

from lingxi.text.tags import TagScheme
from lingxi.training.losses import IGNORED


@keras.saving.register_keras_serializable(package="lingxi")
class EntityScores(keras.metrics.Metric):
    """Precision, recall and F1 of whole entities, over all types together.

    An entity is found if one of the same type is predicted from its first to its last word. What
    is an entity is said by `lingxi.text.tags.TagScheme`; the numbers are those of seqeval.

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
        batch, seq = ops.shape(y_true)
        count = batch * seq
        labels = ops.reshape(ops.cast(y_true, "int32"), (count,))
        predicted = ops.reshape(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), (count,))
        weights = ops.ones((batch, seq))
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, "float32")
            if len(sample_weight.shape) == 1:
                sample_weight = ops.expand_dims(sample_weight, 1)
            weights = weights * sample_weight
        rows = ops.repeat(ops.arange(batch), seq)

        # The words come first, in their order, and then what is ignored.
        place = ops.arange(count)
        is_word = ops.not_equal(labels, IGNORED)
        order = ops.argsort(ops.where(is_word, place, place + count))
        gold, predicted, rows, is_word, weights = (
            ops.take(values, order)
            for values in (ops.where(is_word, labels, 0), predicted, rows, is_word, weights)
        )
        is_first = ops.not_equal(rows, ops.roll(rows, 1)) | ops.equal(place, 0)
        gold_types, gold_ends = self._entities(gold, is_first, is_word)
        types, ends = self._entities(predicted, is_first, is_word)

        def add(variable, is_counted):
            variable.assign_add(ops.sum(ops.where(is_counted, weights, 0.0)))

        add(self.gold, gold_types >= 0)
        add(self.predicted, types >= 0)
        add(self.found, (types >= 0) & (types == gold_types) & (ends == gold_ends))

    def _entities(self, tag_ids, is_first, is_word):
        """Of each word that starts an entity its type and its end, exclusive; else -1 and -1."""
        starts = self.scheme.starts(tag_ids, is_first, ops.take, ops.concatenate)
        types = ops.where(is_word, ops.take(self.scheme.type_ids, tag_ids), -1)
        starts = starts & is_word
        # The last word of an entity is the last before the next start or the next outside.
        run = ops.cumsum(ops.cast(starts | (types < 0), "int32")) - 1
        (count,) = ops.shape(tag_ids)
        ends = ops.take(ops.segment_max(ops.arange(count) + 1, run, count), run)
        return ops.where(starts, types, -1), ops.where(starts, ends, -1)

    def result(self):
        """`{"precision", "recall", "f1"}`, of which 0 / 0 is 0."""
        return {
            "precision": ops.divide_no_nan(self.found, self.predicted),
            "recall": ops.divide_no_nan(self.found, self.gold),
            "f1": ops.divide_no_nan(2.0 * self.found, self.predicted + self.gold),
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
