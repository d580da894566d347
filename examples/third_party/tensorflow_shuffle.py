"""TensorFlow, as ports of ShuffleNet write it: tf.reshape, tf.transpose, tf.reshape.

pip install tensorflow-cpu==2.21.0
conformance run --adapter examples/third_party/tensorflow_shuffle.py
"""

import tensorflow as tf

import conformance


@conformance.implementation("channel_shuffle", framework="numpy")
def tensorflow_shuffle(x, groups):
    n, c, *spatial = x.shape
    parts = tf.reshape(x, (n, groups, c // groups, *spatial))
    order = (0, 2, 1, *range(3, x.ndim + 1))
    return tf.reshape(tf.transpose(parts, order), x.shape).numpy()
