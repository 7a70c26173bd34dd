"""Cells that no spreadsheet takes for a formula.

CSV files are opened with spreadsheets, which run a cell that begins with =, +, - or @. Identifiers
and other text that came from outside get an apostrophe in front there; numbers stay numbers.

Does not know: tables or files.
Source: OWASP, CSV Injection.
"""

from __future__ import annotations

#: What a cell that is run as a formula begins with.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def neutral(value: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    if not value.startswith(FORMULA_STARTS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
