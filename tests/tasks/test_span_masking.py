"""Spans fall as often and are as long as T5's; source and target together are the text."""

import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lingxi.tasks.pair_data import PairBatches
from lingxi.tasks.span_masking import (
    MixedBatches,
    SpanBatches,
    SpanMasking,
    filled,
    sentinels_of,
    spans_in,
    with_sentinels,
)
from lingxi.text import SentencePieceTokenizer
from lingxi.training import IGNORED
from tests.conftest import WORDS

sentencepiece = pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")

LENGTH = 64


def new_tokenizer(num_sentinels=100, max_length=LENGTH):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([WORDS] * 3),
        model_writer=model,
        vocab_size=150,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return SentencePieceTokenizer(
        model.getvalue(), max_length=max_length, num_sentinels=num_sentinels
    )


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer()


def write_documents(count=40, seed=0):
    generator = np.random.default_rng(seed)
    words = WORDS.split()
    return [
        "\n".join(" ".join(generator.choice(words, generator.integers(1, 12))) for _ in range(4))
        for _ in range(count)
    ]


def restored(source, target, tokenizer):
    """The text of a source and its target, and the lengths of the spans."""
    assert source[-1] == target[-1] == tokenizer.eos_id
    number = {token_id: i for i, token_id in enumerate(tokenizer.sentinel_ids)}
    order = [number[i] for i in source if i in number]
    assert order == list(range(len(order))), "sentinels stand in order"
    starts = [place for place, i in enumerate(target) if i in number]
    assert [number[target[place]] for place in starts] == [*order, len(order)]
    assert starts[0] == 0 and starts[-1] == len(target) - 2, "the last sentinel ends the target"
    spans = [target[a + 1 : b] for a, b in itertools.pairwise(starts)]
    text = []
    for token_id in source[:-1]:
        text += list(spans[number[token_id]]) if token_id in number else [token_id]
    return text, [len(span) for span in spans]


@settings(max_examples=200)
@given(
    st.integers(2, 300),
    st.floats(0.01, 0.99),
    st.floats(1.0, 10.0),
    st.integers(0, 1000),
    st.floats(0.0, 0.3),
)
def test_source_and_target_together_are_the_text(tokenizer, length, rate, mean, seed, unknown):
    random = np.random.default_rng(seed)
    token_ids = random.integers(3, min(tokenizer.sentinel_ids), length)
    token_ids[random.random(length) < unknown] = tokenizer.unk_id
    masking = SpanMasking(tokenizer, rate, mean)
    source, target = masking(token_ids, random)
    text, spans = restored(source.tolist(), target.tolist(), tokenizer)
    np.testing.assert_array_equal(text, token_ids)
    assert all(spans), "no span is empty"
    assert tokenizer.unk_id not in target, "special tokens are never left out"

    ordinary = np.count_nonzero(token_ids != tokenizer.unk_id)
    if ordinary >= 2:
        masked, count = masking.counts(ordinary)
        if count <= masking.most_spans and ordinary == length:
            assert (sum(spans), len(spans)) == (masked, count)
        assert sum(spans) <= masked


def test_the_arithmetic_is_that_of_t5(tokenizer):
    """By `random_spans_helper` of T5, 568 tokens become 512 and 114, without a last sentinel."""
    masking = SpanMasking(tokenizer)
    assert masking.text_length(512) == 568
    assert masking.counts(568) == (85, 28)
    random = np.random.default_rng(0)
    source, target = masking(np.full(568, 9), random)
    assert (len(source), len(target)) == (512, 115)


def test_spans_are_spread_evenly_and_are_three_tokens_long(tokenizer):
    masking, random = SpanMasking(tokenizer), np.random.default_rng(0)
    masks = np.array([masking.draw(np.full(100, 9), random) for _ in range(4000)])
    np.testing.assert_array_equal(masks.sum(1), 15)
    firsts = masks & ~np.pad(masks, ((0, 0), (1, 0)))[:, :-1]
    np.testing.assert_array_equal(firsts.sum(1), 5)
    # A token at the margin is in a span less often: spans fit there in fewer ways.
    np.testing.assert_allclose(masks.mean(0)[5:-5], 0.15, atol=0.03)
    assert masks[:, 0].any() and masks[:, -1].any()
    lengths = np.diff(np.flatnonzero(np.diff(np.pad(masks[0], 1).astype(int))))[::2]
    assert lengths.mean() == 3.0


