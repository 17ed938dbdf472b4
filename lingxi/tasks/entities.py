"""From texts to the windows that a model reads, and from its tags to entities in the texts."""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lingxi.text.tokenizer import STRINGS
from lingxi.text.windows import windows
from lingxi.text.words import token_kinds, word_starts
from lingxi.training.losses import IGNORED


class Tokens(NamedTuple):
    """The tokens of some texts, one text after the other, int32 and bool.

    Attributes:
        places: `[tokens, 2]`, the window and the column where the tag of each is read.
        spans: `[tokens, 2]`, its start and end in its text, in characters.
        rows: `[tokens]`, its text.
        word_starts: `[tokens]`, whether it begins a word, so that its tag is the word's.
    """

    places: tf.Tensor
    spans: tf.Tensor
    rows: tf.Tensor
    word_starts: tf.Tensor


TOKENS = Tokens(
    places=tf.TensorSpec([None, 2], tf.int32),
    spans=tf.TensorSpec([None, 2], tf.int32),
    rows=tf.TensorSpec([None], tf.int32),
    word_starts=tf.TensorSpec([None], tf.bool),
)


class Cut(NamedTuple):
    """Texts as a model reads them.

    Attributes:
        inputs: what the backbone takes, and `word_starts` bool, `[windows, seq]`.
        numbers: int32 `[windows, seq]`, which of `tokens` stands there, or -1.
        rows: int32 `[windows]`, the text of each window.
        tokens: the `Tokens` of the texts.
    """

    inputs: dict[str, tf.Tensor]
    numbers: tf.Tensor
    rows: tf.Tensor
    tokens: Tokens


