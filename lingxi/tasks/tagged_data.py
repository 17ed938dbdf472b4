"""Texts with named entities, in every form that `fit` accepts."""

import dataclasses
import json
import pathlib

from absl import logging

from lingxi.data import Problem, good_rows
from lingxi.text.tags import TagScheme

CONLL_ENDINGS = (".conll", ".bio", ".iob", ".iob2", ".txt", ".tsv")


@dataclasses.dataclass(frozen=True)
class TaggedText:
    """A text and the entities in it.

    Attributes:
        text: the text.
        entities: `(start, end, type)` of each, in characters.
        words: `(start, end)` of each word, where somebody has cut the text into words; else None.
    """

    text: str
    entities: tuple = ()
    words: tuple | None = None


def read_tagged(x, y=None, split="train", bad_rows="stop", report=None):
    """A list of `TaggedText` of anything that `TokenClassifier.fit` accepts.

    Args:
        x: the path of a CoNLL file (one word and its tag a line, between blanks or tabs: of the
            columns the first and the last, in ".iob2" files the second and the third; empty lines
            between sentences; in ".iob2" files lines that start with "# " are comments); the path
            of a JSONL file (`{"text": …, "entities": [{"start": …, "end": …, "label": …}]}` a
            line); the name of a prepared TFDS data set with the features `tokens` and `tags` (or
            `ner`); a list of `TaggedText`; a list of texts; a list of lists of words.
        y: of texts their entities, `(start, end, type)` or dicts as in JSONL; of words their tags.
        split: of a TFDS data set.
        bad_rows: of a file: "stop" raises if lines cannot be used, "skip" leaves out the texts, of
            CoNLL the sentences, that they are in.
        report: a `lingxi.data.Report` that learns of all of them; by default a warning counts
            those that are left out.

    Raises:
        lingxi.data.BadRows: a ValueError that names the file and the first bad line. ValueError:
            naming the example; a file has no texts.
    """
    if isinstance(x, (str, pathlib.Path)):
        path = pathlib.Path(x)
        is_jsonl = path.suffix == ".jsonl"
        if is_jsonl or path.suffix in CONLL_ENDINGS or path.is_file():
            return _read_file(path, is_jsonl, bad_rows, report)
        return _from_words(*_load_tfds(str(x), split), str(x))
    x = list(x)
    if x and isinstance(x[0], TaggedText):
        return x
    if y is None:
        raise ValueError(
            "texts need their entities: pass y, one list of (start, end, label) for each text, or "
            "of tags for each list of words"
        )
    if len(x) != len(y):
        raise ValueError(f"got {len(x)} texts, but entities of {len(y)}; there must be one of each")
    if x and not isinstance(x[0], str):
        return _from_words(x, y, "y")
    return [
        tagged(text, entities, f"text {i}: ")
        for i, (text, entities) in enumerate(zip(x, y, strict=True))
    ]


def tagged(text, entities, place=""):
    """A `TaggedText`, after a look at its entities.

    Args:
        entities: `(start, end, type)`, or dicts with the keys "start", "end" and "label".
        place: where they come from, with which messages begin.

    Raises:
        ValueError: one is empty, lies outside of the text, cuts a character that the eye sees as
            one, or overlaps another.
    """
    spans = sorted(
        (e["start"], e["end"], e["label"]) if isinstance(e, dict) else tuple(e) for e in entities
    )
    end_before = 0
    for start, end, label in spans:
        named = f"{place}the entity ({start}, {end}, {label!r})"
        if not 0 <= start < end <= len(text):
            raise ValueError(
                f"{named} lies outside of its text of {len(text)} characters, or is empty"
            )
        if start < end_before:
            raise ValueError(f"{named} overlaps the one before, which ends at {end_before}")
        if _is_inside_character(text, start) or _is_inside_character(text, end):
            raise ValueError(f"{named} cuts a character: {text[max(0, start - 5) : end + 5]!r}")
        end_before = end
    return TaggedText(text, tuple(spans))


