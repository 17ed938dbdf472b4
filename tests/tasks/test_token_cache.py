"""Tokens from the disk are those from memory: made once, never believed when in doubt."""

import errno
import fcntl
import json
import logging
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.tasks import (
    MaskedLanguageModel,
    SpanLanguageModel,
    TextGenerator,
    language_data,
    masking,
    text_data,
    text_pieces,
)
from lingxi.tasks.sequence_to_sequence import config_for
from lingxi.tasks.span_masking import SpanBatches, SpanMasking
from lingxi.tasks.token_cache import HEADER, StoredArray, TokenCache
from lingxi.text import ByteBpeTokenizer, WordPieceTokenizer
from lingxi.text.byte_bpe import byte_characters
from lingxi.training import Checkpoints
from lingxi.zoo import T5, Bert, BertConfig, Gpt, GptConfig, T5Config
from tests.tasks.test_masking import write_documents
from tests.tasks.test_resume import Dies, assert_same

LENGTH = 16
KINDS = ("generate", "fill", "fill pairs", "spans")


@pytest.fixture(scope="module")
def tokenizers(vocabulary):
    """By the kind of task that learns from them."""
    words = WordPieceTokenizer(vocabulary, max_length=LENGTH)
    return {
        "generate": ByteBpeTokenizer([*byte_characters(), "<|endoftext|>"], merges=[]),
        "fill": words,
        "fill pairs": words,
    }


@pytest.fixture(scope="module")
def piece_tokenizer():
    pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")
    from tests.tasks.test_span_masking import new_tokenizer

    return new_tokenizer(num_sentinels=8, max_length=LENGTH)


@pytest.fixture
def tokenizer_of(tokenizers, request):
    """A function: the tokenizer for a kind of task."""

    def find(kind):
        return tokenizers.get(kind) or request.getfixturevalue("piece_tokenizer")

    return find


@pytest.fixture
def path(tmp_path):
    """Of a text file of forty documents."""
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(write_documents(40)))
    return path


@pytest.fixture
def small(monkeypatch):
    """A function: from now on everything is done in small pieces."""

    def small():
        for name in ("PIECE", "TOGETHER"):
            monkeypatch.setattr(text_pieces, name, 100)
        monkeypatch.setattr(text_pieces, "BLOCK", 70)
        monkeypatch.setattr(language_data, "PART", 50)
        monkeypatch.setattr(masking, "PART", 7)
        monkeypatch.setattr(text_data, "SUMMED", 10)

    return small


def batches_of(kind, x, tokenizer, cache=None, shuffle=True):
    """The batches of a task, as a data set with a source."""
    if kind == "generate":
        return language_data.blocks(x, tokenizer, LENGTH, 4, shuffle, seed=1, cache=cache)
    if kind == "spans":
        span_masking = SpanMasking(tokenizer)
        return SpanBatches(x, tokenizer, span_masking, LENGTH, 4, 0, shuffle, 1, cache).dataset()
    pairs = kind == "fill pairs"
    masks = masking.Masking(tokenizer)
    return masking.examples(x, tokenizer, masks, LENGTH, 4, pairs, shuffle, 1, False, cache)


