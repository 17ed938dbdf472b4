"""Pairs that are read while a translator trains: batches of tokens, their number, resume."""

import dataclasses

import keras
import numpy as np
import pytest

from lingxi.data import TableStream
from lingxi.tasks import text_data
from lingxi.tasks.pair_stream import PairStream
from lingxi.training import IGNORED, AdamW, Checkpoints
from tests.tasks.test_resume import Dies, assert_same
from tests.tasks.test_sequence_to_sequence import CONFIGS, losses, new, reversals

pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")

COUNT = 200
SOURCES, TARGETS = reversals(COUNT, seed=3)
COLUMNS = {"pair_column": "target", "label_column": None}


@pytest.fixture(scope="module")
def translator():
    """Do not train it."""
    return new()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The path of a file of pairs."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    path.write_text("text,target\n" + "".join(f"{s},{t}\n" for s, t in rows()))
    return path


def rows():
    return zip(SOURCES, TARGETS, strict=True)


def batches_of(translator, table, buffer=30, order="shuffled", seed=5, **options):
    stream = TableStream(table, **COLUMNS, buffer=buffer)
    return translator.stream_batches(stream, order=order, seed=seed, **options)


def examples_in(batches):
    """What is to be learned of each pair in batches: source, decoder's input and target."""
    found = []
    for inputs, labels in batches:
        names = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids")
        columns = (np.asarray(inputs[name]) for name in names)
        for source, mask, decoder, target in zip(*columns, np.asarray(labels), strict=True):
            real = target != IGNORED
            parts = source[mask], decoder[real], target[real]
            found.append(tuple(tuple(part.tolist()) for part in parts))
    return found


def sizes_of(batches):
    """Source and target tokens of each batch, with their padding."""
    return [inputs["encoder_token_ids"].size + labels.size for inputs, labels in batches]


def passes(batches, count=2):
    """The batches of several passes, as bytes."""
    dataset = batches.dataset()
    return [[labels.tobytes() for _, labels in drawn(dataset)] for _ in range(count)]


def drawn(dataset):
    return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("order", ["shuffled", "sorted", "given"])
@pytest.mark.parametrize("size", [{"tokens_per_batch": 60}, {"batch_size": 7}], ids=str)
def test_the_examples_are_those_of_the_texts_in_memory(translator, table, order, size):
    batches = batches_of(translator, table, order=order, **size)
    in_memory = translator.pair_batches(SOURCES, TARGETS, order="given", batch_size=COUNT)
    wanted, found = examples_in([in_memory[0]]), examples_in(batches.dataset())
    assert sorted(found) == sorted(wanted)
    assert (found == wanted) == (order == "given")


@pytest.mark.parametrize("order", ["shuffled", "sorted", "given"])
@pytest.mark.parametrize("tokens", [1, 60, 10**6])
def test_every_pass_has_the_number_of_batches_of_few_enough_tokens(
    translator, table, order, tokens
):
    batches = batches_of(translator, table, order=order, tokens_per_batch=tokens)
    dataset = batches.dataset()
    for _ in range(3):
        got = drawn(dataset)
        assert len(got) == int(dataset.cardinality()) == batches.num_batches
        for inputs, labels in got:
            assert len(labels) == 1 or inputs["encoder_token_ids"].size + labels.size <= tokens
    assert batches.num_batches == {1: COUNT, 10**6: 1}.get(tokens, batches.num_batches)


def test_another_order_has_as_many_batches(translator, table):
    counts = {
        len(drawn(batches_of(translator, table, buffer, seed=seed, tokens_per_batch=60).dataset()))
        for buffer, seed in ((1, 0), (30, 1), (COUNT, 2))
    }
    assert len(counts) == 1


def test_passes_differ_and_a_seed_repeats_them(translator, table):
    first, second = passes(batches_of(translator, table, tokens_per_batch=60))
    assert first != second and sorted(first) != sorted(second)
    assert passes(batches_of(translator, table, tokens_per_batch=60)) == [first, second]
    assert passes(batches_of(translator, table, seed=6, tokens_per_batch=60))[0] != first
    in_order = batches_of(translator, table, order="sorted", tokens_per_batch=60)
    assert len(set(map(tuple, passes(in_order)))) == 1


def test_batches_of_similar_lengths_have_hardly_any_padding(translator, tmp_path):
    sources, targets = reversals(2000, seed=4)
    path = tmp_path / "many.csv"
    lines = (f"{s},{t}\n" for s, t in zip(sources, targets, strict=True))
    path.write_text("text,target\n" + "".join(lines))
    streamed = batches_of(translator, path, buffer=500, tokens_per_batch=256)
    in_memory = translator.pair_batches(sources, targets, tokens_per_batch=256)
    assert streamed.num_batches < 1.15 * in_memory.num_batches
    got = drawn(streamed.dataset())
    real = sum(x["encoder_padding_mask"].sum() + (y != IGNORED).sum() for x, y in got)
    assert real > 0.9 * sum(sizes_of(got))


