"""How Hugging Face writes a model: the keys of its config.json and the names of its tensors."""

import collections.abc
import dataclasses

ACTIVATIONS = {
    # theirs: ours
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """One `model_type` of Hugging Face, for one architecture here, in both directions.

    Attributes:
        model_type: as in config.json.
        architecture: the class in `transformers`.
        tensors: a function of the model that gives its list of `lingxi.zoo.checkpoint.Tensors`.
        fields: `{field of our config: key in config.json}` where both hold the same value.
        activation: the key in config.json that names the activation, with `ACTIVATIONS` values;
            None where there is no choice of it.
        activations: their names for our activations.
        constants: `{field of our config: value}` that this model type always has.
        accepted: `{key in config.json: value}`, the only one that the architecture implements.
        prefix: of the base model's tensors, which a file may lack.
        ignored: patterns (`fnmatch`) of tensors that a file may hold and the model does not need:
            buffers, and heads of other tasks.
        read, write: functions of `(config.json's contents, fields)` and of `(our config, contents)`
            that return the second, changed, for what is not a plain pair of names.
    """

    model_type: str
    architecture: str
    tensors: collections.abc.Callable
    fields: dict
    activation: str | None
    activations: dict = dataclasses.field(default_factory=lambda: ACTIVATIONS)
    constants: dict = dataclasses.field(default_factory=dict)
    accepted: dict = dataclasses.field(default_factory=dict)
    prefix: str = ""
    ignored: tuple = ()
    read: collections.abc.Callable = lambda contents, fields: fields
    write: collections.abc.Callable = lambda config, contents: contents

    def to_fields(self, contents):
        """The fields of our config, from the contents of a config.json.

        Raises:
            ValueError: for a variant that the architecture is not.
        """
        for key, accepted in self.accepted.items():
            if contents.get(key, accepted) != accepted:
                raise ValueError(
                    f"config.json has {key}={contents[key]!r}; supported: {accepted!r}"
                )
        fields = {
            ours: contents[theirs]
            for ours, theirs in self.fields.items()
            if contents.get(theirs) is not None
        }
        if self.activation in contents:
            name = contents[self.activation]
            if name not in self.activations:
                raise ValueError(
                    f"config.json has {self.activation}={name!r}; "
                    f"supported: {', '.join(self.activations)}"
                )
            fields["activation"] = self.activations[name]
        return self.read(contents, {**self.constants, **fields, "model_type": self.model_type})

    def to_contents(self, config):
        """The contents of a config.json, from our config.

        Raises:
            ValueError: this model type cannot express the config.
        """
        for field, value in self.constants.items():
            if field not in self.fields and getattr(config, field) != value:
                raise ValueError(
                    f"model_type {self.model_type!r} has {field}={value!r}, "
                    f"but this model has {getattr(config, field)!r}"
                )
        contents = {"model_type": self.model_type, "architectures": [self.architecture]}
        if self.activation is not None:
            contents[self.activation] = self._their_activation(config.activation)
        contents |= {
            **{key: getattr(config, field) for field, key in self.fields.items()},
            **self.accepted,
        }
        return self.write(config, contents)

    def _their_activation(self, activation):
        theirs = {ours: name for name, ours in reversed(self.activations.items())}
        if activation not in theirs:
            raise ValueError(
                f"model_type {self.model_type!r} has no activation {activation!r}; "
                f"supported: {', '.join(theirs)}"
            )
        return theirs[activation]
