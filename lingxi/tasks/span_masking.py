"""Plain texts to what T5 learns from: texts without some spans, and the spans that are missing.

source   Thank you <extra_id_0> me to your party <extra_id_1> week. </s>
target   <extra_id_0> for inviting <extra_id_1> last <extra_id_2> </s>
"""

import re

import numpy as np
import tensorflow as tf

from lingxi.tasks import text_data
from lingxi.tasks.masking import sentences, with_marks
from lingxi.training import IGNORED

SENTINEL = r"<extra_id_\d+>"  # as it is typed in a text


class SpanMasking:
    """Draws the spans of a text that a model has to restore (Raffel et al. 2020, section 3.1.4).

    Of `n` ordinary tokens `round(mask_rate · n)` are left out, in `round(of these / mean_span)`
    spans, both at least one. All ways to do so, with a token between two spans, are equally likely;
    T5's own code is alike but for the margins: it always keeps the first token and never the last.
    Special tokens are never left out: a span around one is two.

    Args:
        tokenizer: a `lingxi.text.SentencePieceTokenizer` with sentinels.
        mask_rate: share of the tokens.
        mean_span: tokens of a span.
    """

    def __init__(self, tokenizer, mask_rate=0.15, mean_span=3.0):
        if not 0.0 < mask_rate < 1.0:
            raise ValueError(f"mask_rate must be between 0 and 1, got {mask_rate}")
        if mean_span < 1.0:
            raise ValueError(f"mean_span must be at least 1 token, got {mean_span}")
        self.mask_rate = mask_rate
        self.mean_span = mean_span
        self.sentinel_ids = np.array(tokenizer.sentinel_ids, "int32")
        self.most_spans = len(self.sentinel_ids) - 1  # one ends the target
        self.eos_id = tokenizer.eos_id
        self.special_ids = list(tokenizer.special_ids)

    def counts(self, length):
        """How many of `length` tokens are left out, and in how many spans; two tokens at least."""
        masked = min(max(round(self.mask_rate * length), 1), length - 1)
        spans = min(max(round(masked / self.mean_span), 1), length - masked + 1)
        return masked, spans

    def text_length(self, max_length):
        """The most tokens of a text whose source and target have at most `max_length`.

        Raises:
            ValueError: there is none, or it would have more spans than there are sentinels.
        """
        length = 1
        while self._lengths_fit(length + 1, max_length):
            length += 1
        if length == 1:
            raise ValueError(f"max_length {max_length} is too short for a text and its sentinels")
        _, spans = self.counts(length)
        if spans > self.most_spans:
            raise ValueError(
                f"{length} tokens have {spans} spans, but the tokenizer's {self.most_spans + 1} "
                f"sentinels are for {self.most_spans}; pass a shorter max_length than {max_length}"
            )
        return length

    def _lengths_fit(self, length, max_length):
        masked, spans = self.counts(length)
        return max(length - masked + spans + 1, masked + spans + 2) <= max_length

    def draw(self, token_ids, random):
        """bool `[tokens]`: what is left out.

        Args:
            token_ids: int `[tokens]`.
            random: a NumPy generator.
        """
        is_ordinary = ~np.isin(token_ids, self.special_ids)
        masked = np.zeros(len(token_ids), bool)
        length = np.count_nonzero(is_ordinary)
        if length < 2:
            return masked
        count, spans = self.counts(length)
        kept = _parts(length - count + 2, spans + 1, random)
        kept[[0, -1]] -= 1  # at the margins there may be none
        lengths = np.append(np.stack([kept[:-1], _parts(count, spans, random)], 1), kept[-1])
        masked[is_ordinary] = np.repeat(np.arange(2 * spans + 1) % 2 == 1, lengths)
        return masked & (np.cumsum(_firsts(masked)) <= self.most_spans)

    def __call__(self, token_ids, random):
        """The source and the target of a text, int32, each with the end token."""
        masked = self.draw(token_ids, random)
        firsts = np.flatnonzero(_firsts(masked))
        sentinels = self.sentinel_ids[: len(firsts) + 1]
        missing = np.insert(token_ids, firsts, sentinels[:-1])[np.insert(masked, firsts, True)]
        rest = token_ids.copy()
        rest[firsts] = sentinels[:-1]
        masked[firsts] = False
        target = [missing, sentinels[-1:], [self.eos_id]]
        source = [rest[~masked], [self.eos_id]]
        return tuple(np.concatenate(parts).astype("int32") for parts in (source, target))


