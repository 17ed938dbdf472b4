"""Tokenizers with fewer tokens, which cut the texts that need no others as before."""

import numpy as np

from lingxi.text.byte_bpe import ByteBpeTokenizer, byte_characters
from lingxi.text.strings import as_strings
from lingxi.text.wordpiece import WordPieceTokenizer
from lingxi.text.wordpiece_python import PythonWordPiece

BATCH = 1000  # texts


def trimmed(tokenizer, texts, keep=()):
    """A tokenizer with the special tokens, all single characters or bytes, and what texts need.

    A text that needs no other tokens is cut into the same ones as before. The proofs:

    WordPiece takes the longest token at each place of a word, from left to right. Let V be the
    vocabulary, V' ⊆ V the kept one, and let all tokens that V takes in a word be in V'. At the
    first place, V' has no longer match than V, as it has no other tokens, and it has the one that V
    takes: so it takes the same, and both go on at the same place. Where V finds nothing and makes
    the word unknown, V' finds nothing. (The tokens taken before that place are kept too: else a
    shorter one might lead past it.) A word of more than 100 characters is unknown to both.

    Byte-level BPE merges, among the neighbours in a word that some merge joins, those of lowest
    rank, until there are none. Let all tokens that it ends with be kept, and with each token all
    merges that make it and, again, the parts of these. Every merge done on the way made a part of a
    token at the end, so it is kept, with its order among the others. By induction each step finds
    the same symbols; of the merges that apply to them the lowest of all is kept, so it is also the
    lowest of those kept; and where none of all applies, none of the kept does.

    Args:
        tokenizer: a `WordPieceTokenizer` or `ByteBpeTokenizer`.
        texts: strings, at least one.
        keep: more tokens, as the vocabulary writes them.

    Returns:
        The tokenizer, and for each of its ids the one of before, rising: int64 `[tokens]`.

    Raises:
        ValueError: an unknown token in `keep`; another tokenizer: SentencePiece weighs all cuts
            against each other by scores that a smaller model would have to state anew.
    """
    ids = {token: i for i, token in enumerate(tokenizer.vocabulary)}
    unknown = sorted(set(keep) - ids.keys())
    if unknown:
        raise ValueError(f"keep has tokens that the vocabulary has not: {unknown}")
    kept = {ids[token] for token in (*keep, *tokenizer.special_tokens.values())}
    if isinstance(tokenizer, WordPieceTokenizer):
        kept |= _of_wordpiece(tokenizer, texts)
        more = {}
    elif isinstance(tokenizer, ByteBpeTokenizer):
        kept |= {ids[character] for character in byte_characters()} | _used(tokenizer, texts)
        kept, merges = _with_parts(tokenizer, kept, ids)
        more = {"merges": merges}
    else:
        raise ValueError(
            f"a {type(tokenizer).__name__} cannot be trimmed so that texts are surely cut as "
            "before; accepted are WordPiece and byte-level BPE"
        )
    old_ids = np.array(sorted(kept), np.int64)
    vocabulary = [tokenizer.vocabulary[i] for i in old_ids]
    config = {**tokenizer.get_config(), "vocabulary": vocabulary, **more}
    return type(tokenizer)(**config), old_ids


def _of_wordpiece(tokenizer, texts):
    """The ids of single characters, and of the tokens that are taken in words of `texts`."""
    vocabulary = tokenizer.vocabulary
    kept = {i for i, token in enumerate(vocabulary) if len(token.removeprefix("##")) == 1}
    python = PythonWordPiece(**tokenizer.get_config())
    words = {word for text in texts for word in python.words(text)}
    for word in words:
        kept.update(python.longest_pieces(word)[0])
    return kept


def _used(tokenizer, texts):
    """The ids of all tokens of `texts`."""
    used = set()
    for start in range(0, len(texts), BATCH):
        part = tokenizer.tokenize(as_strings(texts[start : start + BATCH], "texts"))
        used.update(np.unique(part.flat_values).tolist())
    return used


def _with_parts(tokenizer, kept, ids):
    """`kept` with the parts of each token, by all merges that make it; and the merges of these."""
    makers = {}
    for merge in tokenizer.merges:
        left, _, right = merge.partition(" ")
        makers.setdefault(ids[left + right], []).append((ids[left], ids[right]))
    waiting, kept = list(kept), set(kept)
    while waiting:
        for pair in makers.get(waiting.pop(), ()):
            waiting += set(pair) - kept
            kept.update(pair)
    merges = [m for m in tokenizer.merges if ids["".join(m.split(" "))] in kept]
    return kept, merges
