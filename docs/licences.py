"""`python -m docs.licences`: write the licence of everything that is used, and a bill of materials.

    python -m docs.licences                       writes docs/licences.md
    python -m docs.licences --check               fails where the page is not up to date
    python -m docs.licences --sbom out/sbom.json  also a CycloneDX bill of materials

Licences are read from what the installed packages say of themselves, without a network. A package
of constraints.txt that is not installed keeps the line it had.

Whether a licence suits a purpose is for you to decide.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from workbench._store import whole_file
from workbench._version import __version__
from workbench.data import SOURCES, card
from workbench.model.licence import MINI_TERMS, PUBLISHED_TERMS

ROOT = Path(__file__).resolve().parents[1]
PAGE, PINS = ROOT / "docs" / "licences.md", ROOT / "constraints.txt"
UNKNOWN = "not stated"

#: What packages write, and the SPDX identifier that is meant.
SPELLINGS = {
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
#: What a package brings, where its own words name more: the one file of docutils under the GPL, for
#: Emacs, is not in its wheel. The wheel of mlcroissant states nothing; its repository does.
CORRECTED = {
    "docutils": "0BSD AND BSD-2-Clause AND BSD-3-Clause AND LicenseRef-Public-Domain",
    "mlcroissant": "Apache-2.0",
}
#: Licences that ask for nothing but notices; MPL-2.0 asks for changes to its own files as well.
ALLOWED = frozenset(
    {
        "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause",
        "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "LicenseRef-Public-Domain", "MIT", "MIT-0",
        "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
    }
)  # fmt: skip
_HEAD = """# Licences

Written by `python -m docs.licences` from what each package, card and checkpoint says of itself; a
test compares. Nothing here is under a licence that would bind this project's own code (Apache-2.0).

## Models

| model | licence | notice |
|---|---|---|
{models}

## Data sets

Shipped are drawn phantoms, and one chest CT that phantoms are projected from: LIDC-IDRI-0001,
CC BY 3.0, [changed](../workbench/assets/ct/README.md). Each of the others is fetched by you, under
its own agreement (`workbench manifest card NAME`).

| data set | licence | published at |
|---|---|---|
{data}

## Packages

Versions of `constraints.txt`: {count} packages, those of every extra that was tested and what they
bring with them.

| package | version | licence |
|---|---|---|
{packages}
"""


def read_pins() -> dict[str, str]:
    """Return package -> version of constraints.txt."""
    lines = PINS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def licence_of(package: str, version: str, kept: dict[str, str]) -> str:
    """Return the licence of a package as an SPDX expression, as far as it says.

    Args:
        package: its name.
        version: the pinned one.
        kept: licences of an earlier page, for what is not installed here.
    """
    if package in CORRECTED:
        return CORRECTED[package]
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return kept.get(package, UNKNOWN)
    if found.version.split("+")[0] != version.split("+")[0]:
        return kept.get(package, _stated(found))
    return _stated(found)


def parts_of(licence: str) -> list[str]:
    """Return the licences that an expression names."""
    return [part.strip("() ") for part in re.split(r"\s+(?:AND|OR)\s+", licence)]


def page(kept: dict[str, str]) -> str:
    """Return docs/licences.md."""
    pins = read_pins()
    models = [("`mini`", MINI_TERMS), ("`ECOFRI/CXR-LLAVA-v2`", PUBLISHED_TERMS)]
    cards = [(card(name).title, card(name).licence, card(name).url) for name in SOURCES]
    packages = [(name, pin, licence_of(name, pin, kept)) for name, pin in sorted(pins.items())]
    return _HEAD.format(
        models=_rows([(name, terms.licence, terms.notice) for name, terms in models]),
        data=_rows(cards),
        count=len(pins),
        packages=_rows(packages),
    )


def read_page() -> dict[str, str]:
    """Return package -> licence of the page as it is."""
    if not PAGE.is_file():
        return {}
    text = PAGE.read_text(encoding="utf-8").rpartition("|---|")[2]
    return dict(re.findall(r"^\| ([\w.-]+) \| [\w.+-]+ \| (.+) \|$", text, flags=re.MULTILINE))


def bill_of_materials(kept: dict[str, str]) -> dict:
    """Return the packages as a CycloneDX 1.6 bill of materials."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            "licenses": [{"expression": licence_of(name, version, kept)}],
        }
        for name, version in sorted(read_pins().items())
    ]
    about = {"type": "application", "bom-ref": "workbench", "name": "cxr-llava-workbench"}
    licences = [{"license": {"id": "Apache-2.0"}}]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, PINS.read_text())}",
        "version": 1,
        "metadata": {"component": {**about, "version": __version__, "licenses": licences}},
        "components": components,
    }


def main(argv: list[str] | None = None) -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(prog="python -m docs.licences", description="Licences.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    parser.add_argument("--sbom", type=Path, metavar="FILE", help="write a CycloneDX file as well")
    args = parser.parse_args(argv)
    kept = read_page()
    text = page(kept)
    if args.sbom:
        args.sbom.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(args.sbom) as partial:
            partial.write_text(json.dumps(bill_of_materials(kept), indent=1) + "\n")
    if args.check:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write("docs/licences.md is not up to date; run: python -m docs.licences\n")
        return 1
    with whole_file(PAGE) as partial:
        partial.write_text(text, encoding="utf-8")
    return 0


def _stated(found: Distribution) -> str:
    about = found.metadata
    classes = [
        text.rpartition("::")[2].strip()
        for text in about.get_all("Classifier") or []
        if text.startswith("License ::") and not text.endswith("OSI Approved")
    ]
    given = about.get("License-Expression") or " AND ".join(classes) or about.get("License")
    parts = [SPELLINGS.get(part.lower(), part) for part in parts_of((given or UNKNOWN).strip())]
    whole = SPELLINGS.get((given or "").strip().lower())
    joint = " OR " if " OR " in (given or "") else " AND "
    return whole or joint.join(dict.fromkeys(parts))


def _rows(rows: list[tuple[str, ...]]) -> str:
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
