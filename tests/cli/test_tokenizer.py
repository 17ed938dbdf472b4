"""`lingxi tokenizer train`: learns a vocabulary, or says what is wrong."""

import importlib

import pytest

from lingxi.text import from_directory

LINES = ["The cold river was warm by day.", "It's a nice film, and not a bad story!", "Größe: 42"]
LIBRARY = {"wordpiece": "tokenizers", "bpe": "tokenizers", "sentencepiece": "sentencepiece"}


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(LINES * 20) + "\n", "utf-8")
    return path


@pytest.fixture(params=LIBRARY)
def kind(request):
    pytest.importorskip(LIBRARY[request.param], reason="needs the extra `tokenizers`")
    return request.param


def test_learns_a_vocabulary(lingxi, corpus, tmp_path, kind):
    flags = [f"--kind={kind}", "--vocab_size=300", "--output=out", "--max_length=64"]
    outcome = lingxi("tokenizer", "train", *flags, corpus, corpus)
    assert outcome.status == 0, outcome.err
    assert "from 120 lines" in outcome.err
    tokenizer = from_directory(tmp_path / "out")
    assert f"Saved {tokenizer.vocab_size} tokens to out" in outcome.out
    assert len(LINES) < tokenizer.vocab_size <= 300
    assert tokenizer.max_length == 64
    ids = tokenizer.encode(LINES[0], add_special_tokens=False)
    assert tokenizer.unk_id not in ids
    assert len(ids) < len(LINES[0])


def test_sentinels_count(lingxi, corpus, tmp_path):
    pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")
    flags = ["--kind=sentencepiece", "--vocab_size=60", "--output=out", "--sentinels=10"]
    assert lingxi("tokenizer", "train", *flags, corpus).status == 0
    tokenizer = from_directory(tmp_path / "out")
    assert len(tokenizer.sentinel_ids) == 10
    assert tokenizer.vocab_size <= 60


def test_a_vocabulary_too_small(lingxi, corpus, tmp_path, kind):
    for size in (4, 20):
        flags = [f"--kind={kind}", f"--vocab_size={size}", "--output=out"]
        outcome = lingxi("tokenizer", "train", *flags, corpus)
        assert outcome.status == 1
        assert "too small" in outcome.err or "Vocabulary size is smaller" in outcome.err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "corpus.txt: No such file"),
        (b"", "corpus.txt has no text"),
        (b" \n\n", "corpus.txt has no text"),
        (b"ok\n\xff\n", "corpus.txt:2: not UTF-8"),
    ],
)
def test_bad_input(lingxi, tmp_path, content, message):
    if content is not None:
        (tmp_path / "corpus.txt").write_bytes(content)
    flags = ["--kind=bpe", "--vocab_size=300", "--output=out"]
    outcome = lingxi("tokenizer", "train", *flags, "corpus.txt")
    assert outcome.status == 1
    assert message in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "needs --kind, --vocab_size, --output"),
        (["--kind=bpe", "--vocab_size=9", "--output=o"], "one verb, train"),
        (["train", "--kind=bpe", "--vocab_size=9", "--output=o"], "text FILES"),
        (["train", "--kind=bpe", "--vocab_size=0", "--output=o", "x"], "--vocab_size=0"),
        (["train", "--kind=word", "--vocab_size=9", "--output=o", "x"], "--kind=word"),
    ],
)
def test_bad_usage(lingxi, arguments, message):
    outcome = lingxi("tokenizer", *arguments)
    assert outcome.status == 2
    assert message in outcome.err


def test_an_output_with_other_things_is_kept(lingxi, corpus, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("precious")
    flags = ["--kind=bpe", "--vocab_size=300", "--output=out"]
    assert "not empty" in lingxi("tokenizer", "train", *flags, corpus).err
    outcome = lingxi("tokenizer", "train", *flags, "--overwrite", corpus)
    assert "other things than a tokenizer" in outcome.err
    assert (tmp_path / "out/thesis.txt").read_text() == "precious"


def test_says_what_to_install(lingxi, corpus, monkeypatch):
    real = importlib.import_module

    def without_libraries(name, *arguments):
        if name in LIBRARY.values():
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", without_libraries)
    for kind in LIBRARY:
        flags = [f"--kind={kind}", "--vocab_size=300", "--output=out"]
        assert (
            "pip install 'lingxi[tokenizers]'" in lingxi("tokenizer", "train", *flags, corpus).err
        )
