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
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from workbench.errors import CheckpointError, InputError
from workbench.model.prompt import IMAGE_MARK, check_characters
from workbench.model.splice import IMAGE_TOKEN_ID
from workbench.model.token_text import byte_spans, clean_spaces, read_byte
from workbench.model.tokenizer_files import TokenizerFiles, read_tokenizer_files

logger = logging.getLogger(__name__)

WORD_START = "\u2581"

#: How many tokens a message lists.
_SHOWN = 5

#: `normalizer_spec { add_dummy_prefix: false }`, appended to a model so that it merges into it.
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"


class CxrTokenizer:
    """Sentencepiece tokenizer with the behaviour of transformers 4.36.

    Args:
        files: the sentencepiece model and the settings that stand beside it.
        embedded: ids that the model embeds; None where there is no model. Tokens that were added
            beyond them can be decoded, and a text that holds one is refused.

    Attributes:
        pad_id: `unk_id` where no pad token is set, or none that is embedded.
        model_size: ids of the sentencepiece model; `vocab_size` counts added tokens as well.

    Raises:
        CheckpointError: the sentencepiece model cannot be read or lacks a special token, or the
            model does not embed what it needs.
    """

    def __init__(self, files: TokenizerFiles, *, embedded: int | None = None) -> None:
        self.files = files
        self.legacy = files.legacy
        model = files.model if files.legacy else files.model + _NO_DUMMY_PREFIX
        self._sp = sentencepiece.SentencePieceProcessor()
        try:
            self._sp.LoadFromSerializedProto(model)
            self._id_of, self._added = self._place_added_tokens()
        except (RuntimeError, UnicodeDecodeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"tokenizer.model is not a sentencepiece model ({error}); copy it again"
            ) from error
        self.bos_id = self._id_of[files.bos.content]
        self.eos_id = self._id_of[files.eos.content]
        self.unk_id = self._id_of[files.unk.content]
        self.pad_id = self._id_of[files.pad.content] if files.pad else self.unk_id
        self._special = {token.content for token in files.special_tokens}
        self._special_ids = {self._id_of[content] for content in self._special}
        longest_first = sorted(self._id_of, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self._strip = {token.content: token for token in files.all_tokens}
        self._unk_length = len(self._sp.encode(files.unk.content, out_type=str))
        self.model_size = self._sp.get_piece_size()
        self.vocab_size = max(self.model_size, *(i + 1 for i in self._id_of.values()))
        self._beyond = {} if embedded is None else self._find_beyond(embedded)

    @classmethod
    def from_directory(cls, directory: str | Path, *, embedded: int | None = None) -> CxrTokenizer:
        """Read the tokenizer of a checkpoint directory; only tokenizer.model must be there.

        Raises:
            CheckpointError: tokenizer.model is missing or unreadable, or is not of this model.
        """
        return cls(read_tokenizer_files(Path(directory)), embedded=embedded)

    def save(self, directory: str | Path) -> None:
        """Write the tokenizer's files into a checkpoint directory."""
        self.files.write(Path(directory))

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        """Tokenise one text on its own; no EOS is put at its end.

        Special tokens spelled out in the text become their ids. `add_bos` puts BOS before it; by
        default as the checkpoint says (yes in practice).

        Raises:
            InputError: the text holds half a character, or a token that the model does not embed.
        """
        tokens = self.tokenise(check_characters(text))
        ids = [self._token_id(token) for token in tokens]
        beyond = next((token for token in tokens if token in self._beyond), None)
        if beyond is not None:
            raise InputError(
                f"the text holds {beyond!r}, a token that was added to the tokenizer (id "
                f"{self._beyond[beyond]}) and that these weights do not embed; write it another way"
            )
        if self.files.add_bos if add_bos is None else add_bos:
            ids.insert(0, self.bos_id)
        return ids

    def encode_prompt(self, rendered: str) -> list[int]:
        """Tokenise what `render_chat` returned, with -200 in the place of each "<image>".

        There are two BOS at the start, as in the published code.
        """
        first, *rest = (self.encode(piece) for piece in rendered.split(IMAGE_MARK))
        ids = list(first)
        for piece in rest:
            ids.append(IMAGE_TOKEN_ID)
            ids.extend(piece[1:] if piece[:1] == [self.bos_id] else piece)
        return ids

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Turn ids into text; `IMAGE_TOKEN_ID` and one leading word-start mark are left out.

        `skip_special` leaves BOS, EOS, UNK and padding out.
        """
        kept = [i for i in map(int, ids) if i != IMAGE_TOKEN_ID]
        if skip_special:
            kept = [i for i in kept if i not in self._special_ids]
        texts, run = [], []
        for piece in map(self._piece, kept):
            if piece in self._id_of and piece not in self._special:
                texts += [self._join(run)] if run else []
                texts.append(piece)
                run = []
            else:
                run.append(piece)
        texts += [self._join(run)] if run else []
        text = " ".join(text for text in texts if text)
        return clean_spaces(text) if self.files.clean_up_spaces else text

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the vocabulary piece of each id ("<image>" for `IMAGE_TOKEN_ID`)."""
        return [IMAGE_MARK if i == IMAGE_TOKEN_ID else self._piece(int(i)) for i in ids]

    def offsets(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Return where each id stands in `decode(ids)`: one (start, end) per id, end excluded.

        Special tokens have empty spans; ids that share a character (bytes in UTF-8) share its span.
        Spans cover the whole text.
        """
        ids = [int(i) for i in ids]
        text = self.decode(ids)
        surfaces, spans, position, index = [], [], 0, 0
        while index < len(ids):
            run = self._byte_run(ids, index)
            if run:
                surface, inner = byte_spans(run)
            else:
                surface = self._surface(ids[index])
                inner = [(0, len(surface))]
            spans += [(position + start, position + end) for start, end in inner]
            surfaces.append(surface)
            position += len(surface)
            index += len(inner)
        lead = position - len(text)
        if lead < 0 or "".join(surfaces)[lead:] != text:
            return self._offsets_by_prefix(ids)
        return [(max(start - lead, 0), max(end - lead, 0)) for start, end in spans]

    def tokenise(self, text: str) -> list[str]:
        """Return the pieces of one text, special tokens as they are spelled."""
        if self.legacy or not text:
            return self._tokenise_runs(text)
        tokens = self._tokenise_runs(WORD_START + text.replace(WORD_START, " "))
        if len(tokens) > 1 and tokens[0] == WORD_START and tokens[1] in self._special:
            return tokens[1:]
        return tokens

    def _tokenise_runs(self, text: str) -> list[str]:
        parts = self._split.split(text)
        for index in range(1, len(parts), 2):
            token = self._strip[parts[index]]
            if token.lstrip:
                parts[index - 1] = parts[index - 1].rstrip()
            if token.rstrip:
                parts[index + 1] = parts[index + 1].lstrip()
        tokens: list[str] = []
        for index, part in enumerate(parts):
            tokens += [part] if index % 2 else self._tokenise_run(part)
        return tokens

    def _tokenise_run(self, text: str) -> list[str]:
        if not text:
            return []
        if self.legacy or not text.startswith((WORD_START, " ")):
            return self._sp.encode(text, out_type=str)
        # Sentencepiece would strip a leading mark; behind the unknown token it does not.
        tokens = self._sp.encode(self.files.unk.content + text, out_type=str)
        return tokens[self._unk_length :]

    def _join(self, pieces: list[str]) -> str:
        pieces = list(pieces)
        if pieces[0].startswith(WORD_START):
            pieces[0] = pieces[0][1:]
        text, run, after_special = "", [], False
        for index, piece in enumerate(pieces):
            if piece in self._special:
                if not after_special and index and self.legacy:
                    text += " "
                text += self._sp.decode(run) + piece
                run, after_special = [], True
            else:
                run.append(piece)
                after_special = False
        return text + self._sp.decode(run)

    def _byte_run(self, ids: Sequence[int], start: int) -> list[int]:
        run = []
        for i in ids[start:]:
            value = read_byte(self._piece(i))
            if value is None:
                break
            run.append(value)
        return run

    def _surface(self, token_id: int) -> str:
        if token_id == IMAGE_TOKEN_ID or token_id in self._special_ids:
            return ""
        return self._piece(token_id).replace(WORD_START, " ")

    def _offsets_by_prefix(self, ids: list[int]) -> list[tuple[int, int]]:
        ends = [len(self.decode(ids[: count + 1])) for count in range(len(ids))]
        ends = [min(ends[index:]) for index in range(len(ends))]
        return list(zip([0, *ends], ends, strict=False))

    def _piece(self, token_id: int) -> str:
        if token_id in self._added:
            return self._added[token_id]
        if 0 <= token_id < self._sp.get_piece_size():
            return self._sp.id_to_piece(token_id)
        return ""

    def _token_id(self, token: str) -> int:
        known = self._id_of.get(token)
        return self._sp.piece_to_id(token) if known is None else known

    def _find_beyond(self, embedded: int) -> dict[str, int]:
        """Return the added tokens that the model does not embed; those of every prompt it must."""
        if self.model_size > embedded:
            raise CheckpointError(
                f"tokenizer.model knows {self.model_size} ids, but the model embeds {embedded}; "
                "use the tokenizer that belongs to these weights"
            )
        beyond = {token: i for token, i in self._id_of.items() if i >= embedded}
        for token in (self.files.bos, self.files.eos, self.files.unk):
            if token.content in beyond:
                raise CheckpointError(
                    f"the special token {token.content!r} has the id {beyond[token.content]}, but "
                    f"the model embeds {embedded}; use the tokenizer that belongs to these weights"
                )
        named = sorted((token, i) for token, i in beyond.items() if token != IMAGE_MARK)
        if beyond and self.pad_id >= embedded:
            self.pad_id = self.unk_id
        if named:
            logger.warning(
                "the model embeds %d ids, so texts that hold one of these added tokens are "
                "refused: %s",
                embedded,
                ", ".join(f"{token} ({i})" for token, i in named[:_SHOWN]),
            )
        return beyond

    def _place_added_tokens(self) -> tuple[dict[str, int], dict[int, str]]:
        size = self._sp.get_piece_size()
        ids: dict[str, int] = {}
        for token in self.files.all_tokens:
            known = self._sp.piece_to_id(token.content)
            if token.index is not None:
                ids[token.content] = token.index
            elif self._sp.id_to_piece(known) == token.content:
                ids[token.content] = known
            elif token in (self.files.bos, self.files.eos, self.files.unk):
                raise CheckpointError(
                    f"tokenizer.model does not hold the special token {token.content!r}; the "
                    "files beside it belong to another tokenizer"
                )
            else:
                ids[token.content] = max([size - 1, *ids.values()]) + 1
        return ids, {index: content for content, index in ids.items() if index >= size}
