"""Plain texts to what a masked language model learns from: packed, paired and masked."""

import dataclasses
import os
import re

import numpy as np
import tensorflow as tf

from lingxi.tasks import language_data, text_data
from lingxi.tasks.text_pieces import grouped, whole_lines
from lingxi.tasks.token_cache import in_memory
from lingxi.text import WordPieceTokenizer
from lingxi.text.packing import pack
from lingxi.training import IGNORED

MASKED, RANDOM = 0.8, 0.1  # of the chosen tokens; the others stay (Devlin et al. 2018, 3.1)
PART = 1_000_000  # sentences that are packed at once
FOLLOWS, UNRELATED = 0, 1  # the classes of the second segment, in the order of `transformers`


class Masking:
    """Draws the tokens of a batch that a model has to restore, in TensorFlow's graph.

    Of `n` ordinary tokens in a row at most `⌈mask_rate · n⌉` are chosen, at least one if there is
    any; of the chosen ones 80 % become the mask token, 10 % a random ordinary token, 10 % stay.
    Special tokens and padding are never chosen.

    Args:
        tokenizer: a `lingxi.text.Tokenizer` with a mask token.
        mask_rate: share of the tokens.
        whole_words: choose all tokens of a word or none; a word is cut only if every word of its
            row is longer than what may be chosen of it.
    """

    def __init__(self, tokenizer, mask_rate=0.15, whole_words=True):
        if not 0.0 < mask_rate < 1.0:
            raise ValueError(f"mask_rate must be between 0 and 1, got {mask_rate}")
        self.mask_id = tokenizer.mask_id
        self.is_ordinary = np.ones(tokenizer.vocab_size, bool)
        self.is_ordinary[list(tokenizer.special_ids)] = False
        self.ordinary_ids = np.flatnonzero(self.is_ordinary).astype("int32")
        self.begins_word = np.ones(tokenizer.vocab_size, bool)
        if whole_words:
            self.begins_word = begins_word(tokenizer)
        lengths = np.arange(tokenizer.max_length + 1)
        self.budgets = np.ceil(np.round(mask_rate * lengths, 9)).astype("int32")

    def __call__(self, token_ids, padding_mask, seed):
        """Mask a batch.

        Args:
            token_ids: int32 `[batch, seq]`.
            padding_mask: bool `[batch, seq]`.
            seed: integers `[2]`: the same seed masks the same tokens.

        Returns:
            The token ids with masks; the places of the chosen tokens, int32 `[batch, masked]`; and
            what they were, int32 `[batch, masked]`, `IGNORED` where a row has fewer than others.
        """
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
        ordinary = padding_mask & tf.gather(self.is_ordinary, token_ids)  # [batch, seq]
        budget = tf.gather(self.budgets, count_true(ordinary))  # [batch]
        places, chosen = self._choose(token_ids, ordinary, budget, seeds[0])  # [batch, masked]

        original = tf.gather(token_ids, places, batch_dims=1)
        share = tf.random.stateless_uniform(tf.shape(places), seeds[1])
        other = tf.random.stateless_uniform(
            tf.shape(places), seeds[2], 0, len(self.ordinary_ids), tf.int32
        )
        other = tf.gather(self.ordinary_ids, other)
        new = tf.where(
            share < MASKED, self.mask_id, tf.where(share < MASKED + RANDOM, other, original)
        )
        row = tf.expand_dims(tf.range(tf.shape(places)[0]), 1)  # [batch, 1]
        index = tf.stack([tf.broadcast_to(row, tf.shape(places)), places], axis=-1)
        masked = tf.tensor_scatter_nd_update(token_ids, index, tf.where(chosen, new, original))
        return masked, places, tf.where(chosen, original, IGNORED)

    def _choose(self, token_ids, ordinary, budget, seed):
        """Different places int32 `[batch, masked]`, and which of them are chosen, bool.

        The tokens stand in an order in which that of the words is random, but those too long for
        their row come last; `budget` `[batch]` of them are chosen, but of a word that goes on
        beyond these none, unless it is the first.
        """
        before = tf.concat([tf.zeros_like(ordinary[:, :1]), ordinary[:, :-1]], axis=1)
        begins = ordinary & (tf.gather(self.begins_word, token_ids) | ~before)
        word = tf.cumsum(tf.cast(begins, tf.int32), axis=1)  # [batch, seq], from 1 on
        word = tf.where(ordinary, word, 0)
        count = tf.shape(word)[1] + 1
        size = tf.math.bincount(word, minlength=count, maxlength=count, axis=-1)  # of words
        is_long = tf.gather(size, word, batch_dims=1) > budget[:, None]  # [batch, seq]
        score = tf.random.stateless_uniform([tf.shape(word)[0], count], seed)
        score = tf.gather(score, word, batch_dims=1) + tf.cast(is_long, tf.float32)
        order = tf.argsort(tf.where(ordinary, score, 2.0), axis=1, stable=True)

        word = tf.gather(word, order, batch_dims=1)
        after = tf.concat([word, tf.zeros_like(word[:, :1])], axis=1)
        beyond = tf.gather(after, budget[:, None], batch_dims=1)  # [batch, 1]
        most = tf.reduce_max(budget)
        first, word = word[:, :1], word[:, :most]
        chosen = (tf.range(most) < budget[:, None]) & ((word != beyond) | (word == first))
        return order[:, :most], chosen


