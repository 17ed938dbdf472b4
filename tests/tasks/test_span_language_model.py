"""A T5 learns to restore spans, keeps what it learned, and passes it on."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.tasks import FilledText, MaskedLanguageModel, SpanLanguageModel, Summarizer
from lingxi.tasks.sequence_to_sequence import config_for
from lingxi.text import SentencePieceTokenizer, WordPieceTokenizer
from lingxi.training import AdamW
from lingxi.zoo import T5, Bert, BertConfig, T5Config

sentencepiece = pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")

LINES = ["rice and tea", "good and bad", "day and night", "happy and sad"]
TINY = T5Config(
    hidden_dim=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
    num_heads=4,
    head_dim=8,
    intermediate_dim=64,
    dropout=0.0,
)
SHORT = 8  # tokens of a source: about two lines


def documents(count=300):
    generator = np.random.default_rng(0)
    return ["\n".join(generator.choice(LINES, 2)) for _ in range(count)]


def word_tokenizer():
    """Each word of the lines is a token."""
    words = sorted({f"▁{word}" for line in [*LINES, "opposite"] for word in line.split()})
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a quick brown fox jumps over my lazy dog"] * 9),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        user_defined_symbols=words,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return SentencePieceTokenizer(model.getvalue(), max_length=32, num_sentinels=8)


def new_task(**kwargs):
    keras.utils.set_random_seed(3)
    tokenizer = word_tokenizer()
    return SpanLanguageModel(T5(config_for(TINY, tokenizer)), tokenizer, **kwargs)


@pytest.fixture(scope="module")
def trained():
    """Do not change it."""
    task = new_task(mask_rate=0.3, mean_span=1.0, decoding={"max_tokens": 8})
    task.fit(
        documents(),
        pairs=(
            [f"opposite {a}" for a in ("good", "day", "happy")] * 40,
            ["bad", "night", "sad"] * 40,
        ),
        epochs=30,
        batch_size=32,
        max_length=SHORT,
        learning_rate=1e-2,
        seed=1,
        verbose=0,
    )
    return task


def test_it_restores_spans_and_knows_the_labelled_task(trained):
    scores = trained.evaluate(documents(50), max_length=SHORT, return_dict=True, verbose=0)
    assert scores["accuracy"] > 0.75  # two of three tokens are sentinels or the end
    assert scores["perplexity"] == pytest.approx(np.exp(scores["loss"]), rel=0.1)
    words = {word for line in LINES for word in line.split()}
    for line in LINES:
        first, _, _ = line.split()
        answer = trained.fill(f"{first} and <extra_id_0> rice and tea")
        assert type(answer) is FilledText
        (span,) = answer.spans
        assert span in words
        assert answer.text == f"{first} and {span} rice and tea"
        assert answer.score < 0.0
    targets = ["bad", "night", "sad"]
    sources = [f"opposite {a}" for a in ("good", "day", "happy")]
    likely = [scores.sum() for scores in trained.score(sources, targets)]
    wrong = [scores.sum() for scores in trained.score(sources, targets[1:] + targets[:1])]
    assert sum(likely) > sum(wrong)
    of_pairs = trained.evaluate(sources, targets, return_dict=True, verbose=0)
    assert of_pairs["loss"] == pytest.approx(
        -np.concatenate(trained.score(sources, targets)).mean()
    )


def test_answers_keep_their_order_and_number(trained):
    texts = [
        "<extra_id_0> and tea day and <extra_id_1>",
        "good and <extra_id_0>",
        "a" * 9 + "<extra_id_0>",
    ]
    answers = trained.fill(texts)
    assert [len(answer.spans) for answer in answers] == [2, 1, 1]
    for again in (
        trained.fill(texts, batch_size=1),
        trained.fill(np.array(texts)),
        [trained.fill(text) for text in texts],
    ):
        assert [(a.text, a.spans) for a in again] == [(a.text, a.spans) for a in answers]
        assert [a.score for a in again] == pytest.approx([a.score for a in answers], abs=1e-4)
    assert trained.fill([]) == []
    several = trained.fill(texts, beams=3, num_results=2)
    assert [len(row) for row in several] == [2, 2, 2]
    assert all(first.score >= second.score for first, second in several)
    drawn = [trained.fill(texts, temperature=3.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_served_spans_are_those_of_the_verb(trained):
    texts = ["<extra_id_0> and tea day and <extra_id_1>", "good and <extra_id_0>"]
    served = trained.serving_function(tf.constant(texts))
    spans = [[span.decode().strip() for span in row[0]] for row in served["spans"].numpy()]
    for found, answer in zip(spans, trained.fill(texts), strict=True):
        assert found == [*answer.spans, *[""] * (len(found) - len(answer.spans))]
    assert served["count"].numpy().tolist() == [2, 1]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ["good <extra_id_0>", "none"],
            r"text 1, 'none', has the sentinels \[\]; write <extra_id_0>",
        ),
        (["<extra_id_1> good"], "in this order"),
        (["<extra_id_0> good <extra_id_0>"], "in this order"),
        (["the " * 40 + "<extra_id_0>"], "only 0 of its 1 sentinels are within max_length"),
        ([("good <extra_id_0>", "bad")], "got pairs"),
    ],
)
def test_bad_texts_are_named(trained, texts, message):
    with pytest.raises(ValueError, match=message):
        trained.fill(texts)


def test_every_form_of_text_trains_alike(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(documents(8)))
    dataset = tf.data.Dataset.from_tensor_slices(documents(8))
    losses = []
    for x in (documents(8), path, dataset):
        task = new_task()
        task.compile(AdamW(1e-3), run_eagerly=True)
        fitted = task.fit(x, validation_data=x, max_length=24, shuffle=False, verbose=0)
        losses.append((fitted.history["loss"][0], fitted.history["val_loss"][0]))
    np.testing.assert_allclose(losses, [losses[0]] * 3, rtol=1e-5)
    steps = task.fit(documents(8), epochs=2, steps_per_epoch=2, batch_size=1, verbose=0)
    assert len(steps.history["loss"]) == 2
    with pytest.raises(ValueError, match="pairs are mixed with texts, but x is NoneType"):
        task.fit(pairs=[("a", "b")])
    with pytest.raises(TypeError, match="for texts, use fill or score"):
        task.predict(documents(2))


def test_presets_and_keras_files_keep_everything(tmp_path):
    settings = {"mask_rate": 0.3, "mean_span": 2.0}
    task = new_task(decoding={"beams": 1, "max_tokens": 4}, **settings)
    task.save_preset(tmp_path / "preset")
    task.save(tmp_path / "model.keras")
    inputs, _ = next(iter(task.span_batches(documents(4))))
    for again in (
        SpanLanguageModel.from_preset(tmp_path / "preset"),
        keras.saving.load_model(tmp_path / "model.keras"),
    ):
        assert (again.mask_rate, again.mean_span, again.max_length) == (0.3, 2.0, 32)
        assert again.tokenizer.sentinel_ids == task.tokenizer.sentinel_ids
        np.testing.assert_allclose(again(inputs), task(inputs), atol=1e-6)
        assert again.decoding == task.decoding
        assert again.label_smoothing == 0.0
    assert SpanLanguageModel.from_preset(tmp_path / "preset", mask_rate=0.1).mask_rate == 0.1


def test_a_new_model_learns_its_vocabulary_from_the_texts():
    task = SpanLanguageModel.from_scratch(
        documents(20), config=TINY, vocab_size=60, max_length=16, num_sentinels=8
    )
    assert task.tokenizer.unk_id not in task.tokenizer.encode("rice and tea")
    assert task.tokenizer.vocab_size == task.backbone.config.vocab_size <= 60
    assert (task.max_length, len(task.tokenizer.sentinel_ids)) == (16, 8)


def test_another_task_starts_from_what_was_learned(trained, tmp_path):
    trained.save_preset(tmp_path)
    summarizer = Summarizer.from_preset(tmp_path)
    assert summarizer.pretrained
    for mine, other in zip(
        summarizer.backbone.get_weights(), trained.backbone.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, other)


def test_a_size_takes_its_vocabulary_from_a_directory(trained, tmp_path, monkeypatch):
    trained.tokenizer.save(tmp_path)
    monkeypatch.setitem(T5.presets, "tiny", TINY)
    task = SpanLanguageModel.from_preset("tiny", vocabulary=tmp_path)
    assert task.backbone.config.vocab_size == trained.tokenizer.vocab_size
    assert not task.pretrained


def test_the_wrong_class_names_the_right_one(trained, vocabulary, tiny_classifier, tmp_path):
    encoder = Bert(BertConfig(hidden_dim=16, num_layers=1, num_heads=2, intermediate_dim=32))
    words = WordPieceTokenizer(vocabulary, max_length=32)
    with pytest.raises(TypeError, match="masked by a MaskedLanguageModel"):
        SpanLanguageModel(encoder, words)
    with pytest.raises(TypeError, match="restore spans as a SpanLanguageModel"):
        MaskedLanguageModel(trained.backbone, trained.tokenizer)
    trained.save_preset(tmp_path / "t5")
    tiny_classifier().save_preset(tmp_path / "bert")
    for name in (tmp_path / "t5", "t5_small"):
        with pytest.raises(ValueError, match="open it by lingxi.tasks.SpanLanguageModel"):
            MaskedLanguageModel.from_preset(name)
    for name in (tmp_path / "bert", "bert_tiny"):
        with pytest.raises(ValueError, match="open it by lingxi.tasks.MaskedLanguageModel"):
            SpanLanguageModel.from_preset(name)
    bare = SentencePieceTokenizer(**{**trained.tokenizer.get_config(), "num_sentinels": 0})
    with pytest.raises(ValueError, match="the tokenizer has no sentinels"):
        SpanLanguageModel(trained.backbone, bare)


def test_real_text_is_packed_by_the_vocabulary_of_t5(data_path):
    tokenizer = SentencePieceTokenizer.from_directory(data_path("vocab/t5"))
    config = {**{f: getattr(TINY, f) for f in ("hidden_dim", "num_heads", "head_dim")}}
    task = SpanLanguageModel(
        T5(T5Config(**config, num_encoder_layers=1, num_decoder_layers=1)), tokenizer
    )
    text = data_path("shakespeare/input.txt").read_text("utf-8")[:200_000]
    masked = words = 0
    for inputs, labels in task.span_batches([text], 16).as_numpy_iterator():
        is_sentinel = np.isin(labels, tokenizer.sentinel_ids)
        masked += np.sum((labels > 1) & ~is_sentinel)
        source = inputs["encoder_token_ids"]
        words += np.sum((source > 1) & ~np.isin(source, tokenizer.sentinel_ids))
        assert not np.isin(labels, [tokenizer.pad_id, tokenizer.unk_id]).any()
    np.testing.assert_allclose(masked / (masked + words), 0.15, atol=0.002)
