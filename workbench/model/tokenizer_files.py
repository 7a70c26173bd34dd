"""The tokenizer files of a checkpoint directory: what is read from them and written back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.errors import CheckpointError
from workbench.model.weights import read_object

MODEL_FILE = "tokenizer.model"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"

#: Keys of tokenizer_config.json that are read and written back, with what holds without them.
#: A checkpoint's own chat template is not among them: the workbench has one.
DEFAULTS: Mapping[str, Any] = {
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": None,
    "additional_special_tokens": (),
    "added_tokens_decoder": {},
    "add_bos_token": True,
    "add_eos_token": False,  # kept for the files, not obeyed
    "clean_up_tokenization_spaces": False,
    "legacy": True,
}
#: Special tokens that stand in every prompt.
REQUIRED = ("unk_token", "bos_token", "eos_token")
_NAMED = (*REQUIRED, "pad_token")
_SPECIAL = (*_NAMED, "additional_special_tokens")


@dataclass(frozen=True)
class AddedToken:
    """A token that is cut out of the text before sentencepiece sees it.

    `lstrip` and `rstrip` swallow white space beside it; `index` is its id, or None where the
    vocabulary (or the next free id) says; decoding can skip a `special` one.
    """

    content: str
    lstrip: bool = False
    rstrip: bool = False
    index: int | None = None
    special: bool = False


def read_files(directory: Path) -> tuple[bytes, dict[str, Any]]:
    """Return tokenizer.model, and what the JSON files say about the keys of `DEFAULTS`."""
    path = directory / MODEL_FILE
    if not path.is_file():
        raise CheckpointError(
            f"no {MODEL_FILE} in {directory}; a checkpoint needs its sentencepiece model, copy it "
            "beside config.json"
        )
    settings = {n: v for n, v in read_object(directory / CONFIG_FILE).items() if v is not None}
    special = {n: v for n, v in read_object(directory / SPECIAL_FILE).items() if n in _SPECIAL}
    added = read_object(directory / ADDED_FILE)
    return path.read_bytes(), special | settings | {ADDED_FILE: added}


def write_files(directory: Path, model: bytes, settings: Mapping[str, Any]) -> None:
    """Write tokenizer.model and the two JSON files that transformers reads beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MODEL_FILE).write_bytes(model)
    told = {n: v for n, v in settings.items() if isinstance(v, bool) or v}
    special = {n: told[n] for n in _SPECIAL if n in told}
    config = told | {"tokenizer_class": "LlamaTokenizer"}
    for name, value in ((CONFIG_FILE, config), (SPECIAL_FILE, special)):
        text = json.dumps(value, indent=2, sort_keys=True)
        (directory / name).write_text(text + "\n", encoding="utf-8")


def check_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, AddedToken]]:
    """Return the value of every key, and by its content each token that is cut out of a text."""
    try:
        settings = {n: v if given.get(n) is None else given[n] for n, v in DEFAULTS.items()}
        for name, default in DEFAULTS.items():
            if isinstance(default, bool) and not isinstance(settings[name], bool):
                raise ValueError(f"{name} must be true or false, got {settings[name]!r}")
        added = {str(i): {"content": token} for token, i in given.get(ADDED_FILE, {}).items()}
        settings["added_tokens_decoder"] = added | settings["added_tokens_decoder"]
        return settings, _tokens(settings)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{CONFIG_FILE}, {SPECIAL_FILE} or {ADDED_FILE} do not describe the tokens of a "
            f"tokenizer ({type(error).__name__}: {error}); copy them again, or leave them out"
        ) from error


def _tokens(settings: dict[str, Any]) -> dict[str, AddedToken]:
    """Return the tokens, and leave of each special one its content in the settings."""
    tokens: dict[str, AddedToken] = {}
    for key, entry in settings["added_tokens_decoder"].items():
        index = int(key)
        if index < 0:
            raise ValueError("the id of an added token must be a whole number from 0 up")
        token = replace(_token(entry, {}), index=index, special=bool(entry.get("special")))
        tokens[token.content] = token

    def special(entry: str | Mapping[str, Any]) -> str:
        token = _token(entry, tokens)
        tokens[token.content] = replace(token, special=True)
        return token.content

    for name in _NAMED:
        if settings[name] is not None:
            settings[name] = special(settings[name])
    more = "additional_special_tokens"
    settings[more] = [special(entry) for entry in settings[more]]
    if "" in tokens:
        raise ValueError("an added token without a text")
    return tokens


def _token(entry: str | Mapping[str, Any], known: Mapping[str, AddedToken]) -> AddedToken:
    """Return the token of one entry of a file, with the id that is known of it."""
    if isinstance(entry, str):
        return known.get(entry, AddedToken(entry))
    content = entry["content"]
    if not isinstance(content, str):
        raise TypeError("the content of a token must be a text")
    index = known[content].index if content in known else None
    return AddedToken(content, bool(entry.get("lstrip")), bool(entry.get("rstrip")), index)