def begins_word(tokenizer):
    """Of each token, whether it begins a word: bool `[vocab]`.

    WordPiece marks the tokens that go on with a word, other tokenizers the blank before a word.
    """
    if isinstance(tokenizer, WordPieceTokenizer):
        return np.array([not token.startswith("##") for token in tokenizer.vocabulary])
    return np.array([piece[:1].isspace() for piece in tokenizer.spelling.inside])


def count_true(mask):
    """How many of each row: bool `[batch, seq]` to int32 `[batch]`."""
    return tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)


def examples(
    x,
    tokenizer,
    masking,
    max_length,
    batch_size,
    next_sentence,
    shuffle,
    seed,
    repeat,
    cache=None,
):
    """Masked batches of plain texts.

    Args:
        x: path of a text file (`str` or `Path`) or list of `Path`s, where a line is a sentence or
            a paragraph and blank lines stand between documents; a list of documents; or a
            `tf.data.Dataset` of documents, single or batched.
        tokenizer: a `lingxi.text.Tokenizer`.
        masking: a `Masking`.
        max_length: of a sequence, in tokens.
        batch_size: sequences a batch.
        next_sentence: pairs of segments, half of which belong together.
        shuffle: another order, other masks and other pairs in every pass; else always the same.
        seed: of all that is drawn.
        repeat: without end.
        cache: a `TokenCache` to keep the tokens of files in; or None, to hold them in memory.

    Returns:
        A `tf.data.Dataset` of `(inputs, targets)`: `masked_positions` int32 `[batch, masked]` is
        among the inputs, the targets are the tokens there, int32 `[batch, masked]`; with
        `next_sentence` a dict of them, `tokens`, and `next_sentence` int32 `[batch]`.
    """
    seed = seed if shuffle else 0
    batches = PackedBatches(
        x, tokenizer, max_length, batch_size, next_sentence, shuffle, seed, cache
    )

    def mask(batch, seed):
        inputs, unrelated = batch
        masked, places, labels = masking(
            inputs["token_ids"], inputs["padding_mask"], tf.stack([seed, 0])
        )
        inputs = {**inputs, "token_ids": masked, "masked_positions": places}
        if next_sentence:
            return inputs, {"tokens": labels, "next_sentence": unrelated}
        return inputs, labels

    def stream(first):
        seeds = tf.data.Dataset.random(seed)
        if not shuffle:
            seeds = seeds.take(batches.num_batches).repeat()
        stream = tf.data.Dataset.zip(batches.stream(first), seeds.skip(first))
        return text_data.ready(stream.map(mask))

    dataset = batches.dataset()
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=shuffle)
    dataset = tf.data.Dataset.zip(dataset.repeat() if repeat else dataset, seeds)
    dataset = dataset.map(mask).prefetch(2)
    dataset.source = text_data.Source(batches.num_batches, stream, batches.describe)
    return dataset


