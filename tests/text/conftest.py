"""Tokenizers and real lines for the tests of this room."""

import gzip
import os
from pathlib import Path

import pytest

from lingxi.text import WordPieceTokenizer

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("LINGXI_TEST_DATA", ROOT / "../shared/data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data sets."""
    if not DATA.is_dir():
        pytest.skip(f"no test data at {DATA} (set LINGXI_TEST_DATA)")
    return DATA


@pytest.fixture(scope="session")
def read_lines(data):
    """A function: the distinct lines, cut at 2,000 characters, of the data files of these globs."""

    def read(*globs: str) -> list[str]:
        lines = set()
        for path in (path for glob in globs for path in data.glob(glob)):
            opened = gzip.open if path.suffix == ".gz" else open
            with opened(path, "rt", encoding="utf-8", newline="\n") as file:
                lines.update(line[:2000] for line in file.read().split("\n"))
        return sorted(lines)

    return read


@pytest.fixture(scope="session")
def uncased(data) -> WordPieceTokenizer:
    return WordPieceTokenizer(data / "vocab/bert_base_uncased/vocab.txt")


@pytest.fixture(scope="session")
def chinese(data) -> WordPieceTokenizer:
    return WordPieceTokenizer(data / "vocab/bert_base_chinese/vocab.txt")


@pytest.fixture(scope="session")
def cased(data) -> WordPieceTokenizer:
    return WordPieceTokenizer(data / "vocab/bert_base_chinese/vocab.txt", lowercase=False)


@pytest.fixture(scope="session")
def reference_of(tmp_path_factory):
    """A function: the tokenizer of `transformers` that loads what a tokenizer of ours saved."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `reference`")

    def load(tokenizer: WordPieceTokenizer):
        directory = tmp_path_factory.mktemp("tokenizer")
        tokenizer.save(directory)
        return transformers.AutoTokenizer.from_pretrained(directory)

    return load


@pytest.fixture(scope="session")
def assert_equal_ids(reference_of):
    """A function: fail, with the first text that differs, unless ids equal the reference's."""
    references = {}

    def check(tokenizer: WordPieceTokenizer, texts: list[str]) -> None:
        if id(tokenizer) not in references:
            references[id(tokenizer)] = tokenizer, reference_of(tokenizer)
        reference = references[id(tokenizer)][1]
        for i in range(0, len(texts), 1024):
            batch = texts[i : i + 1024]
            ours = tokenizer.tokenize(batch).to_list()
            theirs = reference(batch, add_special_tokens=False, split_special_tokens=True)
            if ours != theirs["input_ids"]:
                for text, got, wanted in zip(batch, ours, theirs["input_ids"], strict=True):
                    assert got == wanted, ascii(text)

    return check
