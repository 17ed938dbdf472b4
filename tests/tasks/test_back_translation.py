"""Back-translation: two real translators, a cache, a process that is killed."""

import signal
import sqlite3
import subprocess
import sys

import pytest

from lingxi.tasks import back_translate, back_translation
from tests.tasks.test_sequence_to_sequence import PAIRS, TEXTS, new

FEW = {"beams": 1, "max_tokens": 6}
MANY = list(dict.fromkeys(PAIRS[0]))[:24]


@pytest.fixture(scope="module")
def translators():
    """Two toy translators with different weights, and what they make of a text."""
    there, back = new(decoding=FEW), new(decoding=FEW)
    for variable in back.trainable_variables:
        variable.assign(variable * 0.9 + 0.01)
    return there, back


@pytest.fixture
def translated(translators, monkeypatch):
    """A list of the texts that each call of a translator gets."""
    calls = []
    for translator in translators:
        translate = translator.translate

        def watched(texts, translate=translate, **options):
            calls.append(list(texts))
            return translate(texts, **options)

        monkeypatch.setattr(translator, "translate", watched)
    return calls


def test_a_text_goes_there_and_back(translators):
    there, back = translators
    wanted = back.translate(there.translate(TEXTS))
    assert back_translate(TEXTS, there, back) == wanted
    assert back_translate([], there, back) == []


def test_a_cache_answers_for_texts_that_it_knows(translators, translated, tmp_path):
    cache = tmp_path / "new" / "cache.sqlite"
    first = back_translate(TEXTS[:3], *translators, cache)
    assert [sorted(texts) for texts in translated[:1]] == [sorted(TEXTS[:3])]
    translated.clear()
    assert back_translate(TEXTS[:3] * 2, *translators, cache) == first * 2
    assert translated == []
    back_translate(TEXTS, *translators, cache)
    assert sorted(translated[0]) == sorted(TEXTS[3:])


def test_a_translator_that_is_made_again_is_the_same():
    first, again = (new("transformer", decoding=FEW) for _ in range(2))
    again.set_weights(first.get_weights())
    assert first.name != again.name
    fingerprints = [back_translation._fingerprint(each, {"seed": 1}) for each in (first, again)]
    assert fingerprints[0] == fingerprints[1]


def test_other_options_and_other_weights_are_translated_anew(translators, translated, tmp_path):
    there, back = translators
    cache = tmp_path / "cache.sqlite"
    back_translate(TEXTS[:2], there, back, cache)
    translated.clear()
    back_translate(TEXTS[:2], there, back, cache, max_tokens=3)
    assert len(translated) == 2
    translated.clear()
    back_translate(TEXTS[:2], back, there, cache)
    assert translated


def test_wrong_options_and_wrong_files_are_errors(translators, tmp_path):
    with pytest.raises(ValueError, match="leave num_results at 1"):
        back_translate(TEXTS, *translators, num_results=2)
    (tmp_path / "cache").write_text("no database at all, but long enough to look like one" * 20)
    with pytest.raises(OSError, match="cache cannot be used: file is not a database"):
        back_translate(TEXTS, *translators, tmp_path / "cache")


def main(cache, result, kill_at):
    """Back-translate in a process that gets SIGKILL in its call of that number."""
    import os

    there, back = new(decoding=FEW), new(decoding=FEW)
    back_translation.CHUNK = 1
    calls = 0
    for translator in (there, back):
        translate = translator.translate

        def watched(texts, translate=translate, **options):
            nonlocal calls
            calls += 1
            if calls == int(kill_at):
                os.kill(os.getpid(), signal.SIGKILL)
            return translate(texts, **options)

        translator.translate = watched
    made = back_translate(MANY, there, back, cache, batch_size=8)
    with open(result, "w") as file:
        print(calls, *made, sep="\n", file=file)


@pytest.mark.slow
def test_a_killed_process_goes_on_where_it_was(tmp_path):
    def run(cache, kill_at):
        arguments = [str(tmp_path / cache), str(tmp_path / "result"), str(kill_at)]
        code = (
            "import sys; from tests.tasks import test_back_translation as t; t.main(*sys.argv[1:])"
        )
        return subprocess.run([sys.executable, "-c", code, *arguments]).returncode

    assert run("killed", 2) == -signal.SIGKILL
    assert not (tmp_path / "result").exists()
    with sqlite3.connect(tmp_path / "killed") as connection:
        assert connection.execute("SELECT count(*) FROM translations").fetchone() == (8,)
    assert run("killed", 0) == 0
    calls, *made = (tmp_path / "result").read_text().split("\n")[:-1]
    there = new(decoding=FEW)
    pivots = there.translate(MANY)
    assert made == there.translate(pivots)
    new_pivots = {*pivots} - {*MANY}  # both translators are the same one
    assert int(calls) == 2 + -(-len(new_pivots) // 8)
