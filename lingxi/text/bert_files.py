"""BERT tokenizers on disk, as Hugging Face lays them out."""

from pathlib import Path

from lingxi.text.files import (
    max_length_in,
    read_json,
    special_tokens_in,
    tokens_in_order,
    write_json,
)

VOCABULARY = "vocab.txt"
SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
MAX_CHARACTERS_PER_WORD = 100  # BERT makes a longer word one [UNK]
DEFAULT_MAX_LENGTH = 512


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a `vocab.txt`: one a line; only "\\n" ends a line, as others may be tokens."""
    text = path.read_bytes().decode().replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n")


def write_directory(directory: Path, vocabulary: list[str], settings: dict) -> None:
    """Write `vocab.txt`, `tokenizer_config.json` (`settings`) and `special_tokens_map.json`."""
    special = {key: value for key, value in settings.items() if key.endswith("_token")}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / VOCABULARY).write_bytes("".join(f"{token}\n" for token in vocabulary).encode())
    write_json(directory / "tokenizer_config.json", settings)
    write_json(directory / "special_tokens_map.json", special)


def read_directory(directory: Path) -> dict:
    """The arguments of `WordPieceTokenizer` that a directory describes.

    Where both exist, `vocab.txt` and `tokenizer_config.json` go before `tokenizer.json`.

    Raises:
        FileNotFoundError: There is no vocabulary.
        ValueError: The files describe another kind of tokenizer.
    """
    fast = read_json(directory / "tokenizer.json")
    config = read_json(directory / "tokenizer_config.json")
    added = [*fast.get("added_tokens", []), *config.get("added_tokens_decoder", {}).values()]
    if fast:
        config = fast_settings(fast, directory) | config
    if (directory / VOCABULARY).exists():
        vocabulary = read_vocabulary(directory / VOCABULARY)
    elif fast:
        vocabulary = fast_vocabulary(fast, directory)
    else:
        raise FileNotFoundError(f"{directory} holds neither vocab.txt nor tokenizer.json.")

    unsupported = [
        f"{key}={config[key]!r}"
        for key, supported in (
            ("tokenize_chinese_chars", True),
            ("do_basic_tokenize", True),
            ("word_tokenizer_type", "basic"),
            ("subword_tokenizer_type", "wordpiece"),
        )
        if config.get(key, supported) != supported
    ]
    unsupported += [f"added token {t['content']!r}" for t in added if not t.get("special")]
    if unsupported:
        raise ValueError(f"{directory} is not a plain BERT tokenizer: {', '.join(unsupported)}.")

    return {
        "vocabulary": vocabulary,
        "lowercase": config.get("do_lower_case", True),
        "strip_accents": config.get("strip_accents"),
        "max_length": max_length_in(config, DEFAULT_MAX_LENGTH),
        "special_tokens": special_tokens_in(config, SPECIAL_TOKENS),
    }


def fast_settings(fast: dict, directory: Path) -> dict:
    """What a `tokenizer.json` says, under the names of `tokenizer_config.json`."""
    normalizer, model = fast.get("normalizer") or {}, fast["model"]
    if (
        model.get("type") != "WordPiece"
        or normalizer.get("type") != "BertNormalizer"
        or model["continuing_subword_prefix"] != "##"
        or model["max_input_chars_per_word"] != MAX_CHARACTERS_PER_WORD
    ):
        raise ValueError(
            f"{directory}/tokenizer.json is no BERT tokenizer: it must be WordPiece with ## and "
            f"{MAX_CHARACTERS_PER_WORD} characters a word over BertNormalizer, got model "
            f"{model.get('type')!r} and normalizer {normalizer.get('type')!r}."
        )
    return {
        "do_lower_case": normalizer["lowercase"],
        "strip_accents": normalizer["strip_accents"],
        "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        "unk_token": model["unk_token"],
    }


def fast_vocabulary(fast: dict, directory: Path) -> list[str]:
    """The tokens of a `tokenizer.json` in the order of their ids."""
    added = {token["content"]: token["id"] for token in fast.get("added_tokens", [])}
    return tokens_in_order(fast["model"]["vocab"] | added, directory / "tokenizer.json")
