"""Weights become zero on a schedule; heads and units go for good, and leave smaller matrices."""

import json
import logging

import keras
import numpy as np
import pytest

from lingxi import export
from lingxi.tasks import MultiTask, TextClassifier, TokenClassifier
from lingxi.training import (
    AdamW,
    MagnitudePruning,
    add_lora,
    importance,
    prune_heads,
    prune_units,
)
from lingxi.training.pruning import keep_only
from tests.tasks.test_multi_task import encoder
from tests.tasks.test_token_classifier import examples as entities

TEXTS = ["a good film", "bad", "the story was long and very cold", "lovely music"] * 2
LABELS = ["positive", "negative", "negative", "positive"] * 2
SMALL = {"num_layers": 2, "num_heads": 4, "intermediate_dim": 6}


def logits(task, texts=TEXTS):
    inputs = task.tokenizer(texts, max_length=task.max_length)
    return keras.ops.convert_to_numpy(task(inputs, training=False))


def kernels(task):
    """What `MagnitudePruning` prunes: the kernels of all dense layers of all blocks."""
    return {
        variable.path: np.array(variable)
        for block in task.backbone.blocks
        for variable in block.weights
        if variable.path.endswith("kernel")
    }


def zeros(task):
    return {path: np.mean(value == 0) for path, value in kernels(task).items()}


def test_the_share_of_zeros_is_cubic():
    pruning = MagnitudePruning(0.8, begin=10, end=30, initial=0.1)
    assert pruning.share_at(9) == 0.0
    assert pruning.share_at(10) == pytest.approx(0.1)
    assert pruning.share_at(20) == pytest.approx(0.8 - 0.7 * 0.5**3)
    assert pruning.share_at(30) == pruning.share_at(99) == pytest.approx(0.8)


