"""Label names and their ids, in every form that users and files write them."""

import numpy as np
import tensorflow as tf


class Labels:
    """Distinct names, in the order of the logits.

    Raises:
        TypeError: not a list of strings. ValueError: none, or one twice.
    """

    def __init__(self, names):
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"labels must be a list of strings, got {names!r}")
        self.names = list(names)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"labels must be distinct and at least one, got {self.names}")
        self._ids = {name: index for index, name in enumerate(self.names)}

    def __len__(self):
        return len(self.names)

    def id(self, label):
        """The id of a name (str or bytes), or of an id."""
        if isinstance(label, bytes):
            label = label.decode()
        if isinstance(label, str) and label in self._ids:
            return self._ids[label]
        is_id = isinstance(label, (int, np.integer)) and not isinstance(label, bool)
        if is_id and 0 <= label < len(self):
            return int(label)
        raise ValueError(
            f"unknown label {label!r}; this classifier has {self.names} "
            f"(or their ids 0 to {len(self) - 1})"
        )

    def ids(self, labels):
        """One label for each example: int32 `[examples]`."""
        return np.array([self.id(label) for label in labels], "int32")

    def indicators(self, y):
        """Any number of labels for each example: 0/1 float32 `[examples, labels]`.

        Args:
            y: a list of names or ids for each example; or 0/1 `[examples, labels]`.
        """
        if not isinstance(y, np.ndarray) and _are_indicators(y, len(self)):
            y = np.array(y)
        if isinstance(y, np.ndarray) and y.dtype.kind in "fiub":
            if y.shape[1:] != (len(self),):
                raise ValueError(f"0/1 labels must be [examples, {len(self)}], got {y.shape}")
            return y.astype("float32")
        indicators = np.zeros((len(y), len(self)), "float32")
        for row, labels in enumerate(y):
            if isinstance(labels, (str, bytes)):
                raise TypeError(
                    f"a multi-label classifier needs a list of labels for each text, "
                    f"got {labels!r} for text {row}"
                )
            for label in labels:
                indicators[row, self.id(label)] = 1.0
        return indicators

    def ids_in_graph(self, names):
        """String tensor to int32 of the same shape, which fails where a name is unknown."""
        is_label = tf.expand_dims(names, -1) == tf.constant(self.names)  # [..., labels]
        message = f"the data set has a label that is none of {self.names}"
        check = tf.debugging.Assert(tf.reduce_all(tf.reduce_any(is_label, -1)), [message])
        with tf.control_dependencies([check]):
            return tf.argmax(is_label, axis=-1, output_type=tf.int32)

    def to_config(self):
        """As a config.json of Hugging Face has them."""
        return {
            "id2label": {str(index): name for index, name in enumerate(self.names)},
            "label2id": dict(self._ids),
        }

    @staticmethod
    def names_in(config):
        """The names in a config.json, of a model that has labels."""
        if "id2label" not in config:
            return ["LABEL_0", "LABEL_1"]  # what `transformers` leaves out of the file
        pairs = sorted((int(index), name) for index, name in config["id2label"].items())
        return [name for _, name in pairs]


def _are_indicators(rows, num_labels):
    """Whether every row has a 0 or a 1 for each label, so that it cannot be a list of label ids."""
    return all(
        not isinstance(row, (str, bytes))
        and len(row) == num_labels
        and all(not isinstance(value, (str, bytes)) and value in (0, 1) for value in row)
        for row in rows
    )
