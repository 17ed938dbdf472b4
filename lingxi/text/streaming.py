"""Text as it grows, token by token."""

import codecs


class TextStream:
    """The text of token ids that come one at a time; the pieces together are what `decode` gives.

    A character is held back until its last byte is there, and blanks that `decode` strips from the
    end of a text until something follows. The work for a token does not grow with the text.

    Args:
        tokenizer: Any `lingxi.text.Tokenizer`.
        skip_special_tokens: Whether special tokens are left out of the text.
    """

    def __init__(self, tokenizer, skip_special_tokens: bool = True):
        self._spelling = tokenizer.spelling
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begins = True  # a part of the text, as `Spelling` says
        self._is_empty = True
        self._blanks = []  # held back

    def add(self, token_id: int) -> str:
        """What the next token adds to the text.

        Raises:
            ValueError: The id is not in the vocabulary.
        """
        token_id, spelling = int(token_id), self._spelling
        if not 0 <= token_id < len(spelling.inside):
            raise ValueError(
                f"Token ids must be from 0 to {len(spelling.inside) - 1}, the last of the "
                f"vocabulary; got {token_id}."
            )
        if token_id in self._skipped:
            return ""
        piece = (spelling.beginning if self._begins else spelling.inside)[token_id]
        goes_on = self._begins and token_id in spelling.silent
        self._begins = goes_on or token_id in spelling.ends
        return self._shown(self._utf8.decode(piece))

    def finish(self) -> str:
        """What was held back and belongs to the text; nothing may be added afterwards."""
        return self._shown(self._utf8.decode(b"", final=True))

    def _shown(self, text: str) -> str:
        """`text` with the blanks before it, without those that may be the last."""
        if not self._spelling.stripped:
            return text
        shown = text.rstrip()
        blanks = text[len(shown) :]
        if shown:
            before = "".join(self._blanks)
            shown = shown.lstrip() if self._is_empty else before + shown
            self._is_empty, self._blanks = False, []
        self._blanks.append(blanks)
        return shown
