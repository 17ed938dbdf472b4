"""SentencePiece models and the directories of T5 and Marian that hold them."""

import base64
from collections.abc import Iterator
from pathlib import Path

from lingxi.text.files import (
    max_length_in,
    read_json,
    special_tokens_in,
    tokens_in_order,
    write_json,
)

SPECIAL_TOKENS = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
DEFAULT_MAX_LENGTH = 512
NUM_SENTINELS = 100  # of T5

# Types of a piece in a model.
NORMAL, CONTROL, BYTE = 1, 3, 6

UNIGRAM = 1  # a type of a model

# Kinds of a field in a protocol buffer message.
INTEGER, BYTES = 0, 2
FIXED_SIZES = {1: 8, 5: 4}


def read_pieces(model: bytes) -> dict[str, int]:
    """The pieces of a serialized `sentencepiece.ModelProto` and their types, in order of their ids.

    Source: `sentencepiece_model.proto`: field 1 is a piece, in which field 1 is its text and
    field 3 its type.

    Raises:
        ValueError: `model` is no such message.
    """
    try:
        pieces = [dict(read_fields(value)) for field, value in read_fields(model) if field == 1]
        pieces = {piece[1].decode(): piece.get(3, NORMAL) for piece in pieces}
    except (IndexError, KeyError, AttributeError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("This is no SentencePiece model.") from error
    if not pieces:
        raise ValueError("This is no SentencePiece model: it has no pieces.")
    return pieces


def is_unigram(model: bytes) -> bool:
    """Whether a model cuts a text into the pieces that are the most probable together.

    Source: `sentencepiece_model.proto`: field 3 of field 2 (the trainer) is the type.
    """
    trainer = dict(read_fields(dict(read_fields(model)).get(2, b"")))
    return trainer.get(3, UNIGRAM) == UNIGRAM


def is_for_tflite(model: bytes) -> bool:
    """Whether TensorFlow Text's kernel for TFLite cuts texts as this model says.

    It ignores the type of the model, and which characters are blanks: it must be a unigram model
    with SentencePiece's usual normalization (nmt_nfkc) and a blank before each text.

    Source: `sentencepiece_model.proto`: in field 2 (the trainer) is 24, blanks at the end of words;
    in field 3 (the normalizer) 1, its name, and 3, the blank before a text.
    """
    trainer, normalizer = (dict(read_fields(dict(read_fields(model)).get(i, b""))) for i in (2, 3))
    return (
        is_unigram(model)
        and not trainer.get(24)
        and normalizer.get(1, b"").startswith(b"nmt_nfkc")
        and normalizer.get(3, 1) == 1
    )


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer message: number, and value as int or bytes."""
    position = 0

    def read_integer() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        field, kind = divmod(read_integer(), 8)
        if kind == INTEGER:
            yield field, read_integer()
            continue
        size = read_integer() if kind == BYTES else FIXED_SIZES[kind]
        if position + size > len(message):
            raise IndexError(f"The message ends within field {field}.")
        yield field, message[position : position + size]
        position += size


def read_directory(directory: Path) -> dict:
    """The arguments of `SentencePieceTokenizer` that a directory describes.

    Raises:
        FileNotFoundError: There is no model.
        ValueError: The files describe another kind of tokenizer.
    """
    config = read_json(directory / "tokenizer_config.json")
    settings = {
        "max_length": max_length_in(config, DEFAULT_MAX_LENGTH),
        "special_tokens": SPECIAL_TOKENS | special_tokens_in(config, SPECIAL_TOKENS),
    }
    if (directory / "source.spm").exists():
        if config.get("separate_vocabs"):
            raise ValueError(f"{directory} has separate vocabularies, which is not supported.")
        ids = read_json(directory / "vocab.json")
        return settings | {
            "model": (directory / "source.spm").read_bytes(),
            "target_model": (directory / "target.spm").read_bytes(),
            "vocabulary": tokens_in_order(ids, directory / "vocab.json"),
        }
    if (directory / "spiece.model").exists():
        return settings | {
            "model": (directory / "spiece.model").read_bytes(),
            "num_sentinels": config.get("extra_ids", NUM_SENTINELS),
        }
    raise FileNotFoundError(
        f"{directory} holds neither spiece.model (T5) nor source.spm (Marian); a tokenizer.json "
        "alone does not hold a SentencePiece model."
    )


def write_directory(directory: Path, config: dict) -> None:
    """Write what `SentencePieceTokenizer.get_config` gives as `transformers` reads it."""
    directory.mkdir(parents=True, exist_ok=True)
    special = {f"{name}_token": token for name, token in config["special_tokens"].items()}
    settings = {"model_max_length": config["max_length"]} | special
    model = base64.b64decode(config["model"])
    if config["vocabulary"] is None:
        (directory / "spiece.model").write_bytes(model)
        settings |= {"tokenizer_class": "T5Tokenizer", "extra_ids": config["num_sentinels"]}
    else:
        (directory / "source.spm").write_bytes(model)
        (directory / "target.spm").write_bytes(base64.b64decode(config["target_model"]))
        write_json(directory / "vocab.json", {x: i for i, x in enumerate(config["vocabulary"])})
        settings |= {"tokenizer_class": "MarianTokenizer", "separate_vocabs": False}
    write_json(directory / "tokenizer_config.json", settings)
    write_json(directory / "special_tokens_map.json", special)
