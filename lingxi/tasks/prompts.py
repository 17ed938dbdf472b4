"""From prompts to what a causal language model reads."""

import tensorflow as tf


def beginning_of(tokenizer):
    """The token before a text, in a list; [] if there is none."""
    token_id = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    return [] if token_id is None else [token_id]


def last_tokens(tokenizer, token_ids, room):
    """The last `room` tokens of each prompt; of an empty one, the token that begins a text.

    Ragged int32 `[batch, (seq)]` to the same.
    """
    beginning = beginning_of(tokenizer)
    if beginning:
        is_empty = tf.cast(token_ids.row_lengths() == 0, token_ids.row_splits.dtype)
        first = tf.RaggedTensor.from_row_lengths(
            tf.fill([tf.reduce_sum(is_empty)], beginning[0]), is_empty
        )
        token_ids = tf.concat([first, token_ids], axis=1)
    return token_ids[:, -room:]


def tokenized_prompts(tokenizer, texts, room, padding="longest"):
    """Prompts, string `[batch]`, to `token_ids` and `padding_mask` of at most `room` tokens.

    With padding "max_length" there are exactly `room`.
    """
    token_ids = last_tokens(tokenizer, tokenizer.tokenize(texts), room)
    shape = [None, room if padding == "max_length" else None]
    return {
        "token_ids": token_ids.to_tensor(tokenizer.pad_id or 0, shape=shape),
        "padding_mask": tf.ones_like(token_ids, tf.bool).to_tensor(False, shape=shape),
    }
