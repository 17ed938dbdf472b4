"""Plain text files in pieces, so that none is in memory as a whole."""

import codecs
import io
import itertools
import os
import re

from lingxi.answers.progress import progress

BLOCK = 1_000_000  # bytes that are read at once
PIECE = 1_000_000  # characters that are tokenized at once
NEWLINE = b"\n"

# Where a text may be cut: at the first place of the first kind that there is. A blank before a word
# is part of it to most tokenizers, and blanks at the margins of a text are nothing to the others.
BEFORE_WORDS = re.compile(r"(?= \S)"), re.compile(r"(?=\n\S)")
AFTER_LINES = re.compile(r"(?<=\n)(?=\S)"), re.compile(r"(?= \S)")


def pieces(path, cuts, verbose=False):
    """The text of a file, in pieces of `PIECE` characters to about three times as many.

    Lines end as in Python's text files, by "\\n". What has no place for a cut stays whole.

    Args:
        path: of a text file in UTF-8.
        cuts: `BEFORE_WORDS`, so that the tokens of the pieces are those of the text; or
            `AFTER_LINES`, so that no line is cut, unless it is longer than a piece.
        verbose: a progress bar, as of `lingxi.answers.progress.progress`.

    Raises:
        ValueError: it is not UTF-8, with the byte and the line. OSError: it cannot be read.
    """
    text = ""
    for block in _decoded(path, verbose):
        text += block
        if len(text) < 2 * PIECE:
            continue
        found = next(filter(None, (cut.search(text, PIECE) for cut in cuts)), None)
        if found is not None:
            yield text[: found.start()]
            text = text[found.start() :]
    yield text


def _decoded(path, verbose):
    """The text of a file block by block."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    size = lines = 0
    with open(path, "rb") as file:
        known = -(-os.fstat(file.fileno()).st_size // BLOCK)  # a pipe does not know its size
        bar = progress(known, "tokenize", verbose, unit="MB")
        for _ in itertools.chain(bar, itertools.repeat(None)):
            block = file.read(BLOCK)
            size += len(block)
            try:
                yield decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                before = error.object[: error.start]  # of this block, and of the one before
                place = size - len(error.object) + error.start
                raise ValueError(
                    f"{path} is not UTF-8: {error.reason} at byte {place}, in line "
                    f"{lines + before.count(NEWLINE) + 1}; convert it, as by iconv -t utf-8"
                ) from error
            if not block:
                break
            lines += block.count(NEWLINE)


def grouped(items, length):
    """Lists of items that are together `PIECE` long or some more, but for the last list."""
    group, size = [], 0
    for item in items:
        group.append(item)
        size += length(item)
        if size >= PIECE:
            yield group
            group, size = [], 0
    if group:
        yield group
