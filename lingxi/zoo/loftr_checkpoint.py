"""The tensors of a LoFTR in PyTorch: the original's, kornia's, and Coarse_LoFTR_TRT's names."""

import re

from lingxi.zoo.checkpoint import CheckpointError, batch_norm, conv, dense, norm
from lingxi.zoo.huggingface.layout import Layout
from lingxi.zoo.weight_files import stored_tensors

HEAD_DIM, FINE_HEAD_DIM = 32, 16  # of every model that was published
_PREFIX = "matcher."  # of a checkpoint with the trainer around the model
_LAYER = re.compile(r"^(?:matcher\.)?loftr_(coarse|fine)\.layers\.(\d+)\.")
_STAGE = re.compile(r"^(?:matcher\.)?backbone\.layer(\d+)\.0\.conv1\.weight$")


def read_fields(path):
    """The fields of a `LoftrConfig`, from the shapes of the tensors in a file.

    What shapes do not tell: heads are 32 wide, fine ones 16; places have the slip of the released
    weights; a coarse-only model is one of Coarse_LoFTR_TRT, whose layer norms add 1e-7.

    Raises:
        CheckpointError: the tensors are not those of a LoFTR.
    """
    stored = stored_tensors(path)
    stages = {int(m[1]): stored[m[0]].shape[0] for m in map(_STAGE.match, stored) if m}
    layers = {"coarse": 0, "fine": 0}
    for match in filter(None, map(_LAYER.match, stored)):
        layers[match[1]] = max(layers[match[1]], int(match[2]) + 1)
    if sorted(stages) != list(range(1, len(stages) + 1)) or len(stages) < 3 or layers["coarse"] < 2:
        raise CheckpointError(
            f"{path} does not hold a LoFTR: it lacks backbone.layer1 to 3 or loftr_coarse.layers; "
            f"it has {len(stored)} tensors: {', '.join(list(stored)[:4])}, …"
        )
    dims = tuple(stages[index] for index in sorted(stages))
    fields = {
        "backbone_dims": dims,
        "num_layers": layers["coarse"] // 2,
        "num_heads": max(1, dims[-1] // HEAD_DIM),
        "num_fine_layers": layers["fine"] // 2,
        "num_fine_heads": max(1, dims[-3] // FINE_HEAD_DIM),
        "precedence_slip": True,
    }
    if not layers["fine"]:
        fields["norm_epsilon"] = 1e-7
    return fields


def _tensors(model):
    backbone = model.backbone
    table = _conv_norm(backbone.stem, "backbone.conv1", "backbone.bn1")
    for level, stage in enumerate(backbone.stages, 1):
        for index, block in enumerate(stage):
            name = f"backbone.layer{level}.{index}"
            table += _conv_norm(block.first, f"{name}.conv1", f"{name}.bn1")
            table += _conv_norm(block.second, f"{name}.conv2", f"{name}.bn2")
            if block.shortcut is not None:
                table += _conv_norm(block.shortcut, f"{name}.downsample.0", f"{name}.downsample.1")
    fine, middle, coarse = (f"backbone.layer{len(backbone.stages) - up}" for up in (2, 1, 0))
    table += conv(backbone.coarse_lateral, f"{coarse}_outconv")
    table += conv(backbone.middle_lateral, f"{middle}_outconv")
    table += _conv_norm(backbone.middle_first, f"{middle}_outconv2.0", f"{middle}_outconv2.1")
    table += conv(backbone.middle_second, f"{middle}_outconv2.3")
    table += conv(backbone.fine_lateral, f"{fine}_outconv")
    table += _conv_norm(backbone.fine_first, f"{fine}_outconv2.0", f"{fine}_outconv2.1")
    table += conv(backbone.fine_second, f"{fine}_outconv2.3")
    table += _transformer(model.transformer, "loftr_coarse")
    if model.config.num_fine_layers:
        table += dense(model.context_dense, "fine_preprocess.down_proj")
        table += dense(model.window_dense, "fine_preprocess.merge_feat")
        table += _transformer(model.fine_transformer, "loftr_fine")
    return table


def _conv_norm(layer, conv_name, norm_name):
    return conv(layer, conv_name) + batch_norm(layer.norm, norm_name)


def _transformer(transformer, prefix):
    blocks = zip(transformer.self_blocks, transformer.cross_blocks, strict=True)
    table = []
    for index, block in enumerate(block for pair in blocks for block in pair):
        name, attention = f"{prefix}.layers.{index}", block.attention
        query, key, value = (f"{name}.{part}_proj" for part in "qkv")
        if attention.cross:
            table += dense(attention.query_dense, query)
            table += dense(attention.key_value_dense, key, value)
        else:
            table += dense(attention.query_key_value_dense, query, key, value)
        table += dense(attention.output_dense, f"{name}.merge")
        table += norm(block.attention_norm, f"{name}.norm1")
        table += dense(block.intermediate_dense, f"{name}.mlp.0")
        table += dense(block.output_dense, f"{name}.mlp.2")
        table += norm(block.output_norm, f"{name}.norm2")
    return table


_FIELDS = (
    "backbone_dims",
    "num_layers",
    "num_heads",
    "num_fine_layers",
    "num_fine_heads",
    "window_size",
    "temperature",
    "threshold",
    "border",
    "max_matches",
    "precedence_slip",
    "norm_epsilon",
)

LAYOUT = Layout(
    model_type="loftr",
    architecture="LoFTR",
    tensors=_tensors,
    fields={name: name for name in _FIELDS},
    activation=None,
    prefix=_PREFIX,
    ignored=("*.num_batches_tracked", "pos_encoding.pe"),
)
