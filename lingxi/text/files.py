"""The parts of a Hugging Face directory that all tokenizers share."""

import json
from collections.abc import Iterable
from pathlib import Path

NO_LIMIT = 1_000_000  # `transformers` writes 1e30 where no limit is known


def read_json(path: Path) -> dict:
    """The contents of a JSON file; nothing where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file, readable by people too."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def max_length_in(config: dict, default: int) -> int:
    """The longest sequence that a `tokenizer_config.json` allows."""
    max_length = config.get("model_max_length", default)
    return max_length if max_length <= NO_LIMIT else default


def special_tokens_in(config: dict, names: Iterable[str]) -> dict[str, str]:
    """The special tokens of these names that a `tokenizer_config.json` has."""
    special = {name: config.get(f"{name}_token") for name in names}
    return {  # a token is a string, or an object with its "content"
        name: token["content"] if isinstance(token, dict) else token
        for name, token in special.items()
        if token
    }


def tokens_in_order(ids: dict[str, int], path: Path) -> list[str]:
    """The tokens of a vocabulary in the order of their ids.

    Raises:
        ValueError: The ids have gaps.
    """
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise ValueError(f"{path}: the ids must be 0, 1, 2, … without gaps.")
    return tokens