class PackedBatches(text_data.Batches):
    """Batches of sequences filled with whole sentences, as many as fit.

    Of single segments a sequence runs on over the end of a document, with a separator there
    (FULL-SENTENCES of Liu et al. 2019, section 4.2). Pairs of segments come from one document: as
    many sentences as fit in a sequence, parted between two of them (within the only one). In half
    of the pairs the second segment is that of another document instead.

    A batch is `(inputs, unrelated)`: what a tokenizer gives, `[batch, seq]`, and int32 `[batch]`,
    whether the second segment is of another document.

    Args:
        x, tokenizer, max_length, batch_size, next_sentence, shuffle, seed, cache: as of `examples`.
    """

    def __init__(
        self, x, tokenizer, max_length, batch_size, next_sentence, shuffle, seed, cache=None
    ):
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.order = "shuffled" if shuffle else "given"
        self.random = np.random.default_rng(seed)
        self.next_sentence = next_sentence
        self.room = max_length - tokenizer.template.num_special(1 + next_sentence)
        if self.room < 2:
            raise ValueError(f"max_length {max_length} leaves no room beside the special tokens")
        between = None if next_sentence else tokenizer.sep_id
        found = sentences(x, tokenizer, between, cache)
        self.tokens = found["tokens"]
        self.number = np.int32 if len(self.tokens) <= np.iinfo("int32").max else np.int64
        if next_sentence:
            self._find_pairs(found["lengths"], found["document"])
        else:
            self._find_segments(found["lengths"])
        self.rows = self._draw_batches()

    def _find_segments(self, lengths):
        """Set `segments`, of each example: the first token and the one after the last."""
        found = []
        for run in packed(lengths, self.room):
            start, end = run.places[:-1], run.places[1:]
            # No separator at the margins, but for those that are nothing else.
            start = start + (self.tokens[start] == self.tokenizer.sep_id)
            end = end - (self.tokens[end - 1] == self.tokenizer.sep_id)
            segments = np.stack([start, end], axis=1).astype(self.number)
            found.append(segments[start < end])
        self.segments = np.concatenate(found)  # [examples, 2]

    def _find_pairs(self, lengths, document):
        """Set what pairs are drawn from: where sentences end, and the runs of each document.

        `ends` int `[sentences]`, after a 0; `runs` int `[examples, 2]`, the first sentence and the
        one after the last; `first_runs` int `[documents + 1]`, the first run of each.
        """
        ends, runs, first_runs = [np.zeros(1, self.number)], [], []
        count, last = 0, -1  # of runs, and the document of the last one
        for run in packed(lengths, self.room, document):
            ends.append(run.ends.astype(self.number))
            is_pair = np.diff(run.places) > 1  # a token has no two parts
            bounds = np.stack([run.sentences[:-1], run.sentences[1:]], axis=1)
            runs.append(bounds[is_pair].astype("int32"))
            owners = np.append(np.int32(last), run.documents[is_pair])
            first_runs.append(count + np.flatnonzero(np.diff(owners)).astype("int32"))
            count, last = count + len(owners) - 1, owners[-1]
        self.first_runs = np.concatenate([*first_runs, [count]]).astype("int32")
        if len(self.first_runs) < 3:
            raise ValueError(
                "next_sentence needs at least two documents; in a file a blank line parts them"
            )
        self.ends = np.concatenate(ends)
        del ends  # as large as the whole
        self.runs = np.concatenate(runs)

    def _draw_batches(self):
        """Row numbers of each batch; of pairs, sets their seed."""
        if self.next_sentence:
            self.seed = self.random.integers(2**31)
        rows = np.arange(len(self.runs if self.next_sentence else self.segments), dtype="int32")
        if self.order == "shuffled":
            self.random.shuffle(rows)
        return text_data.Slices(rows, self.batch_size)

    def _pairs(self, rows, random):
        """Both segments of examples, int `[rows, 2, 2]`, and whether they are of two documents."""
        start, middle, end = self._parted(rows, random)
        unrelated = random.choice([FOLLOWS, UNRELATED], len(rows))
        # A run among those of other documents: the runs of a document stand together.
        document = np.searchsorted(self.first_runs, rows, "right") - 1
        own_first, own_after = self.first_runs[document], self.first_runs[document + 1]
        other = random.integers(0, len(self.runs) - (own_after - own_first))
        other += np.where(other >= own_first, own_after - own_first, 0)
        # Of its second segment the sentences that fit, or as much of the first one as fits.
        _, other_start, other_end = self._parted(other, random)
        limit = np.minimum(other_start + self.room - (middle - start), other_end)
        limit = limit.astype(self.number)  # as `ends`, or these would be copied
        fitting = self.ends[np.searchsorted(self.ends, limit, "right") - 1]
        other_end = np.where(fitting > other_start, fitting, limit)

        is_other = unrelated == UNRELATED
        second = np.where(is_other, other_start, middle), np.where(is_other, other_end, end)
        return np.stack([np.stack([start, middle], 1), np.stack(second, 1)], axis=1), unrelated

    def _parted(self, rows, random):
        """Where runs start, are parted, and end: between two sentences, or within the only one."""
        first, after = self.runs[rows].T
        start, end = self.ends[first].astype("int64"), self.ends[after].astype("int64")
        border = self.ends[random.integers(first + 1, np.maximum(after, first + 2))]
        return start, np.where(after - first > 1, border, random.integers(start + 1, end)), end

    def _signature(self):
        inputs = {"token_ids": tf.int32, "padding_mask": tf.bool, "segment_ids": tf.int32}
        if not self.tokenizer.has_segments:
            del inputs["segment_ids"]
        inputs = {name: tf.TensorSpec([None, None], dtype) for name, dtype in inputs.items()}
        return inputs, tf.TensorSpec([None], tf.int32)

    def __getitem__(self, index):
        rows = self.rows[index]
        if self.next_sentence:
            segments, unrelated = self._pairs(rows, np.random.default_rng((self.seed, index)))
        else:
            segments, unrelated = self.segments[rows, np.newaxis], np.full(len(rows), FOLLOWS)
        sequences = [self._sequence(*parts) for parts in segments]
        shape = len(rows), max(len(ids) for ids, _ in sequences)
        token_ids = np.full(shape, self.tokenizer.pad_id, "int32")
        inputs = {"token_ids": token_ids, "padding_mask": np.zeros(shape, bool)}
        if self.tokenizer.has_segments:
            inputs["segment_ids"] = np.zeros(shape, "int32")
        for row, (ids, second) in enumerate(sequences):
            token_ids[row, : len(ids)] = ids
            inputs["padding_mask"][row, : len(ids)] = True
            if self.tokenizer.has_segments:
                inputs["segment_ids"][row, second : len(ids)] = 1
        return inputs, unrelated.astype("int32")

    def _sequence(self, first, second=None):
        """Token ids of an example, and where its second segment begins."""
        before, between, after = self.tokenizer.template
        ids = [before, self.tokens[slice(*first)]]
        if second is not None:
            ids += [between, self.tokens[slice(*second)]]
        ids.append(after)
        last = 0 if second is None else len(ids[-1]) + len(ids[-2])
        ids = np.concatenate(ids).astype("int32")
        return ids, len(ids) - last


