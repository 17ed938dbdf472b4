"""How tokens are written one after the other: from ids back to text."""

import dataclasses

import tensorflow as tf
import tensorflow_text as tf_text

# What `str.strip` strips, for RE2.
BLANK = (
    r"[\t-\r\x1c- \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"
)


@dataclasses.dataclass(frozen=True)
class Spelling:
    """The bytes of every token; a text is their concatenation, read as UTF-8.

    A token is written otherwise where a part begins: at the beginning of a text, after a token
    that ends a part, and as long as only silent tokens have been there.

    Attributes:
        inside: The bytes of each token, by id.
        beginning: Those where a part begins.
        ends: The ids that end a part.
        silent: The ids that are written as nothing where a part begins, which goes on beginning.
        stripped: Whether the text loses the blanks around it.
    """

    inside: list[bytes]
    beginning: list[bytes]
    ends: frozenset[int] = frozenset()
    silent: frozenset[int] = frozenset()
    stripped: bool = False

    def pieces(self, ids: tf.Tensor, is_real: tf.Tensor, skipped: frozenset[int]) -> tf.Tensor:
        """How each token is written, b"" for those left out: string `[batch, seq]`.

        `ids` int32 and `is_real` (False = padding) are `[batch, seq]`; `skipped` ids are left out.
        """
        vocab_size = len(self.inside)
        is_kept = is_real & ~self._among(skipped, ids)
        forms = [*self.inside, b""]
        if self.beginning != self.inside:
            forms = [*self.inside, *self.beginning, b""]
            begins = self._begins(ids, is_kept, self.ends - skipped)
            ids = ids + vocab_size * tf.cast(begins, tf.int32)
        return tf.gather(tf.constant(forms), tf.where(is_kept, ids, len(forms) - 1))

    def _begins(self, ids: tf.Tensor, is_kept: tf.Tensor, ends: frozenset[int]) -> tf.Tensor:
        """Whether each token stands where a part begins: bool `[batch, seq]`."""
        is_written = is_kept & ~self._among(self.silent, ids) if self.silent else is_kept
        written = tf.cumsum(tf.cast(is_written, tf.int32), axis=1, exclusive=True)
        if not ends:
            return written == 0
        batch, seq = tf.unstack(tf.shape(ids))
        is_end = is_kept & self._among(ends, ids)
        part = tf.cumsum(tf.cast(is_end, tf.int32), axis=1, exclusive=True)  # of its row
        part = tf.reshape(part + seq * tf.range(batch)[:, None], [-1])  # [batch * seq], of all rows
        before = tf.math.segment_min(tf.reshape(written, [-1]), part)  # [parts]
        return written == tf.reshape(tf.gather(before, part), [batch, seq])

    def _among(self, chosen: frozenset[int], ids: tf.Tensor) -> tf.Tensor:
        """Whether each id is one of `chosen`: bool of the shape of `ids`."""
        return tf.gather(tf.constant([i in chosen for i in range(len(self.inside))]), ids)

    def clean(self, texts: tf.Tensor) -> tf.Tensor:
        """What is left to do when the pieces are joined: string `[batch]`.

        Bytes that are no UTF-8, as of a character cut in two, become U+FFFD as in Python.
        """
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        if self.stripped:
            texts = tf.strings.regex_replace(texts, f"^{BLANK}+|{BLANK}+$", "")
        return texts


def join(pieces: tf.Tensor) -> tf.Tensor:
    """string `[batch, seq]` to `[batch]`."""
    return tf.strings.reduce_join(pieces, axis=1)


def join_in_tflite(pieces: tf.Tensor) -> tf.Tensor:
    """The same by TensorFlow Text's kernel for TFLite, `AddNgramsStringJoin`; `seq` is static."""
    width = pieces.shape[1]
    if not width:
        raise ValueError(f"In TFLite the length must be static and not 0, got {pieces.shape}.")
    joined = tf_text.ngrams(
        pieces, width, reduction_type=tf_text.Reduction.STRING_JOIN, string_separator=""
    )  # [batch, 1]
    return tf.reshape(joined, [-1])
