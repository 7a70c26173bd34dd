"""Settings of one process: whether the network may be used, and defaults.

They are read from the environment once, at the edge (command line, `load_model`), and passed down.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.errors import OptionError, check_one_of, check_whole, did_you_mean

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})
DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "float16", "bfloat16")

#: Phantoms from this seed up are never trained on: they are kept for evaluation.
FIRST_HELD_OUT_SEED = 10_000_000


@dataclass(frozen=True)
class Settings:
    """What a process may use.

    Attributes:
        offline: True forbids every network request; local copies are used or an error says which
            file is missing.
        device: Where models run: "auto", "cpu", "mps", "cuda" or "cuda:N".
        dtype: Precision of the weights, one of `DTYPES`.
        max_pixels: Largest image, in pixels, that a reader decodes before it calls the file a
            decompression bomb.

    Raises:
        OptionError: a value is not one of those above.

    >>> wb.Settings.from_env({"WORKBENCH_DEVICE": "cpu", "WORKBENCH_OFFLINE": "1"})
    Settings(offline=True, device='cpu', dtype='auto', max_pixels=100000000)
    """

    offline: bool = False
    device: str = "auto"
    dtype: str = "auto"
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        check_device(self.device)
        check_one_of("dtype", self.dtype, DTYPES)
        check_whole(1, max_pixels=self.max_pixels)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read settings from the environment, or from a mapping; what is not set keeps its default.

        WORKBENCH_OFFLINE (or HF_HUB_OFFLINE), _DEVICE, _DTYPE and _MAX_PIXELS are read.

        Raises:
            OptionError: a variable has a value that cannot be understood; the message names it.
        """
        env = os.environ if environ is None else environ
        pixels = env.get("WORKBENCH_MAX_PIXELS") or f"{cls.max_pixels}"
        if not pixels.replace("_", "").isdecimal():
            raise OptionError(
                "WORKBENCH_MAX_PIXELS must be a whole number of pixels such as 100000000, got "
                f"{pixels!r}"
            )
        offline = any(_flag(env, name) for name in ("WORKBENCH_OFFLINE", "HF_HUB_OFFLINE"))
        device, dtype = env.get("WORKBENCH_DEVICE"), env.get("WORKBENCH_DTYPE")
        return cls(offline, device or cls.device, dtype or cls.dtype, int(pixels))


def check_device(device: str) -> None:
    """Refuse what is no name of a device, whether or not this machine has it."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", device):
        raise OptionError(
            f"device must be one of {', '.join(DEVICES)} or cuda:N, got {device!r}"
            f"{did_you_mean(device, DEVICES)}"
        )


def _flag(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "").strip().lower()
    if value not in _TRUE | _FALSE:
        raise OptionError(f"{name} must be 1 or 0, got {env[name]!r}; unset it or set it to 1")
    return value in _TRUE
