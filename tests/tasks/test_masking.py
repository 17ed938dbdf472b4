"""Masks fall as often as they should, on whole words, never on special tokens; pairs balance."""

import itertools
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from lingxi.tasks.masking import (
    Masking,
    PackedBatches,
    begins_word,
    examples,
    packed,
    with_masks,
)
from lingxi.text import WordPieceTokenizer
from lingxi.training import IGNORED
from tests.conftest import WORDS
from tests.tasks.roberta import tiny_tokenizer

LENGTH = 32


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return WordPieceTokenizer(vocabulary, max_length=LENGTH)


def sentence(generator, low=1, high=9):
    """Words of the vocabulary, and others that are cut into a few tokens."""
    words = [*WORDS.split(), *["zebra", "quickly", "poorer", "warmest"] * 4]
    return " ".join(generator.choice(words, generator.integers(low, high)))


def write_documents(count=30, lines=9, seed=0):
    generator = np.random.default_rng(seed)
    return [
        "\n".join(sentence(generator) for _ in range(generator.integers(1, lines)))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def inputs(tokenizer):
    """Many rows of different lengths."""
    generator = np.random.default_rng(1)
    return tokenizer([sentence(generator, 0, 30) for _ in range(4000)])


def restored(masked, places, labels):
    """The ids before the masks, and where a token was chosen, `[batch, seq]`."""
    ids, chosen = masked.numpy().copy(), np.zeros(masked.shape, bool)
    row, column = np.nonzero(labels.numpy() != IGNORED)
    where = row, places.numpy()[row, column]
    assert not chosen[where].any()
    chosen[where] = True
    assert chosen.sum() == len(row), "a token was chosen twice"
    ids[where] = labels.numpy()[row, column]
    return ids, chosen


@pytest.mark.parametrize("whole_words", [True, False])
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_rates(tokenizer, inputs, rate, whole_words):
    ids, mask = inputs["token_ids"], inputs["padding_mask"]
    masking = Masking(tokenizer, rate, whole_words)
    masked, places, labels = masking(ids, mask, [3, 0])
    before, chosen = restored(masked, places, labels)
    np.testing.assert_array_equal(before, ids)

    ordinary = mask.numpy() & ~np.isin(ids, list(tokenizer.special_ids))
    assert not (chosen & ~ordinary).any(), "special tokens and padding are never chosen"
    counts, lengths = chosen.sum(1), ordinary.sum(1)
    budgets = np.ceil(np.round(rate * lengths, 9))
    assert (counts <= budgets).all()
    assert (counts >= np.minimum(lengths, 1)).all()
    if not whole_words:
        np.testing.assert_array_equal(counts, budgets)
    # What a word that does not fit leaves over stays over: much of a short row.
    assert counts.sum() > 0.85 * budgets.sum()

    now, was = masked.numpy()[chosen], ids.numpy()[chosen]
    to_mask = (now == tokenizer.mask_id).mean()
    np.testing.assert_allclose(to_mask, 0.8, atol=0.02)
    np.testing.assert_allclose((now == was).mean(), 0.1, atol=0.02)
    others = now[(now != tokenizer.mask_id) & (now != was)]
    assert not np.isin(others, list(tokenizer.special_ids)).any()
    assert len(np.unique(others)) > 0.8 * len(masking.ordinary_ids), "any token may come"


def words_of(tokenizer, ids):
    """Lists of the columns of each word of a row, for WordPiece."""
    words = []
    for column, token_id in enumerate(ids):
        token = tokenizer.vocabulary[token_id]
        if token_id in tokenizer.special_ids:
            continue
        if token.startswith("##") and words:
            words[-1].append(column)
        else:
            words.append([column])
    return words


def test_words_are_chosen_whole(tokenizer, inputs):
    ids = inputs["token_ids"]
    _, chosen = restored(*Masking(tokenizer)(ids, inputs["padding_mask"], [5, 0]))
    several = 0
    for row, token_ids in zip(chosen, ids.numpy(), strict=True):
        words = words_of(tokenizer, token_ids)
        budget = np.ceil(0.15 * sum(map(len, words)))
        for word in words:
            several += len(word) > 1 and row[word].all()
            if row[word].any() and not row[word].all():
                assert min(map(len, words)) > budget, "only where all are too long"
    assert several > 100


def test_the_rate_on_real_text(data_path):
    tokenizer = WordPieceTokenizer(data_path("vocab/bert_base_uncased/vocab.txt"), max_length=128)
    text = data_path("shakespeare/input.txt").read_text("utf-8")[:200_000]
    batches = PackedBatches([text], tokenizer, 128, 16, False, False, 0)
    masking, chosen, ordinary = Masking(tokenizer), 0, 0
    for index in range(batches.num_batches):
        inputs, _ = batches[index]
        _, _, labels = masking(inputs["token_ids"], inputs["padding_mask"], [index, 0])
        chosen += np.sum(labels != IGNORED)
        ordinary += np.sum(inputs["padding_mask"]) - 2 * len(labels)
    np.testing.assert_allclose(chosen / ordinary, 0.15, atol=0.003)


def test_every_word_is_as_likely(tokenizer):
    texts = ["a good film is the warm river of time and the food"] * 6000
    inputs = tokenizer(texts)
    _, chosen = restored(
        *Masking(tokenizer)(*map(inputs.get, ("token_ids", "padding_mask")), [0] * 2)
    )
    rates = chosen.mean(0)[1:-1]
    np.testing.assert_allclose(rates, 2 / 12, atol=0.02)


def test_masks_depend_on_the_seed_alone(tokenizer, inputs):
    masking = Masking(tokenizer)
    part = inputs["token_ids"][:8], inputs["padding_mask"][:8]
    first, again, other = (masking(*part, [seed, 0])[0].numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_byte_bpe_words_begin_with_a_blank():
    tokenizer = tiny_tokenizer()
    begins = dict(zip(tokenizer.vocabulary, begins_word(tokenizer), strict=True))
    assert begins["Ġriver"] and begins["Ġ"]
    assert not begins["r"]
    inputs = tokenizer(["the zzz river zzz"] * 500)
    ids = inputs["token_ids"]
    _, chosen = restored(*Masking(tokenizer, 0.4)(ids, inputs["padding_mask"], [0, 0]))
    tokens = [tokenizer.vocabulary[i] for i in ids.numpy()[0]]
    last = slice(tokens.index("Ġ", 6) if tokens.count("Ġ") > 1 else 5, len(tokens) - 1)
    spans = chosen[:, last]
    assert (spans.all(1) | ~spans.any(1)).mean() > 0.95
    assert spans.all(1).any()


@pytest.mark.parametrize("rate", [0.0, 1.0, -1])
def test_bad_rates(tokenizer, rate):
    with pytest.raises(ValueError, match="mask_rate must be between 0 and 1"):
        Masking(tokenizer, rate)


# Packing


def sequences(batches):
    """Rows of ids without padding, their segment ids, and whether they are of two documents."""
    for index in range(batches.num_batches):
        inputs, unrelated = batches[index]
        for row, real in enumerate(inputs["padding_mask"]):
            assert (inputs["token_ids"][row][~real] == batches.tokenizer.pad_id).all()
            yield inputs["token_ids"][row][real], inputs["segment_ids"][row][real], unrelated[row]


def ids_of(tokenizer, text):
    return tokenizer.encode(text.replace("\n", " "), add_special_tokens=False)


def test_sequences_are_full_and_hold_all_text_once(tokenizer):
    documents = write_documents()
    batches = PackedBatches(documents, tokenizer, LENGTH, 4, False, False, 0)
    rows = [row for row, _, _ in sequences(batches)]
    assert all(row[0] == tokenizer.cls_id and row[-1] == tokenizer.sep_id for row in rows)
    assert max(map(len, rows)) <= LENGTH
    assert np.mean([len(row) for row in rows[:-1]]) > 0.75 * LENGTH
    special = [tokenizer.cls_id, tokenizer.sep_id]
    together = np.concatenate(rows)
    wanted = [i for document in documents for i in ids_of(tokenizer, document)]
    assert together[~np.isin(together, special)].tolist() == wanted
    for row in rows:
        assert not (row[1:-1][[0, -1]] == tokenizer.sep_id).any(), "no separator at the margins"
    inner = sum((row[1:-1] == tokenizer.sep_id).sum() for row in rows)
    assert 0 < inner < len(documents)


def test_sentences_are_kept_whole_where_they_fit(tokenizer):
    lines = ["the film was good", "a river", "how are you", "rice and tea and food"] * 5
    batches = PackedBatches(["\n".join(lines)], tokenizer, 12, 4, False, False, 0)
    for row, _, _ in sequences(batches):
        text = tokenizer.decode(row)
        assert any(text.startswith(line) for line in lines)
        assert any(text.endswith(line) for line in lines)


def test_long_sentences_are_cut(tokenizer):
    batches = PackedBatches(["the " * 100], tokenizer, 12, 4, False, False, 0)
    assert [len(row) for row, _, _ in sequences(batches)] == [12] * 10
    pairs = PackedBatches(["the " * 100, "good " * 45], tokenizer, 13, 4, True, False, 0)
    assert max(len(row) for row, _, _ in sequences(pairs)) <= 13


def runs_of(lengths, room, document=None):
    """All runs `[[first, after], …]`, where they begin and end, and their documents."""
    runs, places, owners, ends = [], [], [], [0]
    for part in packed(np.array(lengths), room, document):
        assert len(part.sentences) == len(part.places)
        runs += zip(part.sentences[:-1].tolist(), part.sentences[1:].tolist(), strict=True)
        places += zip(part.places[:-1].tolist(), part.places[1:].tolist(), strict=True)
        owners += [] if part.documents is None else part.documents.tolist()
        ends += part.ends.tolist()
    assert places == [(ends[first], ends[after]) for first, after in runs]
    return runs, places, owners


def test_runs_are_the_longest_that_fit():
    lengths = [3, 3, 4, 10, 1, 1]
    assert runs_of(lengths, 10)[0] == [(0, 3), (3, 4), (4, 6)]
    document = np.array([0, 0, 1, 1, 1, 1])
    runs, _, owners = runs_of(lengths, 10, document)
    assert (runs, owners) == ([(0, 2), (2, 3), (3, 4), (4, 6)], [0, 1, 1, 1])


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    room=st.integers(2, 10),
    part=st.integers(1, 7),
    begins=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_runs_are_the_same_however_the_sentences_come(lengths, room, part, begins):
    document = np.cumsum(begins[: len(lengths)])
    for owner in (None, document):
        whole = runs_of(lengths, room, owner)
        with mock.patch("lingxi.tasks.masking.PART", part):
            assert runs_of(lengths, room, owner) == whole
        runs, places, owners = whole
        assert places[0][0] == 0 and places[-1][1] == sum(lengths)
        for (_, end), (start, _) in itertools.pairwise(places):
            assert end == start
        assert max(end - start for start, end in places) <= room
        # None could have one more sentence: that is too long, or of another document.
        pieces, homes = [], []
        for length, home in zip(lengths, document.tolist(), strict=True):
            new = [room] * (length // room) + [length % room] * (length % room > 0)
            pieces, homes = pieces + new, homes + [home] * len(new)
        for number, ((_, after), (start, end)) in enumerate(zip(runs[:-1], places, strict=False)):
            is_full = end - start + pieces[after] > room
            assert is_full or (owner is not None and homes[after] != owners[number])


def test_pairs_follow_or_are_of_two_documents_half_of_the_time(tokenizer):
    documents = write_documents(200)
    ids = [tuple(ids_of(tokenizer, document)) for document in documents]
    text = [" ".join(map(str, document)) for document in ids]

    def homes(segment):
        wanted = " ".join(map(str, segment))
        return {i for i, t in enumerate(text) if f" {wanted} " in f" {t} "}

    batches = PackedBatches(documents, tokenizer, LENGTH, 16, True, True, 0)
    labels, unsure = [], 0
    for _ in range(3):
        batches.rows = batches._draw_batches()
        for row, segment, unrelated in sequences(batches):
            assert len(row) <= LENGTH
            assert (np.diff(segment) >= 0).all()
            (first, second), seps = (
                (row[segment == 0], row[segment == 1]),
                np.flatnonzero(row == tokenizer.sep_id),
            )
            assert row[0] == tokenizer.cls_id and len(seps) == 2
            first, second = first[1:-1], second[:-1]
            assert len(first) and len(second)
            labels.append(unrelated)
            if unrelated:
                unsure += bool(homes(first) & homes(second))
                assert homes(first) and homes(second), "each segment is of one document"
            else:
                assert homes(np.concatenate([first, second])), "the second follows the first"
    assert abs(np.mean(labels) - 0.5) < 4 * 0.5 / np.sqrt(len(labels))
    assert unsure < 0.3 * sum(labels)  # short segments are in several documents by chance


def test_pairs_need_two_documents(tokenizer):
    with pytest.raises(ValueError, match="needs at least two documents"):
        PackedBatches(["the film\nwas good"], tokenizer, LENGTH, 4, True, True, 0)


def test_files_are_parted_at_blank_lines(tokenizer, tmp_path):
    documents = write_documents(5)
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(documents))
    wanted = [row.tolist() for row, _, _ in sequences(make(documents, tokenizer))]
    dataset = tf.data.Dataset.from_tensor_slices(documents)
    for x in (path, str(path), [path], dataset, dataset.batch(2)):
        assert [row.tolist() for row, _, _ in sequences(make(x, tokenizer))] == wanted


def make(x, tokenizer):
    return PackedBatches(x, tokenizer, LENGTH, 4, False, False, 0)


@pytest.mark.parametrize("x", [["", "\n \n"], ["\0"]])
def test_no_text(tokenizer, x):
    with pytest.raises(ValueError, match="got no text to learn from"):
        make(x, tokenizer)


def drawn(dataset):
    """All masked ids and their labels, in one list."""
    return [
        (inputs["token_ids"].tolist(), targets.tolist())
        for inputs, targets in dataset.as_numpy_iterator()
    ]


def test_masks_are_drawn_anew_in_every_epoch_and_again_by_the_seed(tokenizer):
    documents = write_documents(10)

    def new(shuffle, seed=7, repeat=False):
        masking = Masking(tokenizer)
        return examples(documents, tokenizer, masking, LENGTH, 4, False, shuffle, seed, repeat)

    dataset = new(True)
    epochs = drawn(dataset), drawn(dataset)
    assert epochs[0] != epochs[1]
    again = new(True)
    assert (drawn(again), drawn(again)) == epochs
    assert drawn(new(True, seed=8)) != epochs[0]
    count = int(dataset.cardinality())
    repeated = drawn(new(True, repeat=True).take(2 * count))
    assert repeated[:count] != repeated[count:]
    steady = new(False)
    assert drawn(steady) == drawn(steady) == drawn(new(False))


# Typed masks


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_typed_masks_are_read(tokenizer, padding):
    texts = ["the [MASK] was good", "[MASK][MASK] film [MASK]", "no mask", "", "[MASK]", "[SEP]"]
    inputs = with_masks(tokenizer, tf.constant(texts), LENGTH, padding)
    plain = tokenizer(texts, padding="max_length")
    mask, cls, sep = tokenizer.mask_id, tokenizer.cls_id, tokenizer.sep_id
    the, was, good, film = (tokenizer.vocabulary.index(w) for w in ("the", "was", "good", "film"))
    rows = tf.ragged.boolean_mask(inputs["token_ids"], inputs["padding_mask"]).to_list()
    assert rows[0] == [cls, the, mask, was, good, sep]
    assert rows[1] == [cls, mask, mask, film, mask, sep]
    assert rows[3] == [cls, sep]
    assert rows[4] == [cls, mask, sep]
    width = inputs["token_ids"].shape[1]
    for row in (2, 5):  # other special tokens are text
        np.testing.assert_array_equal(inputs["token_ids"][row], plain["token_ids"][row, :width])
    if padding == "max_length":
        assert width == LENGTH


def test_the_blank_before_a_mask_belongs_to_it():
    tokenizer = tiny_tokenizer()
    inputs = with_masks(tokenizer, tf.constant([" the  <mask> river"]), LENGTH, "longest")
    tokens = [tokenizer.vocabulary[i] for i in inputs["token_ids"][0]]
    assert tokens == ["<s>", "Ġthe", "<mask>", "Ġriver", "</s>"]