def test_few_rows_are_in_memory(translator):
    count, read = 20_000, []
    pairs = [tuple(text.encode() for text in pair) for pair in rows()]

    def examples(seed):
        for number in range(count):
            read.append(number)
            yield number, pairs[number % COUNT]

    batches = PairStream(translator, examples, count, None, {}, tokens_per_batch=128, seed=0)
    assert len(read) == count
    given, held = 0, []
    for _, labels in batches.dataset():
        given += len(labels)
        held.append(len(read) - count - given)
    assert given == count
    assert max(held) < 1000


def test_a_stream_begins_at_any_batch(translator, table):
    batches = batches_of(translator, table, tokens_per_batch=60)
    count = batches.num_batches
    first, second, third = passes(batches, 3)
    whole = [*first, *second, *third]
    for start in (0, 3, count, 2 * count + 1):
        rest = batches_of(translator, table, tokens_per_batch=60).stream(start)
        got = [labels.tobytes() for _, labels in drawn(rest.take(len(whole) - start))]
        assert got == whole[start:]


def test_few_shapes_where_each_is_compiled(translator, table, monkeypatch):
    monkeypatch.setattr(text_data, "LENGTH_STEP", 4)
    longest = translator.max_length
    for size in ({"tokens_per_batch": 60}, {"batch_size": 7}):
        for inputs, labels in drawn(batches_of(translator, table, **size).dataset()):
            for length in (inputs["encoder_token_ids"].shape[1], labels.shape[1]):
                assert length % 4 == 0 or length == longest
            if "tokens_per_batch" in size:
                assert inputs["encoder_token_ids"].size + labels.size <= 60


# Training


def eager(config="marian", **options):
    """A translator that trains without building graphs."""
    translator = new(config, **options)
    translator.compile(AdamW(1e-3), run_eagerly=True)
    return translator


@pytest.mark.parametrize("size", [{}, {"batch_size": 50}], ids=str)
def test_a_file_trains_as_its_texts_do(table, size):
    found = []
    for x in (TableStream(table, **COLUMNS), list(rows())):
        options = {"epochs": 2, "shuffle": False, "verbose": 0, **size}
        found.append(losses(eager().fit(x, **options)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_the_parts_of_a_file_train_and_validate(table):
    train, held_out = TableStream(table, **COLUMNS).split(0.2, seed=1)
    translator = eager()
    history = translator.fit(train, validation_data=held_out, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    texts = [row.text for row in held_out.examples()]
    expected, _ = translator.evaluate(texts, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(expected, rel=1e-4)
    assert translator.evaluate(held_out, verbose=0)[0] == pytest.approx(expected, rel=1e-4)


def test_held_out_pairs_of_a_file_are_decoded_and_scored(table):
    pytest.importorskip("sacrebleu")
    _, held_out = TableStream(table, **COLUMNS).split(0.05)
    options = {"validation_metrics": ("bleu",), "verbose": 0}
    translator = eager(decoding={"max_tokens": 4})
    history = translator.fit(held_out, validation_data=held_out, **options).history
    assert {"val_loss", "val_bleu"} <= history.keys()


@pytest.mark.parametrize("size", [{"tokens_per_batch": 256}, {"batch_size": 16}], ids=str)
def test_a_training_goes_on_to_the_last_bit(table, size, tmp_path, monkeypatch):
    dropping = dataclasses.replace(CONFIGS["marian"], dropout=0.2)
    monkeypatch.setitem(CONFIGS, "dropping", dropping)
    _, part = TableStream(table, **COLUMNS, buffer=9).split(0.3)

    def fit(directory, callbacks=(), **changed):
        translator = eager("dropping")
        translator.fit(
            part,
            epochs=2,
            seed=1,
            resume=Checkpoints(tmp_path / directory, every_steps=1),
            callbacks=list(callbacks),
            verbose=0,
            **size | changed,
        )
        return translator

    whole = fit("whole")
    steps = int(whole.optimizer.iterations)
    assert steps >= 6
    with pytest.raises(RuntimeError, match="the power went off"):
        fit("broken", callbacks=[Dies(steps // 2 + 2)])
    ((name, value),) = size.items()
    with pytest.raises(ValueError, match=name):
        fit("broken", **{name: value - 5})
    keras.utils.set_random_seed(99)
    assert_same(fit("broken"), whole)


def test_a_table_of_other_columns_is_an_error(translator, table, tmp_path):
    path = tmp_path / "labelled.csv"
    path.write_text("text,target,label\na,b,c\n")
    with pytest.raises(ValueError, match="got pair_column=None and label_column=None"):
        translator.evaluate(TableStream(path, label_column=None))
    with pytest.raises(ValueError, match=r"label_column='label': pass TableStream\(…, pair_col"):
        translator.evaluate(TableStream(path, pair_column="target"))
    with pytest.raises(ValueError, match="pass neither y nor sample_weight"):
        translator.evaluate(TableStream(path, **COLUMNS), ["b"])
