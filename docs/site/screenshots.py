"""Pictures of the site at the width of a telephone, a laptop and a projector, by Chromium."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

#: What is looked at, one page of each kind: the README first, which is the home page.
PAGES = ("index", "course/index", "course/00_start_here", "docs/start", "docs/guides/dicom",
         "docs/reference/saliency", "docs/methods", "docs/command_line", "docs/gallery",
         "docs/explore", "explore/ct-nodule")  # fmt: skip
#: Width -> height, in pixels.
SIZES = {390: 844, 1280: 720, 1920: 1080}
_QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
          "--no-first-run", "--hide-scrollbars")  # fmt: skip


def screenshots(site: Path, out: Path) -> list[Path]:
    """Write a picture of each page at each size into a folder; return them.

    A page that is not there is left out, and so are all where there is no Chromium.
    """
    browser = shutil.which("chromium")
    if browser is None:
        return []
    out.mkdir(parents=True, exist_ok=True)
    made = []
    with tempfile.TemporaryDirectory() as profile:
        for page in (site / f"{name}.html" for name in PAGES):
            for width, height in SIZES.items():
                name = "-".join(page.relative_to(site).with_suffix("").parts)
                place = out / f"{name}-{width}.png"
                asked = (f"--user-data-dir={profile}", f"--window-size={width},{height}",
                         f"--screenshot={place}", page.resolve().as_uri())  # fmt: skip
                if page.is_file():
                    subprocess.run([browser, *_QUIET, *asked], capture_output=True, timeout=300)
                    made += [place] if place.is_file() else []
    return made
