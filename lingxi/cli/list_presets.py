"""List the presets of every architecture, with their sizes."""

from absl import app

from lingxi.cli.command import new_flags, table
from lingxi.cli.quiet import quiet_tensorflow

FLAGS = new_flags()
REQUIRED = ()
USAGE = "[flags]"
EXAMPLES = "lingxi list"


def run(arguments):
    if arguments:
        raise app.UsageError(f"list takes no arguments, got {arguments}")
    with quiet_tensorflow(FLAGS.debug):
        from lingxi.zoo import T5, Bert, Gpt, Loftr, Transformer, preset
    rows = [("preset", "architecture", "layers", "hidden", "heads", "parameters", "weights")]
    notes = []
    for architecture in (Bert, Gpt, T5, Transformer, Loftr):
        for name, config in architecture.presets.items():
            trained = name in preset.pretrained_presets()
            rows.append(
                (
                    name,
                    architecture.__name__,
                    _layers(config),
                    f"{config.hidden_dim:,}",
                    str(config.num_heads),
                    f"{config.num_parameters:,}",
                    "pretrained" if trained else "random",
                )
            )
            if trained:
                notes.append(f"{name}: {_source(preset, name)}")
    notes.append("random: a size to train from nothing, with --vocabulary vocab.txt")
    print(f"{table(rows)}\n\n" + "\n".join(notes))
    print("A local directory in Hugging Face layout or hf://owner/name is a preset too.")


def _layers(config):
    """ "12", or "6 + 6" of encoder and decoder."""
    if hasattr(config, "num_layers"):
        return str(config.num_layers)
    return f"{config.num_encoder_layers} + {config.num_decoder_layers}"


def _source(preset, name):
    """Where the weights are, or how to get them."""
    try:
        return f"pretrained, read from {preset.resolve(name)}"
    except FileNotFoundError as error:
        return f"not installed: {error}"
