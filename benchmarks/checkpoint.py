"""Loading a checkpoint of 1.4 GB: peak memory beside its size, and seconds beside `transformers`.

Each load has a process of its own, which has loaded a tiny model before, so that imports and what
frameworks set up on first use do not count. Peak memory is what the process holds at most over what
it held then; pages of mapped files count. Every weight is read once after loading, for
`transformers` maps the file and leaves the reading for later.
"""

import json
import os
import pathlib
import re
import tempfile
import time

from absl import app, flags
from common import by_turns, describe_machine

SIDES = ["lingxi", "lingxi, pytorch_model.bin", "transformers"]
SIDE = flags.DEFINE_enum("side", None, SIDES, "internal: load on this side")
FOLDER = flags.DEFINE_string("folder", None, "internal: of the checkpoints")
MEASURE = flags.DEFINE_enum("measure", "seconds", ["seconds", "memory"], "internal: what to print")
SIZES = {"hidden_dim": 1024, "num_layers": 24, "num_heads": 16}  # GPT-2 medium
TINY = {"hidden_dim": 8, "num_layers": 1, "num_heads": 1, "vocab_size": 9}


def main(_):
    if SIDE.value:
        print(json.dumps([measure(pathlib.Path(FOLDER.value))]))
        return
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        size = write(pathlib.Path(folder))
        arguments = (__file__, SIDES, f"--folder={folder}")
        memory = by_turns(*arguments, "--measure=memory", turns=1)
        seconds = by_turns(*arguments)
    for side in SIDES:
        print(
            f"{side:26} {seconds[side]:5.2f} s, peak memory {memory[side] / 1e9:.2f} GB, "
            f"{memory[side] / size:.2f} times the file's {size / 1e9:.2f} GB"
        )


def write(folder):
    """The checkpoints, whole and tiny, as safetensors and for PyTorch; the size of a whole one."""
    import safetensors.torch
    import torch

    from lingxi.zoo import Gpt, GptConfig

    for name, sizes in (("whole", SIZES), ("tiny", TINY)):
        source, copy = folder / name, folder / f"{name}.bin"
        Gpt(GptConfig(**sizes)).save_preset(source)
        copy.mkdir()
        (copy / "config.json").write_bytes((source / "config.json").read_bytes())
        tensors = safetensors.torch.load_file(source / "model.safetensors")
        torch.save(tensors, copy / "pytorch_model.bin")
    return (folder / "whole" / "model.safetensors").stat().st_size


def measure(folder):
    """Seconds, or bytes at the peak, of loading the whole checkpoint."""
    load = transformers_load if SIDE.value == "transformers" else lingxi_load
    ending = ".bin" if SIDE.value.endswith(".bin") else ""
    load(folder / f"tiny{ending}")
    before, start = memory("VmRSS"), time.perf_counter()
    load(folder / f"whole{ending}")
    seconds = time.perf_counter() - start
    return memory("VmHWM") - before if MEASURE.value == "memory" else seconds


def lingxi_load(directory):
    from keras import ops

    from lingxi.zoo import Gpt

    model = Gpt.from_preset(directory)
    return sum(float(ops.sum(weight)) for weight in model.trainable_weights)


def transformers_load(directory):
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    model = transformers.GPT2LMHeadModel.from_pretrained(directory)
    return sum(float(weight.detach().sum()) for weight in model.parameters())


def memory(kind):
    """Bytes of this process, now ("VmRSS") or at most so far ("VmHWM")."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{kind}:\s+(\d+) kB", status)[1])


if __name__ == "__main__":
    app.run(main)
