"""`python -m docs.gallery`: make the pictures of the documentation again, from the gallery's code.

With `--only badges` the badges of the README alone, which take no time.

The page `docs/gallery.md` shows a picture and, below it, the code that made it. What the last line
of that code returns is the picture: a figure, axes, or a page of HTML, which Chromium opens.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from docs.fences import DOCS, ROOT, run_page
from workbench.errors import MissingDependencyError

PAGE = DOCS / "gallery.md"
#: Pixels of a window.
WINDOW = {"width": 1280, "height": 720}
#: The most pixels across and bytes of a picture.
WIDTH, LARGEST = 1000, 150_000

_PICTURE = re.compile(r"!\[[^\]]+\]\((pictures/[\w-]+\.png)\)")


def main() -> int:
    """Make the pictures that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m docs.gallery", description=__doc__)
    parser.add_argument("--only", nargs="*", default=(), help="names of pictures, e.g. explorer")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of pictures/ (docs)")
    args = parser.parse_args()
    out = args.out.resolve()
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    for name, (left, right) in badges().items():
        (out / "pictures" / f"{name}.svg").write_text(badge(left, right), encoding="utf-8")
    if args.only == ["badges"]:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for before, value in run_page(PAGE):
            for name in _PICTURE.findall(before)[-1:]:
                if not args.only or Path(name).stem in args.only:
                    (out / name).write_bytes(picture(value))
                    print(out / name, (out / name).stat().st_size)
    return 0


def badges() -> dict[str, tuple[str, str]]:
    """Return what the badges of the README say, by name, as the project states it itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tests = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    count = sum(len(re.findall(r"^ *def test_", text, re.MULTILINE)) for text in tests)
    return {
        "python": ("python", project["requires-python"].removeprefix(">=") + " or newer"),
        "licence": ("licence", project["license"]),
        "tests": ("tests", f"{count // 500 * 500:,}+, on a CPU"),
    }


def badge(left: str, right: str) -> str:
    """Return two words side by side as SVG."""
    first, second = (7 * len(word) + 12 for word in (left, right))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{first + second}" height="20" role="img" '
        f'aria-label="{left}: {right}"><rect width="{first}" height="20" fill="#444"/>'
        f'<rect x="{first}" width="{second}" height="20" fill="#0b5cad"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" '
        f'text-anchor="middle"><text x="{first / 2}" y="14" textLength="{first - 12}">{left}</text>'
        f'<text x="{first + second / 2}" y="14" textLength="{second - 12}">{right}</text></g>'
        "</svg>\n"
    )


def picture(value: Any) -> bytes:
    """Return a figure, axes or a page of HTML as PNG of at most `LARGEST` bytes."""
    if isinstance(value, Path):
        drawn = photographed(value)
    else:
        stream = BytesIO()
        figure = getattr(value, "figure", value)
        figure.savefig(stream, format="png", dpi=110, bbox_inches="tight")
        drawn = stream.getvalue()
    image = Image.open(BytesIO(drawn)).convert("RGB")
    for greys in (96, 64, 32, 16):
        image.thumbnail((WIDTH, 2 * WIDTH), Image.Resampling.LANCZOS)
        stream = BytesIO()
        _reduced(image, greys).save(stream, "png", optimize=True)
        if stream.tell() < LARGEST:
            break
    return stream.getvalue()


def _reduced(image: Image.Image, greys: int) -> Image.Image:
    """Return an image in a palette of so many greys, and 128 of its own colours."""
    pixels = np.asarray(image).astype(int)
    coloured = np.ptp(pixels, axis=2) > 30
    palette = [level for grey in np.linspace(0, 255, greys) for level in [round(grey)] * 3]
    if coloured.any():
        alone = Image.fromarray(pixels[coloured][None].astype(np.uint8))
        palette += alone.quantize(128).getpalette() or []
    table = Image.new("P", (1, 1))
    table.putpalette(palette)
    return image.quantize(palette=table, dither=Image.Dither.NONE)


def photographed(page: Path) -> bytes:
    """Return what Chromium shows of a page."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise MissingDependencyError("pictures of pages need Chromium; see docs/start.md")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        shown = browser.new_page(viewport=WINDOW)
        shown.goto(page.resolve().as_uri())
        shown.wait_for_timeout(1500)
        taken = shown.screenshot()
        browser.close()
    return taken


if __name__ == "__main__":
    sys.exit(main())
