"""Feature matching: the places that two pictures have in common."""

import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from lingxi.answers.batches import stacked
from lingxi.answers.progress import progress
from lingxi.images import drawing, homography, pairs, reading
from lingxi.images.framing import (
    cell_masks,
    framed,
    has_contrast,
    padded,
    shrunk,
    unscaled,
    whole_cells,
)
from lingxi.layers.gather import pick
from lingxi.tasks import text_data
from lingxi.tasks.fine_tuning import chosen_schedule, default_optimizer
from lingxi.tasks.task import refuse_of_default
from lingxi.training import Checkpoints, fit_resumably, matching, run_seed
from lingxi.zoo import Loftr, preset

BATCH_SIZE = 8
TRAINING_SIZE = (240, 320)  # pixels, height and width
LEARNING_RATE = 1e-3
FINE_MATCHES = 64  # of a pair, drawn by chance, to learn the fine level from
SAME_PLACE = 1.0  # pixels, of the same match found by a task and by its artifact
TIE = 1e-4  # of a score with the threshold
SETTINGS = ("max_size", "threshold")  # arguments of a matcher beside its backbone


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
    """What two pictures have in common, the surest first.

    Attributes:
        points_a, points_b: float32 `[matches, 2]`, (x, y) in pixels of the pictures as given.
        scores: float32 `[matches]`, from 0 to 1.
        image_a, image_b: the pictures, float32 `[height, width, 1]`.
    """

    points_a: np.ndarray
    points_b: np.ndarray
    scores: np.ndarray
    image_a: np.ndarray = dataclasses.field(repr=False)
    image_b: np.ndarray = dataclasses.field(repr=False)

    def __len__(self):
        return len(self.scores)

    def homography(self, threshold=3.0):
        """The homography `[3, 3]` from A to B that most matches tell, or None if none is found.

        Args:
            threshold: pixels of B within which a match agrees; see `lingxi.images.estimate`.
        """
        return homography.estimate(self.points_a, self.points_b, threshold)[0]

    def save(self, path, limit=500):
        """Draw the `limit` surest matches into a picture file (extra `plots`)."""
        drawing.save_matches(
            path, self.image_a, self.image_b, self.points_a, self.points_b, self.scores, limit
        )


