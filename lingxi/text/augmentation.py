"""Random changes of texts in TensorFlow's graph, so that a training sees each text in many forms.

    augmentation = Chain([RandomDeletion(0.1), KeyboardNoise(0.05)], share=0.5)
    classifier.fit(texts, labels, augmentation=augmentation)
    dataset.map(lambda texts, labels: (augmentation(texts), labels))

A unit of a text is a word, a punctuation mark, an emoji with all its modifiers, or a character of a
script that puts no blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese). Blanks stay
where they are. Deletion, swap, replacement and synonyms: Wei and Zou 2019, "EDA".
"""

import pathlib
import re
from typing import NamedTuple

import keras
import tensorflow as tf

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\x{30FC}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[^\p{{P}}\p{{S}}\p{{Z}}\p{{C}}{_UNSPACED}]"
_UNITS = (
    r"[\x{1F1E6}-\x{1F1FF}]{2}",  # a flag
    r"\p{So}(?:[\p{M}\x{1F3FB}-\x{1F3FF}\x{E0020}-\x{E007F}]|\x{200D}\p{So})*",  # an emoji
    rf"[{_UNSPACED}]\p{{M}}*",
    rf"{_LETTER}+(?:['’.@_\x{{200C}}\x{{200D}}-]{_LETTER}+)*",
    r".\p{M}*",
)
_IS_WORD = r"(?s).*[\p{L}\p{N}].*"
_BETWEEN, _WITHIN = "\x1f", "\x1e"  # units; a unit and the blanks before it

_KEYS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")  # each row half a key to the right
_NEIGHBOURS = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))
_LOOK_ALIKES = (
    *(("0", "O", "o", "Q"), ("1", "l", "I", "i", "|"), ("2", "Z", "z"), ("5", "S", "s", "$")),
    *(("6", "G", "b"), ("8", "B", "&"), ("9", "g", "q"), ("c", "e", "("), ("u", "v", "ii")),
    *(("m", "rn", "nn"), ("w", "vv"), ("d", "cl"), ("h", "li"), ("n", "ri"), ("f", "t")),
    *(("k", "lc"), ("y", "v"), (".", ","), (";", ":"), ("'", "`"), ("-", "_")),
    *("己已巳", "未末", "日曰目", "土士", "人入八", "大太犬", "天夭", "千干于", "石右", "刀力"),
    *("贝见", "午牛", "木本术", "王玉主", "乌鸟", "今令", "白百自", "田由甲申", "门问间", "免兔"),
    *("治冶", "拔拨", "狠狼很", "侯候", "折拆", "晴睛", "微徽", "住往", "话活", "请清情", "体休"),
)


class Units(NamedTuple):
    """The units of texts: two string `[batch, (units)]` with the same rows."""

    blanks: tf.RaggedTensor  # before each unit
    words: tf.RaggedTensor

    @classmethod
    def of(cls, texts, pattern):
        texts = tf.strings.regex_replace(texts, f"[{_BETWEEN}{_WITHIN}]", " ")
        marked = tf.strings.regex_replace(texts, pattern, rf"{_BETWEEN}\1{_WITHIN}\2")
        pieces = tf.strings.split(marked, _BETWEEN)[:, 1:]  # [batch, (units)]
        parts = tf.strings.split(pieces.flat_values, _WITHIN).to_tensor(shape=[None, 2])
        return cls(*(pieces.with_flat_values(part) for part in tf.unstack(parts, axis=1)))

    @property
    def is_word(self):
        """Whether each unit has a letter or digit: bool `[units]`."""
        return tf.strings.regex_full_match(self.words.flat_values, _IS_WORD)

    def with_words(self, words):
        """The same with other words, string `[units]`."""
        return self._replace(words=self.words.with_flat_values(words))

    def kept(self, mask):
        """Those where `mask`, bool `[units]`, is True."""
        mask = self.words.with_flat_values(mask)
        return Units(*(tf.ragged.boolean_mask(part, mask) for part in self))

    def joined(self):
        """string `[batch]`"""
        pieces = tf.strings.join([part.flat_values for part in self])
        rows = self.words.value_rowids()
        return tf.strings.unsorted_segment_join(pieces, rows, self.words.nrows())


class Alternatives:
    """What may stand in place of a string: `{string: [other, …]}` as a lookup in the graph."""

    def __init__(self, table):
        others = [other for row in table.values() for other in row]
        counts = [len(row) for row in table.values()]
        self._others = tf.constant([*others, ""])
        self._counts = tf.constant([*counts, 1])
        self._starts = tf.cumsum(self._counts, exclusive=True)
        rows = tf.lookup.KeyValueTensorInitializer(
            tf.constant(list(table), tf.string), tf.range(len(table))
        )
        self._rows = tf.lookup.StaticHashTable(rows, default_value=len(table))

    def draw(self, strings, seed):
        """One of the alternatives of each, and whether it has any: string and bool `[n]`."""
        rows = self._rows.lookup(strings)
        counts = tf.gather(self._counts, rows)
        choice = tf.cast(_uniform(strings, seed) * tf.cast(counts, tf.float32), tf.int32)
        places = tf.gather(self._starts, rows) + tf.minimum(choice, counts - 1)
        return tf.gather(self._others, places), rows < tf.size(self._counts) - 1


