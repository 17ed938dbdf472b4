"""Translator and Summarizer: training on pairs, the verbs, and files."""

import dataclasses
import json
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.tasks import Generation, Summarizer, Translator
from lingxi.text import SentencePieceTokenizer
from lingxi.training import AdamW
from lingxi.zoo import T5, T5Config, Transformer, TransformerConfig

pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")

WORDS = ["red", "blue", "green", "tea", "rice", "river", "stone", "cloud", "bird"]
TINY = {
    "hidden_dim": 32,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 4,
    "intermediate_dim": 64,
    "dropout": 0.0,
}
CONFIGS = {
    "transformer": TransformerConfig(**TINY, norm_first=True),
    "marian": TransformerConfig(**TINY, model_type="marian", positions="halves"),
    "t5": T5Config(**TINY, head_dim=8),
}
FEW = {"max_tokens": 8}


def reversals(count, seed=0):
    """Short lists of words, and the same ones backwards."""
    generator = random.Random(seed)
    rows = [
        [generator.choice(WORDS) for _ in range(generator.randrange(1, 5))] for _ in range(count)
    ]
    return [" ".join(row) for row in rows], [" ".join(row[::-1]) for row in rows]


PAIRS = reversals(200)
TEXTS = PAIRS[0][:5]


def new(config="marian", task=Translator, **options):
    keras.utils.set_random_seed(1)
    options = {"config": CONFIGS[config], "vocab_size": 60, "max_length": 32, **options}
    return task.from_scratch(*PAIRS, **options)


@pytest.fixture(scope="module")
def translator():
    return new(decoding={"beams": 2, **FEW})


# Training


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_it_learns_to_reverse(config):
    translator = new(config, label_smoothing=0.0, decoding={"beams": 4, "max_tokens": 16})
    train, held_out = reversals(2000), reversals(50, seed=9)
    history = translator.fit(
        *train, epochs=25, tokens_per_batch=512, learning_rate=5e-3, seed=1, verbose=0
    )
    assert history.history["loss"][-1] < 0.1
    made = translator.translate(held_out[0])
    assert np.mean([a == b for a, b in zip(made, held_out[1], strict=True)]) > 0.9


def traces(translator, data, **options):
    """How often `fit` traced the training step."""
    translator.fit(data, epochs=2, verbose=0, tokens_per_batch=64, seed=0, **options)
    count = []
    inner = translator.train_step
    translator.train_step = lambda batch: count.append(0) or inner(batch)
    translator.train_function = None
    translator.fit(data, epochs=2, verbose=0, tokens_per_batch=64, seed=0, **options)
    return len(count)


def test_batches_of_all_shapes_are_one_trace():
    assert traces(new(), list(zip(*PAIRS, strict=True))[:40]) == 1


def losses(history):
    return np.array(history.history["loss"])


def test_every_form_of_data_trains_alike(tmp_path):
    sources, targets = (side[:16] for side in PAIRS)
    pairs = list(zip(sources, targets, strict=True))
    tsv = tmp_path / "pairs.tsv"
    tsv.write_text("".join(f"{s}\t{t}\n" for s, t in pairs))
    files = [tmp_path / "source.txt", tmp_path / "target.txt"]
    for path, lines in zip(files, (sources, targets), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines))
    dataset = tf.data.Dataset.from_tensor_slices((sources, targets)).batch(16)
    found = []
    for x, y in ((sources, targets), (pairs, None), (tsv, None), files, (dataset, None)):
        translator = new()
        translator.compile(AdamW(1e-3), run_eagerly=True)
        found.append(losses(translator.fit(x, y, epochs=2, shuffle=False, verbose=0)))
    np.testing.assert_allclose(found, [found[0]] * 5, rtol=1e-5)
    assert found[0][1] < found[0][0]


def test_the_loss_is_the_mean_over_tokens_however_they_are_batched(translator):
    translator.compile(AdamW(), run_eagerly=True)
    sources, targets = (side[:12] for side in PAIRS)
    together, _ = translator.evaluate(sources, targets, verbose=0)
    scores = np.concatenate(translator.score(sources, targets))
    translator.label_smoothing = 0.0
    translator.compile(AdamW(), run_eagerly=True)
    plain, accuracy = translator.evaluate(sources, targets, verbose=0)
    assert plain == pytest.approx(-scores.mean(), rel=1e-5)
    assert 0 <= accuracy <= 1
    translator.label_smoothing = 0.1
    assert together != pytest.approx(plain, rel=1e-6)


