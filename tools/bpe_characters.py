"""Write `lingxi/text/bpe_characters.json`: which characters GPT-2's word pattern takes for what.

    python tools/bpe_characters.py [--output FILE]

The facts are read off the reference implementation, Hugging Face `tokenizers`, one code point at a
time, since Unicode tables differ between Python's versions and between libraries. Needs the
`reference` extra. The contents of the file are explained in `byte_bpe_words.py`.
"""

import argparse
import json
from pathlib import Path

from bert_characters import CODES, ranges
from tokenizers.pre_tokenizers import ByteLevel

OUTPUT = Path(__file__).parent.parent / "lingxi" / "text" / "bpe_characters.json"
EXAMPLES = {"letter": "a", "number": "1", "other": "!"}


def kind(character: str, split) -> str:
    """The class of the characters with which this one makes one word; spaces join with none."""
    for name, example in EXAMPLES.items():
        if len(split(example + character)) == 1:
            return name
    return "space"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    split = ByteLevel(add_prefix_space=False).pre_tokenize_str
    kinds = {code: kind(chr(code), split) for code in CODES}
    table = {
        name: ranges(code for code in CODES if kinds[code] == name)
        for name in ("letter", "number", "space")
    }
    text = json.dumps(table, indent=1) + "\n"
    parser.parse_args().output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
