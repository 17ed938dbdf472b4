"""The names in Google's original BERT checkpoints (Devlin et al. 2018), beside Hugging Face's.

Source: the releases at github.com/google-research/bert.
"""

import fnmatch
import re

CONFIG_NAME = "bert_config.json"
CHECKPOINT_NAME = "bert_model.ckpt"

_SUBLAYERS = (
    "attention/self/query",
    "attention/self/key",
    "attention/self/value",
    "attention/output/dense",
    "attention/output/LayerNorm",
    "intermediate/dense",
    "output/dense",
    "output/LayerNorm",
)
# Heads, and the state of the optimizer and of the training.
_IGNORED = ("cls/*", "output_weights", "output_bias", "*/adam_m", "*/adam_v", "global_step")


def names(num_layers):
    """`{Google's name: Hugging Face's}`. Google stores every `kernel` as `[in, out]`."""
    table = {
        f"bert/embeddings/{kind}_embeddings": f"bert.embeddings.{kind}_embeddings.weight"
        for kind in ("word", "position", "token_type")
    }
    layers = ["embeddings/LayerNorm", "pooler/dense"]
    layers += [f"encoder/layer_{n}/{part}" for n in range(num_layers) for part in _SUBLAYERS]
    for layer in layers:
        theirs = ("gamma", "beta") if layer.endswith("LayerNorm") else ("kernel", "bias")
        name = layer.replace("layer_", "layer.").replace("/", ".")
        for ending, ours in zip(theirs, ("weight", "bias"), strict=True):
            table[f"bert/{layer}/{ending}"] = f"bert.{name}.{ours}"
    return table


def huggingface_names(found):
    """`{name: (Hugging Face's name, whether transposed)}` of the weights among the names `found`.

    A name that is none of BERT's stays as it is.
    """
    numbers = [re.match(r"bert/encoder/layer_(\d+)/", name) for name in found]
    table = names(1 + max((int(number[1]) for number in numbers if number), default=-1))
    return {
        name: (table.get(name, name), name in table and name.endswith("/kernel"))
        for name in found
        if not any(fnmatch.fnmatch(name, pattern) for pattern in _IGNORED)
    }