class EntityReader:
    """What a `TokenClassifier` and its artifacts share: all but the model.

    Args:
        tokenizer: a `lingxi.text.Tokenizer`.
        tags: a `lingxi.text.tags.TagScheme`.
        max_length: of a window, in tokens.
        overlap: tokens that a window shares with the next one.
    """

    def __init__(self, tokenizer, tags, max_length, overlap):
        self.tokenizer = tokenizer
        self.tags = tags
        self.max_length = max_length
        self.overlap = overlap

    def cut(self, texts, pad_to_max_length=False):
        """A `Cut` of texts, string `[batch]`, in TensorFlow's graph."""
        cut = windows(
            self.tokenizer,
            texts,
            self.max_length,
            self.overlap,
            pad_to_max_length=pad_to_max_length,
        )
        places = tf.stack([cut.token_windows.flat_values, cut.token_positions.flat_values], axis=1)
        spans = tf.stack([tf.gather_nd(x, places) for x in (cut.starts, cut.ends)], axis=1)
        token_rows = tf.cast(cut.token_windows.value_rowids(), tf.int32)
        kinds = tf.gather(
            tf.constant(self._token_kinds), tf.gather_nd(cut.inputs["token_ids"], places)
        )
        begins = word_starts(kinds, spans[:, 0], spans[:, 1], token_rows)
        tokens = Tokens(places, spans, token_rows, begins)
        return with_words(Cut(cut.inputs, cut.tokens, cut.rows, tokens), begins)

    @functools.cached_property
    def cut_graph(self):
        """`cut` for eager calls, with windows as long as the longest."""
        return tf.function(self.cut, input_signature=[STRINGS], autograph=False)

    @functools.cached_property
    def _token_kinds(self):
        return token_kinds(self.tokenizer)

    def entities(self, texts, tokens, tag_ids, scores):
        """The entities in texts, string `[batch]`, in TensorFlow's graph.

        Args:
            tokens: the `Tokens` of the texts.
            tag_ids, scores: int32 and float32 `[windows, seq]`, the tag of each token and its
                probability.

        Returns:
            `count` int32 `[batch]`; `start`, `end` int32 in characters, `label` and `text` string,
            `score` float32, the mean over the words, all `[batch, entities]`, with zeros and empty
            strings after the last one.
        """
        # The tag, score and span of each word. All segments are in ascending order.
        first = tf.where(tokens.word_starts)[:, 0]
        word_of_token = tf.cumsum(tf.cast(tokens.word_starts, tf.int32)) - 1
        place = tf.gather(tokens.places, first)
        tag = tf.gather_nd(tag_ids, place)  # [words]
        row = tf.gather(tokens.rows, first)
        word_score = tf.gather_nd(scores, place)
        word_start = tf.gather(tokens.spans[:, 0], first)
        word_end = tf.math.segment_max(tokens.spans[:, 1], word_of_token)

        # Words inside of entities, each entity one segment.
        begins = self.tags.starts_in_graph(tag, row)
        inside = tf.gather(tf.constant(self.tags.type_ids), tag) >= 0
        entity = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        entity = tf.boolean_mask(entity, inside)
        end = tf.math.segment_max(tf.boolean_mask(word_end, inside), entity)
        score = tf.math.segment_mean(tf.boolean_mask(word_score, inside), entity)
        start, row, tag = (tf.boolean_mask(x, begins) for x in (word_start, row, tag))
        types = tf.constant([*self.tags.types, ""])
        label = tf.gather(types, tf.gather(tf.constant(self.tags.type_ids), tag))
        text = tf.strings.substr(tf.gather(texts, row), start, end - start, unit="UTF8_CHAR")

        batch = tf.size(texts)
        count = tf.math.unsorted_segment_sum(tf.ones_like(row), row, batch)

        def dense(values):
            return tf.RaggedTensor.from_row_lengths(values, count, validate=False).to_tensor()

        found = {"start": start, "end": end, "label": label, "text": text, "score": score}
        return {"count": count, **{name: dense(values) for name, values in found.items()}}

    @functools.cached_property
    def entities_graph(self):
        """`entities` for eager calls."""
        tags, scores = (tf.TensorSpec([None, None], dtype) for dtype in (tf.int32, tf.float32))
        signature = [STRINGS, TOKENS, tags, scores]
        return tf.function(self.entities, input_signature=signature, autograph=False)

    def targets(self, cut, examples):
        """What to learn of `TaggedText`s: ragged int32 `[windows, (seq)]` with `IGNORED`.

        A word is learnt by its first token, in one window only.

        Returns:
            The targets; the `Cut` with the words of those examples that have some; how many
            entities end within a word, so that they grew to it; and how many are lost, because
            another has their word, or no token is left of them.
        """
        starts, ends = cut.tokens.spans.numpy().T
        splits = np.searchsorted(cut.tokens.rows.numpy(), np.arange(len(examples) + 1))
        begins = cut.tokens.word_starts.numpy().copy()
        tag_ids = np.full(len(starts), IGNORED, "int32")  # [tokens]
        widened = lost = 0
        for example, first, last in zip(examples, splits[:-1], splits[1:], strict=True):
            if example.words is not None:
                begins[first:last] = _first_tokens(starts[first:last], example.words)
            heads = np.flatnonzero(begins[first:last])
            if not len(heads):
                lost += len(example.entities)
                continue
            word_starts = starts[first:last][heads]
            word_ends = np.maximum.reduceat(ends[first:last], heads)
            spans, free = [], 0
            for start, end, kind in example.entities:
                head = int(np.searchsorted(word_ends, start, "right"))
                tail = int(np.searchsorted(word_starts, end, "left"))
                if head >= tail or head < free:
                    lost += 1
                    continue
                is_cut = word_starts[head] < start or word_ends[tail - 1] > end
                widened += bool(is_cut and example.words is None)
                spans.append((head, tail, kind))
                free = tail
            tag_ids[first + heads] = self.tags.tags_of(spans, len(heads))

        placed = np.full(cut.numbers.shape, IGNORED, "int32")  # [windows, seq]
        placed[tuple(cut.tokens.places.numpy().T)] = tag_ids
        return placed, with_words(cut, tf.constant(begins)), widened, lost


def with_words(cut, begins):
    """`cut` with other words, which begin at the tokens for which `begins` `[tokens]` is True."""
    begins_or_none = tf.concat([[False], begins], axis=0)
    inputs = {**cut.inputs, "word_starts": tf.gather(begins_or_none, cut.numbers + 1)}
    return cut._replace(inputs=inputs, tokens=cut.tokens._replace(word_starts=begins))


def _first_tokens(starts, words):
    """Whether each token of a text is the first one of its word: bool `[tokens]`."""
    word_starts, word_ends = np.array(words, "int32").reshape(-1, 2).T
    word = np.searchsorted(word_starts, starts, "right") - 1  # [tokens]
    inside = (word >= 0) & (starts < word_ends[np.maximum(word, 0)])
    is_new = np.diff(word, prepend=-1) > 0
    return inside & is_new
