"""Random changes of texts: what changes, what stays, and that a seed repeats them."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.text.augmentation import (
    Augmentation,
    Chain,
    KeyboardNoise,
    OcrNoise,
    RandomDeletion,
    RandomReplacement,
    RandomSwap,
    Synonyms,
)

SEED = (3, 4)
FAMILY, FLAG, HEART = "👩🏽‍💻", "🇨🇳", "❤️‍🔥"
TEXTS = [
    "The film isn't good, not good at all!",
    f"so lovely{FAMILY}{HEART} {FLAG}  x",
    "这部电影很好看，我喜欢 Jackie的iPhone。",
    "",
    "  blanks \n around\tthem ",
    "naïve e\u0301t\u00e9 3.5 U.S. #tag",
]
GROUPS = [["good", "great", "fine"], ["film", "motion picture"], ["好看", "漂亮"]]
KINDS = {
    "deletion": RandomDeletion,
    "swap": RandomSwap,
    "replacement": RandomReplacement,
    "synonyms": lambda rate: Synonyms(GROUPS, rate),
    "keyboard": KeyboardNoise,
    "ocr": OcrNoise,
}


def applied(augmentation, texts, seed=SEED):
    return [text.decode() for text in augmentation(texts, seed).numpy()]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_at_rate_0(kind):
    texts = [text.lstrip() for text in TEXTS] if kind == "deletion" else TEXTS
    assert applied(KINDS[kind](0.0), texts) == texts


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_repeats_and_another_gives_something_else(kind):
    augmentation = KINDS[kind](0.5)
    first = applied(augmentation, TEXTS * 5)
    assert first == applied(augmentation, TEXTS * 5)
    assert first != applied(augmentation, TEXTS * 5, (3, 5))


@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_back_from_its_config(kind):
    chain = Chain([KINDS[kind](0.5)], share=0.9)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(chain))
    assert applied(again, TEXTS) == applied(chain, TEXTS)
    assert again.get_config() == chain.get_config()


@pytest.mark.parametrize("kind", KINDS)
def test_it_works_in_a_data_set_on_batches_and_on_single_texts(kind):
    augmentation = KINDS[kind](1.0)
    single = tf.data.Dataset.from_tensor_slices(TEXTS)
    for dataset in (single, single.batch(4)):
        shapes = [np.shape(x) for x in dataset.map(augmentation).as_numpy_iterator()]
        assert shapes == [np.shape(x) for x in dataset.as_numpy_iterator()]


def test_a_text_never_loses_its_last_unit():
    assert applied(RandomDeletion(1.0), ["one", "", "!", FAMILY]) == ["one", "", "!", FAMILY]
    left = applied(RandomDeletion(1.0), ["one two three"] * 50)
    assert set(left) == {"one", "two", "three"}


def test_deletion_takes_its_share():
    text = " ".join(map(str, range(1000)))
    (left,) = applied(RandomDeletion(0.2), [text])
    assert 750 < len(left.split()) < 850
    assert set(left.split()) < set(text.split())


def test_an_emoji_and_a_character_with_its_accent_are_deleted_whole():
    units = collections.Counter()
    for seed in range(60):
        units.update(
            applied(RandomDeletion(1.0), [f"{FAMILY}{HEART}{FLAG}1️⃣好ก็e\u0301t"], (0, seed))
        )
    assert set(units) == {FAMILY, HEART, FLAG, "1️⃣", "好", "ก็", "e\u0301t"}


def test_swapped_words_are_the_same_ones_in_other_places_and_blanks_stay():
    (text,) = applied(RandomSwap(1.0), ["one,  two\nthree!"])
    assert text == "two,  three\none!"
    (text,) = applied(RandomSwap(1.0), ["我爱你。"])
    assert text == "爱你我。"
    texts = applied(RandomSwap(0.3), [" ".join("abcdefgh")] * 20)
    assert all(sorted(text.split()) == list("abcdefgh") for text in texts)
    assert len(set(texts)) > 5


def test_replacements_come_from_the_batch_or_the_vocabulary():
    texts = ["one two, three", "four!"]
    words = {"one", "two", "three", "four"}
    seen = set()
    for seed in range(20):
        first, second = applied(RandomReplacement(1.0), texts, (0, seed))
        assert first.count(",") == 1 and second.endswith("!")
        seen |= {*first.replace(",", "").split(), second[:-1]}
    assert seen == words
    (text,) = applied(RandomReplacement(1.0, ["x", "好"]), ["one two, three"])
    assert set(text.replace(",", "").split()) <= {"x", "好"}
    assert applied(RandomReplacement(1.0), ["", "!"]) == ["", "!"]
    with pytest.raises(ValueError, match="vocabulary must have a word"):
        RandomReplacement(0.1, [])


def test_synonyms_keep_capitals_and_find_chinese_words(tmp_path):
    path = tmp_path / "synonyms.tsv"
    path.write_text("\n".join("\t".join(group) for group in GROUPS) + "\n\n", "utf-8")
    synonyms = Synonyms.from_file(path, rate=1.0)
    seen = set()
    for seed in range(20):
        first, second = applied(synonyms, ["Good film: nice", "很好看的好"], (0, seed))
        seen.add(first)
        assert second == "很漂亮的好"
    assert seen == {f"{word} motion picture: nice" for word in ("Great", "Fine")}
    path.write_text("good\tfine\nalone\n")
    with pytest.raises(ValueError, match=r"synonyms.tsv:2: expected two words"):
        Synonyms.from_file(path)


def test_keyboard_noise_hits_neighbours():
    slips = set(applied(KeyboardNoise(1.0), ["s"] * 300))
    assert slips == {"a", "d", "w", "e", "z", "x", "ss", ""}
    assert set(applied(KeyboardNoise(1.0), ["S"] * 300)) == {slip.upper() for slip in slips}
    assert applied(KeyboardNoise(1.0), [f"你好{FAMILY}!"]) == [f"你好{FAMILY}!"]


def test_ocr_noise_confuses_what_looks_alike():
    assert set(applied(OcrNoise(1.0), ["m己"] * 100)) == {
        f"{latin}{han}" for latin in ("rn", "nn") for han in "已巳"
    }


def test_noise_takes_its_share():
    (text,) = applied(OcrNoise(0.1), ["己" * 2000])
    assert 150 < 2000 - text.count("己") < 250


def test_a_share_of_the_texts_changes():
    texts = ["己"] * 400
    assert 260 < applied(Chain([OcrNoise(1.0)], share=0.25), texts).count("己") < 340
    assert applied(Chain([], share=1.0), texts) == texts


def test_the_steps_of_a_chain_draw_numbers_of_their_own():
    noise = applied(OcrNoise(0.5), ["己" * 200])
    both = applied(Chain([OcrNoise(0.5), OcrNoise(0.5)]), ["己" * 200])
    assert noise != both


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RandomSwap(1.5), ValueError, "rate must be from 0 to 1, got 1.5"),
        (lambda: Chain([OcrNoise()], share=-1), ValueError, "share must be from 0 to 1, got -1"),
        (lambda: Chain([str.upper]), TypeError, "must be of lingxi.text.augmentation"),
        (lambda: Synonyms([["good"]]), ValueError, "must have two words"),
    ],
)
def test_errors_say_what_is_accepted(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_change_of_ones_own():
    class Shout(Augmentation):
        def change(self, texts, seed):
            return tf.strings.upper(texts)

    assert applied(Chain([Shout()]), ["one"]) == ["ONE"]