def _parts(total, count, random):
    """Lengths of `count` parts of `total`, each at least 1; all ways are equally likely."""
    cuts = np.sort(random.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def _firsts(masked):
    """Where spans begin."""
    return masked & ~np.append(False, masked[:-1])


class SpanBatches(text_data.Batches):
    """Batches of texts without some spans, and of the spans, as `PairBatches` has them.

    The documents stand one after the other, as in T5's own pretraining, and are cut into blocks
    whose source has `max_length` tokens; shuffled, into blocks in another order at other places,
    with other spans, in every pass.

    Args:
        x: as of `lingxi.tasks.masking.examples`.
        tokenizer: a `lingxi.text.SentencePieceTokenizer`.
        masking: a `SpanMasking`.
        max_length: of source and target, in tokens; of a source with special tokens between spans
            a few more.
        batch_size: blocks a batch.
        start_id: what the decoder's input begins with.
        shuffle: or else always the same blocks, in their order, and the same spans.
        seed: of all that is drawn.
        cache: a `TokenCache` to keep the tokens of files in; or None, to hold them in memory.
    """

    def __init__(
        self, x, tokenizer, masking, max_length, batch_size, start_id, shuffle, seed, cache=None
    ):
        self.masking = masking
        self.length = masking.text_length(max_length)
        self.tokens = sentences(x, tokenizer, cache=cache)["tokens"]
        if len(self.tokens) < 2:
            raise ValueError("got a text of one token; there must be another one to restore it by")
        self.batch_size = batch_size
        self.start_id = start_id
        self.pad_id = tokenizer.pad_id
        self.order = "shuffled" if shuffle else "given"
        self.random = np.random.default_rng(seed if shuffle else 0)
        self.rows = self._draw_batches()

    def _draw_batches(self):
        """Where the blocks of each batch begin; sets the seed of the spans."""
        self.seed = self.random.integers(2**31)
        total = len(self.tokens)
        starts = np.arange(0, total - 1, self.length)
        if self.order == "shuffled":
            size = min(self.length, total)
            starts = self.random.integers(total) + size * np.arange(total // size)
            self.random.shuffle(starts)
        return text_data.Slices(starts, self.batch_size)

    def _block(self, start):
        """The tokens from `start` on; what was shuffled is a ring."""
        place = start + np.arange(min(self.length, len(self.tokens)))
        if self.order == "shuffled":
            return self.tokens[place % len(self.tokens)]
        return self.tokens[place[place < len(self.tokens)]]

    def __getitem__(self, index):
        random = np.random.default_rng((self.seed, index))
        pairs = [self.masking(self._block(start), random) for start in self.rows[index]]
        sources, targets = (_padded(side) for side in zip(*pairs, strict=True))
        is_real = sources != IGNORED
        start = np.full((len(targets), 1), self.start_id, "int32")
        before = np.where(targets != IGNORED, targets, self.pad_id)[:, :-1]
        inputs = {
            "encoder_token_ids": np.where(is_real, sources, self.pad_id).astype("int32"),
            "encoder_padding_mask": is_real,
            "decoder_token_ids": np.concatenate([start, before], axis=1).astype("int32"),
        }
        return inputs, targets

    def _signature(self):
        ids = tf.TensorSpec([None, None], tf.int32)
        mask = tf.TensorSpec([None, None], tf.bool)
        names = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids")
        return dict(zip(names, (ids, mask, ids), strict=True)), ids


def _padded(rows):
    """int32 `[rows, seq]`, with `IGNORED` after each row."""
    padded = np.full((len(rows), max(map(len, rows))), IGNORED, "int32")
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


class MixedBatches(text_data.Batches):
    """All batches of several `Batches` of the same inputs; shuffled, among each other.

    A pass has every example of each once: examples are mixed in proportion to how many there are
    (Raffel et al. 2020, section 3.5.2).
    """

    def __init__(self, parts, shuffle, seed):
        self.parts = parts
        self.order = "shuffled" if shuffle else "given"
        self.random = np.random.default_rng(seed)
        self.rows = self._places()

    def _draw_batches(self):
        for part in self.parts:
            part.rows = part._draw_batches()
        return self.random.permutation(self._places())

    def _places(self):
        """The number of its part, and its own there, of each batch: int `[batches, 2]`."""
        return np.array(
            [(p, i) for p, part in enumerate(self.parts) for i in range(len(part.rows))]
        )

    def __getitem__(self, index):
        part, place = self.rows[index]
        return self.parts[part][place]

    def _signature(self):
        return self.parts[0]._signature()


def with_sentinels(tokenizer, texts, max_length, padding):
    """Texts in which sentinels are written out, as `tokenizer` gives others.

    The sentinels of a text are numbered from 0 on, whatever numbers were written. Blanks before
    one belong to it, and a word begins after it.

    Args:
        tokenizer: a `lingxi.text.SentencePieceTokenizer` with sentinels.
        texts: string tensor `[batch]`.
        max_length: a longer text is cut.
        padding: "longest" or "max_length".
    """
    first = tokenizer.vocabulary[tokenizer.sentinel_ids[0]]
    texts = tf.strings.regex_replace(texts, rf"\s*{SENTINEL}", first)
    return with_marks(tokenizer, texts, first, tokenizer.sentinel_ids, max_length, padding)


def spans_in(token_ids, lengths, tokenizer, most):
    """What a model wrote for each sentinel, in TensorFlow's graph.

    Args:
        token_ids: int32 `[rows, steps]`; what follows a sentinel, up to the next one, is its span.
        lengths: int32 `[rows]`, the tokens that count.
        tokenizer: a `lingxi.text.SentencePieceTokenizer` with sentinels.
        most: how many spans.

    Returns:
        string `[rows, most]`, as written after other text: with the blank before a word; "" of
        sentinels that the model left out.
    """
    steps = tf.shape(token_ids)[1]
    number = np.full(tokenizer.vocab_size, -1, "int32")
    number[tokenizer.sentinel_ids] = np.arange(len(tokenizer.sentinel_ids))
    number = tf.gather(tf.constant(number), token_ids)  # [rows, steps], of a sentinel
    place = tf.where(number >= 0, tf.range(steps), -1)
    earlier = tf.linalg.band_part(tf.ones([steps, steps], tf.bool), -1, 0)  # [steps, steps]
    before = tf.where(earlier, tf.expand_dims(place, 1), -1)
    last = tf.reduce_max(before, axis=2)  # [rows, steps], the place of the sentinel before a token
    span = tf.where(last >= 0, tf.gather(number, tf.maximum(last, 0), batch_dims=1), -1)

    is_special = np.isin(np.arange(tokenizer.vocab_size), list(tokenizer.special_ids))
    is_written = tf.sequence_mask(lengths, steps) & ~tf.gather(tf.constant(is_special), token_ids)
    pieces = tf.gather(tf.constant(tokenizer.spelling.inside), token_ids)  # [rows, steps]
    wanted = tf.reshape(tf.range(most), [1, most, 1])
    is_here = tf.expand_dims(is_written, 1) & tf.equal(tf.expand_dims(span, 1), wanted)
    return tf.strings.reduce_join(tf.where(is_here, tf.expand_dims(pieces, 1), ""), axis=2)


def sentinels_of(text):
    """The sentinels that are written in a text, in their order."""
    return re.findall(SENTINEL, text)


def filled(text, spans):
    """`text` with spans, as `spans_in` gives them, in the place of its sentinels."""
    first, *rest = re.split(rf"\s*{SENTINEL}", text)
    spans = list(spans[: len(rest)])
    if not first:
        spans[0] = spans[0].lstrip()
    return first + "".join(span + part for span, part in zip(spans, rest, strict=True))
