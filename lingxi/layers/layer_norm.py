"""Layer normalization."""

import keras


@keras.saving.register_keras_serializable(package="lingxi")
class LayerNorm(keras.layers.LayerNormalization):
    pass