def sentences(x, tokenizer, between=None, cache=None):
    """The tokens of all sentences, one after the other.

    Args:
        x: as of `examples`.
        between: the id of a token that is a sentence of its own between two documents, or None.
        cache: as of `examples`.

    Returns:
        A dict of `tokens` int32 `[tokens]`, `lengths` int32 `[sentences]`, none of them 0, and
        `document` int32 `[sentences]`, its number: arrays, or `StoredArray`s of a cache.

    Raises:
        ValueError: there are none.
    """

    def parts(verbose=False):
        last = None  # document of the sentence before
        for group in grouped(lines(x, verbose), lambda item: len(item[1])):
            document, texts = zip(*group, strict=True)
            ids = tokenizer.tokenize(texts)
            tokens, lengths = ids.flat_values.numpy(), ids.row_lengths().numpy()
            document = np.array(document)[lengths > 0]  # a line of control characters has no token
            lengths = lengths[lengths > 0]
            if not len(lengths):
                continue
            begins = np.diff(document, prepend=document[0] if last is None else last) > 0
            last = document[-1]
            if between is not None:
                first = np.flatnonzero(begins)
                tokens = np.insert(tokens, np.cumsum(lengths)[first] - lengths[first], between)
                lengths = np.insert(lengths, first, 1)
                document = np.insert(document, first, document[first])
            arrays = {"tokens": tokens, "lengths": lengths, "document": document}
            yield {name: values.astype("int32") for name, values in arrays.items()}
        if last is None:
            raise ValueError("got no text to learn from; pass at least one document")

    if cache is None:
        return in_memory(parts())
    kind = f"sentences, {between} between documents"
    return cache.arrays(language_data.documents(x), tokenizer, kind, parts)


def lines(x, verbose=False):
    """`(document, line)`: the lines that are not blank, as they are tokenized, and whose they are.

    A line that is not the first of its document begins with a blank, as in running text.

    Args:
        x: as of `examples`.
        verbose: as of `lingxi.tasks.text_pieces.whole_lines`.
    """
    before = None
    for number, text in _numbered(x, verbose):
        for line in filter(None, map(str.strip, text.splitlines())):
            yield number, line if number != before else f" {line}"
            before = number


def _numbered(x, verbose):
    """`(document, text)`: all documents, which may come in several parts, and their numbers."""
    if isinstance(x, tf.data.Dataset):
        x = x if x.element_spec.shape.rank == 0 else x.unbatch()
        yield from enumerate(text.decode() for text in x.as_numpy_iterator())
        return
    number = -1
    for document in language_data.documents(x):
        number += 1
        if not isinstance(document, os.PathLike):
            yield number, document.decode() if isinstance(document, bytes) else document
            continue
        for piece in whole_lines(document, verbose):
            first, *others = re.split(r"\n\s*\n", piece)
            yield number, first
            for text in others:
                number += 1
                yield number, text


