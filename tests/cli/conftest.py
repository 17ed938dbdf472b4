"""A saved classifier, tables and a way to call the command in this process."""

import dataclasses
import json

import pytest

from lingxi.cli import main

ROWS = [
    ("a great film", "positive"),
    ("awful, dull story", "negative"),
    ('they call it "music", not good', "negative"),
    ("warm nice day by the river", "positive"),
] * 3


@dataclasses.dataclass
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture
def lingxi(capsys, monkeypatch, tmp_path):
    """A function: run `lingxi ARGUMENTS…` in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = main.main(["lingxi", *map(str, arguments)])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def model(tiny_classifier, tmp_path_factory):
    """The directory of a classifier."""
    directory = tmp_path_factory.mktemp("model") / "tiny"
    tiny_classifier().save_preset(directory)
    return directory


WORDS = ("the", "old", "river", "tea", "rice", "stone")
PAIRS = [(a, f"{b} {a}") for a in WORDS for b in WORDS]


@pytest.fixture(scope="session")
def writer(tmp_path_factory):
    """The directory of a translator, of which a summarizer can be made, too."""
    pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")
    from lingxi.tasks import Translator
    from lingxi.zoo import TransformerConfig

    sizes = {"hidden_dim": 16, "num_heads": 2, "intermediate_dim": 24}
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    marian = {"model_type": "marian", "positions": "halves", "bos_id": None}
    config = TransformerConfig(**sizes, **layers, **marian)
    translator = Translator.from_scratch(
        PAIRS, config=config, vocab_size=40, decoding={"max_tokens": 4}
    )
    directory = tmp_path_factory.mktemp("writer") / "small"
    translator.save_preset(directory)
    return directory


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """The path of a CSV file of texts and targets."""
    path = tmp_path_factory.mktemp("table") / "pairs.csv"
    path.write_text("text,target\n" + "".join(f"{text},{target}\n" for text, target in PAIRS))
    return path


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """The path of a CSV file."""
    path = tmp_path_factory.mktemp("table") / "train.csv"
    quoted = ('"' + text.replace('"', '""') + '",' + label for text, label in ROWS)
    path.write_text("\n".join(["text,label", *quoted]) + "\n", "utf-8")
    return path


@pytest.fixture(scope="session")
def jsonl(tmp_path_factory):
    """A function: write dicts as a JSONL file."""

    def write(*rows):
        path = tmp_path_factory.mktemp("table") / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return path

    return write
