"""Ending a text at given strings, wherever tokens cut them."""

import numpy as np

NUM_BYTES = 256


def stop_table(stop_strings, token_bytes):
    """What each token does to the search for stop strings.

    State 0 is the start; the last state, which is never left, means that a stop string has been
    completed, maybe in the middle of a token. The other states are what a stop string begins with
    and the text so far ends with.

    Args:
        stop_strings: list of str.
        token_bytes: list of bytes by token id, as `lingxi.text.Tokenizer.token_bytes` has it.

    Returns:
        int32 `[states, vocab]`: the state after each state and token.

    Raises:
        ValueError: a stop string is empty.

    Source: Aho and Corasick, "Efficient string matching" (1975).
    """
    if isinstance(stop_strings, str):
        raise ValueError(f"stop_strings must be a list of strings, got {stop_strings!r}")
    if "" in stop_strings:
        raise ValueError(f"a stop string must not be empty, got {list(stop_strings)}")
    after_byte = byte_table([string.encode() for string in stop_strings])

    # Tokens in falling order of their length, so that those with a byte at a place come first.
    lengths = np.array([len(token) for token in token_bytes], np.int64)
    order = np.argsort(-lengths, kind="stable")
    data = np.frombuffer(b"".join(token_bytes), np.uint8)
    first = (np.cumsum(lengths) - lengths)[order]
    states = np.repeat(np.arange(len(after_byte), dtype=np.int32)[:, None], len(lengths), axis=1)
    for place in range(max(lengths, default=0)):
        count = np.count_nonzero(lengths > place)
        states[:, :count] = after_byte[states[:, :count], data[first[:count] + place]]
    table = np.empty_like(states)  # [states, vocab]
    table[:, order] = states
    return table


def byte_table(patterns):
    """The automaton that finds any of `patterns` (bytes): int32 `[states, 256]`.

    State 0 is the start, the last one the end.
    """
    children = [{}]  # of each prefix of a pattern: byte -> the longer prefix
    complete = set()  # the prefixes that end with a pattern
    for pattern in patterns:
        prefix = 0
        for byte in pattern:
            if byte not in children[prefix]:
                children[prefix][byte] = len(children)
                children.append({})
            prefix = children[prefix][byte]
        complete.add(prefix)

    after = np.zeros((len(children), NUM_BYTES), np.int32)
    reached = [(0, 0)]  # each prefix, shortest first, and its longest suffix that is a prefix
    for prefix, suffix in reached:
        if suffix in complete:
            complete.add(prefix)
        if prefix in complete:
            continue
        after[prefix] = after[suffix]
        for byte, child in children[prefix].items():
            reached.append((child, after[prefix, byte]))
            after[prefix, byte] = child

    states = [prefix for prefix, _ in reached if prefix not in complete]
    number = np.full(len(children), len(states), np.int32)  # of the state of each prefix
    number[states] = np.arange(len(states))
    end = np.full((1, NUM_BYTES), len(states), np.int32)
    return np.concatenate([number[after[states]], end])