@dataclasses.dataclass(frozen=True)
class Runs:
    """A part of the runs of sentences of a text, and of these.

    Attributes:
        sentences: numbers of the first ones of all runs, and that after the last: int
            `[runs + 1]`.
        places: where those begin among all tokens, int `[runs + 1]`.
        documents: of each run, int `[runs]`; or None.
        ends: where sentences end that no part before had, int `[sentences]`.
    """

    sentences: np.ndarray
    places: np.ndarray
    documents: np.ndarray | None
    ends: np.ndarray


def packed(lengths, room, document=None):
    """As many sentences as fit in `room`, again and again: `Runs`, part by part.

    Args:
        lengths: int `[sentences]`; those of more than `room` tokens are cut and count as several.
        room: in tokens.
        document: int `[sentences]`, the number of that of each: all of a run are of one. Or None.
    """
    number, borders, owners = 0, np.zeros(1, "int64"), None  # of what no run has yet
    for begin in range(0, len(lengths), PART):
        part = slice(begin, begin + PART)
        sizes, count = cut(lengths[part].astype("int64"), room)
        ends = borders[-1] + np.cumsum(sizes)
        borders = np.concatenate([borders, ends])
        # Of a run from each sentence on: the one after its last.
        after = np.searchsorted(borders, borders[:-1] + room, "right") - 1
        if document is not None:
            more = np.repeat(document[part], count)
            owners = more if owners is None else np.concatenate([owners, more])
            after = np.minimum(after, np.searchsorted(owners, owners, "right"))
        # A run that ends with the part may go on, unless it is the last one.
        most = len(after) if begin + PART >= len(lengths) else len(after) - 1
        after, found = after.tolist(), [0]
        while found[-1] < len(after) and after[found[-1]] <= most:
            found.append(after[found[-1]])
        last = found[-1]
        documents = None if owners is None else owners[found[:-1]]
        yield Runs(number + np.array(found), borders[found], documents, ends)
        number, borders = number + last, borders[last:]
        owners = None if owners is None else owners[last:]


def cut(lengths, room):
    """Lengths, those of more than `room` in several; and how many, of each."""
    count = -(-lengths // room)
    sizes = np.full(count.sum(), room)
    sizes[np.cumsum(count) - 1] = lengths - (count - 1) * room
    return sizes, count


def with_masks(tokenizer, texts, max_length, padding):
    """Texts in which the mask token is written out, as `tokenizer` gives others.

    Elsewhere a special token that somebody typed is text. Blanks before a mask belong to it, as
    in `transformers`: "the <mask>" leaves "the".

    Args:
        texts: string tensor `[batch]`.
        max_length: a longer text is cut.
        padding: "longest" or "max_length".
    """
    mask = tokenizer.special_tokens["mask"]
    texts = tf.strings.regex_replace(texts, rf"\s*{re.escape(mask)}", mask)
    return with_marks(tokenizer, texts, mask, [tokenizer.mask_id], max_length, padding)


def with_marks(tokenizer, texts, mark, ids, max_length, padding):
    """Texts in which a mark is written out, as `tokenizer` gives others, with ids for the marks.

    Args:
        texts: string tensor `[batch]`.
        mark: the string.
        ids: of the first mark of a text, the second, …; more of them have the last one.
        max_length, padding: as of `with_masks`.
    """
    parts = tf.strings.split(texts, mark)  # [batch, (parts)]
    tokens = tokenizer.tokenize(parts.flat_values)  # [all parts, (tokens)]
    number = tf.cast(tf.ragged.range(parts.row_lengths()).flat_values, tf.int32)  # [all parts]
    marks = tf.gather(tf.constant(ids, tf.int32), tf.minimum(number, len(ids) - 1))
    tokens = tf.concat([tokens, tf.expand_dims(marks, 1)], axis=1)
    splits = tf.gather(tokens.row_splits, parts.row_splits)
    rows = tf.RaggedTensor.from_row_splits(tokens.flat_values, splits, validate=False)
    return pack(
        (rows[:, :-1],),  # no mark after the last part
        template=tokenizer.template,
        pad_id=tokenizer.pad_id,
        max_length=max_length,
        pad_to_max_length=padding == "max_length",
        with_segments=tokenizer.has_segments,
    )