def _is_inside_character(text, index):
    """Whether a combining mark, a variation or a joiner stands at `index` or joins it."""
    if not 0 < index < len(text):
        return False
    joins = "\u200d\ufe0e\ufe0f"
    is_mark = "\u0300" <= text[index] <= "\u036f" or "\U0001f3fb" <= text[index] <= "\U0001f3ff"
    return is_mark or text[index] in joins or text[index - 1] == "\u200d"


def _read_file(path, is_jsonl, bad_rows, report):
    if is_jsonl:
        return good_rows(path, _jsonl_rows(path), bad_rows, report)
    words, tags = zip(*good_rows(path, _conll_rows(path), bad_rows, report), strict=True)
    return _from_words(words, tags, path)


def _jsonl_rows(path):
    """A `TaggedText` or a `Problem` of each line."""
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            text, entities = content["text"], content["entities"]
        except (json.JSONDecodeError, KeyError, TypeError):
            yield Problem(
                number,
                'expected {"text": "…", "entities": [{"start": 0, "end": 5, "label": "PER"}]}, '
                f"got {line[:80]!r}",
            )
            continue
        try:
            yield tagged(text, entities)
        except (KeyError, TypeError, ValueError) as error:
            yield Problem(number, str(error))


def _conll_rows(path):
    """`(words, tags)` of each sentence without bad lines, and a `Problem` of each of those."""
    columns = (1, 2) if path.suffix == ".iob2" else (0, -1)
    words, tags, is_good = [], [], True
    for number, line in enumerate([*path.read_text("utf-8").split("\n"), ""], 1):
        if path.suffix == ".iob2" and line.startswith("# "):
            continue
        cells = line.split("\t") if "\t" in line.strip() else line.split()
        if not line.strip() or cells[0] == "-DOCSTART-":
            if words and is_good:
                yield words, tags
            words, tags, is_good = [], [], True
        elif len(cells) < max(2, columns[1] + 1) or not cells[columns[1]].strip():
            is_good = False
            yield Problem(
                number, f"expected a word and its tag, between blanks or tabs, got {line[:80]!r}"
            )
        else:
            words.append(cells[columns[0]].strip())
            tags.append(cells[columns[1]].strip())


def _from_words(sentences, tags, source):
    """Words as texts: with blanks between them, but not between Chinese characters."""
    names = sorted({tag for row in tags for tag in row})
    scheme = TagScheme(names)
    ids = {name: index for index, name in enumerate(names)}
    examples, repaired = [], 0
    for number, (words, row) in enumerate(zip(sentences, tags, strict=True)):
        if len(words) != len(row):
            raise ValueError(
                f"{source}: sentence {number} has {len(words)} words, but {len(row)} tags"
            )
        text, spans = "", []
        for word in words:
            if spans and not (_has_no_blanks(text[-1]) or _has_no_blanks(word[:1])):
                text += " "
            spans.append((len(text), len(text) + len(word)))
            text += word
        tag_ids = [ids[tag] for tag in row]
        repaired += scheme.problems(tag_ids)
        entities = tuple(
            (spans[start][0], spans[end - 1][1], kind)
            for start, end, kind in scheme.entities(tag_ids)
        )
        examples.append(TaggedText(text, entities, tuple(spans)))
    if repaired:
        logging.warning(
            "%s: %d tags go on with an entity that no tag began; each was read as a beginning",
            source,
            repaired,
        )
    return examples


def _has_no_blanks(character):
    """Whether words of this character's script stand without blanks between them."""
    return "\u3000" <= character <= "\u9fff" or "\uff00" <= character <= "\uffef"


def _load_tfds(name, split):
    """Words and tags of a prepared TFDS data set such as "conll2003"."""
    from lingxi.tasks.text_data import prepared_tfds

    builder = prepared_tfds(name, split)
    features = builder.info.features
    tags = next((key for key in ("ner", "tags", "ner_tags") if key in features), None)
    if tags is None or "tokens" not in features:
        raise ValueError(f"{name!r} has no 'tokens' and 'tags'; its features are {list(features)}")
    names = features[tags].feature.names
    words, labels = [], []
    for example in builder.as_dataset(split=split).as_numpy_iterator():
        words.append([word.decode() for word in example["tokens"]])
        labels.append([names[tag] for tag in example[tags]])
    return words, labels
