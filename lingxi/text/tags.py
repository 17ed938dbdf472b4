"""Tags of words, and the entities that they spell."""

import re

import numpy as np
import tensorflow as tf

_PREFIXED = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
OUTSIDE = "O"

# The prefixes that may stand in each place of an entity, the scheme's own first.
_ONLY, _FIRST, _LAST, _MIDDLE = ("SUBI", "BI", "ELIM", "IM")


class TagScheme:
    """What the tags of a named entity model mean, in the order of its logits.

    "B-PER" begins an entity, "I-PER" or "M-PER" goes on, "E-PER" or "L-PER" ends it, "S-PER" or
    "U-PER" is a whole one (BIO, IOBES, BILOU, BMES); "O" is outside; any other name is a type by
    itself, and neighbours of one such type are one entity.

    One rule reads every sequence, malformed ones too, as seqeval reads BIO by default: a tag
    inside starts an entity if it begins one, or if the tag before is outside, has another type,
    ends its entity, or is in another row.

    Args:
        names: of the tags.

    Attributes:
        types: the entity types, in the order in which they first occur.
        outside: the id of "O", or None.
        type_ids: int32, the type of each tag, -1 for "O".
        begins, ends: bool, whether each tag begins (B, S, U) or ends (E, L, S, U) an entity.
    """

    def __init__(self, names):
        self.names = list(names)
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"tag names must differ, got {self.names}")
        parts = [_split(name) for name in self.names]
        self.types = list(dict.fromkeys(kind for _, kind in parts if kind is not None))
        self.outside = self.names.index(OUTSIDE) if OUTSIDE in self.names else None
        self.type_ids = np.array(
            [-1 if kind is None else self.types.index(kind) for _, kind in parts], "int32"
        )
        self.begins = np.array([prefix in ("B", "S", "U") for prefix, _ in parts], bool)
        self.ends = np.array([prefix in ("E", "L", "S", "U") for prefix, _ in parts], bool)
        self._goes_on = np.array([prefix in ("I", "M", "E", "L") for prefix, _ in parts], bool)
        self._ids = {part: index for index, part in enumerate(parts)}

    @classmethod
    def for_types(cls, types, scheme="BIO"):
        """The scheme "BIO", "IOBES" or "plain" of these types: "O", "B-A", "I-A", "B-B", …"""
        prefixes = {"BIO": ("B-", "I-"), "IOBES": ("B-", "I-", "E-", "S-"), "plain": ("",)}
        if scheme not in prefixes:
            raise ValueError(f"scheme must be one of {', '.join(prefixes)}, got {scheme!r}")
        return cls([OUTSIDE, *(prefix + kind for kind in types for prefix in prefixes[scheme])])

    def entities(self, tag_ids):
        """`(start, end, type)` of each entity among the tags of one text, `end` exclusive."""
        tag_ids = np.asarray(tag_ids, "int32")
        types, starts = self.type_ids[tag_ids], self._starts_of_one(tag_ids)
        goes_on = np.append((types >= 0) & ~starts, False)
        firsts = np.flatnonzero(starts)
        lasts = np.flatnonzero((types >= 0) & ~goes_on[1:])
        return [
            (int(first), int(last) + 1, self.types[types[first]])
            for first, last in zip(firsts, lasts, strict=True)
        ]

    def problems(self, tag_ids):
        """How many tags start an entity although they say that they go on with one."""
        tag_ids = np.asarray(tag_ids, "int32")
        return int(np.sum(self._starts_of_one(tag_ids) & self._goes_on[tag_ids]))

    def tags_of(self, spans, length):
        """int32 `[length]`, the tags of `length` words with these entities, `(start, end, type)`.

        Two neighbours of one type become one entity where no tag of the type begins one.

        Raises:
            ValueError: an entity lies outside of the words, is empty, has an unknown type or
                overlaps another; or a word has no entity and the scheme no "O".
        """
        tag_ids = np.full(length, -1, "int32")
        end_before = 0
        for start, end, kind in sorted(spans):
            named = f"the entity ({start}, {end}, {kind!r})"
            if kind not in self.types:
                raise ValueError(f"{named} has a type that is not among {self.types}")
            if not 0 <= start < end <= length:
                raise ValueError(f"{named} is empty or lies outside of the {length} words")
            if start < end_before:
                raise ValueError(f"{named} overlaps the one before, which ends at {end_before}")
            tag_ids[start:end] = self._tag(_MIDDLE, kind)
            tag_ids[end - 1] = self._tag(_LAST, kind)
            tag_ids[start] = self._tag(_ONLY if end == start + 1 else _FIRST, kind)
            end_before = end
        if (tag_ids < 0).any():
            if self.outside is None:
                raise ValueError(f"a word outside of all entities needs the tag 'O': {self.names}")
            tag_ids[tag_ids < 0] = self.outside
        return tag_ids

    def starts_in_graph(self, tag_ids, row_ids):
        """bool `[n]`: whether an entity starts at each tag, in the TensorFlow graph.

        Args:
            tag_ids: int32 `[n]`, the tags of several texts, one text after the other.
            row_ids: int32 `[n]`, the number of the text of each.
        """
        new_row = (tf.range(tf.size(row_ids)) == 0) | (row_ids != _before(row_ids, tf.concat))
        return self.starts(tag_ids, new_row, tf.gather, tf.concat)

    def _starts_of_one(self, tag_ids):
        return self.starts(tag_ids, np.arange(len(tag_ids)) == 0, np.take, np.concatenate)

    def starts(self, tag_ids, is_first, take, concat):
        """bool `[n]`: whether an entity starts at each tag.

        Args:
            tag_ids: int32 `[n]`, the tags of several texts, one text after the other.
            is_first: bool `[n]`, whether each is the first of its text.
            take, concat: what indexes and concatenates them: NumPy, TensorFlow or `keras.ops`.
        """
        types = take(self.type_ids, tag_ids)
        begins = take(self.begins, tag_ids)
        ended = _before(take(self.ends, tag_ids), concat)
        return (types >= 0) & (begins | is_first | ended | (types != _before(types, concat)))

    def _tag(self, prefixes, kind):
        """The tag of this type with the first of these prefixes that there is."""
        for prefix in [*prefixes, ""]:
            if (prefix, kind) in self._ids:
                return self._ids[prefix, kind]
        return int(np.flatnonzero(self.type_ids == self.types.index(kind))[0])


def _split(name):
    """The prefix, "" where there is none, and the type, None outside."""
    if name == OUTSIDE:
        return "", None
    match = _PREFIXED.fullmatch(name)
    return match.groups() if match else ("", name)


def _before(values, concat):
    """The value before each; that of the first is its own."""
    return concat([values[:1], values[:-1]], 0)