def test_new_weights_warm_up_as_in_the_paper_and_pretrained_ones_are_fine_tuned():
    translator = new()
    optimizer = translator.default_optimizer(None, 100_000)
    assert (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon) == (0.9, 0.98, 1e-9)
    rates = [float(optimizer._learning_rate(step - 1)) for step in (1, 4000, 16000)]
    wanted = 32**-0.5 * np.array([4000**-1.5, 4000**-0.5, 16000**-0.5])
    np.testing.assert_allclose(rates, wanted, rtol=1e-5)
    translator.pretrained = True
    assert float(translator.default_optimizer(None, None).learning_rate) == pytest.approx(5e-5)


def test_validation_decodes_and_scores():
    pytest.importorskip("sacrebleu")
    translator = new(decoding={"beams": 2, **FEW})
    few = tuple(side[:4] for side in PAIRS)
    history = translator.fit(
        *few, validation_data=few, epochs=1, verbose=0, validation_metrics=("bleu", "chrf")
    )
    assert {"val_loss", "val_bleu", "val_chrf"} <= history.history.keys()
    dataset = tf.data.Dataset.from_tensor_slices(few).batch(2)
    with pytest.raises(ValueError, match="validation_data of raw texts"):
        translator.fit(*few, validation_data=dataset, validation_metrics=("bleu",))


def test_weights_of_zero_leave_pairs_out(translator):
    translator.compile(AdamW(), run_eagerly=True)
    sources, targets = (side[:4] for side in PAIRS)
    weights = [1, 0, 1, 0]
    weighted = translator.evaluate(sources, targets, sample_weight=weights, verbose=0)[0]
    kept = translator.evaluate(sources[::2], targets[::2], verbose=0)[0]
    assert weighted == pytest.approx(kept, rel=1e-5)
    with pytest.raises(ValueError, match=r"4 pairs, but sample weights of shape \(3,\)"):
        translator.evaluate(sources, targets, sample_weight=[1, 1, 1])


# The verb


def test_answers_keep_the_order_whatever_the_batches(translator):
    texts = PAIRS[0][:7]
    made = translator.translate(texts)
    assert all(isinstance(text, str) for text in made)
    assert translator.translate(texts, batch_size=2) == made
    assert translator.translate(texts[::-1]) == made[::-1]
    assert translator.translate(np.array(texts)) == made
    assert translator.translate(texts[3]) == made[3]
    assert translator.translate([]) == []


def test_details_and_several_results(translator):
    answer = translator.translate(TEXTS[0], details=True)
    assert isinstance(answer, Generation)
    assert answer.text == translator.translate(TEXTS[0])
    both = translator.translate(TEXTS, num_results=2, details=True)
    assert [len(answers) for answers in both] == [2] * len(TEXTS)
    assert all(first.score >= second.score for first, second in both)
    assert translator.translate(TEXTS[0], num_results=2) == [a.text for a in both[0]]


def test_a_temperature_draws_in_place_of_a_search(translator):
    first, again = (translator.translate(TEXTS, temperature=1.0, seed=3) for _ in range(2))
    assert first == again
    assert first != translator.translate(TEXTS, temperature=1.0, seed=4)


def test_scores_are_the_log_probabilities_of_what_was_made(translator):
    made = translator.translate(TEXTS, details=True, beams=1, max_tokens=32)
    ended = [(text, a) for text, a in zip(TEXTS, made, strict=True) if a.token_ids[-1] == 1]
    for text, answer in ended:
        tokens = translator.output_tokenizer.encode(answer.text)
        if tuple(tokens) == answer.token_ids:
            (scores,) = translator.score([text], [answer.text])
            np.testing.assert_allclose(scores, answer.log_probs, atol=1e-4)
    (scores,) = translator.score(["red tea"], ["tea red"])
    assert len(scores) == len(translator.tokenizer.encode("tea red"))
    assert (scores < 0).all()


def test_a_prompt_is_put_before_every_text(translator):
    prompted = Translator(translator.backbone, translator.tokenizer, "red ", decoding=FEW)
    plain = Translator(translator.backbone, translator.tokenizer, decoding=FEW)
    assert prompted.translate(["tea", "river"]) == plain.translate(["red tea", "red river"])
    served = prompted.serving_function(tf.constant(["tea"]))["text"].numpy()
    assert served[0, 0].decode() == prompted.translate("tea")


