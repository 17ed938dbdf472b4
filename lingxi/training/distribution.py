"""Training over several devices and processes, on JAX: each computes its part of every step.

All processes run one program and read the same batches, whole. The compiled step gives each device
its rows of them, so that a training over many devices is that of one.
"""

import atexit
import contextlib
import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf

_ON_JAX = keras.backend.backend() == "jax"
if _ON_JAX:
    import jax
    from jax.experimental import multihost_utils

SPLIT = {  # of each block, Shoeybi et al. 2019, section 3: columns of what comes first, then rows
    r".*/(query|key_value|query_key_value|intermediate)/kernel": (None, "model"),
    r".*/(query|key_value|query_key_value|intermediate)/bias": ("model",),
    r".*block_\d+/.*/output/kernel": ("model", None),
}


def distribute(
    kind="data_parallel", coordinator=None, num_processes=1, process_id=0, model_devices=None
):
    """Have all models that are made from now on train over all devices of all processes.

    Each process calls this before it uses Keras otherwise, then makes the same task and calls `fit`
    with the same arguments: each batch is what it would be in one process, so its size is that of
    all devices together. A batch whose examples are no multiple of the devices is computed whole by
    each. The first process shows progress and writes checkpoints, which all must be able to read.
    `whole_weights` is for what it saves at the end.

    Args:
        kind: "data_parallel": every device has all weights and some rows of each batch; or
            "model_parallel": `model_devices` devices share the weights of attention and
            feed-forward networks, and as many groups of them as there are share the rows.
        coordinator: "host:port" of the first process, for more than one.
        num_processes: that run this program.
        process_id: which of them this is, from 0.
        model_devices: by default all.

    Raises:
        NotImplementedError: Keras does not run on JAX.
        ValueError: the devices cannot be divided like this.
    """
    if not _ON_JAX:
        raise NotImplementedError(
            "training over several processes needs the JAX backend, but Keras runs on "
            f"{keras.backend.backend()}: set KERAS_BACKEND=jax before Python starts; on "
            "TensorFlow, tf.distribute.MirroredStrategy uses the devices of one process"
        )
    if kind not in ("data_parallel", "model_parallel"):
        raise ValueError(f"kind must be 'data_parallel' or 'model_parallel', got {kind!r}")
    if num_processes > 1 and coordinator is None:
        raise ValueError("several processes need the coordinator, 'host:port' of the first one")
    tf.config.set_visible_devices([], "GPU")  # it reads text only, and would take all memory
    if num_processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(coordinator, num_processes, process_id)
        atexit.register(_leave_after_an_error)
    distribution = DataParallel() if kind == "data_parallel" else ModelParallel(model_devices)
    keras.distribution.set_distribution(distribution)


def _leave_after_an_error():
    """End now, so that the others notice: JAX would wait, for minutes, until they end too."""
    if getattr(sys, "last_value", None) is not None:  # it has been printed
        sys.stderr.flush()
        os._exit(1)


class _WholeBatches:
    """A distribution to which every process gives all rows of each batch; see `split_rows`."""

    def get_data_layout(self, data_shape):
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)


class DataParallel(_WholeBatches, keras.distribution.DataParallel):
    """All weights on every device."""

    def __init__(self):
        super().__init__(auto_shard_dataset=False)


class ModelParallel(_WholeBatches, keras.distribution.ModelParallel):
    """The weights of `SPLIT` over groups of devices, the others on each.

    The products of attention and of feed-forward networks are split by columns, and those that
    follow by rows, whose results JAX adds up. What does not divide by the devices is not split.

    Args:
        model_devices: of a group, by default all.
    """

    def __init__(self, model_devices=None):
        devices = keras.distribution.list_devices()
        model_devices = model_devices or len(devices)
        if len(devices) % model_devices:
            raise ValueError(
                f"model_devices must divide the number of devices, {len(devices)}, got "
                f"{model_devices}"
            )
        shape = (len(devices) // model_devices, model_devices)
        mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"), devices)
        layouts = keras.distribution.LayoutMap(mesh)
        layouts.update(SPLIT)
        super().__init__(layout_map=layouts, auto_shard_dataset=False)

    def get_variable_layout(self, variable):
        layout = super().get_variable_layout(variable)
        sizes = zip(variable.shape, layout.axes, strict=True)
        if any(axis and size % self.device_mesh.shape[1] for size, axis in sizes):
            return keras.distribution.TensorLayout([None] * len(layout.axes), self.device_mesh)
        return layout


def split_rows(data):
    """A batch, in the graph of a step: each device is to compute its rows of it."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return data
    name, mesh = distribution.batch_dim_name, distribution.device_mesh

    def split(x):
        if x is None or not x.shape or x.shape[0] % distribution.num_model_replicas:
            return x
        layout = keras.distribution.TensorLayout((name, *[None] * (len(x.shape) - 1)), mesh)
        return keras.distribution.distribute_tensor(x, layout)

    return keras.tree.map_structure(split, data)


def num_processes():
    """How many processes train together."""
    return jax.process_count() if _ON_JAX else 1


def is_first_process():
    """Whether this process shows progress and writes files."""
    return not _ON_JAX or jax.process_index() == 0


def agreed(value):
    """What the first process says, which all ask at the same time.

    Args:
        value: for JSON.
    """
    if num_processes() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    text = np.resize(text, size)  # only that of the first one counts
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(text)).tobytes())


def is_in_parts(variable):
    """Whether no process has all of a variable."""
    if not _ON_JAX:
        return False
    value = variable.value
    return not (value.is_fully_addressable or value.is_fully_replicated)


def whole(tensor):
    """All of a variable or array in NumPy. If it is in parts, every process must ask for it."""
    if isinstance(tensor, keras.Variable) and is_in_parts(tensor):
        return multihost_utils.process_allgather(tensor.value, tiled=True)
    return keras.ops.convert_to_numpy(tensor)


@contextlib.contextmanager
def whole_weights(model):
    """Around what a process does alone with a trained model: within, it has all its weights.

    Every process must enter, and may then do different things:

        with training.whole_weights(task):
            if training.is_first_process():
                task.save_preset("runs/comments")
    """
    parts = [(v, v.value) for v in model.variables if is_in_parts(v)]
    for variable, _ in parts:
        variable._value = whole(variable)
    try:
        yield
    finally:
        for variable, value in parts:
            variable._value = value