class Shares(keras.callbacks.Callback):
    """The share of zeros after each step."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(zeros(self.model))


def test_the_smallest_weights_become_zero_and_stay_it(tiny_classifier):
    task, shares = tiny_classifier(config={"num_layers": 2}), Shares()
    large = {
        path: np.abs(value) > np.quantile(np.abs(value), 0.9)
        for path, value in kernels(task).items()
    }
    pruning = MagnitudePruning(0.5, end=8, every=2)
    task.compile(AdamW(1e-3))
    task.fit(TEXTS, LABELS, epochs=6, batch_size=4, callbacks=[pruning, shares], verbose=0)
    assert len(shares.found) == 12
    for step, found in enumerate(shares.found, start=1):
        expected = pruning.share_at(min(step - step % 2, 8))
        np.testing.assert_allclose(list(found.values()), expected, atol=1e-3, err_msg=str(step))
    for path, value in kernels(task).items():
        assert (value[large[path]] != 0).all()
    others = {id(v) for block in task.backbone.blocks for v in block.weights}
    untouched = [v for v in task.weights if id(v) not in others and len(v.shape) == 2]
    assert all((np.array(v) != 0).all() for v in untouched) and len(untouched) > 3
    assert all(v.constraint is None for v in task.weights)


class Dies(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise KeyError("the power went off")


def test_pruning_goes_on_where_it_was_killed(tiny_classifier, tmp_path):
    def train(name, *others):
        task = tiny_classifier()
        task.compile(AdamW(1e-2), run_eagerly=True)
        task.fit(
            TEXTS,
            LABELS,
            epochs=4,
            batch_size=4,
            callbacks=[MagnitudePruning(0.6, end=7, every=2), *others],
            verbose=0,
            seed=1,
            resume=tmp_path / name,
        )
        return task.get_weights()

    whole = train("whole")
    with pytest.raises(KeyError):
        train("broken", Dies(5))
    for wanted, got in zip(whole, train("broken"), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("part", ["heads", "units"])
def test_importance_is_how_much_the_loss_depends_on_a_gate(tiny_classifier, part):
    """The derivative by differences: what reads a head is made a little larger, and smaller."""
    task = tiny_classifier(config=SMALL)
    found = importance(task, (TEXTS[:4], LABELS[:4]), part, batch_size=3)
    targets = task.targets(LABELS[:4])
    expected = np.zeros_like(found)
    for index, block in enumerate(task.backbone.blocks):
        last = block.attention if part == "heads" else block.feed_forward
        kernel = last.output_dense.kernel
        value, rows = np.array(kernel), kernel.shape[0] // found.shape[1]
        for number in range(found.shape[1]):
            losses = []
            for gate in (1.01, 0.99):
                changed = value.copy()
                changed[number * rows : (number + 1) * rows] *= gate
                kernel.assign(changed)
                scores = logits(task, TEXTS[:4]).astype("float64")
                scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
                losses.append(-scores[np.arange(4), targets])
            expected[index, number] = np.abs(losses[0] - losses[1]).mean()
        kernel.assign(value)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize("part", ["heads", "units"])
def test_what_is_left_says_what_the_masked_model_says(tiny_classifier, part):
    task = tiny_classifier(config=SMALL)
    kept = np.array([[0, 3], [1, 2]])
    pruned = keep_only(task, part, kept)
    whole = logits(task)
    for block, numbers in zip(task.backbone.blocks, kept, strict=True):
        last = block.attention if part == "heads" else block.feed_forward
        kernel = last.output_dense.kernel
        count = 4 if part == "heads" else 6
        rows = np.array(kernel).reshape(count, -1, 32)
        rows[np.setdiff1d(range(count), numbers)] = 0.0
        kernel.assign(rows.reshape(-1, 32))
    np.testing.assert_allclose(logits(pruned), logits(task), atol=1e-5)
    assert np.abs(logits(pruned) - whole).max() > 0.01
    backbone = pruned.backbone
    assert backbone.count_params() == backbone.config.num_parameters
    assert backbone.count_params() < task.backbone.count_params()


def test_the_least_important_heads_go(tiny_classifier):
    task = tiny_classifier(config=SMALL)
    data = TEXTS, LABELS
    found = importance(task, data)
    pruned = prune_heads(task, 0.5, data)
    best = np.sort(np.argsort(-found, axis=1)[:, :2], axis=1)
    np.testing.assert_array_equal(logits(pruned), logits(keep_only(task, "heads", best)))
    config = pruned.backbone.config
    assert (config.num_heads, config.head_dim, config.hidden_dim) == (2, 8, 32)
    for block in pruned.backbone.blocks:
        assert block.attention.query_key_value_dense.kernel.shape == (32, 3 * 16)
        assert block.attention.output_dense.kernel.shape == (16, 32)
    assert prune_heads(task, 0.99, data).backbone.config.num_heads == 1
    whole = prune_heads(task, 0.0, data)
    assert whole.backbone.config == task.backbone.config
    np.testing.assert_allclose(logits(whole), logits(task), atol=1e-6)


def test_a_pruned_task_learns_and_is_saved(tiny_classifier, tmp_path, caplog):
    task = keep_only(tiny_classifier(config=SMALL), "heads", np.array([[0, 2, 3], [1, 2, 3]]))
    task.compile(AdamW(1e-2), run_eagerly=True)
    task.fit(TEXTS, LABELS, verbose=0)
    with caplog.at_level(logging.WARNING, "absl"):
        task.save_preset(tmp_path / "task")
    assert "transformers cannot" in caplog.text
    with pytest.raises(ValueError, match="3 heads of 8 in a width of 32, .*no such model"):
        export.huggingface(task, tmp_path / "huggingface")
    assert json.loads((tmp_path / "task/config.json").read_text())["head_dim"] == 8
    task.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    for same in (loaded, TextClassifier.from_preset(tmp_path / "task")):
        assert same.backbone.config == task.backbone.config
        np.testing.assert_allclose(logits(same), logits(task), atol=1e-6)


def test_fewer_units_are_an_ordinary_size(tiny_classifier, tmp_path, caplog):
    task = prune_units(tiny_classifier(config=SMALL), 0.5, (TEXTS, LABELS))
    task.save_preset(tmp_path / "task")
    contents = json.loads((tmp_path / "task/config.json").read_text())
    assert contents["intermediate_size"] == 3
    assert "head_dim" not in contents and not caplog.records


@pytest.mark.slow
def test_exports_are_smaller(tiny_classifier, tmp_path):
    whole = tiny_classifier(config={"hidden_dim": 64, "num_heads": 4, "intermediate_dim": 512})
    pruned = keep_only(whole, "heads", np.array([[1]]))
    pruned = keep_only(pruned, "units", np.arange(64).reshape(1, 64))
    sizes = [
        export.tflite(task, tmp_path / f"{name}.tflite", input="ids").size
        for name, task in (("whole", whole), ("pruned", pruned))
    ]
    gone = whole.count_params() - pruned.count_params()
    assert gone > 0.5 * whole.count_params()
    assert sizes[0] - sizes[1] == pytest.approx(4 * gone, rel=0.02)


def test_what_cannot_be_is_refused(tiny_classifier):
    task, data = tiny_classifier(), (TEXTS, LABELS)
    with pytest.raises(ValueError, match="share"):
        prune_heads(task, 1.0, data)
    with pytest.raises(ValueError, match="'layers'"):
        importance(task, data, "layers")
    with pytest.raises(ValueError, match="initial <= sparsity"):
        MagnitudePruning(1.0)
    with pytest.raises(ValueError, match="begin < end"):
        MagnitudePruning(begin=5, end=5)
    task.compile(run_eagerly=True)
    with pytest.raises(ValueError, match="'conv'"):
        task.fit(*data, callbacks=[MagnitudePruning(pattern="conv")], verbose=0)
    add_lora(task)
    with pytest.raises(ValueError, match="merge_lora"):
        prune_heads(task, 0.5, data)


def test_several_tasks_lose_what_none_of_them_needs(vocabulary):
    shared = encoder(vocabulary, **SMALL)
    multi = MultiTask(
        {
            "names": TokenClassifier(*shared, ["PLACE", "FOOD"]),
            "sentiment": TextClassifier(*shared, ["negative", "positive"]),
        }
    )
    data = {"names": entities(6), "sentiment": (TEXTS, LABELS)}
    alone = [importance(multi, {name: given}) for name, given in data.items()]
    both = importance(multi, data)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1.0, rtol=1e-5)
    shares = np.stack([both, *alone], axis=-1)  # [blocks, heads, 3]
    assert (shares[..., 0] >= shares[..., 1:].min(-1) - 1e-6).all()
    assert not np.allclose(alone[0], alone[1], atol=1e-3)

    pruned = prune_heads(multi, 0.5, data)
    assert pruned.backbone.config.num_heads == 2
    assert all(task.backbone is pruned.backbone for task in pruned.tasks.values())
    kept = np.sort(np.argsort(-both, axis=1)[:, :2], axis=1)
    x = multi.tokenizer(TEXTS)
    wanted = keep_only(multi["names"], "heads", kept)(x)
    np.testing.assert_allclose(pruned(x)["names"], wanted, atol=1e-6)
    assert np.isfinite(pruned.fit(data, verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match="data of no task: .'other'."):
        prune_heads(multi, 0.5, {"other": data["names"]})
