"""Artifacts of a `SpanLanguageModel`: texts with sentinels to the spans of the task."""

import keras
import pytest
import tensorflow as tf

from lingxi import export
from lingxi.tasks import SpanLanguageModel
from lingxi.text import SentencePieceTokenizer
from lingxi.zoo import T5, T5Config

TEXTS = [
    "Paris is the <extra_id_0> of France",
    "<extra_id_0> rain <extra_id_1>",
    "École naïve <extra_id_0>你好",
]
TINY = {
    "hidden_dim": 16,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "head_dim": 8,
    "intermediate_dim": 32,
}
FORMATS = {
    "saved_model": ("saved_model", {}),
    "tflite_ids": ("tflite", {"input": "ids", "max_length": 16}),
}


@pytest.fixture(scope="module")
def task(data_path):
    """Do not change it. Its bias makes it write sentinels among other tokens."""
    keras.utils.set_random_seed(2)
    tokenizer = SentencePieceTokenizer(
        data_path("vocab/t5/spiece.model"), max_length=32, num_sentinels=100
    )
    config = T5Config(vocab_size=tokenizer.vocab_size, **TINY)
    return SpanLanguageModel(
        T5(config), tokenizer, decoding={"max_tokens": 6, "prefix": (tokenizer.sentinel_ids[0],)}
    )


@pytest.fixture(scope="module", params=FORMATS)
def path(request, task, tmp_path_factory):
    path = tmp_path_factory.mktemp("spans") / "spans"
    function, options = FORMATS[request.param]
    if function == "tflite":
        path = path.with_suffix(".tflite")
    report = getattr(export, function)(task, path, **options)
    assert report.agreement == 1.0
    return report.path


def test_texts_give_the_spans_of_the_task(path, task):
    found, wanted = export.load(path).fill(TEXTS), task.fill(TEXTS)
    assert [a.text for a in found] == [a.text for a in wanted]
    assert [a.spans for a in found] == [a.spans for a in wanted]
    assert any(span for a in wanted for span in a.spans), "something is written"
    assert [a.score for a in found] == pytest.approx([a.score for a in wanted], abs=1e-4)
    one = export.load(path).fill(TEXTS[0])
    assert (one.text, one.spans) == (wanted[0].text, wanted[0].spans)
    assert export.load(path).fill([]) == []


def test_bad_texts_are_named(path):
    loaded = export.load(path)
    with pytest.raises(ValueError, match="write <extra_id_0>"):
        loaded.fill(["rain"])
    with pytest.raises(ValueError, match="only 0 of its 1 sentinels are within max_length"):
        loaded.fill(["the " * 50 + "<extra_id_0>"])


def test_tflite_takes_no_text(task, tmp_path):
    with pytest.raises(ValueError, match='pass input="ids"'):
        export.tflite(task, tmp_path / "spans.tflite")


def test_a_server_needs_only_the_text(path, task):
    if path.is_file():
        pytest.skip("a SavedModel alone")
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    found = served(text=tf.constant(TEXTS[:1]))
    assert found["count"].numpy().tolist() == [1]
    (span,) = task.fill(TEXTS[0]).spans
    assert found["spans"].numpy()[0, 0, 0].decode().strip() == span
