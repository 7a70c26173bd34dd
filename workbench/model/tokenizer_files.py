"""The tokenizer files of a checkpoint directory: what is read from them and written back.

Does not know: how text is cut into pieces (`workbench.model.tokenizer`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench._store import read_json
from workbench.errors import CheckpointError

logger = logging.getLogger(__name__)

MODEL_FILE = "tokenizer.model"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"


@dataclass(frozen=True)
class AddedToken:
    """A token that is cut out of the text before sentencepiece sees it.

    Attributes:
        content: how it is spelled.
        lstrip: it swallows white space before it.
        rstrip: it swallows white space after it.
        index: its id, or None where the vocabulary (or the next free id) says.
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
        bos, eos, unk: special tokens, spelled as the vocabulary has them.
        pad: padding token, or None.
        additional: further special tokens.
        added: tokens that are cut out but are not special.
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
        tokens = {"bos_token": self.bos, "eos_token": self.eos, "unk_token": self.unk}
        if self.pad:
            tokens["pad_token"] = self.pad
        special: dict[str, Any] = {name: token.content for name, token in tokens.items()}
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
        placed = {str(t.index): _as_json(t, t in self.special_tokens) for t in self._indexed()}
        if placed:
            config["added_tokens_decoder"] = placed
        _write_json(directory / CONFIG_FILE, config)
        _write_json(directory / SPECIAL_FILE, special)

    def _indexed(self) -> list[AddedToken]:
        return [token for token in self.all_tokens if token.index is not None]


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
    config = _read_json(directory / CONFIG_FILE)
    special = {**_read_json(directory / SPECIAL_FILE), **_given(config)}
    if config.get("chat_template"):
        logger.debug("the tokenizer's chat template is not used; the workbench has its own")
    placed = _placed(config, _read_json(directory / ADDED_FILE))
    named = {
        name: _token(special.get(f"{name}_token"), placed) for name in ("bos", "eos", "unk", "pad")
    }
    additional = [_token(t, placed) for t in special.get("additional_special_tokens") or ()]
    flagged = [placed[content] for content in _flagged_special(config)]
    known = {token.content for token in (*named.values(), *additional) if token}
    extra = tuple(t for t in (*additional, *flagged) if t and t.content not in _names(named))
    return TokenizerFiles(
        model=path.read_bytes(),
        legacy=_flag(config, "legacy", True),
        additional=tuple(dict.fromkeys(extra)),
        added=tuple(t for c, t in placed.items() if c not in known and t not in flagged),
        add_bos=_flag(config, "add_bos_token", True),
        add_eos=_flag(config, "add_eos_token", False),
        clean_up_spaces=_flag(config, "clean_up_tokenization_spaces", False),
        **{name: token for name, token in named.items() if token},
    )


def _flag(config: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return a setting that is true or false; null is the default.

    Raises:
        ValueError: it is something else, which could mean either.
    """
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return default if value is None else value


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    names = ("bos_token", "eos_token", "unk_token", "pad_token", "additional_special_tokens")
    return {name: config[name] for name in names if config.get(name) is not None}


def _placed(config: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, AddedToken]:
    placed = {token: AddedToken(token, index=_index(index)) for token, index in added.items()}
    for index, value in (config.get("added_tokens_decoder") or {}).items():
        token = _token(value, {})
        placed[token.content] = AddedToken(token.content, token.lstrip, token.rstrip, _index(index))
    if "" in placed:
        raise ValueError("an added token without a text")
    return placed


def _index(value: Any) -> int:
    """Return the id of an added token.

    Raises:
        ValueError: it is below 0, or no number.
    """
    index = int(value)
    if index < 0 or isinstance(value, (bool, float)):
        raise ValueError("the id of an added token must be a whole number from 0 up")
    return index


def _flagged_special(config: Mapping[str, Any]) -> list[str]:
    values = (config.get("added_tokens_decoder") or {}).values()
    return [value["content"] for value in values if value.get("special")]


def _names(named: Mapping[str, AddedToken | None]) -> set[str]:
    return {token.content for token in named.values() if token}


def _token(value: Any, placed: Mapping[str, AddedToken]) -> AddedToken | None:
    if value is None:
        return None
    if isinstance(value, str):
        return placed.get(value, AddedToken(value))
    if not isinstance(value["content"], str):
        raise TypeError("the content of a token must be a text")
    index = placed[value["content"]].index if value["content"] in placed else None
    return AddedToken(value["content"], bool(value.get("lstrip")), bool(value.get("rstrip")), index)


def _as_json(token: AddedToken, special: bool) -> dict[str, Any]:
    return {
        "content": token.content,
        "lstrip": token.lstrip,
        "normalized": False,
        "rstrip": token.rstrip,
        "single_word": False,
        "special": special,
    }


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} is not valid JSON ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} must hold an object, got {type(value).__name__}")
    return value


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
