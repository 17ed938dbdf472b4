"""Training a model from its top to its bottom."""

import re

import keras


class GradualUnfreezing(keras.callbacks.Callback):
    """At first only what is above all blocks learns; then one block more, from above, at a time.

    Howard & Ruder 2018, section 3.3. The embeddings come last. At the end everything may learn
    again, so that a later `fit` begins as usual.

    Args:
        epochs: between two blocks.
    """

    def __init__(self, epochs=1):
        super().__init__()
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        self.epochs = epochs

    def on_train_begin(self, logs=None):
        self._variables = list(self.model.trainable_variables)
        if not self.model.optimizer.built:  # it takes no new variables later
            self.model.optimizer.build(self._variables)
        self._depth = [_block_number(variable) for variable in self._variables]
        self._count = 1 + max((depth for depth in self._depth if depth is not None), default=-1)

    def on_epoch_begin(self, epoch, logs=None):
        lowest = self._count - epoch // self.epochs
        learns = [depth is None or depth >= lowest for depth in self._depth]
        self._set(learns)

    def on_train_end(self, logs=None):
        self._set([True] * len(self._variables))

    def _set(self, learns):
        if learns == [variable.trainable for variable in self._variables]:
            return
        for variable, may_learn in zip(self._variables, learns, strict=True):
            variable.trainable = may_learn
        self.model.make_train_function(force=True)


def _block_number(variable):
    """Of the block that a variable is in; -1 in the embeddings, None above all blocks."""
    number = re.search(r"block_(\d+)/", variable.path)
    if number:
        return int(number[1])
    return -1 if re.search("_embedding/|/embedding_", variable.path) else None
