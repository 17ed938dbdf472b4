"""LoRA trains few weights, and merging it leaves an ordinary model with the same outputs."""

import keras
import numpy as np
import pytest

from lingxi import export
from lingxi.export.precision import in_precision
from lingxi.tasks import TextClassifier
from lingxi.training import AdamW, add_lora, merge_lora

TEXTS = ["a good film", "bad", "the story was long and very cold", "lovely music"]
LABELS = ["positive", "negative", "negative", "positive"]


def logits(task):
    inputs = task.tokenizer(TEXTS, max_length=task.max_length)
    return keras.ops.convert_to_numpy(task(inputs, training=False)).astype("float32")


def values(task):
    return {variable.path: np.array(variable) for variable in task.weights}


def learn(task, **kwargs):
    task.compile(AdamW(1e-2), run_eagerly=True)
    return task.fit(TEXTS, LABELS, batch_size=2, verbose=0, seed=1, **kwargs)


@pytest.fixture
def adapted(tiny_classifier):
    """A function: a classifier with LoRA whose matrices are random."""

    def make(rank=4, alpha=8, dtype=None, **kwargs):
        task = tiny_classifier(dtype=dtype)
        add_lora(task, rank, alpha, **kwargs)
        random = np.random.default_rng(0)
        for variable in task.trainable_variables:
            if "lora" in variable.path:
                variable.assign(random.normal(0, 0.3, variable.shape))
        return task

    return make


def test_at_first_nothing_changes_and_little_learns(tiny_classifier):
    task = tiny_classifier()
    before, kernel = logits(task), np.array(task.backbone.blocks[0].attention.output_dense.kernel)
    count = add_lora(task, rank=3)
    np.testing.assert_array_equal(logits(task), before)
    factors, pooler, head = 3 * (32 + 96), 32 * 32 + 32, 32 * 2 + 2
    assert count == factors + pooler + head
    old = values(task)
    learn(task)
    moved = {path for path, value in values(task).items() if not np.array_equal(value, old[path])}
    assert {path.split("/")[-1] for path in moved if "query_key_value" in path} == {
        "lora_kernel_a",
        "lora_kernel_b",
    }
    assert all("query_key_value" in p or "pooler" in p or "head/" in p for p in moved)
    np.testing.assert_array_equal(task.backbone.blocks[0].attention.output_dense.kernel, kernel)


def test_merging_adds_the_scaled_product(adapted):
    task = adapted(rank=4, alpha=8)
    dense, outputs = task.backbone.blocks[0].attention.query_key_value_dense, logits(task)
    a, b, kernel = (np.array(v) for v in (dense.lora_kernel_a, dense.lora_kernel_b, dense._kernel))
    merge_lora(task)
    np.testing.assert_allclose(dense.kernel, kernel + 8 / 4 * a @ b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits(task), outputs, rtol=1e-4, atol=1e-5)


def test_a_merged_model_is_an_ordinary_one(adapted, tiny_classifier):
    task, plain = adapted(), tiny_classifier()
    merge_lora(task)
    names = [(v.name, v.shape) for v in task.trainable_variables]
    assert names == [(v.name, v.shape) for v in plain.trainable_variables]
    assert [v.shape for v in task.weights] == [v.shape for v in plain.weights]
    plain.set_weights(task.get_weights())
    np.testing.assert_array_equal(logits(plain), logits(task))
    learn(task)


def test_what_was_frozen_by_its_layer_stays_frozen(tiny_classifier):
    task = tiny_classifier()
    task.backbone.token_embedding.trainable = False
    add_lora(task)
    merge_lora(task)
    assert not task.backbone.token_embedding.embeddings.trainable
    assert task.backbone.position_embedding.embeddings.trainable


def test_any_dense_layer_by_its_name_and_other_weights_beside_it(tiny_classifier):
    task = tiny_classifier()
    add_lora(task, pattern="feed_forward/intermediate", others="norm|bias")
    paths = [v.path.split("/", 1)[1] for v in task.backbone.trainable_variables]
    adapted = [path for path in paths if "lora" in path]
    assert adapted == [f"block_0/feed_forward/intermediate/lora_kernel_{x}" for x in "ab"]
    assert all("norm" in path or "bias" in path for path in set(paths) - set(adapted))
    assert len(paths) > 10


def test_in_mixed_precision_merging_changes_no_more_than_rounding(adapted):
    task = adapted(dtype="mixed_bfloat16")
    learn(task)
    outputs = logits(task)
    merge_lora(task)
    np.testing.assert_allclose(logits(task), outputs, atol=0.1)
    assert task.backbone.blocks[0].attention.query_key_value_dense._kernel.dtype == "float32"


def test_answers_follow_the_weights(adapted):
    """Functions that were traced with other weights are traced anew."""
    task = adapted()
    kernels = task.backbone.blocks[0].attention.query_key_value_dense
    np.testing.assert_allclose(task.predict(TEXTS), logits(task), atol=1e-5)
    kernels.lora_kernel_b.assign(-kernels.lora_kernel_b)
    outputs = logits(task)
    merge_lora(task)
    np.testing.assert_allclose(task.predict(TEXTS), outputs, atol=1e-5)


def test_files_hold_the_merged_weights(adapted, tmp_path):
    task = adapted()
    outputs = logits(task)
    task.save(tmp_path / "task.keras")
    task.save_preset(tmp_path / "task")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    for same in (loaded, TextClassifier.from_preset(tmp_path / "task")):
        assert not any("lora" in variable.path for variable in same.weights)
        np.testing.assert_allclose(logits(same), outputs, atol=1e-5)


@pytest.mark.slow
def test_a_tflite_file_holds_the_merged_weights(adapted, tmp_path):
    task, reports = adapted(), []
    for name in ("before", "after"):
        if name == "after":
            merge_lora(task)
        path = tmp_path / f"{name}.tflite"
        reports.append(export.tflite(task, path, quantize="int8", input="ids", min_agreement=0.0))
    assert reports[0].max_difference == pytest.approx(reports[1].max_difference, abs=1e-3)
    assert reports[0].size == pytest.approx(reports[1].size, abs=200)  # bytes; a factor has 512


def test_a_finished_training_is_there_again(tiny_classifier, tmp_path):
    def train():
        task = tiny_classifier()
        add_lora(task)
        learn(task, epochs=2, resume=tmp_path / "run")
        return task.get_weights()

    for first, second in zip(train(), train(), strict=True):
        np.testing.assert_array_equal(second, first)


def test_what_cannot_be_is_refused(tiny_classifier):
    task = tiny_classifier()
    with pytest.raises(ValueError, match="no LoRA"):
        merge_lora(task)
    with pytest.raises(ValueError, match=r"'conv'.*block_0/attention/query_key_value"):
        add_lora(task, pattern="conv")
    with pytest.raises(ValueError, match="rank"):
        add_lora(task, rank=0)
    assert all(v.trainable for v in task.backbone.blocks[0].weights)
    add_lora(task)
    with pytest.raises(ValueError, match="merge_lora"):
        add_lora(task)
    with pytest.raises(ValueError, match=r"merge_lora\(task\) before it is exported in bfloat16"):
        in_precision(task, "bfloat16")
