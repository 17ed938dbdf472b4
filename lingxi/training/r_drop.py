"""Two dropouts of a batch that shall agree."""

import keras

from lingxi.training.gradients import gradients
from lingxi.training.technique import Technique, check_positive, dropout_states


@keras.saving.register_keras_serializable(package="lingxi")
class RDrop(Technique):
    """Regularized dropout (Wu et al. 2021, eq. 4): `L₁ + L₂ + α/2 (KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁))`.

    The model goes twice over the batch, with different dropout. Twice the work of a plain step, and
    the memory of twice the batch.

    Args:
        alpha: α.

    Raises:
        ValueError: while training, of a model without dropout. TypeError: of a task whose outputs
            are no probabilities.
    """

    def __init__(self, alpha=1.0):
        check_positive(alpha=alpha)
        self.alpha = alpha

    def loss_and_gradients(self, model, x, y, sample_weight, scale_loss):
        if not dropout_states(model):
            raise ValueError(
                "RDrop compares two dropouts, but this model has none: give the config of its "
                "backbone a dropout above 0"
            )

        def both(_):
            first, second = model(x, training=True), model(x, training=True)
            losses = [
                model.compute_loss(x, y, outputs, sample_weight, training=True)
                for outputs in (first, second)
            ]
            divergence = model.divergence(x, y, first, second, sample_weight)
            divergence += model.divergence(x, y, second, first, sample_weight)
            loss = losses[0] + losses[1] + self.alpha / 2 * divergence
            return scale_loss(loss), (loss, first)

        (loss, first), by_weights, _ = gradients(both, model.trainable_weights)
        return loss, first, by_weights

    def get_config(self):
        return {"alpha": self.alpha}
