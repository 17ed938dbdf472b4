"""What every architecture of the zoo shares: presets, checkpoints and `.keras` files."""

import dataclasses

import keras
import numpy as np

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

    def __call__(self, inputs, *args, **kwargs):
        """As in Keras, after a look at the inputs.

        Raises:
            ValueError: a padding mask of another shape than its token ids; ids outside the
                vocabulary, where their values are at hand (not inside a traced graph).
        """
        for name, ids in inputs.items():
            if not name.endswith("token_ids") or ids is None:
                continue
            mask = inputs.get(name.replace("token_ids", "padding_mask"))
            if mask is not None and kwargs.get("cache") is None:  # a cache's mask is its length
                _check_mask(name, ids, mask)
            if isinstance(ids, np.ndarray) or hasattr(ids, "numpy"):
                is_target = name.startswith("decoder")
                vocab_size = self.target_vocab_size if is_target else self.config.vocab_size
                _check_ids(name, keras.ops.convert_to_numpy(ids), vocab_size)
        return super().__call__(inputs, *args, **kwargs)

    @classmethod
    def from_preset(cls, name, load_weights=True, dtype=None):
        """A model from a preset.

        Args:
            name: a local directory in Hugging Face layout, of a `model_type` in `layouts`, or with
                one of Google's original BERT checkpoints; `hf://owner/name`; a pretrained preset
                (`lingxi list` marks them); or a name in `presets`, whose weights start at random.
            load_weights: False for random weights.
            dtype: a Keras dtype policy.

        Raises:
            FileNotFoundError: no such preset, or no weights in the directory.
            ImportError: weights that need a package which is not installed.
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
        return cls.load(cls.config_for(config, directory), layout, directory, dtype)

    @classmethod
    def load(cls, config, layout, source, dtype=None):
        """A model of `config` with the weights in `source`, as `layout` names them.

        Args:
            source: a directory, or a file of tensors.

        Raises:
            CheckpointError: the weights do not fit; every tensor concerned is listed.
        """
        with keras.StatelessScope():  # variables get their first values where it ends
            model = cls(config, dtype=dtype)
            table = layout.tensors(model)
            for entry in table:  # random values would take longer than the loading
                entry.variable._initializer = keras.initializers.Zeros()
        checkpoint.load(table, source, layout.prefix, layout.ignored)
        return model

    @classmethod
    def config_for(cls, config, directory):
        """`config`, changed where only the weights in `directory` tell what the model has."""
        return config

    @property
    def target_vocab_size(self):
        """Tokens that `logits` are of: Marian may have two vocabularies."""
        return getattr(self.config, "target_vocab_size", self.config.vocab_size)

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

        The directory appears only when it is complete; an older model there is replaced.

        Raises:
            ValueError: Hugging Face cannot express this model.
            OSError: naming `directory`, when it cannot be written or holds something else.
        """
        contents = self.layout.to_contents(self.config)
        preset.write(directory, contents, self.checkpoint_table())

    def get_config(self):
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config):
        return cls(cls.config_class(**config.pop("config")), **config)


def _check_mask(name, ids, mask):
    sizes = zip(ids.shape, mask.shape, strict=False)
    same = all(a == b or None in (a, b) for a, b in sizes)  # None: not known in a graph
    if len(ids.shape) != len(mask.shape) or not same:
        raise ValueError(
            f"{name.replace('token_ids', 'padding_mask')} has shape {tuple(mask.shape)}, but "
            f"{name} has {tuple(ids.shape)}; they must be equal, with True for every real token"
        )


def _check_ids(name, ids, vocab_size):
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        place = tuple(int(index) for index in np.argwhere(outside)[0])
        raise ValueError(
            f"{name} has {ids[place]} at {place}, outside the vocabulary of {vocab_size} tokens "
            f"(0 to {vocab_size - 1}); do the tokenizer and the model belong together?"
        )
