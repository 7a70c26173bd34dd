"""The text of numbers: cells of tables, estimates, p-values; and the names of methods."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


def number_text(value: Any, digits: int = 3) -> str:
    """Return a number in figures, and anything else as it writes itself; "" where it is missing.

    An integer has no point, any other number so many digits behind it.
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
        return ""
    if type(value).__name__ in ("bool", "bool_") or not hasattr(value, "__float__"):
        return str(value)
    if hasattr(value, "__index__"):
        return f"{int(value):,}"
    return f"{float(value):,.{digits}f}" if math.isfinite(value) else str(value)


def fixed(value: float | None, digits: int = 2, *, sign: bool = False, missing: str = "-") -> str:
    """Return a number with a fixed count of digits behind the point, "-" where it is undefined."""
    if value is None or math.isnan(value):
        return missing
    return f"{value:{'+' if sign else ''}.{digits}f}"


def percent(value: float | None, *, sign: bool = False, missing: str = "-") -> str:
    """Return a share as whole percent, "83 %"."""
    shown = fixed(None if value is None else 100 * value, 0, sign=sign, missing="")
    return f"{shown} %" if shown else missing


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; None where it is undefined, never 0.

    Attributes:
        low, high: ends of the 95 % interval.
        n: what it is a share of (the sum of the denominator).
        undefined: resamples in which it was undefined, left out of the interval.

    >>> print(wb.evaluation.Estimate(0.8123, low=0.7, high=0.9, n=100))
    0.812 [0.700, 0.900]
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    undefined: int = 0

    def __str__(self) -> str:
        said = self.text(3)
        return f"{said} [no interval]" if self.value is not None and not self.bounded else said

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None and self.high is not None

    def flat(self, name: str) -> dict[str, float | None]:
        """Return value, low and high as three plain values: name, name_low and name_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def text(self, digits: int = 2, *, undefined: str = "undefined", sign: bool = False) -> str:
        """Return value and interval, "0.83 [0.71, 0.92]", or what there is of them."""
        shown = fixed(self.value, digits, sign=sign, missing=undefined)
        if self.value is None or not self.bounded:
            return shown
        low, high = (fixed(end, digits, sign=sign) for end in (self.low, self.high))
        return f"{shown} [{low}, {high}]"


def p_text(value: float | None) -> str:
    """Return a p-value with three digits; "" where there is none."""
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


#: Key -> name, where the name is more than the key with spaces.
METHOD_NAMES = {
    "rollout": "attention rollout",
    "flow": "attention flow",
    "input_x_gradient": "input \u00d7 gradient",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients_patches": "integrated gradients (patches)",
    "grad_cam": "Grad-CAM",
    "token_activation": "token activation map",
    "kernel_shap": "kernel SHAP",
}


def method_name(key: str) -> str:
    """Return the name of a method for people; any other text loses its underscores."""
    return METHOD_NAMES.get(key, key.replace("_", " "))
