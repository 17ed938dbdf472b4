"""A feature matcher in a file."""

import warnings

import numpy as np
import tensorflow as tf

from lingxi.answers.batches import stacked
from lingxi.export import examples
from lingxi.export.artifact import Artifact
from lingxi.images import read
from lingxi.tasks.feature_matcher import checked_pairs, in_frames, matches_of


class ExportedFeatureMatcher(Artifact):
    """A `lingxi.tasks.FeatureMatcher` in a file."""

    unit = "pair"

    def match(self, image_a, image_b=None, planar=False, verbose="auto"):
        """As `FeatureMatcher.match`."""
        if image_b is not None:
            return self.match([(image_a, image_b)], planar=planar, verbose=verbose)[0]
        return matches_of(checked_pairs(image_a), self._answer, planar, verbose)

    def answers_to(self, pairs):
        """What the graph gives for pairs of pictures: arrays `[pairs, …]`."""
        return stacked(self._answer(read(a), read(b)) for a, b in pairs)

    def _answer(self, image_a, image_b):
        size = self.metadata.get("size")
        if size is not None:
            return in_frames(self.graph.run_ids, image_a, image_b, size)
        images = {"image_a": image_a[np.newaxis], "image_b": image_b[np.newaxis]}
        return self._run("pictures", images)

    def _answer_to_files(self, image_a, image_b):
        files = {"image_a": _png(image_a), "image_b": _png(image_b)}
        return self._run("serving_default", files)

    def _run(self, signature, inputs):
        inputs = {name: tf.constant(values) for name, values in inputs.items()}
        return self.graph.run_signature(signature, inputs)

    # Verification

    def examples(self):
        return examples.pictures()

    def listed(self, examples):
        """Pairs of pictures as files of 16 bits hold them: every signature sees the same."""
        return [tuple(_levels(read(picture)) for picture in p) for p in checked_pairs(examples)]

    def wanted(self, task, examples):
        answers = task.answers_to(examples, size=self.metadata.get("size"))
        if not answers["is_match"].any():
            warnings.warn(
                "the task finds no match in any of the examples, so to compare says little; pass "
                "examples=[(a, b), …] in which it finds some",
                stacklevel=2,
            )
        return answers

    def found(self, task, examples):
        answers = [self.answers_to(examples)]
        if "size" not in self.metadata:
            files = (self._answer_to_files(read(a), read(b)) for a, b in examples)
            answers.append(stacked(files))
        return answers

    def agreement(self, errors, tie):
        """The mean share of the matches of task and artifact that both have."""
        return float(1.0 - np.mean(errors))


def _levels(image):
    """A picture as uint16."""
    return np.round(65535.0 * np.asarray(image)).astype("uint16")


def _png(image):
    """The contents of a file of 16 bits, `[1]`."""
    return tf.expand_dims(tf.io.encode_png(_levels(image)), 0)
