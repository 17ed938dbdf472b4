"""Relative position bias (Raffel et al. 2020, section 2.1)."""

import math

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="lingxi")
class RelativePositionBias(keras.layers.Layer):
    """One learned number per head and distance, shared by all layers, added to the scores.

    Near distances have a bucket each; further ones share buckets that grow with the logarithm of
    the distance, up to `max_distance`.

    Args:
        num_heads: heads of the attention.
        num_buckets: rows of the table.
        max_distance: from here on, all distances share the last bucket.
        bidirectional: half of the buckets are for keys after the query; else keys after the
            query count as distance 0, as in a decoder, which does not see them.
        embeddings_initializer: for the table.
    """

    def __init__(
        self,
        num_heads,
        num_buckets=32,
        max_distance=128,
        bidirectional=True,
        embeddings_initializer="uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, inputs_shape=None):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.num_buckets, self.num_heads),
            initializer=self.embeddings_initializer,
        )

    def call(self, query_positions, key_positions):
        """`[1, heads, query, key]` for the positions of queries `[query]` and keys `[key]`."""
        key_positions = ops.expand_dims(key_positions, 0)
        offset = key_positions - ops.expand_dims(query_positions, 1)  # [query, key]
        later = ops.cast(offset > 0, "int32")
        distance = ops.abs(offset) if self.bidirectional else ops.maximum(-offset, 0)
        bucket = ops.take(self._bucket_of_distance(), ops.minimum(distance, self.max_distance))
        if self.bidirectional:
            bucket = bucket + later * (self.num_buckets // 2)
        table = ops.cast(self.embeddings, self.compute_dtype)
        bias = ops.take(table, bucket, axis=0)  # [query, key, heads]
        return ops.expand_dims(ops.transpose(bias, (2, 0, 1)), 0)

    def _bucket_of_distance(self):
        """int32 `[max_distance + 1]`."""
        buckets = self.num_buckets // 2 if self.bidirectional else self.num_buckets
        exact = buckets // 2
        distance = np.arange(self.max_distance + 1)
        growth = np.log(np.maximum(distance, 1).astype("float32") / np.float32(exact))
        growth = growth / np.float32(math.log(self.max_distance / exact))
        far = exact + (growth * np.float32(buckets - exact)).astype("int32")
        return np.where(distance < exact, distance, np.minimum(far, buckets - 1)).astype("int32")

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }
