"""Pictures in another light and by another camera, as TensorFlow graph operations."""

import tensorflow as tf

BLUR = 5  # pixels, of the kernel


def photometric(image, seed, strength=1.0):
    """`image` with other brightness, contrast, gamma and shading, blurred, and with noise.

    Args:
        image: float32 `[height, width, 1]` from 0 to 1.
        seed: int32 `[2]`.
        strength: 0 changes nothing.
    """
    draws = strength * tf.random.stateless_uniform([7], seed, -1.0, 1.0)
    gamma, contrast, brightness, shade_x, shade_y, blur, noise = tf.unstack(draws)
    height, width = tf.shape(image)[0], tf.shape(image)[1]

    image = tf.pow(tf.clip_by_value(image, 0.0, 1.0), tf.pow(1.5, gamma))
    mean = tf.reduce_mean(image)
    image = (image - mean) * tf.pow(1.6, contrast) + mean + 0.15 * brightness
    across = tf.reshape(tf.linspace(-0.3, 0.3, width), [1, -1, 1]) * shade_x
    down = tf.reshape(tf.linspace(-0.3, 0.3, height), [-1, 1, 1]) * shade_y
    image = image * (1.0 + across + down)
    image = _blurred(image, tf.nn.relu(blur))  # half of all pictures stay sharp
    noise = 0.04 * tf.nn.relu(noise) * tf.random.stateless_normal(tf.shape(image), seed)
    return tf.clip_by_value(image + noise, 0.0, 1.0)


def _blurred(image, radius):
    """By a Gaussian of `radius` pixels."""
    distance = tf.range(BLUR, dtype=tf.float32) - BLUR // 2
    kernel = tf.exp(-0.5 * tf.square(distance / tf.maximum(radius, 0.1)))
    kernel /= tf.reduce_sum(kernel)
    margin = BLUR // 2
    image = tf.pad(image, [[margin, margin], [margin, margin], [0, 0]], "REFLECT")
    image = tf.expand_dims(image, 0)
    for shape in ([BLUR, 1, 1, 1], [1, BLUR, 1, 1]):
        image = tf.nn.conv2d(image, tf.reshape(kernel, shape), strides=1, padding="VALID")
    return image[0]