def test_the_served_text_is_that_of_the_verb(translator):
    served = translator.serving_function(tf.constant(TEXTS))
    assert [text[0].decode() for text in served["text"].numpy()] == translator.translate(TEXTS)


def test_an_unknown_option_is_named(translator):
    with pytest.raises(ValueError, match=r"unknown options \['beam'\]"):
        translator.translate(TEXTS, beam=3)


def test_predict_wants_tokenized_inputs(translator):
    with pytest.raises(TypeError, match="for texts, use translate or score"):
        translator.predict(TEXTS)
    inputs, labels = translator.pair_batches(*PAIRS)[0]
    logits = translator.predict(inputs, verbose=0)
    assert logits.shape == (*labels.shape, translator.tokenizer.vocab_size)


# Files


@pytest.mark.parametrize("config", ["marian", "t5"])
def test_a_saved_preset_answers_as_before(config, tmp_path):
    options = {"beams": 2, "length_penalty": 0.6, "banned": ((3, 4), 5), "prefix": (6,), **FEW}
    task = new(config, Summarizer, prompt="tea ", decoding=options, stop=("rice",))
    task.save_preset(tmp_path / "saved")
    again = Summarizer.from_preset(tmp_path / "saved")
    assert (again.prompt, again.max_length, again.stop) == ("tea ", 32, ("rice",))
    assert again.decoding == task.decoding
    assert again.pretrained
    assert again.summarize(TEXTS) == task.summarize(TEXTS)
    written = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert (written["num_beams"], written["max_length"]) == (2, 9)
    (tmp_path / "saved" / "config.json").write_text(
        json.dumps(_without(tmp_path / "saved" / "config.json", "lingxi"))
    )
    theirs = Summarizer.from_preset(tmp_path / "saved")
    assert theirs.decoding == dataclasses.replace(task.decoding, banned=((3, 4), 5))


def _without(path, key):
    contents = json.loads(path.read_text())
    del contents[key]
    return contents


@pytest.mark.parametrize("config", CONFIGS)
def test_a_keras_file_answers_as_before(config, tmp_path):
    options = {"beams": 2, "banned": ((3, 4), 5), **FEW}
    task = new(config, prompt="tea ", label_smoothing=0.2, decoding=options)
    task.save(tmp_path / "task.keras")
    again = keras.saving.load_model(tmp_path / "task.keras")
    assert again.decoding == task.decoding
    assert (again.prompt, again.label_smoothing) == ("tea ", 0.2)
    assert again.translate(TEXTS) == task.translate(TEXTS)


def test_a_size_takes_its_special_tokens_from_the_vocabulary(translator, tmp_path, monkeypatch):
    translator.tokenizer.save(tmp_path)
    monkeypatch.setitem(Transformer.presets, "tiny", CONFIGS["transformer"])
    task = Translator.from_preset("tiny", vocabulary=tmp_path)
    config = task.backbone.config
    assert isinstance(task.tokenizer, SentencePieceTokenizer)
    assert (config.vocab_size, config.pad_id, config.eos_id) == (task.tokenizer.vocab_size, 0, 1)
    assert config.decoder_start_id == 0
    assert not task.pretrained


def test_from_scratch_learns_one_vocabulary_of_both_sides():
    task = Translator.from_scratch(["aaa bbb"] * 9, ["ccc ddd"] * 9, vocab_size=20)
    assert set("abcd") <= set("".join(task.tokenizer.vocabulary))
    assert task.tokenizer.unk_id not in task.tokenizer.encode("aaa ccc")
    assert isinstance(new("t5").backbone, T5)


def test_too_little_text_for_a_vocabulary_is_an_error():
    with pytest.raises(ValueError, match="sentencepiece cannot learn"):
        Translator.from_scratch(["abc"], ["def"], vocab_size=4)


# Real data


def test_real_pairs_lower_the_loss(data_path):
    files = [str(data_path(f"multi30k/val.{language}.gz")) for language in ("en", "de")]
    keras.utils.set_random_seed(1)
    translator = Translator.from_scratch(*files, config=CONFIGS["transformer"], vocab_size=600)
    history = translator.fit(
        *files, epochs=2, tokens_per_batch=2048, learning_rate=5e-3, seed=1, verbose=0
    )
    first, second = losses(history)
    assert second < first < np.log(600) + 0.5