class Augmentation:
    """A random change of texts.

    A subclass writes `change`, from string `[batch]` and a seed to string `[batch]`, and, with
    arguments of its own, `get_config`; registered with Keras it can stand in a `Chain`.

    Args:
        rate: share of the units, or of the characters, that change.

    Raises:
        ValueError: the rate is not from 0 to 1.
    """

    def __init__(self, rate=0.1):
        _check_share("rate", rate)
        self.rate = rate

    def __call__(self, texts, seed=None):
        """Texts to changed texts, string tensors of one shape; lists and single texts work too.

        Args:
            seed: int `[2]`: the same texts with the same seed give the same result. By default
                drawn from TensorFlow's own numbers, which `keras.utils.set_random_seed` sets.
        """
        texts = tf.convert_to_tensor(texts, tf.string)
        if seed is None:
            seed = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
        changed = self.change(tf.reshape(texts, [-1]), tf.convert_to_tensor(seed))
        return tf.reshape(changed, tf.shape(texts))

    def change(self, texts, seed):
        raise NotImplementedError

    def get_config(self):
        return {"rate": self.rate}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class UnitAugmentation(Augmentation):
    """A change of units; a subclass writes `change_units`, of `Units` and two seeds to `Units`."""

    patterns = _UNITS

    def change(self, texts, seed):
        units = Units.of(texts, rf"(?s)(\s*)({'|'.join(self.patterns)})")
        return self.change_units(units, *tf.unstack(tf.random.split(seed))).joined()

    def change_units(self, units, first_seed, second_seed):
        raise NotImplementedError

    def _chosen(self, units, seed):
        """Whether each unit shall change, for words at the rate: bool `[units]`."""
        return units.is_word & (_uniform(units.words.flat_values, seed) < self.rate)


@keras.saving.register_keras_serializable(package="lingxi")
class RandomDeletion(UnitAugmentation):
    """Leaves units out; at least one of a text stays."""

    def change_units(self, units, first_seed, second_seed):
        scores = _uniform(units.words.flat_values, first_seed)
        highest = tf.reduce_max(units.words.with_flat_values(scores), axis=1)  # [batch]
        is_last = scores == tf.gather(highest, units.words.value_rowids())
        return units.kept((scores >= self.rate) | is_last)

    def change(self, texts, seed):
        return tf.strings.regex_replace(super().change(texts, seed), r"^\s+", "")


@keras.saving.register_keras_serializable(package="lingxi")
class RandomSwap(UnitAugmentation):
    """Has words of a text change places: each chosen one goes where the one before it was."""

    def change_units(self, units, first_seed, second_seed):
        chosen = self._chosen(units, first_seed)
        words = units.kept(chosen).words
        moved = tf.concat([words[:, 1:], words[:, :1]], axis=1)
        places = tf.where(chosen)  # [chosen, 1]
        flat = tf.tensor_scatter_nd_update(units.words.flat_values, places, moved.flat_values)
        return units.with_words(flat)


@keras.saving.register_keras_serializable(package="lingxi")
class RandomReplacement(UnitAugmentation):
    """Puts random words in place of words.

    Args:
        rate: share of the words.
        vocabulary: words to draw from; by default those of the batch.
    """

    def __init__(self, rate=0.1, vocabulary=None):
        super().__init__(rate)
        if vocabulary is not None and not len(vocabulary):
            raise ValueError("vocabulary must have a word, or be None for the words of the batch")
        self.vocabulary = vocabulary if vocabulary is None else list(vocabulary)

    def change_units(self, units, first_seed, second_seed):
        words = units.words.flat_values
        pool = tf.boolean_mask(words, units.is_word)
        if self.vocabulary is not None:
            pool = tf.constant(self.vocabulary)
        index = tf.random.stateless_uniform(
            tf.shape(words), second_seed, 0, tf.maximum(tf.size(pool), 1), tf.int32
        )
        drawn = tf.gather(tf.concat([pool, [""]], axis=0), index)
        return units.with_words(tf.where(self._chosen(units, first_seed), drawn, words))

    def get_config(self):
        return {**super().get_config(), "vocabulary": self.vocabulary}


