"""Dropout."""

import keras


@keras.saving.register_keras_serializable(package="lingxi")
class Dropout(keras.layers.Dropout):
    pass
