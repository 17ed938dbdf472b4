"""A masked language model learns to restore words, keeps what it learned, and passes it on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.tasks import Filling, MaskedLanguageModel, TextClassifier
from lingxi.text import WordPieceTokenizer
from lingxi.training import AdamW
from lingxi.zoo import Bert, BertConfig
from tests.tasks.roberta import roberta_classifier

LINES = ["rice and tea", "good and bad", "day and night", "happy and sad"]
SIZES = {
    "hidden_dim": 32,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_dim": 64,
    "max_length": 32,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "initializer_range": 0.1,
}


def new_task(vocabulary, config=(), **kwargs):
    keras.utils.set_random_seed(3)
    backbone = Bert(BertConfig(**{**SIZES, "vocab_size": len(vocabulary), **dict(config)}))
    return MaskedLanguageModel(backbone, WordPieceTokenizer(vocabulary, max_length=32), **kwargs)


def documents(count=300):
    generator = np.random.default_rng(0)
    return ["\n".join(generator.choice(LINES, 2)) for _ in range(count)]


@pytest.fixture(scope="module")
def trained(vocabulary):
    """Do not change it."""
    task = new_task(vocabulary, mask_rate=0.3)
    task.fit(
        documents(),
        epochs=15,
        batch_size=16,
        max_length=8,  # one document
        learning_rate=1e-2,
        seed=1,
        verbose=0,
    )
    return task


def test_it_restores_words(trained):
    scores = trained.evaluate(documents(50), max_length=8, return_dict=True, verbose=0)
    assert scores["accuracy"] > 0.6  # "and" is 0.33
    assert scores["perplexity"] == pytest.approx(np.exp(scores["loss"]), rel=0.1)
    for line in LINES:
        first, _, last = line.split()
        (fillings,) = trained.fill([f"{first} and [MASK]"])[0]
        assert fillings[0].token == last
        assert fillings[0].text == line


def test_fillings_of_every_mask_come_in_order(trained):
    texts = ["the [MASK] and tea", "[MASK][MASK] , [MASK]!"]
    answers = trained.fill(texts, top_k=7)
    assert [len(answer) for answer in answers] == [1, 3]
    for answer, text in zip(answers, texts, strict=True):
        for place, fillings in enumerate(answer):
            assert len(fillings) == 7
            scores = [filling.score for filling in fillings]
            assert scores == sorted(scores, reverse=True)
            assert all(type(filling) is Filling for filling in fillings)
            assert all(f.text.count("[MASK]") == text.count("[MASK]") - 1 for f in fillings)
            best = fillings[0]
            before = text.split("[MASK]", place + 1)[:-1]
            assert best.text.startswith("[MASK]".join(before).rstrip())
    for alone, together in zip(trained.fill(texts[0], top_k=7)[0], answers[0][0], strict=True):
        assert alone.score == pytest.approx(together.score, abs=1e-6)
    assert trained.fill([]) == []


def test_scores_are_the_probabilities_of_the_whole_model(trained):
    inputs = trained.tokenized(tf.constant(["good and [MASK] [MASK]"]))
    logits = trained.predict(inputs, verbose=0)
    is_mask = inputs["token_ids"].numpy() == trained.tokenizer.mask_id
    wanted = np.sort(tf.nn.softmax(logits[is_mask]).numpy())[:, ::-1][:, :5]
    found = [[f.score for f in row] for row in trained.fill("good and [MASK] [MASK]")]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_logits_at_masked_positions_are_those_of_all(trained):
    inputs = trained.tokenizer(["rice and tea", "the good film was not very long"])
    places = np.array([[1, 2], [7, 0]], "int32")
    everywhere = trained(inputs).numpy()
    there = trained({**inputs, "masked_positions": places}).numpy()
    np.testing.assert_allclose(there, everywhere[[[0], [1]], places], atol=1e-5)


def test_pieces_join_the_word_before(vocabulary):
    task = new_task(vocabulary)
    bias = np.zeros(len(vocabulary), "float32")
    bias[[vocabulary.index("##ing"), vocabulary.index("the")]] = 90.0, 80.0
    task.output_bias.assign(bias)
    joined, apart = task.fill("act [MASK] now", top_k=2)[0]
    assert (joined.token, joined.text) == ("ing", "acting now")
    assert (apart.token, apart.text) == ("the", "act the now")


def test_roberta_fills_its_own_mask(tmp_path):
    parts = roberta_classifier()
    task = MaskedLanguageModel(parts.backbone, parts.tokenizer)
    bias = np.zeros(parts.tokenizer.vocab_size, "float32")
    bias[[parts.tokenizer.vocabulary.index(token) for token in ("Ġriver", "s")]] = 90.0, 80.0
    task.output_bias.assign(bias)
    word, piece = task.fill("the <mask>.", top_k=2)[0]
    assert (word.token, word.text) == ("river", "the river.")
    assert (piece.token, piece.text) == ("s", "thes.")
    task.save_preset(tmp_path)
    again = MaskedLanguageModel.from_preset(tmp_path)
    assert again.fill("the <mask>.")[0][0].score == pytest.approx(word.score, abs=1e-6)
    with pytest.raises(ValueError, match="write <mask> in the place"):
        task.fill(["the [MASK]"])


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["good [MASK]", "no mask"], {}, "text 1, 'no mask', has 0 masks; write \\[MASK\\]"),
        (["[MASK] " * 9], {}, "has 9 masks"),
        (["the " * 40 + "[MASK]"], {}, "only 0 of its 1 masks are within max_length"),
        (["[MASK]"], {"top_k": 21}, "top_k must be from 1 to 20, got 21"),
        ([("good [MASK]", "bad")], {}, "str"),
    ],
)
def test_bad_texts_are_named(vocabulary, texts, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        new_task(vocabulary).fill(texts, **options)


def test_the_next_sentence_is_learned(vocabulary):
    """Unshuffled, `fit` draws the pairs and masks of `evaluate`: here they are learned by heart."""
    generator = np.random.default_rng(0)
    texts = ["\n".join(generator.choice(vocabulary[60:], 10)) for _ in range(24)]
    task = new_task(vocabulary, next_sentence=True)
    task.fit(texts, epochs=25, batch_size=8, learning_rate=5e-3, shuffle=False, verbose=0)
    scores = task.evaluate(texts, batch_size=8, return_dict=True, verbose=0)
    assert scores["next_sentence_accuracy"] > 0.9
    assert scores["tokens_accuracy"] > 0.5
    parts = scores["tokens_loss"] + scores["next_sentence_loss"]
    assert scores["loss"] == pytest.approx(parts, rel=1e-3)


def test_next_sentence_needs_a_pooler(vocabulary):
    with pytest.raises(ValueError, match="needs an encoder of model type 'bert' with a pooler"):
        new_task(vocabulary, {"pooler": False}, next_sentence=True)


def test_a_tokenizer_without_mask_is_refused(vocabulary):
    tokenizer = WordPieceTokenizer(vocabulary, max_length=32)
    tokenizer.mask_id = None
    with pytest.raises(ValueError, match="no mask token"):
        MaskedLanguageModel(new_task(vocabulary).backbone, tokenizer)


def test_training_is_that_of_keras(vocabulary):
    """A compiled model, a validation set, steps instead of epochs, and the same again by seed."""

    def run(seed):
        task = new_task(vocabulary)
        task.compile(AdamW(1e-3), run_eagerly=True)
        return task.fit(
            documents(20),
            validation_data=documents(5),
            steps_per_epoch=3,
            epochs=2,
            batch_size=4,
            seed=seed,
            verbose=0,
        ).history

    history = run(1)
    assert set(history) == {
        f"{v}{n}" for v in ("", "val_") for n in ("loss", "accuracy", "perplexity")
    }
    assert history["loss"] == pytest.approx(run(1)["loss"], rel=1e-4)
    assert history["loss"] != pytest.approx(run(2)["loss"], rel=1e-4)


def test_fewer_bits_in_training(vocabulary):
    task = new_task(vocabulary)
    backbone = Bert(task.backbone.config, dtype="mixed_bfloat16")
    task = MaskedLanguageModel(backbone, task.tokenizer, dtype="mixed_bfloat16")
    task.compile(AdamW(1e-3), run_eagerly=True)
    task.fit(documents(5), verbose=0)
    assert np.isfinite(task.evaluate(documents(5), verbose=0)).all()
    assert task(task.tokenizer(["a film"])).dtype == tf.float32


def test_predict_refuses_texts(trained):
    with pytest.raises(TypeError, match="for texts, use fill"):
        trained.predict(["a [MASK]"])


@pytest.mark.parametrize("next_sentence", [False, True])
def test_presets_and_keras_files_keep_everything(vocabulary, tmp_path, next_sentence):
    settings = {"mask_rate": 0.3, "whole_words": False, "max_length": 20}
    task = new_task(vocabulary, next_sentence=next_sentence, **settings)
    task.save_preset(tmp_path / "preset")
    task.save(tmp_path / "model.keras")
    inputs = task.tokenizer(["a good film"])
    for again in (
        MaskedLanguageModel.from_preset(str(tmp_path / "preset")),
        keras.saving.load_model(tmp_path / "model.keras"),
    ):
        for name, value in {**settings, "next_sentence": next_sentence}.items():
            assert getattr(again, name) == value
        for mine, other in zip(
            tf.nest.flatten(again(inputs)), tf.nest.flatten(task(inputs)), strict=True
        ):
            np.testing.assert_allclose(mine, other, atol=1e-6)


def test_any_encoder_may_go_on_learning(tiny_classifier, tmp_path):
    """A checkpoint without this head gets a new one, and keeps the encoder."""
    classifier = tiny_classifier()
    classifier.save_preset(tmp_path)
    task = MaskedLanguageModel.from_preset(tmp_path)
    for mine, other in zip(
        task.backbone.get_weights(), classifier.backbone.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, other)
    assert MaskedLanguageModel.from_preset(tmp_path, next_sentence=True).next_sentence


def test_a_classifier_starts_from_what_was_learned(trained, tmp_path):
    trained.save_preset(tmp_path)
    classifier = TextClassifier.from_preset(tmp_path, labels=["day", "night"])
    for mine, other in zip(
        classifier.backbone.get_weights(), trained.backbone.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, other)


def test_output_embeddings_of_their_own_are_refused(vocabulary, tmp_path):
    task = new_task(vocabulary)
    task.save_preset(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(
        path.read_text().replace('"tie_word_embeddings": true', '"tie_word_embeddings": false')
    )
    with pytest.raises(ValueError, match="lingxi ties them"):
        MaskedLanguageModel.from_preset(tmp_path)
