"""Byte-level BPE tokenizers on disk, as Hugging Face and OpenAI lay them out."""

from pathlib import Path

from lingxi.text.files import (
    max_length_in,
    read_json,
    special_tokens_in,
    tokens_in_order,
    write_json,
)

NAMES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
GPT2_TOKENS = dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")
ROBERTA_TOKENS = {
    "bos": "<s>",
    "eos": "</s>",
    "cls": "<s>",
    "sep": "</s>",
    "pad": "<pad>",
    "unk": "<unk>",
    "mask": "<mask>",
}
DEFAULT_MAX_LENGTH = 1024
POST_PROCESSORS = ("ByteLevel", "RobertaProcessing", "TemplateProcessing")


def read_directory(directory: Path) -> dict:
    """The arguments of `ByteBpeTokenizer` that a directory describes.

    Where both exist, the two vocabulary files go before `tokenizer.json`.

    Raises:
        FileNotFoundError: There is no vocabulary.
        ValueError: The files describe another kind of tokenizer.
    """
    fast = read_json(directory / "tokenizer.json")
    config = read_json(directory / "tokenizer_config.json")
    if fast:
        check_fast(fast, directory)
    added = [*fast.get("added_tokens", []), *config.get("added_tokens_decoder", {}).values()]
    plain = [token["content"] for token in added if not token.get("special")]
    if plain:
        raise ValueError(f"{directory} has added tokens, which are not supported: {plain}.")
    for names in NAMES:
        paths = [directory / name for name in names]
        if all(path.exists() for path in paths):
            ids, merges = read_json(paths[0]), read_merges(paths[1])
            break
    else:
        if not fast:
            raise FileNotFoundError(
                f"{directory} holds neither vocab.json and merges.txt nor tokenizer.json."
            )
        ids = fast["model"]["vocab"]
        merges = [x if isinstance(x, str) else " ".join(x) for x in fast["model"]["merges"]]
    ids |= {token["content"]: token["id"] for token in fast.get("added_tokens", [])}
    return {
        "vocabulary": tokens_in_order(ids, directory),
        "merges": merges,
        "max_length": max_length_in(config, DEFAULT_MAX_LENGTH),
        "special_tokens": known_tokens(config, ids),
        "add_prefix_space": config.get("add_prefix_space", False) or adds_prefix_space(fast),
    }


def write_directory(directory: Path, config: dict) -> None:
    """Write what `ByteBpeTokenizer.get_config` gives as `transformers` reads it."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "vocab.json", {x: i for i, x in enumerate(config["vocabulary"])})
    lines = ["#version: 0.2", *config["merges"]]
    (directory / "merges.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
    special = {f"{name}_token": token for name, token in config["special_tokens"].items()}
    if "mask_token" in special:  # the blank before it is a part of it
        mask = {"content": special["mask_token"], "lstrip": True, "special": True}
        special["mask_token"] = {"__type": "AddedToken", **mask}
    is_roberta = "cls" in config["special_tokens"]
    settings = {
        "tokenizer_class": "RobertaTokenizer" if is_roberta else "GPT2Tokenizer",
        "model_max_length": config["max_length"],
        "add_prefix_space": config["add_prefix_space"],
    }
    write_json(directory / "tokenizer_config.json", settings | special)
    write_json(directory / "special_tokens_map.json", special)


def read_merges(path: Path) -> list[str]:
    """The lines of a `merges.txt` but for its version; only "\\n" ends a line."""
    lines = path.read_bytes().decode().replace("\r\n", "\n").split("\n")
    return [line for line in lines if line and not line.startswith("#version")]


def known_tokens(config: dict, ids: dict) -> dict[str, str]:
    """The special tokens by name: those of RoBERTa or of GPT-2 where the settings name none."""
    is_roberta = "cls_token" in config or {"<s>", "</s>", "<pad>"} <= ids.keys()
    defaults = ROBERTA_TOKENS if is_roberta else GPT2_TOKENS
    defaults = {name: token for name, token in defaults.items() if token in ids}
    return defaults | special_tokens_in(config, ROBERTA_TOKENS)


def check_fast(fast: dict, directory: Path) -> None:
    """Raise ValueError unless a `tokenizer.json` is GPT-2's or RoBERTa's kind of tokenizer."""
    model, steps = fast["model"], fast.get("pre_tokenizer") or {}
    post = fast.get("post_processor") or {}
    wrong = [
        f"{name}={got!r}"
        for name, got, wanted in (
            ("model", model.get("type", "BPE"), ("BPE",)),
            ("normalizer", fast.get("normalizer"), (None,)),
            ("pre_tokenizer", steps.get("type"), ("ByteLevel",)),
            ("use_regex", steps.get("use_regex", True), (True,)),
            ("post_processor", post.get("type", "ByteLevel"), POST_PROCESSORS),
            ("post_processor", adds_tokens(post), (False,)),
            ("ignore_merges", model.get("ignore_merges", False), (False,)),
            ("byte_fallback", model.get("byte_fallback", False), (False,)),
            ("continuing_subword_prefix", model.get("continuing_subword_prefix"), (None, "")),
            ("end_of_word_suffix", model.get("end_of_word_suffix"), (None, "")),
        )
        if got not in wanted
    ]
    if wrong:
        raise ValueError(
            f"{directory}/tokenizer.json is no byte-level BPE as of GPT-2 or RoBERTa: "
            f"{', '.join(wrong)}."
        )


def adds_tokens(post: dict) -> bool:
    """Whether a template, as a post-processor, puts special tokens around a text."""
    return any("SpecialToken" in item for item in post.get("single", []))


def adds_prefix_space(fast: dict) -> bool:
    """What the pre-tokenizer of a `tokenizer.json` does with a text's first word."""
    return bool((fast.get("pre_tokenizer") or {}).get("add_prefix_space", False))
