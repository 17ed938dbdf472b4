"""The graph of a SavedModel, run from Python: texts or tensors in, a dict of arrays out."""

import copy

import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokenizer's operations


class SavedModelGraph:
    """The signatures of a SavedModel written by `lingxi.export.saved_model`."""

    takes_text = True
    tokenizer = None  # it is inside

    def __init__(self, path, facts):
        self.defaults = facts.get("defaults")
        self.signatures = tf.saved_model.load(str(path)).signatures

    def head(self, name):
        """The graph of one head of a `MultiTask`."""
        graph = copy.copy(self)
        own = {"serving_default": name, "token_ids": f"{name}_token_ids"}
        graph.signatures = {key: self.signatures[long] for key, long in own.items()}
        return graph

    def run(self, texts, pairs=None, **options):
        """A dict of arrays `[batch, …]` for texts, or a string tensor, `[batch]`.

        Raises:
            ValueError: an option that the task was not exported with.
        """
        inputs = {"text": texts} if pairs is None else {"text": texts, "pair": pairs}
        inputs = {name: tf.convert_to_tensor(x, tf.string) for name, x in inputs.items()}
        if not options:
            return _arrays(self.signatures["serving_default"](**inputs))
        known = {}
        if "with_options" in self.signatures:
            known = dict(self.signatures["with_options"].structured_input_signature[1])
            known.pop("text")
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ValueError(
                f"this SavedModel has no options {unknown}; it has {sorted(known) or 'none'}"
            )
        told = {
            name: tf.cast(options.get(name, self.defaults[name]), spec.dtype)
            for name, spec in known.items()
        }
        return _arrays(self.signatures["with_options"](**inputs, **told))

    def run_ids(self, inputs):
        """The same for what a tokenizer gives."""
        return self.run_signature("token_ids", inputs)

    def score(self, inputs):
        """`log_probs` of given texts, where the task makes text."""
        return self.run_signature("score", inputs)

    def run_signature(self, name, inputs):
        """A dict of arrays for a dict of tensors."""
        return _arrays(self.signatures[name](**inputs))

    def describe_signatures(self):
        """`{signature: (inputs, outputs)}`, each `{name: "dtype[shape]"}`."""
        return {
            name: (
                _specs(signature.structured_input_signature[1]),
                _specs(signature.structured_outputs),
            )
            for name, signature in self.signatures.items()
        }


def _arrays(tensors):
    return {name: values.numpy() for name, values in tensors.items()}


def _specs(structure):
    return {
        name: f"{spec.dtype.name}{spec.shape.as_list()}" for name, spec in sorted(structure.items())
    }
