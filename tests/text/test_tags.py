"""Tags of words and the entities that they spell."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from lingxi.text.tags import TagScheme
from tests.text.tflite import interpreter_of, run

BIO = TagScheme.for_types(["PER", "LOC"])
IOBES = TagScheme.for_types(["PER", "LOC"], "IOBES")
PLAIN = TagScheme.for_types(["PER", "LOC"], "plain")
BILOU = TagScheme(["B-PER", "I-PER", "L-PER", "U-PER", "B-LOC", "I-LOC", "L-LOC", "U-LOC", "O"])
BMES = TagScheme(["O", "B-PER", "M-PER", "E-PER", "S-PER", "B-LOC", "M-LOC", "E-LOC", "S-LOC"])


def ids(scheme, tags):
    return [scheme.names.index(tag) for tag in tags.split()]


@st.composite
def spans(draw):
    """Entities without overlap, and the number of the words."""
    found, at = [], 0
    for gap, width, kind in draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["PER", "LOC"])),
            max_size=6,
        )
    ):
        found.append((at + gap, at + gap + width, kind))
        at += gap + width
    return found, at + draw(st.integers(0, 2))


def test_names_in_the_usual_order():
    assert BIO.names == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    assert IOBES.names[:5] == ["O", "B-PER", "I-PER", "E-PER", "S-PER"]
    assert PLAIN.names == ["O", "PER", "LOC"]


def test_what_each_tag_means():
    scheme = TagScheme(["I-LOC", "O", "U-x-y", "E-LOC", "X-1", "B-", "S-LOC"])
    assert scheme.types == ["LOC", "x-y", "X-1", "B-"]
    assert scheme.outside == 1
    assert scheme.type_ids.dtype == np.int32
    np.testing.assert_array_equal(scheme.type_ids, [0, -1, 1, 0, 2, 3, 0])
    np.testing.assert_array_equal(np.flatnonzero(scheme.begins), [2, 6])
    np.testing.assert_array_equal(np.flatnonzero(scheme.ends), [2, 3, 6])


@pytest.mark.parametrize(
    ("scheme", "tags", "entities", "problems"),
    [
        (BIO, "O B-PER I-PER O B-LOC", [(1, 3, "PER"), (4, 5, "LOC")], 0),
        (BIO, "B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")], 0),
        (BIO, "I-PER I-PER O I-LOC", [(0, 2, "PER"), (3, 4, "LOC")], 2),
        (BIO, "B-PER I-LOC I-PER", [(0, 1, "PER"), (1, 2, "LOC"), (2, 3, "PER")], 2),
        (BIO, "O O", [], 0),
        (IOBES, "B-PER I-PER E-PER S-PER", [(0, 3, "PER"), (3, 4, "PER")], 0),
        (IOBES, "E-PER E-PER I-PER O", [(0, 1, "PER"), (1, 2, "PER"), (2, 3, "PER")], 3),
        (IOBES, "S-LOC I-LOC E-LOC", [(0, 1, "LOC"), (1, 3, "LOC")], 1),
        (BILOU, "B-PER L-PER U-PER U-PER", [(0, 2, "PER"), (2, 3, "PER"), (3, 4, "PER")], 0),
        (BMES, "B-LOC M-LOC E-LOC M-LOC", [(0, 3, "LOC"), (3, 4, "LOC")], 1),
        (PLAIN, "PER PER LOC O LOC", [(0, 2, "PER"), (2, 3, "LOC"), (4, 5, "LOC")], 0),
    ],
)
def test_entities_of_tags(scheme, tags, entities, problems):
    assert scheme.entities(ids(scheme, tags)) == entities
    assert scheme.problems(ids(scheme, tags)) == problems


def test_no_words_have_no_entities():
    assert BIO.entities([]) == []
    assert BIO.problems([]) == 0
    assert len(BIO.tags_of([], 0)) == 0


@pytest.mark.parametrize("scheme", [BIO, IOBES], ids=["BIO", "IOBES"])
@given(st.data())
def test_any_sequence_has_the_entities_of_seqeval(scheme, data):
    get_entities = pytest.importorskip("seqeval.metrics.sequence_labeling").get_entities
    tag_ids = data.draw(st.lists(st.integers(0, len(scheme.names) - 1), max_size=12))
    wanted = get_entities([scheme.names[tag] for tag in tag_ids])
    assert scheme.entities(tag_ids) == [(start, end + 1, kind) for kind, start, end in wanted]


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        (BIO, "O B-PER I-PER I-PER B-LOC B-LOC I-LOC"),
        (IOBES, "O B-PER I-PER E-PER S-LOC B-LOC E-LOC"),
        (BILOU, "O B-PER I-PER L-PER U-LOC B-LOC L-LOC"),
        (BMES, "O B-PER M-PER E-PER S-LOC B-LOC E-LOC"),
        (PLAIN, "O PER PER PER LOC LOC LOC"),
        (TagScheme(["O", "I-PER", "I-LOC"]), "O I-PER I-PER I-PER I-LOC I-LOC I-LOC"),
    ],
)
def test_tags_of_entities(scheme, tags):
    tag_ids = scheme.tags_of([(4, 5, "LOC"), (1, 4, "PER"), (5, 7, "LOC")], 7)
    assert tag_ids.dtype == np.int32
    assert [scheme.names[tag] for tag in tag_ids] == tags.split()


@pytest.mark.parametrize("scheme", [BIO, IOBES, BILOU, BMES], ids=["BIO", "IOBES", "BILOU", "BMES"])
@given(spans())
def test_entities_survive_their_tags(scheme, example):
    entities, length = example
    tag_ids = scheme.tags_of(entities, length)
    assert scheme.entities(tag_ids) == entities
    assert scheme.problems(tag_ids) == 0


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        ([(0, 2, "PER"), (1, 3, "LOC")], r"\(1, 3, 'LOC'\) overlaps .* ends at 2"),
        ([(2, 5, "PER")], r"\(2, 5, 'PER'\) is empty or lies outside of the 4 words"),
        ([(2, 2, "PER")], r"\(2, 2, 'PER'\) is empty"),
        ([(-1, 2, "PER")], r"\(-1, 2, 'PER'\)"),
        ([(0, 2, "ORG")], r"\(0, 2, 'ORG'\) has a type .*\['PER', 'LOC'\]"),
    ],
)
def test_impossible_entities_are_named(entities, message):
    with pytest.raises(ValueError, match=message):
        BIO.tags_of(entities, 4)


def test_words_outside_need_a_tag():
    scheme = TagScheme(["NOUN", "VERB"])
    assert list(scheme.tags_of([(0, 1, "NOUN"), (1, 2, "VERB")], 2)) == [0, 1]
    with pytest.raises(ValueError, match="'O'"):
        scheme.tags_of([(0, 1, "NOUN")], 2)


def test_bad_names_are_refused():
    with pytest.raises(ValueError, match="differ"):
        TagScheme(["O", "B-PER", "O"])
    with pytest.raises(ValueError, match="BIO, IOBES, plain"):
        TagScheme.for_types(["PER"], "IOB3")


@given(st.data())
def test_the_graph_starts_the_same_entities_in_every_row(data):
    scheme = data.draw(st.sampled_from([BIO, IOBES, PLAIN, BMES]))
    tag = st.integers(0, len(scheme.names) - 1)
    rows = data.draw(st.lists(st.lists(tag, max_size=6), max_size=4))
    tag_ids = np.array([tag for row in rows for tag in row], "int32")
    row_ids = np.repeat(np.arange(len(rows), dtype="int32"), [len(row) for row in rows])
    wanted = np.zeros(len(tag_ids), bool)
    offset = 0
    for row in rows:
        wanted[[offset + start for start, _, _ in scheme.entities(row)]] = True
        offset += len(row)
    got = scheme.starts_in_graph(tf.constant(tag_ids), tf.constant(row_ids))
    np.testing.assert_array_equal(got.numpy(), wanted)


def test_starts_run_in_tflite_on_builtin_operations():
    def starts(ids):
        return IOBES.starts_in_graph(*tf.unstack(ids))

    interpreter, operations = interpreter_of(starts, [tf.TensorSpec([2, None], tf.int32)], [])
    assert not [name for name in operations if name.startswith("Flex")]
    tag_ids = ids(IOBES, "B-PER I-PER E-PER I-PER I-PER S-LOC I-LOC O I-LOC")
    both = np.array([tag_ids, [0, 0, 0, 0, 1, 1, 1, 1, 1]], "int32")
    wanted = [True, False, False, True, True, True, True, False, True]
    np.testing.assert_array_equal(run(interpreter, both), wanted)
    np.testing.assert_array_equal(starts(both), wanted)
