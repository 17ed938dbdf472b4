"""The relative position bias against T5's formula, distance by distance."""

import json
import math

import keras
import numpy as np
import pytest

from lingxi.layers import RelativePositionBias
from tests.layers.reference import numpy


def bucket(offset, num_buckets, max_distance, bidirectional):
    """Raffel et al. 2020, as their code writes it: `offset` is that of the key from the query."""
    result = 0
    if bidirectional:
        num_buckets //= 2
        result += num_buckets if offset > 0 else 0
        distance = abs(offset)
    else:
        distance = max(-offset, 0)
    exact = num_buckets // 2
    if distance < exact:
        return result + distance
    growth = math.log(distance / exact) / math.log(max_distance / exact)
    return result + min(exact + int(growth * (num_buckets - exact) + 1e-6), num_buckets - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 20), (6, 33)])
def test_every_distance_has_the_bucket_of_the_paper(num_buckets, max_distance, bidirectional):
    layer = RelativePositionBias(1, num_buckets, max_distance, bidirectional)
    layer.build()
    layer.embeddings.assign(np.arange(num_buckets, dtype="float32")[:, np.newaxis])
    queries, keys = np.arange(90), np.arange(150)
    expected = [
        [bucket(key - query, num_buckets, max_distance, bidirectional) for key in keys]
        for query in queries
    ]
    np.testing.assert_array_equal(numpy(layer(queries, keys))[0, 0], expected)


def test_a_row_of_a_cached_step_is_that_row_of_the_whole():
    layer = RelativePositionBias(3, bidirectional=False)
    keys = np.arange(7)
    whole, step = layer(keys, keys), layer(np.array([5]), keys)
    assert whole.shape == (1, 3, 7, 7)
    np.testing.assert_array_equal(numpy(step)[:, :, 0], numpy(whole)[:, :, 5])


def test_a_configuration_makes_an_equal_layer():
    layer = RelativePositionBias(2, 8, 20, False, "he_normal")
    config = json.loads(json.dumps(layer.get_config()))
    again = RelativePositionBias.from_config(config)
    assert again.get_config() == layer.get_config()
    again.build()
    layer.build()
    again.set_weights(layer.get_weights())
    positions = keras.ops.arange(9)
    np.testing.assert_array_equal(
        numpy(again(positions, positions)), numpy(layer(positions, positions))
    )
