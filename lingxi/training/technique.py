"""What a task learns of a batch in place of the gradients of its loss alone."""

import itertools

import keras
from keras import ops

from lingxi.training.losses import IGNORED, TokenCrossEntropy


class Technique:
    """A way to train a task: `task.compile(technique=…)` or `task.fit(…, technique=…)`.

    The loss that `fit` shows is what is minimised; the metrics are those of the first pass over
    each batch (the losses of single outputs, of a task with several, are means of all passes). A
    subclass is registered with Keras, and writes `loss_and_gradients`, by
    `lingxi.training.gradients`, and `get_config`; one that draws random numbers has a
    `keras.random.SeedGenerator` as `random`.
    """

    random = None

    def loss_and_gradients(self, model, x, y, sample_weight, scale_loss):
        """What to minimise, and by which step.

        Args:
            model: a compiled `lingxi.tasks.Task`.
            x, y, sample_weight: a batch.
            scale_loss: a function of a loss, whose gradients are wanted: as of an optimizer.

        Returns:
            The loss, a scalar; the outputs of the model, for the metrics; and the gradients, one
            for each of `model.trainable_weights`.
        """
        raise NotImplementedError

    def train_step(self, model, *batch):
        """As `keras.Model.train_step`, which on JAX takes and gives the values of all variables."""
        if keras.backend.backend() != "jax":
            return self._step(model, *batch)
        state, data = batch
        groups = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
        pairs = [
            zip(group, values, strict=True) for group, values in zip(groups, state, strict=True)
        ]
        with keras.StatelessScope(itertools.chain(*pairs)) as scope:
            logs = self._step(model, data)
        return logs, tuple([scope.get_current_value(v) for v in group] for group in groups)

    def _step(self, model, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss, outputs, gradients = self.loss_and_gradients(
            model, x, y, sample_weight, model.optimizer.scale_loss
        )
        if keras.backend.backend() == "tensorflow":
            loss *= ops.cast(model.distribute_strategy.num_replicas_in_sync, loss.dtype)
        num_examples = ops.shape(keras.tree.flatten(x)[0])[0]
        model._loss_tracker.update_state(loss, sample_weight=num_examples)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        return model.compute_metrics(x, y, outputs, sample_weight=sample_weight)

    @property
    def variables(self):
        """What it remembers from step to step: the state of its random numbers."""
        return [] if self.random is None else [self.random.state]

    def get_config(self):
        raise NotImplementedError

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def dropout_states(model):
    """The variables from which the layers of a model draw their dropout."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def name_of(x, token_ids):
    """Under which name a model that embeds these token ids was given them.

    Args:
        x: as of `Technique.loss_and_gradients`.
        token_ids: one of its values.

    Raises:
        ValueError: it is none of them.
    """
    name = next((name for name, values in x.items() if values is token_ids), None)
    if name is None:
        raise ValueError(
            "a technique that changes embeddings finds the padding by the inputs, but the token "
            f"ids that the model embeds are none of these: {', '.join(x)}"
        )
    return name


def token_mask(model, x, y, token_ids):
    """1 at real tokens of a sequence that a model embeds, 0 at padding: float32 `[batch, seq, 1]`.

    Args:
        model, x, y: as of `Technique.loss_and_gradients`.
        token_ids: one of the values of `x`.

    Raises:
        ValueError: it is none of them.
    """
    name = name_of(x, token_ids)
    mask = x.get(name.replace("token_ids", "padding_mask"))
    if mask is None and isinstance(model.loss, TokenCrossEntropy):
        mask = y != IGNORED  # a decoder's padding comes last: only the loss leaves it out
    if mask is None:
        mask = ops.ones_like(token_ids)
    return ops.expand_dims(ops.cast(mask, "float32"), -1)


def check_positive(**values):
    """Raise ValueError unless all are above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
