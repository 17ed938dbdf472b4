"""Texts said in other words: by a translation there and back."""

import contextlib
import dataclasses
import hashlib
import pathlib
import sqlite3

import keras

from lingxi.answers.batches import BATCH_SIZE
from lingxi.answers.progress import progress
from lingxi.tasks.text_data import checksum

CHUNK = 8  # batches that are translated before the cache is written


def back_translate(
    texts, there, back, cache=None, batch_size=BATCH_SIZE, verbose="auto", **options
):
    """Each text in the words that two translators find for it (Sennrich et al. 2016).

    To train on both: `classifier.fit([*texts, *back_translate(texts, …)], [*labels, *labels])`.
    With `temperature=…` (Edunov et al. 2018) or another `seed` the words differ more.

    With a cache no text is translated twice by the same translator with the same options, whether
    it stands twice in `texts`, in those of another call, or in those of a process that was killed.

    Args:
        texts: list of str.
        there, back: `lingxi.tasks.Translator`s into another language and from it.
        cache: path of the cache, a SQLite file; several processes may use it. None for none.
        batch_size: texts a step.
        verbose: a progress bar: True, False, or "auto" (for many texts).
        options: of `translate`: `beams`, `max_tokens`, `temperature`, `seed`, ….

    Returns:
        A list of str, in the order of the texts.

    Raises:
        ValueError: `num_results` is not 1. OSError: the cache cannot be read or written.
    """
    if options.get("num_results", 1) != 1:
        raise ValueError("back_translate gives one text for each: leave num_results at 1")
    with _opened(cache) as connection:
        for translator in (there, back):
            texts = _translated(texts, translator, connection, batch_size, verbose, options)
    return texts


@contextlib.contextmanager
def _opened(path):
    """The connection to a cache: translations by the digest of text, translator and options."""
    if path is not None:
        path = pathlib.Path(path).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(path or ":memory:", timeout=60)) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS translations (key BLOB PRIMARY KEY, text TEXT NOT NULL)"
            )
            yield connection
    except sqlite3.Error as error:
        raise OSError(f"the cache {path} cannot be used: {error}") from error


def _translated(texts, translator, connection, batch_size, verbose, options):
    """The translations, of which those that the cache lacks are made and written chunk by chunk."""
    prefix = _fingerprint(translator, options)
    keys = {text: hashlib.sha256(prefix + text.encode()).digest() for text in texts}

    def known(text):
        query = "SELECT text FROM translations WHERE key = ?"
        return connection.execute(query, [keys[text]]).fetchone()

    missing = sorted((text for text in keys if known(text) is None), key=len)
    size = CHUNK * batch_size
    for chunk in progress(-(-len(missing) // size), translator.verb, verbose):
        sources = missing[chunk * size : (chunk + 1) * size]
        made = translator.translate(sources, batch_size=batch_size, verbose=False, **options)
        rows = [(keys[source], target) for source, target in zip(sources, made, strict=True)]
        with connection:  # all of them or none
            connection.executemany("INSERT OR REPLACE INTO translations VALUES (?, ?)", rows)
    return [known(text)[0] for text in texts]


def _fingerprint(translator, options):
    """What decides a translation besides the text: weights, tokenizer, settings."""
    weights = [keras.ops.convert_to_numpy(weight) for weight in translator.weights]
    config = translator.get_config()
    del config["name"], config["backbone"]  # which count how many there were before
    parts = [config, dataclasses.asdict(translator.backbone.config), options, weights]
    return checksum(parts).encode()
