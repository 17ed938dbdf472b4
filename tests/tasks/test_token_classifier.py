"""A token classifier learns entities and finds them in raw text of any length and script."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.tasks import Entity, TokenClassifier
from lingxi.text import WordPieceTokenizer
from lingxi.zoo import Bert, BertConfig

NAMES = {"PLACE": ("river", "stream"), "FOOD": ("rice", "tea", "food")}
OTHERS = ("the", "is", "good", "and", "with", "was", "slow", ",", ".")


def example(generator, length=12):
    """Words and their tags: a name, with "old" before it if it has two words."""
    words, tags = [], []
    while len(words) < length:
        if generator.random() < 0.4:
            kind = generator.choice(list(NAMES))
            if generator.random() < 0.5:
                words.append("old")
                tags.append(f"B-{kind}")
            words.append(generator.choice(NAMES[kind]))
            tags.append(f"I-{kind}" if words[-2:-1] == ["old"] else f"B-{kind}")
        words.append(generator.choice(OTHERS))
        tags.append("O")
    return words, tags


def examples(count, seed=0):
    generator = random.Random(seed)
    return tuple(zip(*(example(generator) for _ in range(count)), strict=True))


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return WordPieceTokenizer([*vocabulary, "北", "京"], max_length=64)


def new_task(tokenizer, labels=("PLACE", "FOOD"), max_length=16, model_type="bert", **kwargs):
    keras.utils.set_random_seed(3)
    config = BertConfig(
        model_type=model_type,
        vocab_size=tokenizer.vocab_size,
        hidden_dim=32,
        num_layers=2,
        num_heads=2,
        intermediate_dim=64,
        max_length=64,
        dropout=0.0,
        initializer_range=0.2,
        pooler=False,
    )
    return TokenClassifier(Bert(config), tokenizer, list(labels), max_length=max_length, **kwargs)


@pytest.fixture(scope="module", params=[False, True], ids=["softmax", "crf"])
def trained(request, tokenizer):
    task = new_task(tokenizer, crf=request.param)
    task.history_of_fit = task.fit(
        *examples(600),
        validation_data=examples(50, seed=1),
        epochs=8,
        batch_size=16,
        learning_rate=3e-3,
        seed=1,
        verbose=0,
    ).history
    return task


def test_it_learns_entities(trained):
    assert trained.history_of_fit["val_f1"][-1] > 0.97
    assert trained.history_of_fit["val_f1"][-1] > trained.history_of_fit["val_f1"][0] - 1e-6
    scores = trained.evaluate(*examples(50, seed=2), return_dict=True, verbose=0)
    assert min(scores[name] for name in ("precision", "recall", "f1")) > 0.97


def test_entities_are_spans_of_the_raw_text(trained):
    text = "The old  River, with RICE. is good"
    found = trained.tag(text)
    assert [(e.label, e.text) for e in found] == [("PLACE", "old  River"), ("FOOD", "RICE")]
    assert all(isinstance(e, Entity) and text[e.start : e.end] == e.text for e in found)
    assert all(0.5 < e.score <= 1.0 for e in found)


def test_a_list_of_texts_gives_a_list_of_lists(trained):
    texts = ["", "the rice", "  ", "good and slow"]
    found = trained.tag(texts)
    assert [[e.text for e in entities] for entities in found] == [[], ["rice"], [], []]
    assert trained.tag([]) == []


def test_long_texts_are_read_in_windows(trained):
    text = "the old river is good and the tea was slow with rice and " * 12
    found = trained.tag(text)
    wanted = ["old river", "tea", "rice"] * 12
    assert [e.text for e in found] == wanted
    assert [e.start for e in found] == sorted({e.start for e in found})


def test_entities_do_not_depend_on_the_texts_beside(trained):
    texts = ["the old river", "tea " * 40, "", "is the stream good , and the rice"]
    together, alone = trained.tag(texts), [trained.tag(text) for text in texts]
    for one, other in zip(together, alone, strict=True):
        assert [(e.label, e.start, e.end) for e in one] == [
            (e.label, e.start, e.end) for e in other
        ]
        np.testing.assert_allclose([e.score for e in one], [e.score for e in other], atol=1e-5)


def test_offsets_are_those_of_python_behind_emoji_and_chinese(trained):
    text = "👨‍👩‍👧 北京 e\u0301 the river"
    (found,) = [e for e in trained.tag(text) if e.text == "river"]
    assert text[found.start : found.end] == "river"


def test_presets_and_keras_files_keep_everything(trained, tmp_path):
    texts = ["the old river is good", "tea " * 30]
    expected = trained.tag(texts)
    trained.save_preset(tmp_path / "preset")
    trained.save(tmp_path / "model.keras")
    for again in (
        TokenClassifier.from_preset(str(tmp_path / "preset")),
        keras.saving.load_model(tmp_path / "model.keras"),
    ):
        assert again.tags == trained.tags
        assert (again.max_length, again.overlap) == (trained.max_length, trained.overlap)
        assert again.tag(texts) == expected


def test_crf_gives_probabilities_of_whole_sequences(trained):
    if trained.crf is None:
        pytest.skip("without a CRF")
    cut = trained.reader.cut_graph(tf.constant(["the old river"]))
    answers = trained.answers(cut.inputs)
    logits = trained(cut.inputs, training=False)
    marginals = trained.crf.marginals(logits, cut.inputs["word_starts"])
    words = cut.inputs["word_starts"].numpy()[0]
    np.testing.assert_allclose(marginals.numpy()[0, words].sum(-1), 1.0, atol=1e-5)
    assert (answers["scores"].numpy() <= 1.0 + 1e-5).all()


def test_a_new_crf_knows_what_goes_on_with_an_entity(tokenizer):
    task = new_task(tokenizer, crf=True)
    ids = {name: index for index, name in enumerate(task.tags)}
    transitions, start = task.crf.transitions.numpy(), task.crf.start_scores.numpy()
    for before in ("O", "B-FOOD", "I-FOOD"):
        assert transitions[ids[before], ids["I-PLACE"]] == -10.0
    assert start[ids["I-PLACE"]] == -10.0
    assert (transitions == 0).sum() == len(ids) ** 2 - 6
    assert (start == 0).sum() == len(ids) - 2
    plain = new_task(tokenizer, labels=("O", "PLACE"), crf=True)
    assert not plain.crf.transitions.numpy().any()


def test_spans_and_words_are_learnt_alike(tokenizer):
    words = [["the", "old", "river"], ["tea", "is", "good"]]
    tags = [["O", "B-PLACE", "I-PLACE"], ["B-FOOD", "O", "O"]]
    texts = [" ".join(row) for row in words]
    spans = [[(4, 13, "PLACE")], [{"start": 0, "end": 3, "label": "FOOD"}]]
    task = new_task(tokenizer)
    (first,) = task._batches(words, tags, 2, "given")["x"]
    (second,) = task._batches(texts, spans, 2, "given")["x"]
    np.testing.assert_array_equal(first[1], second[1])
    ids = {name: index for index, name in enumerate(task.tags)}
    wanted = [ids["O"], ids["B-PLACE"], ids["I-PLACE"]]
    np.testing.assert_array_equal(first[1][0], [-100, *wanted, -100])


def test_only_the_first_piece_of_a_word_is_learnt(tokenizer):
    task = new_task(tokenizer)
    ((inputs, targets),) = task._batches([["zz", "tea"]], [["O", "B-FOOD"]], 2, "given")["x"]
    assert inputs["token_ids"].shape[1] == 5  # z ##z tea, and two special tokens
    assert (targets.numpy()[0] != -100).tolist() == [False, True, False, True, False]


def test_a_word_is_learnt_in_one_window_only(tokenizer):
    task = new_task(tokenizer, max_length=8, overlap=4)
    data = task._batches([["tea"] * 30], [["B-FOOD"] * 30], 32, "given")["x"]
    learnt = sum(int((targets.numpy() != -100).sum()) for _, targets in data)
    assert learnt == 30


@pytest.mark.parametrize(
    "labels", [["B-X", "I-X", "O"], ["O", "S-X", "B-X", "I-X", "E-X"], ["X", "O"]]
)
def test_tags_of_any_scheme_are_kept_in_their_order(tokenizer, labels):
    assert new_task(tokenizer, labels).tags == labels
    assert new_task(tokenizer, labels).labels == ["X"]


def test_types_become_tags(tokenizer):
    assert new_task(tokenizer, ["A", "B"]).tags == ["O", "B-A", "I-A", "B-B", "I-B"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.fit(["tea"], [[(0, 3, "DRINK")]]), ValueError, "'DRINK'.*does not know"),
        (lambda t: t.fit(["tea"]), ValueError, "texts need their entities"),
        (lambda t: t.fit(["tea"], [[(0, 9, "FOOD")]]), ValueError, "lies outside"),
        (lambda t: t.fit([], []), ValueError, "got no texts"),
        (lambda t: t.tag([None]), TypeError, "None"),
        (lambda t: t.tag([3]), TypeError, "3"),
        (lambda t: t.fit("no_such_file.conll"), FileNotFoundError, "no_such_file"),
    ],
)
def test_bad_input_is_named(tokenizer, call, error, message):
    with pytest.raises(error, match=message):
        call(new_task(tokenizer))


def test_overlap_must_leave_room(tokenizer):
    with pytest.raises(ValueError, match="overlap must be"):
        new_task(tokenizer, max_length=8, overlap=6)


def weights_of(model):
    return [np.array(weight) for weight in model.weights]


def test_only_the_head_learns_from_kept_features(trained, tokenizer):
    """A new head on an encoder that knows the entities learns them again."""
    options = {"crf": trained.crf is not None, "max_length": 16}
    task = TokenClassifier(trained.backbone, tokenizer, list(NAMES), **options)
    before = weights_of(task.backbone)
    dev = examples(50, seed=1)
    assert task.evaluate(*dev, return_dict=True, verbose=0)["f1"] < 0.5
    history = task.fit_head(
        *examples(200),
        validation_data=dev,
        epochs=8,
        learning_rate=0.02,
        seed=1,
        verbose=0,
    ).history
    found = task.evaluate(*dev, return_dict=True, verbose=0)
    assert found["f1"] == pytest.approx(history["val_f1"][-1], abs=1e-6)
    assert found["f1"] > 0.9
    for weight, old in zip(task.backbone.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    learning = {id(weight) for weight in task.trainable_weights}
    assert all(id(w) in learning for w in trained.backbone.trainable_weights)


def test_types_are_added_without_losing_the_old_ones(trained):
    more = trained.with_labels(["TIME"])
    assert more.labels == ["PLACE", "FOOD", "TIME"]
    assert more.tags == [*trained.tags, "B-TIME", "I-TIME"]
    text = ["the old river is good and rice was slow ."]
    inputs = trained.tokenizer(text)
    np.testing.assert_allclose(more(inputs)[..., :5], trained(inputs), atol=1e-6)
    if trained.crf is not None:
        np.testing.assert_array_equal(more.crf.transitions[:5, :5], trained.crf.transitions)
        assert more.crf.transitions[0, 6] == -10.0  # from "O" to "I-TIME"
    words, tags = examples(20)
    more.fit([*words, ["day"]], [*tags, ["B-TIME"]], verbose=0)
    with pytest.raises(ValueError, match="distinct"):
        more.with_labels(["TIME"])


def test_types_are_added_in_the_scheme_of_the_old_ones(tokenizer):
    tags = ["O", *(f"{prefix}-PLACE" for prefix in "BIES")]
    assert new_task(tokenizer, tags).with_labels(["A"]).tags[5:] == ["B-A", "I-A", "E-A", "S-A"]
    assert new_task(tokenizer, ["O", "PLACE"]).with_labels(["A"]).tags == ["O", "PLACE", "A"]