def test_lengths_of_spans_are_drawn_alike(tokenizer):
    """Of six tokens in two spans each of the five ways comes as often."""
    masking, random = SpanMasking(tokenizer, 0.3, 3.0), np.random.default_rng(1)
    assert masking.counts(20) == (6, 2)
    token_ids = np.full(20, 9)
    first = []
    for _ in range(3000):
        _, spans = restored(*(x.tolist() for x in masking(token_ids, random)), tokenizer)
        first.append(spans[0])
    shares = np.bincount(first, minlength=6)[1:] / len(first)
    np.testing.assert_allclose(shares, 0.2, atol=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_rate": 0.0}, "mask_rate must be between 0 and 1, got 0.0"),
        ({"mask_rate": 1.0}, "mask_rate must be between 0 and 1"),
        ({"mean_span": 0.5}, "mean_span must be at least 1 token, got 0.5"),
    ],
)
def test_bad_settings(tokenizer, settings, message):
    with pytest.raises(ValueError, match=message):
        SpanMasking(tokenizer, **settings)


def test_lengths_that_do_not_fit(tokenizer):
    with pytest.raises(ValueError, match="max_length 2 is too short"):
        SpanMasking(tokenizer).text_length(2)
    few = new_tokenizer(num_sentinels=5)
    with pytest.raises(ValueError, match="5 sentinels are for 4; pass a shorter max_length"):
        SpanMasking(few).text_length(512)


# Batches


def new_batches(x, tokenizer, shuffle=False, seed=0, batch_size=4, max_length=LENGTH):
    masking = SpanMasking(tokenizer)
    return SpanBatches(x, tokenizer, masking, max_length, batch_size, 0, shuffle, seed)


def rows_of(batches, tokenizer):
    """The text of each row."""
    texts = []
    for index in range(batches.num_batches):
        inputs, labels = batches[index]
        ids, real = inputs["encoder_token_ids"], inputs["encoder_padding_mask"]
        assert (ids[~real] == tokenizer.pad_id).all()
        before = np.where(labels != IGNORED, labels, tokenizer.pad_id)
        np.testing.assert_array_equal(inputs["decoder_token_ids"][:, 1:], before[:, :-1])
        assert (inputs["decoder_token_ids"][:, 0] == 0).all()
        for row, is_real, label in zip(ids, real, labels, strict=True):
            source, target = row[is_real].tolist(), label[label != IGNORED].tolist()
            assert max(len(source), len(target)) <= LENGTH
            texts.append(restored(source, target, tokenizer)[0])
    return texts


def test_blocks_are_full_and_hold_all_text(tokenizer):
    documents = write_documents()
    batches = new_batches(documents, tokenizer)
    rows = rows_of(batches, tokenizer)
    wanted = [
        i
        for text in documents
        for i in tokenizer.encode(text.replace("\n", " "), add_special_tokens=False)
    ]
    assert [i for row in rows for i in row] == wanted
    assert {len(row) for row in rows[:-1]} == {SpanMasking(tokenizer).text_length(LENGTH)}
    inputs, _ = batches[0]
    assert inputs["encoder_padding_mask"].all(), "no padding"


def drawn(dataset):
    return [
        (inputs["encoder_token_ids"].tolist(), labels.tolist())
        for inputs, labels in dataset.as_numpy_iterator()
    ]


def test_spans_are_drawn_anew_in_every_epoch_and_again_by_the_seed(tokenizer):
    documents = write_documents()
    dataset = new_batches(documents, tokenizer, True, seed=7).dataset()
    epochs = drawn(dataset), drawn(dataset)
    assert epochs[0] != epochs[1]
    again = new_batches(documents, tokenizer, True, seed=7).dataset()
    assert (drawn(again), drawn(again)) == epochs
    assert drawn(new_batches(documents, tokenizer, True, seed=8).dataset()) != epochs[0]
    assert len(epochs[0]) == len(epochs[1]) == int(dataset.cardinality())
    steady = new_batches(documents, tokenizer).dataset()
    assert drawn(steady) == drawn(steady) == drawn(new_batches(documents, tokenizer).dataset())


