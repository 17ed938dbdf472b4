"""What every architecture of the zoo shares: presets, checkpoints and `.keras` files."""

import dataclasses
import json
import pathlib

import keras

from lingxi.files import atomic_path
from lingxi.zoo import checkpoint, preset


class Backbone(keras.Model):
    """A model of the zoo: a dict of named inputs to a dict of named outputs.

    A subclass names its `config_class`; `presets`, `{name: config}`; and `layouts`,
    `{model_type: lingxi.zoo.huggingface.layout.Layout}`.
    """

    config_class = None
    presets = {}
    layouts = {}

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config

    @classmethod
    def from_preset(cls, name, load_weights=True, dtype=None):
        """A model from a preset.

        Args:
            name: a local directory in Hugging Face layout, of a `model_type` in `layouts`;
                `hf://owner/name`; a pretrained preset (`lingxi list` marks them); or a name in
                `presets`, whose weights start at random.
            load_weights: False for random weights.
            dtype: a Keras dtype policy.

        Raises:
            FileNotFoundError: no such preset, or no weights in the directory.
            ValueError: a config.json of an unsupported model type or variant.
            CheckpointError: the weights do not fit; every tensor concerned is listed.
        """
        if name in cls.presets and (not load_weights or name not in preset.pretrained_presets()):
            return cls(cls.presets[name], dtype=dtype)
        directory = preset.resolve(name)
        contents = preset.read_config(directory, cls.layouts)
        layout = cls.layouts[contents["model_type"]]
        config = cls.config_class(**layout.to_fields(contents))
        if not load_weights:
            return cls(config, dtype=dtype)
        model = cls(cls.config_for(config, directory), dtype=dtype)
        checkpoint.load(layout.tensors(model), directory, layout.prefix, layout.ignored)
        return model

    @classmethod
    def config_for(cls, config, directory):
        """`config`, changed where only the weights in `directory` tell what the model has."""
        return config

    @property
    def layout(self):
        """How Hugging Face writes this model.

        Raises:
            ValueError: it has no way to.
        """
        model_type = self.config.model_type
        if model_type not in self.layouts:
            raise ValueError(
                f"Hugging Face has no layout for {model_type!r}; "
                f"it has for {', '.join(self.layouts)}. Save it as a .keras file instead"
            )
        return self.layouts[model_type]

    def checkpoint_table(self):
        """This model's variables and their names in a Hugging Face checkpoint."""
        return self.layout.tensors(self)

    def save_preset(self, directory):
        """Write `config.json` and `model.safetensors`, which `from_preset` and `transformers` read.

        Raises:
            ValueError: Hugging Face cannot express this model.
        """
        contents = self.layout.to_contents(self.config)
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        checkpoint.save(self.checkpoint_table(), directory / checkpoint.WEIGHTS_NAME)
        with atomic_path(directory / preset.CONFIG_NAME) as temporary:
            temporary.write_text(json.dumps(contents, indent=2) + "\n", "utf-8")

    def get_config(self):
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config):
        return cls(cls.config_class(**config.pop("config")), **config)
