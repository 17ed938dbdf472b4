"""Plain text files in pieces, so that none is in memory as a whole."""

import codecs
import io
import itertools
import os
import re

from lingxi.answers.progress import progress

BLOCK = 1_000_000  # bytes that are read at once
TOGETHER = 1_000_000  # characters that are tokenized at once
PIECE = 20_000  # characters, which SentencePiece cuts well: it adds scores up, and rounds sums
NEWLINE = b"\n"

# Where a text may be cut: at the first place of the first kind that there is. A blank before a word
# is part of it to most tokenizers, and blanks at the margins of a text are nothing to the others.
BEFORE_WORDS = re.compile(r"(?= \S)"), re.compile(r"(?=\n\S)")
AFTER_LINES = tuple(map(re.compile, (r"(?<=\n)(?=\S)", r"(?<=\n)(?=[^\S\n]*\S)", r"(?= \S)")))


def pieces(path, verbose=False):
    """The text of a file in pieces whose tokens are those of the text.

    They have `PIECE` characters or more; what has no blank before a word stays whole. Lines end as
    in Python's text files, by "\\n".

    Args:
        path: of a text file in UTF-8.
        verbose: a progress bar, as of `lingxi.answers.progress.progress`.

    Raises:
        ValueError: it is not UTF-8, with the byte and the line. OSError: it cannot be read.
    """
    return _cut(path, BEFORE_WORDS, PIECE, verbose)


def whole_lines(path, verbose=False):
    """As `pieces`, but of whole lines, unless one is longer than `TOGETHER`; of so much or more."""
    return _cut(path, AFTER_LINES, TOGETHER, verbose)


def _cut(path, cuts, size, verbose):
    text, searched = "", 0  # where no cut was found yet
    for block in _decoded(path, verbose):
        text, start = text + block, 0
        while len(text) - start >= 2 * size:
            begin = max(start + size, searched)
            found = next(filter(None, (cut.search(text, begin) for cut in cuts)), None)
            if found is None:
                searched = len(text.rstrip()) - 1
                break
            yield text[start : found.start()]
            start = found.start()
        text, searched = text[start:], max(0, searched - start)
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
    """Lists of items that are together `TOGETHER` long or some more, but for the last list."""
    group, size = [], 0
    for item in items:
        group.append(item)
        size += length(item)
        if size >= TOGETHER:
            yield group
            group, size = [], 0
    if group:
        yield group
