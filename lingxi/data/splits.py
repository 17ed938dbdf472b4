"""Which examples are held out: told by each text alone, so that none changes sides."""

import hashlib


def is_held_out(text, share, seed=0):
    """Whether a text, or a pair of texts, belongs to the held-out `share` of all.

    A text keeps its side whatever stands beside it, in every process and on every machine, and all
    its copies are on that side; a larger share holds out the same texts and others.

    Args:
        seed: another one holds out other texts.
    """
    text = text if isinstance(text, str) else "\x1f".join(text)
    digest = hashlib.blake2b(f"{seed}\n{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def check_share(share):
    """Raise ValueError unless some examples would be held out, but not all."""
    if not 0.0 < share < 1.0:
        raise ValueError(f"the share to hold out must be between 0 and 1, got {share}")
