"""List the presets that training can start from."""

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
        from lingxi.zoo import Bert, preset
    rows = [("preset", "layers", "hidden", "heads", "parameters", "weights")]
    notes = []
    for name, config in Bert.presets.items():
        sizes = (config.num_layers, config.hidden_dim, config.num_heads, config.num_parameters)
        trained = name in preset.pretrained_presets()
        weights = "pretrained" if trained else "random"
        rows.append((name, *(f"{size:,}" for size in sizes), weights))
        if trained:
            notes.append(f"{name}: {_source(preset, name)}")
    notes.append("random: a size to train from nothing, with --vocabulary vocab.txt")
    print(f"{table(rows)}\n\n" + "\n".join(notes))
    print("A local directory in Hugging Face layout or hf://owner/name is a preset too.")


def _source(preset, name):
    """Where the weights are, or how to get them."""
    try:
        return f"pretrained, read from {preset.resolve(name)}"
    except FileNotFoundError as error:
        return f"not installed: {error}"
