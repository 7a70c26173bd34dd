"""Text that appears while it is written: pieces that join exactly to the final text.

One character may take several tokens (byte pieces), and a decoder may still change the end of a
text when the next token comes. No thread is at work, so closing a stream, an exception or Ctrl-C
ends it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager

from workbench.generation.result import Generation

#: What a decoder writes for bytes that are not (yet) a character.
_BROKEN = "\N{REPLACEMENT CHARACTER}"


class TextPieces:
    """Turn token ids that arrive one by one into pieces of text that stay as they are.

    The last `hold` characters of what `decode` gives may still change with a later token.
    """

    def __init__(self, decode: Callable[[list[int]], str], *, hold: int = 0) -> None:
        self._decode = decode
        self._hold = hold
        self._ids: list[int] = []
        self._given = ""

    def push(self, token_id: int) -> str:
        """Take one more token and return the text that is now certain; often empty."""
        self._ids.append(token_id)
        # Trailing white space waits too: decoders may trim a text that consists of nothing else.
        text = self._decode(self._ids).rstrip(_BROKEN)
        return self._give(text[: max(0, len(text) - self._hold)].rstrip())

    def flush(self) -> str:
        """Return what is left once no more tokens come."""
        return self._give(self._decode(self._ids))

    def _give(self, text: str) -> str:
        if not text.startswith(self._given):
            return ""
        piece = text[len(self._given) :]
        self._given += piece
        return piece


class TextStream(Iterator[str], AbstractContextManager):
    """Pieces of a text while the model writes it; they join exactly to `generation.text`.

    Iterate over it, or leave it early with `close()` or a `with` block; both end the decoding at
    once. `finish` makes the `Generation`.
    """

    def __init__(
        self,
        tokens: Generator[int, None, None],
        decode: Callable[[list[int]], str],
        finish: Callable[[], Generation],
        *,
        hold: int = 0,
    ) -> None:
        self._tokens = tokens
        self._pieces = TextPieces(decode, hold=hold)
        self._finish = finish
        self._open = True
        #: The finished `Generation`; None while the text is being written.
        self.generation: Generation | None = None

    def __next__(self) -> str:
        try:
            while self._open:
                token = next(self._tokens, None)
                if token is None:
                    self._open = False
                    self.generation = self._finish()
                piece = self._pieces.flush() if token is None else self._pieces.push(token)
                if piece:
                    return piece
        except BaseException:
            self.close()
            raise
        raise StopIteration

    def close(self) -> None:
        """Stop writing; `generation` is then what was written, stopped by "cancelled"."""
        if self._open:
            self._open = False
            self._tokens.close()
            self.generation = self._finish()

    def __exit__(self, *_: object) -> None:
        self.close()
