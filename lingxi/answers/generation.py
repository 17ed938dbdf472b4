"""What a task answers that makes text."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Generation:
    """One text that a model made.

    Attributes:
        text: without special tokens; ends before a stop string.
        score: what beams were compared by, else the sum of `log_probs`.
        token_ids: the tokens, with the end token if there is one.
        log_probs: of each token, under the model.
    """

    text: str
    score: float
    token_ids: tuple
    log_probs: tuple


def before_stop(text, stop):
    """`text` up to the first of the strings `stop`."""
    places = [text.find(string) for string in stop]
    return text[: min((place for place in places if place >= 0), default=len(text))]


def text_of(string, stop):
    """What an artifact's bytes say, up to the first of the strings `stop`."""
    return before_stop(string.decode(errors="replace"), stop)


def before_stops(pieces, stop):
    """Pieces of a text up to the first of the strings `stop`, of which no part is given."""
    held = ""
    for piece in pieces:
        held += piece
        shown = before_stop(held, stop)
        if shown != held:
            if shown:
                yield shown
            return
        kept = max((_overlap(held, string) for string in stop), default=0)
        shown, held = held[: len(held) - kept], held[len(held) - kept :]
        if shown:
            yield shown
    if held:
        yield held


def _overlap(text, string):
    """How many characters at the end of `text` may be the beginning of `string`."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
