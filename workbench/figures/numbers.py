"""The text of numbers: cells of tables, estimates, p-values; and the names of methods."""

from __future__ import annotations

import math
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


def estimate_text(
    value: float | None,
    low: float | None,
    high: float | None,
    digits: int = 2,
    *,
    sign: bool = False,
    missing: str = "undefined",
) -> str:
    """Return a value with its interval, "0.83 [0.71, 0.92]"; alone where there is no interval."""
    shown = fixed(value, digits, sign=sign, missing=missing)
    if value is None or low is None or high is None:
        return shown
    return f"{shown} [{fixed(low, digits, sign=sign)}, {fixed(high, digits, sign=sign)}]"


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
    "kernel_shap": "kernel SHAP",
}


def method_name(key: str) -> str:
    """Return the name of a method for people; any other text loses its underscores."""
    return METHOD_NAMES.get(key, key.replace("_", " "))
