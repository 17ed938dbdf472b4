"""Finding out which tokenizer a directory holds."""

from os import PathLike
from pathlib import Path

from lingxi.text.byte_bpe import ByteBpeTokenizer
from lingxi.text.files import read_json
from lingxi.text.sentence_piece import SentencePieceTokenizer
from lingxi.text.tokenizer import Tokenizer
from lingxi.text.wordpiece import WordPieceTokenizer

CLASSES = {  # model type, in `config.json` or as the beginning of a tokenizer's class -> ours
    "bert": WordPieceTokenizer,
    "gpt2": ByteBpeTokenizer,
    "roberta": ByteBpeTokenizer,
    "bart": ByteBpeTokenizer,
    "t5": SentencePieceTokenizer,
    "marian": SentencePieceTokenizer,
}
FILES = {  # what only one kind of tokenizer has
    "source.spm": SentencePieceTokenizer,
    "spiece.model": SentencePieceTokenizer,
    "merges.txt": ByteBpeTokenizer,
    "vocab.bpe": ByteBpeTokenizer,
    "vocab.txt": WordPieceTokenizer,
}
MODELS = {"WordPiece": WordPieceTokenizer, "BPE": ByteBpeTokenizer}  # of a `tokenizer.json`


def from_directory(directory: str | PathLike, max_length: int | None = None) -> Tokenizer:
    """The tokenizer in a Hugging Face directory, whichever it is.

    What its files are decides; where they do not tell, `tokenizer.json`, `tokenizer_config.json`
    and `config.json` do.

    Raises:
        FileNotFoundError: There is no vocabulary.
        ValueError: It is a tokenizer of another kind.
    """
    directory = Path(directory)
    model = read_json(directory / "tokenizer.json").get("model", {}).get("type")
    tokenizer_class = read_json(directory / "tokenizer_config.json").get("tokenizer_class") or ""
    named = tokenizer_class.removesuffix("Fast").removesuffix("Tokenizer").lower()
    model_type = read_json(directory / "config.json").get("model_type")
    candidates = [kind for name, kind in FILES.items() if (directory / name).exists()]
    for table, name in ((MODELS, model), (CLASSES, named), (CLASSES, model_type)):
        candidates += [table[name]] if name in table else []
    if not candidates:
        raise FileNotFoundError(
            f"{directory} holds no tokenizer that lingxi knows: no {', '.join(FILES)} nor a "
            f"tokenizer.json of {' or '.join(MODELS)} (got model {model!r}, tokenizer class "
            f"{tokenizer_class!r}, model type {model_type!r})."
        )
    return candidates[0].from_directory(directory, max_length)
