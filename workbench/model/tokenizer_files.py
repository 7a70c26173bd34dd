"""The tokenizer files of a checkpoint directory: what is read from them and written back."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.errors import CheckpointError
from workbench.model.weights import read_object

logger = logging.getLogger(__name__)

MODEL_FILE = "tokenizer.model"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"

_SPECIAL_KEYS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "additional_special_tokens",
)


@dataclass(frozen=True)
class AddedToken:
    """A token that is cut out of the text before sentencepiece sees it.

    `lstrip` and `rstrip` swallow white space beside it; `index` is its id, or None where the
    vocabulary (or the next free id) says.
    """

    content: str
    lstrip: bool = False
    rstrip: bool = False
    index: int | None = None


@dataclass(frozen=True)
class TokenizerFiles:
    """Sentencepiece model and settings of one tokenizer.

    Attributes:
        model: bytes of tokenizer.model.
        legacy: every run after a special token gets a word-start mark, not only the first.
        additional, added: further special tokens, and tokens that are cut out but are not special.
        add_bos: `encode` puts BOS before a text.
        add_eos: as the files say; kept for them, `encode` does not obey it.
        clean_up_spaces: decoding removes spaces before punctuation.
    """

    model: bytes
    legacy: bool = True
    bos: AddedToken = field(default_factory=lambda: AddedToken("<s>"))
    eos: AddedToken = field(default_factory=lambda: AddedToken("</s>"))
    unk: AddedToken = field(default_factory=lambda: AddedToken("<unk>"))
    pad: AddedToken | None = None
    additional: tuple[AddedToken, ...] = ()
    added: tuple[AddedToken, ...] = ()
    add_bos: bool = True
    add_eos: bool = False
    clean_up_spaces: bool = False

    @property
    def special_tokens(self) -> tuple[AddedToken, ...]:
        """Tokens that decoding can skip."""
        pad = (self.pad,) if self.pad else ()
        return (self.unk, self.bos, self.eos, *pad, *self.additional)

    @property
    def all_tokens(self) -> tuple[AddedToken, ...]:
        """Tokens that are cut out of a text, each once."""
        every = {token.content: token for token in (*self.added, *self.special_tokens)}
        return tuple(every.values())

    def write(self, directory: Path) -> None:
        """Write tokenizer.model and the two JSON files that transformers reads beside it."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MODEL_FILE).write_bytes(self.model)
        special: dict[str, Any] = {
            "bos_token": self.bos.content,
            "eos_token": self.eos.content,
            "unk_token": self.unk.content,
        }
        if self.pad:
            special["pad_token"] = self.pad.content
        if self.additional:
            special["additional_special_tokens"] = [token.content for token in self.additional]
        config = {
            **special,
            "add_bos_token": self.add_bos,
            "add_eos_token": self.add_eos,
            "clean_up_tokenization_spaces": self.clean_up_spaces,
            "legacy": self.legacy,
            "tokenizer_class": "LlamaTokenizer",
        }
        placed = {
            str(token.index): {
                "content": token.content,
                "lstrip": token.lstrip,
                "normalized": False,
                "rstrip": token.rstrip,
                "single_word": False,
                "special": token in self.special_tokens,
            }
            for token in self.all_tokens
            if token.index is not None
        }
        if placed:
            config["added_tokens_decoder"] = placed
        for name, value in ((CONFIG_FILE, config), (SPECIAL_FILE, special)):
            text = json.dumps(value, indent=2, sort_keys=True)
            (directory / name).write_text(text + "\n", encoding="utf-8")


def read_tokenizer_files(directory: Path) -> TokenizerFiles:
    """Read the tokenizer files of a checkpoint directory; only tokenizer.model is needed.

    Raises:
        CheckpointError: tokenizer.model is missing, or a JSON file beside it cannot be read.
    """
    try:
        return _read_files(directory)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{CONFIG_FILE}, {SPECIAL_FILE} or {ADDED_FILE} do not describe the tokens of a "
            f"tokenizer ({type(error).__name__}: {error}); copy them again, or leave them out"
        ) from error


def _read_files(directory: Path) -> TokenizerFiles:
    path = directory / MODEL_FILE
    if not path.is_file():
        raise CheckpointError(
            f"no {MODEL_FILE} in {directory}; a checkpoint needs its sentencepiece model, copy it "
            "beside config.json"
        )
    config = read_object(directory / CONFIG_FILE)
    if config.get("chat_template"):
        logger.debug("the tokenizer's chat template is not used; the workbench has its own")
    given = {name: config[name] for name in _SPECIAL_KEYS if config.get(name) is not None}
    special = {**read_object(directory / SPECIAL_FILE), **given}
    decoder = config.get("added_tokens_decoder") or {}
    placed = _placed(decoder, read_object(directory / ADDED_FILE))
    named = {
        name: _token(special[f"{name}_token"], placed)
        for name in ("bos", "eos", "unk", "pad")
        if special.get(f"{name}_token") is not None
    }
    additional = [_token(t, placed) for t in special.get("additional_special_tokens") or ()]
    flagged = [placed[entry["content"]] for entry in decoder.values() if entry.get("special")]
    names = {token.content for token in named.values()}
    known = names | {token.content for token in additional}
    return TokenizerFiles(
        model=path.read_bytes(),
        legacy=_flag(config, "legacy", True),
        additional=tuple(
            dict.fromkeys(t for t in (*additional, *flagged) if t.content not in names)
        ),
        added=tuple(t for c, t in placed.items() if c not in known and t not in flagged),
        add_bos=_flag(config, "add_bos_token", True),
        add_eos=_flag(config, "add_eos_token", False),
        clean_up_spaces=_flag(config, "clean_up_tokenization_spaces", False),
        **named,
    )


def _flag(config: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return a setting that is true or false; null is the default, anything else an error."""
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return default if value is None else value


def _placed(decoder: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, AddedToken]:
    placed = {token: AddedToken(token, index=_index(index)) for token, index in added.items()}
    for index, entry in decoder.items():
        token = _token(entry, {})
        placed[token.content] = replace(token, index=_index(index))
    if "" in placed:
        raise ValueError("an added token without a text")
    return placed


def _index(value: str | int) -> int:
    """Return the id of an added token; below 0 or no whole number is an error."""
    index = int(value)
    if index < 0 or isinstance(value, bool | float):
        raise ValueError("the id of an added token must be a whole number from 0 up")
    return index


def _token(entry: str | Mapping[str, Any], placed: Mapping[str, AddedToken]) -> AddedToken:
    if isinstance(entry, str):
        return placed.get(entry, AddedToken(entry))
    content = entry["content"]
    if not isinstance(content, str):
        raise TypeError("the content of a token must be a text")
    index = placed[content].index if content in placed else None
    return AddedToken(content, bool(entry.get("lstrip")), bool(entry.get("rstrip")), index)