def drawn(dataset):
    return [
        [part.tolist() for part in tf.nest.flatten(batch)] for batch in dataset.as_numpy_iterator()
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
def test_batches_from_the_disk_are_those_from_memory(
    kind, shuffle, path, tokenizer_of, small, tmp_path
):
    tokenizer = tokenizer_of(kind)

    def passes(cache=None):
        dataset = batches_of(kind, path, tokenizer, cache, shuffle)
        found = [drawn(dataset), drawn(dataset)]
        if hasattr(dataset, "source"):  # describes itself before anything is drawn, as `fit` does
            source = batches_of(kind, path, tokenizer, cache, shuffle).source
            found += [source.describe(), source.num_batches]
            found.append(drawn(source.stream(len(found[0]) + 1).take(3)))
        return found

    wanted = passes()
    assert len(wanted[0]) > 5
    assert (wanted[0] != wanted[1]) == shuffle
    small()
    assert passes(TokenCache(tmp_path / "tokens")) == wanted
    assert passes() == wanted


@pytest.fixture
def untouched(monkeypatch):
    """A function: a tokenizer that fails when it is called."""

    def untouched(tokenizer):
        def fail(texts):
            raise AssertionError("the text is tokenized again")

        monkeypatch.setattr(tokenizer, "tokenize", fail)
        return tokenizer

    return untouched


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_tokenized_once(kind, path, tokenizer_of, tmp_path, untouched, monkeypatch):
    cache, tokenizer = TokenCache(tmp_path / "tokens"), tokenizer_of(kind)
    wanted = drawn(batches_of(kind, path, tokenizer, cache))
    before = sorted((tmp_path / "tokens").rglob("*"))
    assert drawn(batches_of(kind, [path], untouched(tokenizer), cache)) == wanted
    monkeypatch.undo()
    assert sorted((tmp_path / "tokens").rglob("*")) == before
    array = next(path for path in before if path.name == "tokens")
    assert array.stat().st_size == 2 * len(StoredArray(array, "uint16"))


def tokens_of(x, cache, tokenizer):
    return language_data.token_stream(x, tokenizer, cache)[:].tolist()


def test_another_text_or_tokenizer_is_tokenized_anew(path, tokenizers, vocabulary, tmp_path):
    cache, tokenizer = TokenCache(tmp_path / "tokens"), tokenizers["generate"]
    first = tokens_of(path, cache, tokenizer)
    text, changed = path.read_text(), path.stat().st_mtime_ns
    path.write_text(text.swapcase())  # of the same size
    os.utime(path, ns=(changed + 1, changed + 1))
    assert tokens_of(path, cache, tokenizer) == tokens_of(path, None, tokenizer) != first
    path.write_text(text + "more")
    os.utime(path, ns=(changed, changed))
    assert tokens_of(path, cache, tokenizer) == [*first[:-1], *b"more", first[-1]]
    assert len(kept(tmp_path)) == 1, "what is stale makes room"

    other = ByteBpeTokenizer([*byte_characters()[::-1], "<|endoftext|>"], merges=[])
    assert tokens_of(path, cache, other) == tokens_of(path, None, other)
    prefixed = ByteBpeTokenizer(**{**tokenizer.get_config(), "add_prefix_space": True})
    assert tokens_of(path, cache, prefixed)[0] == ord(" ")
    assert tokens_of([path, path], cache, tokenizer) == tokens_of([path, path], None, tokenizer)
    # the sentences of the same text are other arrays
    words = WordPieceTokenizer(vocabulary, max_length=LENGTH)
    found = [
        masking.sentences(path, words, between, cache)["tokens"][:].tolist()
        for between in (None, words.sep_id)
    ]
    assert found[0] == [i for i in found[1] if i != words.sep_id] != found[1]


def flip(directory):
    content = bytearray((directory / "tokens").read_bytes())
    content[7] ^= 1
    (directory / "tokens").write_bytes(content)


def truncate(directory):
    (directory / "tokens").write_bytes((directory / "tokens").read_bytes()[:-2])


def lose(directory):
    (directory / "tokens").unlink()


def lose_header(directory):
    (directory / HEADER).unlink()


def spoil_header(directory):
    (directory / HEADER).write_text("what a disk made of it")


def empty_header(directory):
    header = json.loads((directory / HEADER).read_text())
    (directory / HEADER).write_text(json.dumps({"made_of": header["made_of"]}))


@pytest.mark.parametrize(
    "damage",
    [flip, truncate, lose, lose_header, spoil_header, empty_header],
    ids=lambda f: f.__name__,
)
def test_what_is_damaged_is_made_anew(damage, path, tokenizers, tmp_path, caplog):
    cache, tokenizer = TokenCache(tmp_path / "tokens"), tokenizers["generate"]
    wanted = tokens_of(path, cache, tokenizer)
    (directory,) = kept(tmp_path)
    damage(directory)
    with caplog.at_level(logging.WARNING):
        assert tokens_of(path, cache, tokenizer) == wanted
    assert ("damaged and made anew" in caplog.text) == (not damage.__name__.startswith("lose"))


def kept(folder):
    """What is in the cache beside its lock."""
    return [path for path in (folder / "tokens").iterdir() if path.name != ".lock"]


def test_a_process_killed_while_it_writes_leaves_nothing_that_is_believed(
    path, tokenizers, tmp_path
):
    cache, tokenizer = TokenCache(tmp_path / "tokens"), tokenizers["generate"]

    def parts(verbose):
        yield {"tokens": np.arange(100_000, dtype="int32")}
        os.kill(os.getpid(), signal.SIGKILL)

    process = os.fork()
    if not process:
        cache.arrays([path], tokenizer, "documents and ends", parts)
    _, status = os.waitpid(process, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    (left,) = kept(tmp_path)
    assert left.name.startswith(".text-")
    assert tokens_of(path, cache, tokenizer) == tokens_of(path, None, tokenizer)
    (directory,) = kept(tmp_path)
    assert directory.name.startswith("text-"), "what was left has been removed"


def test_without_locks_nobody_removes_what_others_write(path, tokenizers, tmp_path, monkeypatch):
    def no_locks(*arguments):
        raise OSError(errno.EBADF, "no locks on this disk")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    cache, tokenizer = TokenCache(tmp_path / "tokens"), tokenizers["generate"]
    began, found = [], []

    def parts(verbose):
        began.append(True)
        yield {"tokens": np.arange(9, dtype="int32")}
        if len(began) == 1:  # meanwhile another process does the same
            found.append(cache.arrays([path], tokenizer, "documents and ends", parts))

    mine = cache.arrays([path], tokenizer, "documents and ends", parts)
    assert mine["tokens"][:].tolist() == found[0]["tokens"][:].tolist() == list(range(9))


def test_an_error_leaves_nothing_behind(path, tokenizers, tmp_path):
    cache = TokenCache(tmp_path / "tokens")
    path.write_bytes(path.read_bytes() + b"\nna\xefve")
    lines = path.read_bytes().count(b"\n")
    with pytest.raises(ValueError, match=rf"text.txt is not UTF-8: .* in line {lines + 1};"):
        tokens_of(path, cache, tokenizers["generate"])
    path.write_text("\n \n")
    with pytest.raises(ValueError, match="got no text to learn from"):
        masking.sentences(path, tokenizers["fill"], None, cache)
    assert not kept(tmp_path)


def test_a_large_vocabulary_keeps_all_its_tokens(path, tmp_path):
    others = [f"<{number}>" for number in range(70_000)]
    tokenizer = ByteBpeTokenizer([*byte_characters(), *others, "<|endoftext|>"], merges=[])
    found = tokens_of(path, TokenCache(tmp_path / "tokens"), tokenizer)
    assert found == tokens_of(path, None, tokenizer)
    assert found[-1] == 70_256


def test_an_open_array_stays_what_it_is(path, tokenizers, tmp_path):
    cache, tokenizer = TokenCache(tmp_path / "tokens"), tokenizers["generate"]
    array = language_data.token_stream(path, tokenizer, cache)
    wanted = array[:]
    path.write_text("something else")
    assert len(language_data.token_stream(path, tokenizer, cache)) == 15
    np.testing.assert_array_equal(array[:], wanted)
    np.testing.assert_array_equal(array[[[3, 1]]], wanted[[[3, 1]]])
    assert array[5] == wanted[5] and array[2:4].dtype == np.int32


# In `fit`


def new_task(kind, tokenizer):
    keras.utils.set_random_seed(3)
    sizes = {"vocab_size": tokenizer.vocab_size, "hidden_dim": 16, "num_heads": 2}
    if kind == "generate":
        task = TextGenerator(Gpt(GptConfig(**sizes, num_layers=1, max_length=LENGTH)), tokenizer)
    elif kind == "spans":
        layers = {"num_encoder_layers": 1, "num_decoder_layers": 1, "intermediate_dim": 16}
        config = T5Config(**sizes, **layers, head_dim=8)
        task = SpanLanguageModel(T5(config_for(config, tokenizer)), tokenizer)
    else:
        layers = {"num_layers": 1, "intermediate_dim": 16, "max_length": LENGTH}
        backbone = Bert(BertConfig(**sizes, **layers))
        task = MaskedLanguageModel(backbone, tokenizer, next_sentence=kind == "fill pairs")
    task.compile(keras.optimizers.SGD(0.1, momentum=0.9), run_eagerly=True)
    return task


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_died_goes_on_to_the_same_bits(
    kind, path, tokenizer_of, tmp_path, untouched
):
    path.write_text("\n\n".join(write_documents(5)))
    held_out = tmp_path / "held_out.txt"
    held_out.write_text("\n\n".join(write_documents(2, seed=1)))
    tokenizer = tokenizer_of(kind)
    options = {"validation_data": held_out, "epochs": 2, "batch_size": 4, "seed": 3, "verbose": 0}

    whole, broken = new_task(kind, tokenizer), new_task(kind, tokenizer)
    history = whole.fit(path, resume=tmp_path / "in memory", **options).history
    steps = int(whole.optimizer.iterations) // 2
    assert steps > 2
    options["cache"] = tmp_path / "tokens"
    options["resume"] = Checkpoints(tmp_path / "from the disk", every_steps=2)
    with pytest.raises(RuntimeError, match="the power went off"):
        broken.fit(str(path), callbacks=[Dies(steps + 3)], **options)
    broken = new_task(kind, untouched(tokenizer))
    assert broken.fit(str(path), **options).history == history
    assert_same(broken, whole)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_texts_to_validate_on_need_not_be_files(kind, path, tokenizer_of, tmp_path):
    path.write_text("\n\n".join(write_documents(8)))
    task = new_task(kind, tokenizer_of(kind))
    texts = write_documents(3)
    options = {"validation_data": texts, "steps_per_epoch": 1, "verbose": 0}
    history = task.fit(path, cache=tmp_path / "tokens", **options).history
    assert np.isfinite(history["val_loss"]).all()
    for x in (texts, tuple(texts), tf.data.Dataset.from_tensor_slices(texts), {"token_ids": []}):
        with pytest.raises(
            TypeError, match="cache keeps the tokens of text files: x must be a path"
        ):
            task.fit(x, cache=tmp_path / "tokens")
    with pytest.raises(FileNotFoundError, match="a text itself, not its file, goes in a list"):
        task.fit("the old river", cache=tmp_path / "tokens")
