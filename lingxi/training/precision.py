"""The number format in which a machine trains fastest."""

import pathlib

import keras

BY_CPU = {"avx512_bf16", "amx_bf16"}  # instructions that multiply in bfloat16
BY_GPU = (8, 0)  # least compute capability


def fastest_precision():
    """The dtype policy to train in on this machine: "mixed_bfloat16" or "float32".

    It is the first where the machine multiplies in bfloat16: on accelerators, of NVIDIA's those
    since Ampere, and in TensorFlow on x86 CPUs with AVX-512 BF16 or AMX under Linux; XLA, which
    runs Keras on JAX, uses neither instruction. Weights, losses and norms are float32 in both.
    """
    fast = {"tensorflow": _fast_in_tensorflow, "jax": _fast_in_jax}.get(keras.backend.backend())
    return "mixed_bfloat16" if fast is not None and fast() else "float32"


def _fast_in_tensorflow():
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return bool(BY_CPU & _cpu_flags())
    details = map(tf.config.experimental.get_device_details, gpus)
    return all(detail.get("compute_capability", (0, 0)) >= BY_GPU for detail in details)


def _fast_in_jax():
    import jax

    capabilities = [
        getattr(device, "compute_capability", "8.0")
        for device in jax.local_devices()
        if device.platform != "cpu"
    ]
    return bool(capabilities) and all(float(c) >= BY_GPU[0] for c in capabilities)


def _cpu_flags():
    try:
        info = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    line = next((line for line in info.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())