@keras.saving.register_keras_serializable(package="lingxi")
class FeatureMatcher(keras.Model):
    """LoFTR, trained and called on pictures.

    As a Keras model it takes the inputs of its backbone, frames of whole cells, and learns from
    homographies `[batch, 3, 3]`, in pixels from the first to the second. `fit`, `evaluate` and
    `match` also take pictures of any kind and size; see `lingxi.images.read`.

    Args:
        backbone: a `lingxi.zoo.Loftr`.
        max_size: pixels; a picture whose longer side is longer is shrunk before it is matched.
        threshold: least confidence of a match, in [0, 1); by default that of the backbone's config.
    """

    architectures = (Loftr,)
    verb = "match"

    def __init__(self, backbone, max_size=640, threshold=None, **kwargs):
        super().__init__(**kwargs)
        if max_size < reading.MIN_SIZE:
            raise ValueError(f"max_size must be at least {reading.MIN_SIZE} pixels, got {max_size}")
        if threshold is None:
            threshold = backbone.config.threshold
        if not 0.0 <= threshold < 1.0:
            raise ValueError(f"threshold must be in [0, 1), got {threshold}")
        self.backbone = backbone
        self.max_size = int(max_size)
        self.threshold = float(threshold)
        self._compiled_by_default = True
        self._traced_size = None
        self.coarse_loss = keras.metrics.Mean(name="coarse_loss")
        self.fine_loss = keras.metrics.Mean(name="fine_loss")
        self.accuracy = keras.metrics.Mean(name="accuracy")
        self.built = True  # as its backbone is

    def call(self, inputs, training=False):
        """Frames to matches in pixels of the frames; while training to features."""
        if training:
            return self.backbone.features(inputs, training=True)
        return self.backbone(inputs, threshold=self.threshold, return_confidence=False)

    # Training

    def compile(self, optimizer=None, metrics=None, **kwargs):
        """As in Keras; what is left out gets the default of the task.

        The loss is that of LoFTR: `lingxi.training.coarse_loss + fine_loss`.

        Args:
            optimizer: by default `lingxi.training.AdamW` at 1e-3, with gradients clipped to norm 1
                (and, when `fit` compiles, linear warm-up over a tenth of the steps, then decay).
            metrics: objects that take homographies and the matches found, on validation data; by
                default `MatchingScore`, `MatchPrecision` at 1 and 3 px, and `HomographyAuc` of
                `lingxi.training`.
        """
        self._compiled_by_default = False
        if metrics is None:
            metrics = [
                matching.MatchingScore(),
                matching.MatchPrecision(1),
                matching.MatchPrecision(3),
                matching.HomographyAuc(),
            ]
        self.match_metrics = metrics
        kwargs.setdefault("jit_compile", False)
        if optimizer is None:
            optimizer = default_optimizer(LEARNING_RATE)
        super().compile(optimizer=optimizer, **kwargs)

    def fit(
        self,
        x=None,
        y=None,
        validation_data=None,
        epochs=1,
        batch_size=BATCH_SIZE,
        size=TRAINING_SIZE,
        steps_per_epoch=None,
        strength=1.0,
        seed=None,
        learning_rate=LEARNING_RATE,
        schedule=None,
        warmup=None,
        resume=None,
        **kwargs,
    ):
        """Learn from single pictures, or from pairs with known homographies.

        Args:
            x: a folder, or a list of pictures: every step sees two views of each, made by random
                homographies and changes of light. With `y`, a list of pairs of pictures. Or what
                `keras.Model.fit` takes: a data set of `(inputs, homographies)`, or a dict.
            y: homographies `[pairs, 3, 3]`, from pixels of the first to pixels of the second.
            validation_data: of the same kinds: pictures, whose views are the same in every epoch;
                `(pairs, homographies)`; or a data set.
            size: height and width to train at, multiples of 8. Pairs are shrunk to fit.
            steps_per_epoch: by default as many as it takes to see every picture once.
            strength: of the random homographies and changes of light; 0 for none.
            seed: of all chance in the data.
            learning_rate: the peak of the default schedule.
            schedule, warmup: of the default optimizer, as in `lingxi.tasks.task.Task.fit`.
            resume: a directory to go on from after a failure, as there.
            epochs, batch_size, kwargs: as in `keras.Model.fit`.
        """
        if not self._compiled_by_default:
            refuse_of_default(schedule=schedule, warmup=warmup)
        seed = run_seed(resume, seed)
        data, steps = self._batches(x, y, size, batch_size, strength, seed, repeat=True)
        if validation_data is not None:
            x, y = validation_data if _is_supervised(validation_data) else (validation_data, None)
            validation_data, _ = self._batches(x, y, size, batch_size, strength)
        if self._compiled_by_default:
            steps_per_epoch = steps_per_epoch or steps
            total = steps_per_epoch and epochs * steps_per_epoch
            chosen = chosen_schedule(total, schedule, warmup)
            self.compile(default_optimizer(learning_rate, total, **chosen))
            self._compiled_by_default = True
        kwargs.setdefault("shuffle", False)  # the data are shuffled already
        kwargs |= {
            "validation_data": validation_data,
            "epochs": epochs,
            "steps_per_epoch": steps_per_epoch or steps,
        }
        if resume is None:
            return super().fit(data, **kwargs)
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        source = text_data.source_of_fit({"x": data}, False, seed)
        return fit_resumably(self, super().fit, source, Checkpoints.at(resume), seed, **kwargs)

    def evaluate(
        self, x=None, y=None, batch_size=BATCH_SIZE, size=TRAINING_SIZE, strength=1.0, **kwargs
    ):
        """As in Keras, on anything that `fit` takes; the metrics are in pixels of the frames."""
        if not self.compiled:
            self.compile()
            self._compiled_by_default = True
        data, _ = self._batches(x, y, size, batch_size, strength)
        return super().evaluate(data, **kwargs)

    def _batches(self, x, y, size, batch_size, strength, seed=0, repeat=False):
        """A data set of frames and homographies for anything that `fit` takes, and its steps."""
        if isinstance(x, tf.data.Dataset):
            return x, None
        if isinstance(x, dict):
            data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
            return data, None
        check_frame(size, self.backbone.config.stride)
        if tuple(size) != self._traced_size:  # else Keras would trace one graph for any size
            self._traced_size = tuple(size)
            self.train_function = self.test_function = None
        if y is None:
            pictures = reading.files_in(x) if _is_path(x) else list(x)
            make = functools.partial(pairs.batches_of_views, pictures)
        else:
            pictures, y = checked_pairs(x), np.asarray(y, "float32")
            if y.shape != (len(pictures), 3, 3):
                raise ValueError(
                    f"got {len(pictures)} pairs and homographies of shape {y.shape}; each pair "
                    "needs one [3, 3]"
                )
            stride = self.backbone.config.stride
            make = functools.partial(pairs.batches_of_pairs, pictures, y, stride=stride)
            strength = strength if repeat else 0.0
        if not pictures:
            raise ValueError("got no pictures; pass at least one")
        steps = math.ceil(len(pictures) / batch_size)
        make = functools.partial(
            make, size, batch_size, strength=strength, repeat=repeat, seed=seed
        )
        data = make()
        if repeat:

            def describe():
                each = pictures if y is None else itertools.chain(*pictures)
                each = [os.fspath(p) if _is_path(p) else reading.read(p) for p in each]
                return {
                    "pictures": text_data.checksum([each, y]),
                    "size": list(size),
                    "batch_size": batch_size,
                    "strength": strength,
                }

            data.source = text_data.Source(steps, lambda first: make(first=first), describe)
        return data, steps

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """`coarse_loss + fine_loss` for homographies `y`; of a coarse model the first alone."""
        features = y_pred if training else self.backbone.features(x, training=False)
        grids, masks = self._grids(x), (x.get("mask_a"), x.get("mask_b"))
        cells_b, offsets, is_match = matching.true_matches(y, *grids, *masks)
        confidence = self.backbone.confidence(features, *masks)
        coarse = matching.coarse_loss(confidence, cells_b, is_match)
        best = tf.math.top_k(confidence, 1).indices[..., 0]  # [batch, cells_a]
        self.accuracy.update_state(tf.equal(best, cells_b), is_match)
        self.coarse_loss.update_state(coarse)
        if not self.backbone.config.num_fine_layers:
            return coarse

        cells_a, is_match = _some(is_match, FINE_MATCHES, self.optimizer.iterations)
        refined = self.backbone.refine(features, cells_a, pick(cells_b, cells_a), training=training)
        radius = self.backbone.config.window_radius
        offset, target = refined["offset"] / radius, pick(offsets, cells_a) / radius
        fine = matching.fine_loss(offset, refined["std"], target, is_match)
        self.fine_loss.update_state(fine)
        return coarse + fine

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Of training the losses and the accuracy of the coarse cells, else all metrics."""
        shown = [self._loss_tracker, self.coarse_loss, self.fine_loss, self.accuracy]
        if "is_match" in y_pred:
            grid_a, grid_b = self._grids(x)
            found = {**x, **y_pred, "grid_a": grid_a, "grid_b": grid_b}
            for metric in self.match_metrics:
                metric.update_state(y, found)
            shown += self.match_metrics
        results = {}
        for metric in shown:
            result = metric.result()
            results |= result if isinstance(result, dict) else {metric.name: result}
        return results

    def _grids(self, inputs):
        """Rows, columns and stride of the coarse cells of both frames."""
        stride, grids = self.backbone.config.stride, []
        for name in ("image_a", "image_b"):
            height, width = inputs[name].shape[1:3]
            if height is None or width is None:
                raise ValueError(
                    f"to learn, {name} must have a height and a width that are known before, got "
                    f"{tuple(inputs[name].shape)}; give the data set fixed shapes"
                )
            grids.append((height // stride, width // stride, stride))
        return grids

    # The verb

    def match(self, image_a, image_b=None, planar=False, verbose="auto"):
        """The `Matches` of two pictures, or a list of them for a list of pairs.

        Args:
            image_a, image_b: pictures of any kind and size, as `lingxi.images.read` takes them; or
                `image_a` alone, a list of pairs `(a, b)`.
            planar: the pictures show something flat, or were taken from one place: look a second
                time, at B as it is seen from A by the homography of the first matches. Finds more
                places, and truer ones, for twice the time.
            verbose: a progress bar: True, False, or "auto" (for more than 20 pairs).
        """
        if image_b is not None:
            return self.match([(image_a, image_b)], planar=planar, verbose=verbose)[0]
        return matches_of(checked_pairs(image_a), self._answer, planar, verbose)

    def answers_to(self, pairs, size=None):
        """What artifacts give for a list of pairs of pictures: arrays `[pairs, …]`.

        Args:
            size: height and width of the frame that all are shrunk to fit; by default each picture
                has its own, no longer than `max_size`.
        """
        return stacked(
            self._answer(reading.read(a), reading.read(b), size) for a, b in checked_pairs(pairs)
        )

    def _answer(self, image_a, image_b, size=None):
        if size is not None:
            return in_frames(self._frames_graph, image_a, image_b, size)
        answers = self._pictures_graph(image_a[np.newaxis], image_b[np.newaxis])
        return {name: values.numpy() for name, values in answers.items()}

    @functools.cached_property
    def _pictures_graph(self):
        return tf.function(
            self.serving_function, input_signature=self.pictures_signature(), autograph=False
        )

    @functools.cached_property
    def _frames_graph(self):
        signature = [self.frames_signature()]
        return tf.function(self.answers, input_signature=signature, autograph=False)

    # Serving

    def answers(self, frames):
        """Frames to final answers, in TensorFlow's graph.

        Args:
            frames: `image_a`, `image_b` float32 `[batch, height, width, 1]`, sides multiples of
                the stride; `size_a`, `size_b` int32 `[batch, 2]`, height and width of the picture
                in the upper left of each.

        Returns:
            `points_a`, `points_b` float32 `[batch, max_matches, 2]`, (x, y) in pixels of the
            frames; `scores` float32 and `is_match` bool `[batch, max_matches]`, the surest first;
            the rest is zeros.
        """
        inputs = {}
        for side in "ab":
            image, sizes = frames[f"image_{side}"], frames[f"size_{side}"]
            height, width = keras.ops.shape(image)[1:3]
            cells = cell_masks(sizes, height, width, self.backbone.config.stride)
            seen = has_contrast(image, sizes)  # a blank picture has no places
            inputs |= {f"image_{side}": image, f"mask_{side}": tf.logical_and(cells, seen)}
        found = self(inputs, training=False)
        count = self.backbone.config.max_matches
        rest = count - keras.ops.shape(found["scores"])[1]
        for name, values in found.items():
            margins = [[0, 0], [0, rest], [0, 0]]
            found[name] = tf.pad(values, margins[: values.shape.rank])
            found[name].set_shape([None, count, 2][: values.shape.rank])
        return found

    def serving_function(self, image_a, image_b, answers=None):
        """Pictures float32 `[batch, height, width, 1]`, of any sizes, to final answers.

        Args:
            answers: a function to run in place of `self.answers`.

        Returns:
            As `answers`, in pixels of the pictures as given.
        """
        _check_equally_many(image_a, image_b)
        frames, scales = {}, {}
        for side, images in zip("ab", (image_a, image_b), strict=True):
            images, scale = shrunk(images, self.max_size, self.max_size)
            batch = tf.shape(images)[0]
            sizes = tf.tile(tf.expand_dims(tf.shape(images)[1:3], 0), [batch, 1])
            frames |= self._framed(side, images, sizes)
            scales[side] = tf.tile(tf.expand_dims(scale, 0), [batch, 1])
        return _in_pictures((answers or self.answers)(frames), scales)

    def serving_function_of_files(self, image_a, image_b, answers=None):
        """The same for the contents of picture files, strings `[batch]`, of any sizes.

        Each is padded to the largest of the batch, which changes what is seen near its lower and
        right edge a little; a batch of one, or of equal sizes, is answered as `match` does.
        """
        _check_equally_many(image_a, image_b)
        frames, scales = {}, {}
        for side, contents in zip("ab", (image_a, image_b), strict=True):
            images, sizes, scales[side] = self._decoded(contents)
            frames |= self._framed(side, images, sizes)
        return _in_pictures((answers or self.answers)(frames), scales)

    def _decoded(self, contents):
        """Pictures `[batch, height, width, 1]`, each in the upper left, their sizes and scales."""

        def pixels_of(content):
            image, scale = shrunk(reading.decoded(content), self.max_size, self.max_size)
            return tf.reshape(image, [-1]), tf.shape(image)[:2], scale

        pixels, sizes, scales = tf.map_fn(
            pixels_of,
            contents,
            fn_output_signature=(
                tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0),
                tf.TensorSpec([2], tf.int32),
                tf.TensorSpec([2], tf.float32),
            ),
        )
        height, width = tf.unstack(tf.maximum(tf.reduce_max(sizes, axis=0), 1))

        def picture_of(item):
            row, size = item
            return padded(tf.reshape(row, [size[0], size[1], 1]), height, width)

        signature = tf.TensorSpec([None, None, 1], tf.float32)
        images = tf.map_fn(picture_of, (pixels, sizes), fn_output_signature=signature)
        return images, sizes, scales

    def _framed(self, side, images, sizes):
        """What `answers` takes of one side."""
        stride = self.backbone.config.stride
        height, width = (whole_cells(tf.shape(images)[axis], stride) for axis in (1, 2))
        return {f"image_{side}": padded(images, height, width), f"size_{side}": sizes}

    def frames_signature(self, batch=None, height=None, width=None):
        """What `answers` takes, as `tf.TensorSpec`s."""
        return {
            f"{name}_{side}": tf.TensorSpec(shape, dtype, name=f"{name}_{side}")
            for side in "ab"
            for name, shape, dtype in (
                ("image", [batch, height, width, 1], tf.float32),
                ("size", [batch, 2], tf.int32),
            )
        }

    def pictures_signature(self):
        """What `serving_function` takes."""
        return [tf.TensorSpec([None, None, None, 1], name=name) for name in ("image_a", "image_b")]

    def files_signature(self):
        """What `serving_function_of_files` takes."""
        return [tf.TensorSpec([None], tf.string, name=name) for name in ("image_a", "image_b")]

    def export_metadata(self):
        """What an artifact must know to give plain answers, as a dict for JSON."""
        return {"task": type(self).__name__, "stride": self.backbone.config.stride}

    def disagreement(self, expected, found):
        """The share of the matches of task and artifact that the other has not, `[pairs]`.

        Two are the same if they are of one cell of A and a pixel apart in B, at most. What is as
        sure as the threshold, or nearly so, may be missing.
        """
        return np.array(
            [
                1.0 - _share_in_common(*sides, self.threshold)
                for sides in zip(_by_place(expected), _by_place(found), strict=True)
            ]
        )

    def difference(self, expected, found):
        """The largest between scores, and between places in B, of matches that both have."""
        differences = [0.0]
        for wanted, got in zip(_by_place(expected), _by_place(found), strict=True):
            differences += [
                np.abs(wanted[place] - got[place]).max() for place in wanted.keys() & got.keys()
            ]
        return np.max(differences)

    # Presets and .keras files

    @classmethod
    def from_preset(
        cls, name, max_size=None, threshold=None, load_weights=True, dtype=None, **kwargs
    ):
        """A matcher from a preset.

        Args:
            name: as in `lingxi.zoo.Loftr.from_preset`; a directory may be one that `save_preset`
                of a matcher wrote.
            max_size: by default what the directory says, else 640.
            threshold: by default what the directory says.
            load_weights: False for random weights.
            dtype: a Keras dtype policy.
        """
        backbone = Loftr.from_preset(name, load_weights=load_weights, dtype=dtype)
        given = {"max_size": max_size, "threshold": threshold}
        given = {setting: value for setting, value in given.items() if value is not None}
        settings = {**_settings_in(name), **given}
        return cls(backbone, dtype=dtype, **settings, **kwargs)

    def save_preset(self, directory):
        """Write `config.json` and `model.safetensors`, which `from_preset` reads."""
        config = {
            **self.backbone.layout.to_contents(self.backbone.config),
            "lingxi": {"task": type(self).__name__, **self._settings()},
        }
        preset.write(directory, config, self.backbone.checkpoint_table())

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            **self._settings(),
        }

    def _settings(self):
        return {name: getattr(self, name) for name in SETTINGS}

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"))
        return cls(backbone, **config)

    def get_compile_config(self):
        """None after a default `compile`: its schedule belonged to one run of `fit`."""
        if self._compiled_by_default:
            return None
        metrics = [keras.saving.serialize_keras_object(metric) for metric in self.match_metrics]
        return {**super().get_compile_config(), "metrics": metrics}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


def matches_of(pairs, answer, planar, verbose):
    """`Matches` for each of a list of pairs of pictures.

    Args:
        answer: a function of two pictures `[height, width, 1]` to a dict of arrays `[1, …]`.
        planar, verbose: as of `FeatureMatcher.match`.
    """

    def match(*images):
        answers = answer(*images)
        real = answers["is_match"][0]
        rows = (answers[name][0][real] for name in ("points_a", "points_b", "scores"))
        return Matches(*rows, *images)

    found = []
    for step in progress(len(pairs), "match", verbose):
        matches = match(*(reading.read(picture) for picture in pairs[step]))
        found.append(_seen_from_a(matches, match) if planar else matches)
    return found


def _seen_from_a(matches, match):
    """`matches` found anew by `match`, in B as it is seen from A; the old ones if more agree."""
    image_a, image_b = matches.image_a, matches.image_b
    to_b, agreeing = homography.estimate(matches.points_a, matches.points_b)
    if to_b is None:
        return matches
    view = homography.warped(image_b[np.newaxis], np.float32([to_b]), *image_a.shape[:2])
    anew = match(image_a, view[0].numpy())
    if not len(anew):
        return matches
    points_b = homography.through(np.float32([to_b]), anew.points_b[np.newaxis])[0].numpy()
    height, width = image_b.shape[:2]
    shown = ((points_b >= 0) & (points_b <= (width - 1, height - 1))).all(axis=1)  # not mirrored
    rows = (values[shown] for values in (anew.points_a, points_b, anew.scores))
    anew = Matches(*rows, image_a, image_b)
    _, agreeing_anew = homography.estimate(anew.points_a, anew.points_b)
    return anew if agreeing_anew.sum() > agreeing.sum() else matches


def in_frames(answers, image_a, image_b, size):
    """What a graph of frames of one size gives for two pictures, in pixels of these.

    Args:
        answers: a function of what `FeatureMatcher.answers` takes.
        image_a, image_b: `[height, width, 1]`.
        size: height and width of the frames.
    """
    frames, scales = {}, {}
    for side, image in zip("ab", (image_a, image_b), strict=True):
        parts = (tf.expand_dims(part, 0) for part in framed(image, *size))
        frames[f"image_{side}"], frames[f"size_{side}"], scales[side] = parts
    answers = {name: tf.convert_to_tensor(values) for name, values in answers(frames).items()}
    return {name: values.numpy() for name, values in _in_pictures(answers, scales).items()}


def checked_pairs(pairs):
    """`pairs` as a list of pairs.

    Raises:
        TypeError: an item is no pair of pictures.
    """
    if reading.is_picture(pairs):
        raise TypeError("one picture alone has no matches: pass two, or a list of pairs")
    pairs = list(pairs)
    for index, pair in enumerate(pairs):
        if reading.is_picture(pair) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise TypeError(
                f"item {index} is no pair of pictures (a, b), but a {type(pair).__name__}"
            )
    return pairs


def _check_equally_many(image_a, image_b):
    """Raise in the graph where the batches differ."""
    first, second = tf.shape(image_a)[0], tf.shape(image_b)[0]
    message = "image_a and image_b must be equally many: one of each for every pair"
    tf.debugging.assert_equal(first, second, message)


def _in_pictures(answers, scales):
    """Answers in pixels of frames as answers in pixels of the pictures shrunk into them."""
    real = tf.expand_dims(answers["is_match"], -1)
    points = {
        f"points_{side}": tf.where(real, unscaled(answers[f"points_{side}"], scale), 0.0)
        for side, scale in scales.items()
    }
    return {**answers, **points}


def _is_path(picture):
    return isinstance(picture, (str, os.PathLike))


def _some(is_match, count, step):
    """Up to `count` true matches of each pair, drawn by chance: their cells, and which are real."""
    count = min(count, is_match.shape[1])
    seed = tf.stack([tf.cast(step, tf.int32), 0])
    chance = tf.random.stateless_uniform(tf.shape(is_match), seed, 0.5, 1.0)
    draws = tf.where(is_match, chance, 0.0)
    chance, cells = tf.math.top_k(draws, count)
    return cells, chance > 0.0


def _by_place(answers):
    """A dict for each pair: `{place in A: (x in B, y in B, score)}`."""
    names = ("points_a", "points_b", "scores", "is_match")
    found = []
    for points_a, points_b, scores, real in zip(*(answers[n] for n in names), strict=True):
        values = np.column_stack([points_b, scores])[real]
        places = map(tuple, np.round(points_a[real]).astype(int).tolist())
        found.append(dict(zip(places, values, strict=True)))
    return found


def _share_in_common(wanted, got, threshold):
    """Of two dicts by place, twice the number of equal matches for the sum of both lengths."""
    same = total = 0
    for place in wanted.keys() | got.keys():
        if place in wanted and place in got:
            apart = np.abs(wanted[place][:2] - got[place][:2]).max()
            same, total = same + 2 * (apart < SAME_PLACE), total + 2
        else:
            score = wanted.get(place, got.get(place))[2]
            total += abs(score - threshold) > TIE
    return same / total if total else 1.0


def _settings_in(name):
    """What the config.json of a directory says of a matcher."""
    if name in Loftr.presets or os.path.isfile(name):
        return {}
    config = preset.read_config(preset.resolve(name), Loftr.layouts)
    return {k: v for k, v in config.get("lingxi", {}).items() if k in SETTINGS}


def _is_supervised(data):
    return isinstance(data, tuple) and len(data) == 2


def check_frame(size, stride):
    """Raise ValueError unless `size` is a height and a width of whole cells."""
    if len(size) != 2 or any(side % stride or side < 2 * stride for side in size):
        raise ValueError(
            f"size must be a height and a width, multiples of {stride} and at least {2 * stride}, "
            f"got {size}"
        )
