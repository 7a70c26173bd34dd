"""Text to token ids and back, exactly as the slow LlamaTokenizer of transformers 4.36.

Built on sentencepiece alone. What 4.36 does and later tokenizers do not: special tokens are cut out
of the text first and every run between them is tokenised by itself; `legacy` decides whether each
run (true, the default when the key is absent) or only the first (false) gets a word-start mark; a
rendered prompt that begins with "<s>" starts with two BOS ids; and every piece around "<image>" is
tokenised on its own.

Deviation: no text ends in EOS, whatever `add_eos_token` is. A prompt that waits for an answer would
tell the model that there is nothing to answer.

Source: Kudo and Richardson, SentencePiece, EMNLP 2018, arXiv 1808.06226.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import Any

import sentencepiece

from workbench.errors import CheckpointError, InputError
from workbench.model.prompt import IMAGE_MARK, IMAGE_TOKEN_ID, check_characters
from workbench.model.tokenizer_files import (
    REQUIRED,
    AddedToken,
    check_settings,
    read_files,
    write_files,
)

logger = logging.getLogger(__name__)

WORD_START = "\u2581"

#: How many tokens a message lists.
_SHOWN = 5

#: `normalizer_spec { add_dummy_prefix: false }`, appended to a model so that it merges into it.
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"

#: Replacements of transformers' `clean_up_tokenization`, in its order.
_SPACES = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


class CxrTokenizer:
    """Sentencepiece tokenizer with the behaviour of transformers 4.36.

    Args:
        model: bytes of tokenizer.model.
        settings: keys of tokenizer_config.json, see `workbench.model.tokenizer_files.DEFAULTS`.
        embedded: ids that the model embeds; None where there is no model. Tokens that were added
            beyond them can be decoded, and a text that holds one is refused.

    Attributes:
        pad_id: `unk_id` where no pad token is set, or none that is embedded.
        vocab_size: ids of the sentencepiece model and of added tokens.

    Raises:
        CheckpointError: the sentencepiece model or a setting cannot be read, a special token is
            missing, or the model does not embed what it needs.

    >>> model.tokenizer.decode(model.tokenizer.encode("No pleural effusion."))
    'No pleural effusion.'
    """

    def __init__(
        self,
        model: bytes,
        settings: Mapping[str, Any] | None = None,
        *,
        embedded: int | None = None,
    ) -> None:
        self.model = model
        self.settings, self._tokens = check_settings(settings or {})
        self.legacy = self.settings["legacy"]
        self._sp = sentencepiece.SentencePieceProcessor()
        try:
            self._sp.LoadFromSerializedProto(model if self.legacy else model + _NO_DUMMY_PREFIX)
            pieces = self._sp.id_to_piece(list(range(self._sp.get_piece_size())))
        except (RuntimeError, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"tokenizer.model is not a sentencepiece model ({error}); copy it again"
            ) from error
        self._ids = {piece: index for index, piece in enumerate(pieces)}
        for token in self._tokens.values():
            self._ids[token.content] = self._place(token)
        self._pieces = {index: piece for piece, index in self._ids.items()}
        self._pieces |= {**dict(enumerate(pieces)), IMAGE_TOKEN_ID: IMAGE_MARK}
        self._special = {content for content, token in self._tokens.items() if token.special}
        self.unk_id, self.bos_id, self.eos_id = (self._ids[self.settings[n]] for n in REQUIRED)
        self.pad_id = self._ids.get(self.settings["pad_token"], self.unk_id)
        longest_first = sorted(self._tokens, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self._unk_length = len(self._sp.encode(self.settings["unk_token"], out_type=str))
        self.vocab_size = max(self._ids.values()) + 1
        self._beyond = {} if embedded is None else self._find_beyond(len(pieces), embedded)

    @classmethod
    def from_directory(cls, directory: str | Path, *, embedded: int | None = None) -> CxrTokenizer:
        """Read the tokenizer of a checkpoint directory; only tokenizer.model must be there."""
        return cls(*read_files(Path(directory)), embedded=embedded)

    def save(self, directory: str | Path) -> None:
        """Write the tokenizer's files into a checkpoint directory."""
        write_files(Path(directory), self.model, self.settings)

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        """Tokenise one text on its own; no EOS is put at its end.

        Special tokens spelled out in the text become their ids. `add_bos` puts BOS before it; by
        default as the checkpoint says (yes in practice).

        Raises:
            InputError: the text holds half a character, or a token that the model does not embed.
        """
        tokens = self._tokenise(check_characters(text))
        beyond = next((token for token in tokens if token in self._beyond), None)
        if beyond is not None:
            raise InputError(
                f"the text holds {beyond!r}, a token that was added to the tokenizer (id "
                f"{self._beyond[beyond]}) and that these weights do not embed; write it another way"
            )
        ids = [self._ids.get(token, self._sp.unk_id()) for token in tokens]
        if self.settings["add_bos_token"] if add_bos is None else add_bos:
            ids.insert(0, self.bos_id)
        return ids

    def encode_prompt(self, rendered: str) -> list[int]:
        """Tokenise what `render_chat` returned, with -200 in the place of each "<image>".

        There are two BOS at the start, as in the published code.
        """
        ids, *rest = (self.encode(piece) for piece in rendered.split(IMAGE_MARK))
        for piece in rest:
            ids.append(IMAGE_TOKEN_ID)
            ids.extend(piece[1:] if piece[:1] == [self.bos_id] else piece)
        return ids

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Turn ids into text; `IMAGE_TOKEN_ID` and one leading word-start mark are left out.

        `skip_special` leaves BOS, EOS, UNK and padding out.
        """
        pieces = self.pieces(i for i in ids if i != IMAGE_TOKEN_ID)
        if skip_special:
            pieces = [piece for piece in pieces if piece not in self._special]
        texts: list[str] = []
        for alone, run in groupby(pieces, self._stands_alone):
            found = [*run]
            texts += found if alone else [self._join(found)]
        text = " ".join(text for text in texts if text)
        return clean_spaces(text) if self.settings["clean_up_tokenization_spaces"] else text

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the vocabulary piece of each id ("<image>" for `IMAGE_TOKEN_ID`)."""
        return [self._pieces.get(int(i), "") for i in ids]

    def offsets(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Return where each id stands in `decode(ids)`: one (start, end) per id, end excluded.

        Special tokens have empty spans; ids that share a character (bytes in UTF-8) share its span.
        Spans cover the whole text.
        """
        text, pieces = self.decode(ids), self.pieces(ids)
        hidden = self._special | {IMAGE_MARK}
        surfaces = ["" if p in hidden else p.replace(WORD_START, " ") for p in pieces]
        lead = sum(map(len, surfaces)) - len(text)
        if lead < 0 or "".join(surfaces)[lead:] != text:
            return self._offsets_by_prefix(ids, pieces)
        ends = accumulate(map(len, surfaces), initial=-lead)
        return list(pairwise(max(end, 0) for end in ends))

    def _offsets_by_prefix(
        self, ids: Sequence[int], pieces: Sequence[str]
    ) -> list[tuple[int, int]]:
        spans, start = [], 0
        for piece, end in zip(pieces, prefix_ends(self.decode, ids), strict=True):
            shared = end == start and spans and piece.startswith("<0x")
            spans.append(spans[-1] if shared else (start, end))
            start = end
        return spans

    def _tokenise(self, text: str) -> list[str]:
        """Return the pieces of one text, special tokens as they are spelled."""
        if text and not self.legacy:
            text = WORD_START + text.replace(WORD_START, " ")
        parts = self._split.split(text)
        for index in range(1, len(parts), 2):
            token = self._tokens[parts[index]]
            if token.lstrip:
                parts[index - 1] = parts[index - 1].rstrip()
            if token.rstrip:
                parts[index + 1] = parts[index + 1].lstrip()
        tokens: list[str] = []
        for index, part in enumerate(parts):
            tokens += [part] if index % 2 else self._tokenise_run(part)
        mark = not self.legacy and len(tokens) > 1 and tokens[0] == WORD_START
        return tokens[1:] if mark and tokens[1] in self._special else tokens

    def _tokenise_run(self, text: str) -> list[str]:
        if self.legacy or not text.startswith((WORD_START, " ")):
            return self._sp.encode(text, out_type=str)
        # Sentencepiece would strip a leading mark; behind the unknown token it does not.
        tokens = self._sp.encode(self.settings["unk_token"] + text, out_type=str)
        return tokens[self._unk_length :]

    def _stands_alone(self, piece: str) -> bool:
        return piece in self._tokens and piece not in self._special

    def _join(self, pieces: list[str]) -> str:
        pieces[0] = pieces[0].removeprefix(WORD_START)
        runs = [(special, [*run]) for special, run in groupby(pieces, self._special.__contains__)]
        text = ""
        for number, (special, run) in enumerate(runs, start=1):
            if special:
                text += "".join(run)
            else:
                space = " " if self.legacy and number < len(runs) else ""
                text += space + self._sp.decode(run)
        return text

    def _place(self, token: AddedToken) -> int:
        """Return the id of an added token: as the files say, the vocabulary's, or the next."""
        if token.index is not None:
            return token.index
        if token.content in self._ids:
            return self._ids[token.content]
        if token.content in [self.settings[name] for name in REQUIRED]:
            raise CheckpointError(
                f"tokenizer.model does not hold the special token {token.content!r}; the files "
                "beside it belong to another tokenizer"
            )
        return max(self._ids.values()) + 1

    def _find_beyond(self, known: int, embedded: int) -> dict[str, int]:
        """Return the added tokens that the model does not embed; those of every prompt it must."""
        highest = {f"tokenizer.model knows {known} ids": known - 1}
        for token in (self.settings[name] for name in REQUIRED):
            index = self._ids[token]
            highest[f"the special token {token!r} has the id {index}"] = index
        for what, index in highest.items():
            if index >= embedded:
                raise CheckpointError(
                    f"{what}, but the model embeds {embedded}; use the tokenizer that belongs to "
                    "these weights"
                )
        beyond = {token: i for token, i in self._ids.items() if i >= embedded}
        named = sorted((token, i) for token, i in beyond.items() if token != IMAGE_MARK)
        if self.pad_id >= embedded:
            self.pad_id = self.unk_id
        if named:
            logger.warning(
                "the model embeds %d ids, so texts that hold one of these added tokens are "
                "refused: %s",
                embedded,
                ", ".join(f"{token} ({i})" for token, i in named[:_SHOWN]),
            )
        return beyond


def clean_spaces(text: str) -> str:
    """Remove the space before punctuation and clitics, as `clean_up_tokenization_spaces` asks."""
    for pattern in _SPACES:
        text = text.replace(pattern, pattern.strip() if pattern != " ' " else "'")
    return text


def prefix_ends(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[int]:
    """Return where each id ends in `decode(ids)`, from the text of each longer beginning."""
    lengths = [len(decode(ids[: count + 1])) for count in range(len(ids))]
    return [min(lengths[index:]) for index in range(len(ids))]


def tokens_within(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, ...]:
    """Return the numbers of the tokens that wrote any character of a range, `end` excluded."""
    return tuple(
        number for number, (first, last) in enumerate(offsets) if first < end and last > start
    )