def test_files_data_sets_and_short_texts(tokenizer, tmp_path):
    documents = write_documents(4)
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(documents))
    wanted = rows_of(new_batches(documents, tokenizer), tokenizer)
    dataset = tf.data.Dataset.from_tensor_slices(documents)
    for x in (path, str(path), [path], dataset):
        assert rows_of(new_batches(x, tokenizer), tokenizer) == wanted
    for shuffle in (False, True):  # shorter than a block
        (row,) = rows_of(new_batches(["the river"], tokenizer, shuffle), tokenizer)
        assert sorted(row) == sorted(tokenizer.encode("the river", add_special_tokens=False))
    with pytest.raises(ValueError, match="got a text of one token"):
        new_batches(["the"], tokenizer)
    with pytest.raises(ValueError, match="got no text to learn from"):
        new_batches([""], tokenizer)


def test_labelled_pairs_are_mixed_among_the_blocks(tokenizer):
    documents = write_documents()
    sources = tokenizer(["mnli the river"] * 10, padding=None)["token_ids"]
    targets = tokenizer(["good"] * 10, padding=None)["token_ids"]

    def new(shuffle):
        spans = new_batches(documents, tokenizer, shuffle)
        order = "shuffled" if shuffle else "sorted"
        labelled = PairBatches(sources, targets, 0, (0, 0), batch_size=2, order=order, seed=0)
        return spans, MixedBatches([spans, labelled], shuffle, 0).dataset()

    def is_labelled(dataset):
        first = tokenizer.sentinel_ids[0]
        return [first not in labels for _, labels in dataset.as_numpy_iterator()]

    spans, dataset = new(True)
    kinds = is_labelled(dataset), is_labelled(dataset)
    assert kinds[0] != kinds[1]
    for kind in kinds:
        assert (sum(kind), len(kind)) == (5, 5 + spans.num_batches)
    assert sorted(is_labelled(new(False)[1])) == is_labelled(new(False)[1])


# Typed sentinels


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_typed_sentinels_are_read(tokenizer, padding):
    texts = [
        "the <extra_id_0> was good <extra_id_1>",
        "<extra_id_0><extra_id_1> film",
        "no sentinel </s>",
        "",
        "one <extra_id_7> day",
    ]
    inputs = with_sentinels(tokenizer, tf.constant(texts), LENGTH, padding)
    rows = tf.ragged.boolean_mask(inputs["token_ids"], inputs["padding_mask"]).to_list()
    first, second = tokenizer.sentinel_ids[:2]

    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False)

    assert rows[0] == [*ids("the"), first, *ids("was good"), second, 1]
    assert rows[1] == [first, second, *ids("film"), 1]
    assert rows[2] == tokenizer.encode(texts[2])
    assert rows[3] == [1]
    assert rows[4] == [*ids("one"), first, *ids("day"), 1]
    if padding == "max_length":
        assert inputs["token_ids"].shape[1] == LENGTH


def test_spans_are_read_from_what_a_model_wrote(tokenizer):
    s, river, day = (
        tokenizer.sentinel_ids,
        *(tokenizer.encode(t, add_special_tokens=False) for t in ("river", "day")),
    )
    rows = [
        [s[0], *river, s[1], *day, s[2], 1],
        [*day, s[1], *river, *day, 1],  # no first sentinel
        [s[1], *day, s[0], *river],  # in another order, without an end
        [s[2], s[0], *river, 1, *day],  # what comes after the end does not count
    ]
    lengths = [len(rows[0]), len(rows[1]), len(rows[2]), 2 + len(river) + 1]
    dense = tf.ragged.constant(rows, tf.int32).to_tensor()
    found = spans_in(dense, tf.constant(lengths), tokenizer, 3).numpy().tolist()
    assert found == [
        [b" river", b" day", b""],
        [b"", b" river day", b""],
        [b" river", b" day", b""],
        [b" river", b"", b""],
    ]


def test_spans_take_the_place_of_sentinels():
    text = "<extra_id_0> is  the <extra_id_1>of <extra_id_2>ing."
    assert sentinels_of(text) == ["<extra_id_0>", "<extra_id_1>", "<extra_id_2>"]
    assert filled(text, [" Paris", " city ", " try", ""]) == "Paris is  the city of trying."
    assert filled("act<extra_id_0> now", ["ing"]) == "acting now"
