"""LoFTR's forward pass beside kornia on PyTorch.

    python benchmarks/loftr.py [--width=320] [--height=240] [--precision=float32|bfloat16]

The published sizes with the same random weights, one pair of photographs, calls by turns. Random
weights match nothing surely, so the pair is one picture twice and the threshold is 0: then most
cells find their like, and both sides refine hundreds of matches. Memory: the peak of each process.
"""

import pathlib
import sys
import tempfile

import numpy as np
from absl import app, flags
from common import DATA, call_by_call, describe_machine, take_turns

WIDTH = flags.DEFINE_integer("width", 320, "pixels")
HEIGHT = flags.DEFINE_integer("height", 240, "pixels")
PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16"], "of both sides")
ROUNDS = flags.DEFINE_integer("rounds", 15, "calls of each side")
SIDE = flags.DEFINE_string("side", None, "internal: the library to time")
WEIGHTS = flags.DEFINE_string("weights", None, "internal: the file of the weights of both sides")


def main(_):
    if SIDE.value:
        call = {"lingxi": lingxi_side, "kornia": kornia_side}[SIDE.value](picture())
        print(f"{SIDE.value}: {call()} matches", file=sys.stderr)
        take_turns(call)
        return
    print(describe_machine(), PRECISION.value, f"{WIDTH.value}x{HEIGHT.value}")
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder, "loftr.safetensors")
        write_weights(weights)
        flags_of_sides = [f"--{name}={flags.FLAGS[name].value}" for name in ("width", "height")]
        flags_of_sides += [f"--precision={PRECISION.value}", f"--weights={weights}"]
        costs = call_by_call(__file__, ["kornia", "lingxi"], *flags_of_sides, rounds=ROUNDS.value)
    theirs, ours = costs["kornia"], costs["lingxi"]
    print(
        f"loftr_base forward: kornia {theirs.seconds * 1e3:.0f} ms, "
        f"lingxi {ours.seconds * 1e3:.0f} ms, {theirs.seconds / ours.seconds:.2f} times as fast; "
        f"{ours.memory / 1e9:.2f} GB, {ours.memory / theirs.memory:.2f} of theirs"
    )


def picture():
    """A photograph, grey in [0, 1], `[1, height, width, 1]`."""
    from PIL import Image

    with Image.open(DATA / "images" / "coffee.png") as image:
        grey = image.convert("L").resize((WIDTH.value, HEIGHT.value))
    return np.asarray(grey, "float32")[np.newaxis, :, :, np.newaxis] / 255


def write_weights(path):
    import safetensors.torch
    import torch
    from kornia.feature import LoFTR

    torch.manual_seed(0)
    safetensors.torch.save_file(LoFTR(pretrained=None).state_dict(), path)


def lingxi_side(image):
    import tensorflow as tf

    import lingxi

    model = lingxi.zoo.Loftr.from_preset(WEIGHTS.value, dtype=PRECISION.value)
    inputs = {"image_a": tf.constant(image), "image_b": tf.constant(image)}
    forward = tf.function(
        lambda inputs: model(inputs, training=False, threshold=0.0, return_confidence=False),
        autograph=False,
    )
    return lambda: int(forward(inputs)["is_match"].numpy().sum())


def kornia_side(image):
    import safetensors.torch
    import torch
    from kornia.feature import LoFTR

    model = LoFTR(pretrained=None).eval()
    model.load_state_dict(safetensors.torch.load_file(WEIGHTS.value))
    model.coarse_matching.thr = 0.0
    dtype = torch.bfloat16 if PRECISION.value == "bfloat16" else torch.float32
    model, image = model.to(dtype), torch.tensor(image.transpose(0, 3, 1, 2)).to(dtype)

    def forward():
        with torch.inference_mode():
            return len(model({"image0": image, "image1": image})["confidence"])

    return forward


if __name__ == "__main__":
    app.run(main)
