"""Write `lingxi/text/bert_characters.json`: what BERT's tokenizer does to every character.

    python tools/bert_characters.py [--output FILE]

The facts are read off the reference implementation, Hugging Face `tokenizers`, one code point at a
time, so that they depend neither on Python's Unicode tables nor on anybody's reading of a standard;
and off the tensorflow-text op that will split words, whose idea of punctuation differs a little.
Needs the `reference` extra. The contents of the file are explained in `bert_normalizer.py`.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf
import tensorflow_text as tf_text
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

OUTPUT = Path(__file__).parent.parent / "lingxi" / "text" / "bert_characters.json"
CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]  # all but surrogates
HANGUL = range(0xAC00, 0xD7A4)  # decomposed by arithmetic, so not listed


def normalize_each(**steps: bool) -> dict[int, str]:
    """What the reference makes of each code point when only the named steps are on."""
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    normalizer = BertNormalizer(**off | steps)
    return {code: normalizer.normalize_str(f"x{chr(code)}y")[1:-1] for code in CODES}


def reference_splits() -> set[int]:
    """The code points that the reference makes words of their own: punctuation, ideographs."""
    spaced = normalize_each(handle_chinese_chars=True)
    split = BertPreTokenizer().pre_tokenize_str
    return {
        code
        for code in CODES
        if [word for word, _ in split(f"x{spaced[code]}y")] == ["x", chr(code), "y"]
    }


def op_splits() -> set[int]:
    """The code points that the tensorflow-text op makes words of their own."""
    op = tf_text.FastWordpieceTokenizer(["[UNK]", "x", "y"], token_out_type=tf.int32)
    # A word of its own gives [x, UNK, y], a letter one UNK, white space [x, y].
    lengths = op.tokenize([f"x{chr(code)}y" for code in CODES]).row_lengths().numpy()
    return {code for code, length in zip(CODES, lengths, strict=True) if length == 3}


def ranges(codes: Iterable[int]) -> str:
    """Code points as text: `"9-a 2028"`."""
    runs: list[list[int]] = []
    for code in sorted(codes):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return " ".join(f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in runs)


def by_target(mapping: dict[int, str]) -> dict[str, str]:
    """A map of code points as `{target: ranges of its sources}`, without the identities."""
    sources = defaultdict(list)
    for code, target in mapping.items():
        if target != chr(code) and code not in HANGUL:
            sources[target].append(code)
    return {target: ranges(codes) for target, codes in sorted(sources.items())}


def characters() -> dict[str, str | dict[str, str]]:
    """The whole table, ready for JSON."""
    cleaned = normalize_each(clean_text=True)
    removed = {code for code, text in cleaned.items() if text == ""}
    reference, op = reference_splits() - removed, op_splits() - removed
    return {
        "removed": ranges(removed),
        "space": ranges(code for code, text in cleaned.items() if text == " " and code != 0x20),
        "alone": ranges(reference),
        "split": ranges(reference - op),
        "joined": ranges(op - reference),
        "stripped": by_target(normalize_each(strip_accents=True)),
        "lowercase": by_target(normalize_each(lowercase=True)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    output = parser.parse_args().output
    output.write_text(json.dumps(characters(), indent=0) + "\n", encoding="utf-8")
    print(f"wrote {output}: {output.stat().st_size} bytes")
