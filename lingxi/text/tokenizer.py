"""What all tokenizers share: one interface, from texts to a backbone's inputs and back."""

import copy
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from lingxi.text.offsets import to_characters
from lingxi.text.packing import Template, pack
from lingxi.text.spelling import Spelling, join, join_in_tflite
from lingxi.text.streaming import TextStream
from lingxi.text.strings import as_strings

STRINGS = tf.TensorSpec([None], tf.string)
PADDINGS = ("longest", "max_length", None)
UNITS = ("characters", "bytes")


class Tokenizer:
    """Strings to token ids in TensorFlow's graph, `tf.data` or a SavedModel, and back to text.

    A special token that somebody typed is text, never a special token.

    A subclass sets `vocabulary`, `max_length`, `special_tokens` and `template`, then calls
    `_make_graphs`, and implements `_tokenize`, `spelling`, `get_config`, `from_directory`, `save`.

    Attributes:
        vocabulary: The tokens in the order of their ids.
        max_length: The longest sequence, special tokens included, that a call may return.
        special_tokens: `{name: token}`; the id of each is the attribute `<name>_id`.
    """

    has_segments = False  # whether the backbone takes `segment_ids`
    template = Template()
    tflite_text_in = None  # see `for_tflite`
    tflite_text_out = ("AddNgramsStringJoin",)
    in_tflite = False  # made by `for_tflite`

    pad_id = unk_id = bos_id = eos_id = cls_id = sep_id = mask_id = None

    def _set_special_ids(self) -> None:
        """The attribute `<name>_id` for each special token; raises ValueError for missing ones."""
        ids = {token: i for i, token in enumerate(self.vocabulary)}
        missing = sorted(set(self.special_tokens.values()) - ids.keys())
        if missing:
            raise ValueError(f"The vocabulary lacks the special tokens {missing}.")
        for name, token in self.special_tokens.items():
            setattr(self, f"{name}_id", ids[token])
        self.special_ids = frozenset(ids[token] for token in self.special_tokens.values())

    def _make_graphs(self) -> None:
        """`_tokenize` as functions: a graph holds their constants once, an eager call is one."""
        self._graph, self._graph_with_offsets = (
            tf.function(
                functools.partial(self._tokenize, with_offsets=with_offsets),
                input_signature=[STRINGS],
                autograph=False,
            )
            for with_offsets in (False, True)
        )
        self._eager_encoders = {}
        self._eager_decoders = {
            skip: tf.function(
                functools.partial(self._detokenize, skip_special_tokens=skip),
                input_signature=[tf.TensorSpec([None, None], x) for x in (tf.int32, tf.bool)],
                autograph=False,
            )
            for skip in (False, True)
        }

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    def tokenize(self, texts) -> tf.RaggedTensor:
        """Texts to token ids without special tokens: int32 `[batch, (tokens)]`."""
        texts = as_strings(texts, "texts")
        return ragged(*self._graph(texts), texts)

    def tokenize_with_offsets(
        self, texts, unit: str = "bytes"
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """`tokenize`, and where in the text each token starts and ends.

        All three are int32 `[batch, (tokens)]`. `unit` is "bytes" (of UTF-8) or "characters" (as
        Python indexes a `str`); a span never cuts a character, whatever the token does.
        """
        if unit not in UNITS:
            raise ValueError(f'The unit of offsets must be "characters" or "bytes", got {unit!r}.')
        texts = as_strings(texts, "texts")
        ids, starts, ends, row_splits = self._graph_with_offsets(texts)
        if unit == "characters":
            starts, ends = to_characters(texts, starts, ends, row_splits)
        return tuple(ragged(values, row_splits, texts) for values in (ids, starts, ends))

    def encode(self, texts, add_special_tokens: bool = True) -> list:
        """A text to a list of ids, or a list of texts to a list of lists; nothing is cut off."""
        if isinstance(texts, (str, bytes)):
            return self.encode([texts], add_special_tokens)[0]
        rows = self.tokenize(texts).to_list()
        if not add_special_tokens:
            return rows
        return [[*self.template.before, *row, *self.template.after] for row in rows]

    def decode(self, token_ids, skip_special_tokens: bool = True):
        """Ids `[seq]` to a str, or ids `[batch, seq]` to a list: lists, arrays or tensors.

        The text is that of `transformers` with `clean_up_tokenization_spaces=False`.

        Raises:
            ValueError: An id is not in the vocabulary.
        """
        rows = token_ids.to_list() if isinstance(token_ids, tf.RaggedTensor) else list(token_ids)
        if rows and np.ndim(rows[0]) == 0:
            return self._decode_row(rows, skip_special_tokens)
        return [self._decode_row(row, skip_special_tokens) for row in rows]

    def _decode_row(self, row, skip_special_tokens: bool) -> str:
        stream = TextStream(self, skip_special_tokens)
        return "".join([*map(stream.add, row), stream.finish()])

    def detokenize(self, token_ids, skip_special_tokens: bool = True) -> tf.Tensor:
        """Ids int `[batch, seq]`, dense or ragged, to the texts of `decode`: string `[batch]`.

        The work is done in TensorFlow's graph, so a SavedModel may hold it.

        Raises:
            tf.errors.InvalidArgumentError: An id is not in the vocabulary.
        """
        if isinstance(token_ids, tf.RaggedTensor):
            batch = token_ids.shape[0]
            lengths = token_ids.row_lengths()
            token_ids = token_ids.to_tensor()
            is_real = tf.sequence_mask(lengths, tf.shape(token_ids)[1])
            token_ids.set_shape([batch, None])
        else:
            token_ids = tf.convert_to_tensor(token_ids)
            is_real = tf.ones_like(token_ids, tf.bool)
        token_ids = tf.cast(token_ids, tf.int32)
        if tf.executing_eagerly():
            return self._eager_decoders[skip_special_tokens](token_ids, is_real)
        return self._detokenize(token_ids, is_real, skip_special_tokens)

    def _detokenize(
        self, ids: tf.Tensor, is_real: tf.Tensor, skip_special_tokens: bool
    ) -> tf.Tensor:
        """Ids and whether they are no padding, `[batch, seq]`, to string `[batch]`."""
        skipped = self.special_ids if skip_special_tokens else frozenset()
        pieces = self.spelling.pieces(ids, is_real, skipped)
        if self.in_tflite:
            return join_in_tflite(pieces)
        return self.spelling.clean(join(pieces))

    def for_tflite(self) -> "Tokenizer":
        """The same tokenizer, of operations that TFLite has with TensorFlow Text's kernels.

        `tflite_text_in` names the kernels that a call needs, None where it cannot be made there,
        and `tflite_text_out` those of `detokenize`, which takes dense ids of static length and
        leaves two things to its reader: bytes that are no UTF-8, and blanks around Marian's texts.
        """
        twin = copy.copy(self)
        twin.in_tflite = True
        twin._make_graphs()
        return twin

    def __call__(
        self,
        texts,
        pairs=None,
        max_length: int | None = None,
        padding: str | None = "longest",
        offsets: str | None = None,
    ) -> dict[str, tf.Tensor]:
        """Texts, or pairs of texts, to what a backbone takes.

        Args:
            texts: list of str, NumPy array of strings, or string tensor `[batch]`.
            pairs: The second texts, of the same kind and length.
            max_length: Truncate to this length, longest part first; by default `self.max_length`.
            padding: "longest" (pad to the longest row), "max_length" (`seq` is static), or None
                for ragged tensors.
            offsets: "characters" or "bytes": also tell where each token stands in its text.

        Returns:
            `token_ids` int32, `segment_ids` int32 (BERT only; 1 for the second text),
            `padding_mask` bool (True = real token), and if asked for `starts` and `ends` int32
            ((0, 0) for special tokens and padding), all `[batch, seq]`.

        Raises:
            TypeError: An input is no text. ValueError: `max_length`, `padding`, `offsets` or the
            number of pairs does not fit.
        """
        max_length = self.max_length if max_length is None else max_length
        shortest = max(1, self.template.num_special(1 if pairs is None else 2))
        if not shortest <= max_length <= self.max_length:
            raise ValueError(
                f"max_length must be from {shortest} (the special tokens) to {self.max_length} "
                f"(this tokenizer's max_length), got {max_length}."
            )
        if padding not in PADDINGS:
            raise ValueError(f'padding must be "longest", "max_length" or None, got {padding!r}.')
        if offsets not in (None, *UNITS):
            raise ValueError(f'offsets must be "characters", "bytes" or None, got {offsets!r}.')
        inputs = [as_strings(texts, "texts")]
        if pairs is not None:
            inputs.append(as_strings(pairs, "pairs"))
            if not inputs[0].shape.is_compatible_with(inputs[1].shape):
                raise ValueError(
                    "texts and pairs must be equally many, "
                    f"got {inputs[0].shape[0]} texts and {inputs[1].shape[0]} pairs."
                )
        pad_to_max_length = padding == "max_length"
        if tf.executing_eagerly():
            static_length = max_length if pad_to_max_length else None
            packed = self._eager_encoder(len(inputs), static_length, offsets)(max_length, *inputs)
        else:
            packed = self._encode(inputs, max_length, pad_to_max_length, offsets)
        if padding is None:
            lengths = tf.reduce_sum(tf.cast(packed["padding_mask"], tf.int32), axis=1)
            packed = {
                name: tf.RaggedTensor.from_tensor(values, lengths)
                for name, values in packed.items()
            }
        return packed

    def _encode(
        self,
        inputs: Sequence[tf.Tensor],
        max_length: int | tf.Tensor,
        pad_to_max_length: bool,
        offsets: str | None,
    ) -> dict[str, tf.Tensor]:
        """One or two string tensors `[batch]` to the packed batch."""
        if offsets is None:
            parts = [(self.tokenize(texts),) for texts in inputs]
        else:
            parts = [self.tokenize_with_offsets(texts, offsets) for texts in inputs]
        return pack(
            *parts,
            template=self.template,
            pad_id=self.pad_id,
            max_length=max_length,
            pad_to_max_length=pad_to_max_length,
            with_segments=self.has_segments,
        )

    def _eager_encoder(self, num_inputs: int, static_length: int | None, offsets: str | None):
        """`_encode` as one graph, since fifty small eager operations cost ten times its work.

        Called with `max_length` and the inputs; only padding to a new length makes a new graph.
        """
        key = num_inputs, static_length, offsets
        if key not in self._eager_encoders:

            def encode(max_length, *inputs):
                if static_length is not None:
                    max_length = static_length
                return self._encode(inputs, max_length, static_length is not None, offsets)

            self._eager_encoders[key] = tf.function(
                encode,
                input_signature=[tf.TensorSpec([], tf.int32)] + [STRINGS] * num_inputs,
                autograph=False,
            )
        return self._eager_encoders[key]

    def _tokenize(self, texts: tf.Tensor, with_offsets: bool) -> tuple[tf.Tensor, ...]:
        """string `[batch]` to flat ids `[tokens]` and row splits `[batch+1]`.

        With offsets the starts and ends in bytes `[tokens]` come between the two.
        """
        raise NotImplementedError

    @functools.cached_property
    def spelling(self) -> Spelling:
        """How the tokens are written in a text."""
        raise NotImplementedError

    @functools.cached_property
    def token_bytes(self) -> list[bytes]:
        """What each token adds to a text after other tokens; b"" for special ones."""
        inside = enumerate(self.spelling.inside)
        return [b"" if i in self.special_ids else piece for i, piece in inside]


def ragged(values: tf.Tensor, row_splits: tf.Tensor, texts: tf.Tensor) -> tf.RaggedTensor:
    """`values` `[tokens]` as the rows of `texts` `[batch]`, whose static size is kept."""
    if texts.shape[0] is not None:
        row_splits.set_shape([texts.shape[0] + 1])
    return tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)
