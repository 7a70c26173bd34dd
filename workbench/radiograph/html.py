"""A light HTML card of a radiograph for notebooks: thumbnail, facts, warnings.

Does not know: matplotlib; the full picture is `Radiograph.show`.
"""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from workbench.radiograph.radiograph import Radiograph

THUMBNAIL = 224


def radiograph_html(image: Radiograph) -> str:
    """Return a self-contained card (about 40 kB) with the model's view and the contract."""
    pixels = np.rint(image.model_view(THUMBNAIL) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    source, *facts = (html.escape(fact) for fact in image.contract.facts())
    warnings = "".join(
        '<div style="margin-top:4px;padding:3px 8px;border-left:4px solid #b36b00;'
        'background:#fff4dc;color:#5c3a00">'
        f"<b>{html.escape(w.code)}</b> {html.escape(w.message)}</div>"
        for w in image.contract.warnings
    )
    return (
        '<div style="display:flex;gap:14px;align-items:flex-start;max-width:860px;'
        'background:#fff;color:#1b1b1b;padding:8px">'
        f'<img width="{THUMBNAIL}" height="{THUMBNAIL}" alt="what the model sees" '
        f'src="data:image/png;base64,{encoded}">'
        f"<div><b>{source}</b><br>{' &middot; '.join(facts)}{warnings}</div></div>"
    )