@keras.saving.register_keras_serializable(package="lingxi")
class Synonyms(UnitAugmentation):
    """Puts words of the same meaning in place of words; a capital stays a capital.

    Args:
        groups: lists of words, each of which may stand for the others of its list. A phrase with
            blanks stands for the others, but nothing for it. Chinese words are found in a text
            before its single characters are.
        rate: share of the words that have synonyms.

    Raises:
        ValueError: a list has only one word.
    """

    def __init__(self, groups, rate=0.1):
        super().__init__(rate)
        self.groups = [list(group) for group in groups]
        table = {}
        for group in self.groups:
            if len(set(group)) < 2:
                raise ValueError(f"a group of synonyms must have two words, got {group}")
            for form in (str, _capital):
                words = dict.fromkeys(map(form, group))
                for word in words:
                    table.setdefault(word, {}).update(words)
        table = {word: [other for other in row if other != word] for word, row in table.items()}
        self._alternatives = Alternatives(table)
        is_unspaced = tf.strings.regex_full_match(list(table), f"[{_UNSPACED}]{{2,}}").numpy()
        found = [word for word, yes in zip(table, is_unspaced, strict=True) if yes]
        longest_first = sorted(found, key=len, reverse=True)
        self.patterns = (*map(re.escape, longest_first), *_UNITS)

    @classmethod
    def from_file(cls, path, rate=0.1):
        """Of a UTF-8 file with a group of synonyms a line, between tabs.

        Raises:
            ValueError: naming the line that has only one word.
        """
        groups = []
        for number, line in enumerate(pathlib.Path(path).read_text("utf-8").split("\n"), start=1):
            words = [word.strip() for word in line.split("\t") if word.strip()]
            if len(words) == 1:
                raise ValueError(f"{path}:{number}: expected two words or more between tabs")
            if words:
                groups.append(words)
        return cls(groups, rate)

    def change_units(self, units, first_seed, second_seed):
        words = units.words.flat_values
        others, found = self._alternatives.draw(words, second_seed)
        return units.with_words(tf.where(found & self._chosen(units, first_seed), others, words))

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}


class CharacterNoise(Augmentation):
    """Puts other strings in place of characters; those without any stay.

    Args:
        table: `{character: [string, …]}`.
        rate: share of the characters in the table.
    """

    def __init__(self, table, rate=0.05):
        super().__init__(rate)
        self._alternatives = Alternatives(table)

    def change(self, texts, seed):
        characters = tf.strings.unicode_split(texts, "UTF-8")  # [batch, (characters)]
        flat = characters.flat_values
        first_seed, second_seed = tf.unstack(tf.random.split(seed))
        others, found = self._alternatives.draw(flat, second_seed)
        flat = tf.where(found & (_uniform(flat, first_seed) < self.rate), others, flat)
        return tf.strings.unsorted_segment_join(flat, characters.value_rowids(), tf.size(texts))


@keras.saving.register_keras_serializable(package="lingxi")
class KeyboardNoise(CharacterNoise):
    """Slips on a QWERTY keyboard: a key beside the one that was meant, the same twice, or none."""

    def __init__(self, rate=0.05):
        table = {}
        for row, keys in enumerate(_KEYS):
            for column, key in enumerate(keys):
                near = "".join(_key(row + down, column + right) for down, right in _NEIGHBOURS)
                table[key] = [*near, key * 2, ""]
                table[key.upper()] = [*near.upper(), key.upper() * 2, ""]
        super().__init__(table, rate)


@keras.saving.register_keras_serializable(package="lingxi")
class OcrNoise(CharacterNoise):
    """Characters that scanned pages confuse: 0 and O, m and rn, 己 and 已."""

    def __init__(self, rate=0.05):
        table = {}
        for group in _LOOK_ALIKES:
            for character in filter(_is_character, group):
                others = table.setdefault(character, [])
                others += [x for x in group if x != character and x not in others]
        super().__init__(table, rate)


@keras.saving.register_keras_serializable(package="lingxi")
class Chain(Augmentation):
    """Several augmentations, one after the other.

    Args:
        steps: `Augmentation`s.
        share: of the texts that change at all; the others come as they are.

    Raises:
        TypeError: a step is no `Augmentation`. ValueError: the share is not from 0 to 1.
    """

    def __init__(self, steps, share=1.0):
        _check_share("share", share)
        for step in steps:
            if not isinstance(step, Augmentation):
                raise TypeError(
                    "an augmentation must be of lingxi.text.augmentation, or a subclass of its "
                    f"Augmentation, got {step!r}"
                )
        self.steps = list(steps)
        self.share = share

    def change(self, texts, seed):
        first_seed, *seeds = tf.unstack(tf.random.split(seed, len(self.steps) + 1))
        changed = texts
        for step, step_seed in zip(self.steps, seeds, strict=True):
            changed = step.change(changed, step_seed)
        return tf.where(_uniform(texts, first_seed) < self.share, changed, texts)

    def get_config(self):
        steps = [keras.saving.serialize_keras_object(step) for step in self.steps]
        return {"steps": steps, "share": self.share}

    @classmethod
    def from_config(cls, config):
        steps = [keras.saving.deserialize_keras_object(step) for step in config["steps"]]
        return cls(steps, config["share"])


def _uniform(values, seed):
    """A number from 0 to 1 for each value: float32 `[n]`."""
    return tf.random.stateless_uniform(tf.shape(values), seed)


def _key(row, column):
    """The key at a place of the keyboard, or ""."""
    keys = _KEYS[row] if 0 <= row < len(_KEYS) else ""
    return keys[column] if 0 <= column < len(keys) else ""


def _capital(word):
    return word[:1].upper() + word[1:]


def _is_character(string):
    return len(string) == 1


def _check_share(name, value):
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
