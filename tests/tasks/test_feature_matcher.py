"""A feature matcher learns from pictures, matches pictures of any size, and is saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi import tasks
from lingxi.images import corner_errors, estimate
from lingxi.tasks import FeatureMatcher, Matches
from lingxi.tasks.feature_matcher import matches_of
from lingxi.training import MatchPrecision
from tests.tasks.matchers import new_matcher, pair, picture

SMALL = {"size": (32, 48), "batch_size": 2, "verbose": 0}


@pytest.fixture(autouse=True)
def eagerly():
    """Tracing takes far longer than these few steps; `trained` and the exports are traced."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def matcher():
    return new_matcher()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A matcher that has seen one picture for a while, what `fit` told, and its first loss."""
    matcher = new_matcher()
    history = matcher.fit(
        [picture()] * 2,
        validation_data=[picture(seed=5)] * 2,
        epochs=2,
        steps_per_epoch=12,
        learning_rate=3e-3,
        seed=0,
        callbacks=[keras.callbacks.ModelCheckpoint(tmp_path_factory.mktemp("fit") / "m.keras")],
        **SMALL,
    )
    return matcher, history.history


def same(a, b):
    assert len(a) == len(b) > 0
    for name in ("points_a", "points_b", "scores"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-4)


@pytest.mark.parametrize("kind", ["views", "pairs"])
def test_a_training_that_died_goes_on_to_the_bit(kind, tmp_path):
    (one, other), homography = pair()
    data = {
        "views": ([picture(seed=seed) for seed in range(4)], None),
        "pairs": ([(one, other), (other, one)] * 2, [homography, np.linalg.inv(homography)] * 2),
    }[kind]

    def dies(batch, logs):
        if batch == 1 and len(matcher.history.epoch) == 1:
            raise RuntimeError("the power went off")

    def fit(matcher, name, *callbacks):
        options = {"epochs": 2, "seed": 1, "resume": tmp_path / name, **SMALL}
        return matcher.fit(*data, callbacks=callbacks, **options).history

    whole, matcher = new_matcher(), new_matcher()
    wanted = fit(whole, "whole")
    with pytest.raises(RuntimeError, match="the power went off"):
        fit(matcher, "broken", keras.callbacks.LambdaCallback(on_train_batch_end=dies))
    matcher = new_matcher()
    assert fit(matcher, "broken") == wanted
    for got, value in zip(matcher.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(got, value, err_msg=value.path)


def test_the_losses_fall_and_validation_has_every_metric(trained):
    _, history = trained
    assert history["loss"][-1] < 0.95 * history["loss"][0]
    assert history["accuracy"][-1] > history["accuracy"][0]
    names = ("matching_score", "precision_1px", "precision_3px", "auc_3px", "auc_5px", "auc_10px")
    for name in (*names, "loss", "coarse_loss", "fine_loss", "accuracy"):
        assert f"val_{name}" in history
        assert np.isfinite(history[f"val_{name}"]).all()
    assert not any(name in history for name in names)


def test_evaluate_is_the_same_each_time_and_takes_other_metrics(trained):
    matcher, history = trained
    arguments = ([picture(seed=5)] * 2,)
    found = matcher.evaluate(*arguments, return_dict=True, **SMALL)
    assert found["coarse_loss"] == pytest.approx(history["val_coarse_loss"][-1], rel=1e-3)
    other = new_matcher()
    other.compile(keras.optimizers.SGD(0.1), metrics=[MatchPrecision(7)])
    found = other.evaluate(*arguments, return_dict=True, **SMALL)
    assert set(found) == {"loss", "coarse_loss", "fine_loss", "accuracy", "precision_7px"}


def test_a_later_fit_may_be_of_another_size(trained):
    matcher, _ = trained
    before = matcher.train_function
    history = matcher.fit([picture()] * 2, **{**SMALL, "size": (48, 48)})
    assert np.isfinite(history.history["loss"]).all()
    assert matcher.train_function is not before  # one for any size would know no cells


def test_sizes_that_nobody_knows_are_an_error(matcher):
    shapes = {name: tf.TensorSpec([1, None, None, 1]) for name in ("image_a", "image_b")}
    step = tf.function(lambda x, y: matcher.compute_loss(x, y, {}), autograph=False)
    with pytest.raises(ValueError, match="give the data set fixed shapes"):
        step.get_concrete_function(shapes, tf.TensorSpec([1, 3, 3]))


def test_fit_on_pairs_of_any_sizes_with_homographies():
    matcher = new_matcher(seed=1)
    first, homography = pair()
    other, _ = pair(48, 40)
    pairs, homographies = [first, (other[0], other[0])], [homography, np.eye(3)]
    history = matcher.fit(pairs, homographies, validation_data=(pairs, homographies), **SMALL)
    assert np.isfinite(history.history["val_loss"]).all()
    with pytest.raises(ValueError, match=r"got 2 pairs and homographies of shape \(1, 3, 3\)"):
        matcher.fit(pairs, homographies[:1], **SMALL)
    with pytest.raises(TypeError, match="item 1 is no pair of pictures"):
        matcher.fit([first, first[0]], homographies, **SMALL)


def test_fit_on_a_folder_names_what_is_damaged(matcher, tmp_path):
    (tmp_path / "good.png").write_bytes(tf.io.encode_png(picture()).numpy())
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    with pytest.raises(Exception, match=r"torn.png' is damaged"):
        matcher.fit(tmp_path, steps_per_epoch=2, **SMALL)
    with pytest.raises(FileNotFoundError, match="no folder"):
        matcher.fit(str(tmp_path / "nowhere"), **SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": [], "size": (32, 48)}, "got no pictures"),
        ({"x": [picture()], "size": (30, 48)}, "multiples of 8 and at least 16, got"),
        ({"x": [picture()], "size": (8, 48)}, "at least 16"),
    ],
)
def test_bad_arguments_of_fit(matcher, arguments, message):
    with pytest.raises(ValueError, match=message):
        matcher.fit(**arguments)


def test_match_gives_places_in_the_pictures_as_given(matcher):
    (a, b), _ = pair()
    found = matcher.match(a, b)
    assert isinstance(found, Matches)
    assert found.points_a.shape == found.points_b.shape == (len(found), 2)
    assert (np.diff(found.scores) <= 0).all() and found.scores.max() <= 1.0
    assert (found.points_a % 8 == 0).all()
    same(found, matcher.match([(a, b), (b, a)])[0])


def test_a_picture_beyond_max_size_is_shrunk_and_its_places_grow_back(matcher):
    (a, b), _ = pair()
    large = tf.image.resize(a, [256, 384], "bicubic", antialias=True).numpy().clip(0, 255)
    found = matcher.match(large.round().astype("uint8"), b)
    assert found.points_a[:, 0].max() > 128
    assert found.points_b[:, 0].max() < 100
    # three pixels became one, and a place is that of the middle one
    columns = (found.points_a[:, 0] - 1.0) / 24
    np.testing.assert_allclose(columns, columns.round(), atol=1e-4)


def test_padding_has_no_match(matcher):
    found = matcher.match(picture(41, 67), picture(41, 67))
    assert len(found)
    assert (found.points_a < (67, 41)).all()
    assert (found.points_b < (67 + 4, 41 + 4)).all()  # refined by 4 pixels at most


def test_blank_and_smallest_pictures_are_no_error(matcher):
    blank = np.zeros((40, 48), "uint8")
    for other in (blank, picture()):
        found = matcher.match(blank, other)
        assert len(found) == 0 and found.homography() is None
    assert len(matcher.match(picture(16, 16), picture(17, 23))) <= 4


def test_what_is_no_pair_is_an_error(matcher):
    with pytest.raises(TypeError, match="one picture alone has no matches"):
        matcher.match(picture())
    with pytest.raises(TypeError, match="item 0 is no pair"):
        matcher.match([picture(), picture()])
    assert matcher.match([]) == []


def by_blocks(image_a, image_b, side=12, reach=14):
    """The place of least squares in B for blocks of A that move, but neither turn nor grow."""
    blocks = np.lib.stride_tricks.sliding_window_view(image_b[..., 0], (side, side))
    found = []
    for y in range(0, image_a.shape[0] - side, 8):
        for x in range(0, image_a.shape[1] - side, 8):
            top, left = max(y - reach, 0), max(x - reach, 0)
            near = blocks[top : y + reach + 1, left : x + reach + 1]
            costs = np.square(near - image_a[y : y + side, x : x + side, 0]).sum(axis=(2, 3))
            row, column = np.unravel_index(costs.argmin(), costs.shape)
            found.append(((x, y), (left + column, top + row), -costs.min()))
    points_a, points_b, scores = (np.float32(values) for values in zip(*found, strict=True))
    centre = (side - 1) / 2
    answers = {"points_a": points_a + centre, "points_b": points_b + centre, "scores": scores}
    answers["is_match"] = np.ones(len(found), bool)
    return {name: values[np.newaxis] for name, values in answers.items()}


def test_a_second_look_at_a_plane_finds_more_and_truer_places():
    (a, b), true = pair(96, 128)
    once, twice = (matches_of([(a, b)], by_blocks, planar, False)[0] for planar in (False, True))
    agreeing = [estimate(found.points_a, found.points_b)[1].sum() for found in (once, twice)]
    assert agreeing[1] > agreeing[0]
    errors = [corner_errors(true, found.homography(), 128, 96) for found in (once, twice)]
    assert errors[1] < 0.7 * errors[0]
    assert (twice.points_b >= 0).all() and (twice.points_b <= (127, 95)).all()  # nothing mirrored
    np.testing.assert_array_equal(twice.image_b, once.image_b)


def test_a_second_look_without_a_plane_changes_nothing(matcher):
    blank = np.zeros((40, 48), "uint8")
    assert len(matcher.match(blank, picture(), planar=True)) == 0
    (a, b), _ = pair()
    assert len(matcher.match(a, b, planar=True)) > 0


def test_matches_are_drawn_by_one_call(matcher, tmp_path):
    pytest.importorskip("matplotlib")
    matcher.match(*pair()[0]).save(tmp_path / "matches.png")
    assert (tmp_path / "matches.png").read_bytes().startswith(b"\x89PNG")


def test_a_threshold_leaves_what_is_sure(matcher):
    images, _ = pair()
    scores = matcher.match(*images).scores
    strict = FeatureMatcher(matcher.backbone, max_size=128, threshold=float(np.median(scores)))
    np.testing.assert_array_equal(
        strict.match(*images).scores, scores[scores > np.float32(strict.threshold)]
    )
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\), got 1.5"):
        FeatureMatcher(matcher.backbone, threshold=1.5)


def test_files_are_answered_as_pictures_are(matcher):
    def answers_to_files(pairs):
        contents = ([tf.io.encode_png(p[side]).numpy() for p in pairs] for side in (0, 1))
        answers = matcher.serving_function_of_files(*map(tf.constant, contents))
        return {name: values.numpy() for name, values in answers.items()}

    pairs = [pair(seed=seed)[0] for seed in (1, 2)]
    found = answers_to_files(pairs)
    assert found["points_a"].shape == (2, 64, 2)
    assert matcher.disagreement(matcher.answers_to(pairs), found).max() == 0.0

    # of several sizes: each is padded to the largest, and there nothing matches
    found = answers_to_files([(picture(), picture(48, 64)), (picture(40, 56), picture())])
    assert found["is_match"].any(axis=1).all()
    assert (found["points_b"][0] < (64 + 4, 48 + 4)).all()
    assert (found["points_a"][1] < (56, 40)).all()


def test_batches_that_differ_are_an_error(matcher):
    two, one = (np.zeros((count, 32, 32, 1), "float32") for count in (2, 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be equally many"):
        matcher.serving_function(two, one)
    with pytest.raises(ValueError, match="image_a has a batch of 2, image_b one of 1"):
        matcher({"image_a": two, "image_b": one})


def test_a_preset_and_a_keras_file_hold_all_of_it(trained, tmp_path):
    matcher, _ = trained
    images, _ = pair()
    expected = matcher.match(*images)
    matcher.save_preset(tmp_path / "preset")
    loaded = tasks.load(tmp_path / "preset")
    assert isinstance(loaded, FeatureMatcher) and loaded.max_size == 128
    same(loaded.match(*images), expected)
    surest = FeatureMatcher.from_preset(tmp_path / "preset", max_size=64, threshold=0.9)
    assert (surest.max_size, surest.threshold) == (64, 0.9)

    matcher.save(tmp_path / "matcher.keras")
    restored = keras.saving.load_model(tmp_path / "matcher.keras")
    same(restored.match(*images), expected)


def test_a_size_by_name_has_random_weights():
    matcher = FeatureMatcher.from_preset("loftr_tiny")
    assert matcher.max_size == 640
    with pytest.raises(ValueError, match="max_size must be at least 16"):
        FeatureMatcher(matcher.backbone, max_size=8)


def test_a_keras_file_holds_what_it_was_compiled_with(tmp_path):
    matcher = new_matcher()
    matcher.compile(keras.optimizers.SGD(0.1), metrics=[MatchPrecision(7)])
    matcher.save(tmp_path / "matcher.keras")
    restored = keras.saving.load_model(tmp_path / "matcher.keras")
    assert isinstance(restored.optimizer, keras.optimizers.SGD)
    assert [metric.pixels for metric in restored.match_metrics] == [7]
