"""Indiana University chest X-rays (Open-i): XML reports, MeSH headings, projections.

Source: Demner-Fushman et al., JAMIA 2016 (doi 10.1093/jamia/ocv080). The major MeSH headings were
given by hand from the report; "normal" stands for a report without a finding. Patients are not
published. A report without images keeps a row with an empty path.
"""

from __future__ import annotations

import tarfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from workbench._progress import progress
from workbench.data.cards import DataCard
from workbench.data.columns import REPORT_SECTIONS
from workbench.data.download import Download
from workbench.data.frames import name_form
from workbench.data.mapping import codes_from_lists, join_labels, to_cell
from workbench.errors import InputError

REPORTS = 3955
FOLDERS = ("images", "NLMCXR_png", "png", "images/images_normalized", "")
#: Reports are small; anything larger is not one (and an XML bomb would be).
_LARGEST = 1_000_000


def read(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each image, and one for each report without any."""
    rows, skipped = [], Counter()
    for data in progress(_documents(files), total=REPORTS, label="reports", show=files.show):
        rows += _rows(files.card, data, files.reports, skipped)
    frame = pd.DataFrame(rows)
    frame = frame[~frame.astype(str).duplicated()].reset_index(drop=True)
    named = frame["file"].notna()
    frame["path"] = None
    frame.loc[named, "path"] = files.locate(frame.loc[named, "file"] + ".png", FOLDERS)
    view, note = _views(files, frame.loc[named, "image_id"])
    frame["view"] = view.reindex(frame.index)
    frame = frame.drop(columns="file")
    frame = frame.assign(**codes_from_lists(files.card, frame["source_labels"]))
    notes = [note, f"{int((~named).sum())} reports have no image; their path is empty"]
    notes += [f"{n} sections {name!r} were not read" for name, n in sorted(skipped.items())]
    return frame, notes


def _documents(files: Download) -> Iterator[bytes]:
    """Yield the XML of every report, in the order of their names."""
    loose = sorted(
        path
        for level in ("", "ecgen-radiology/", "*/ecgen-radiology/")
        for path in files.folder.glob(level + "*.xml")
    )
    if loose and files.only is None:
        yield from (path.read_bytes() for path in loose)
        return
    archive = files.find("NLMCXR_reports.tgz", "NLMCXR_reports.tar.gz") or files.require(
        "ecgen-radiology/*.xml", "NLMCXR_reports.tgz"
    )
    try:
        with tarfile.open(archive) as tar:
            for member in sorted(tar.getmembers(), key=lambda item: item.name):
                wanted = member.isfile() and member.name.endswith(".xml")
                if wanted and member.size > _LARGEST:
                    raise InputError(f"{member.name}: too large for a report; fetch it again")
                if wanted and (packed := tar.extractfile(member)) is not None:
                    yield packed.read()
    except (tarfile.TarError, EOFError, OSError):
        raise InputError(
            f"{archive.name}: not a readable archive; fetch it again from {files.card.url}"
        ) from None


def _rows(card: DataCard, data: bytes, reports: bool, skipped: Counter) -> list[dict]:
    root = _parsed(data)
    node = root.find("uId")
    uid = "" if node is None else node.get("id")
    headings = join_labels((node.text or "").replace("|", " ") for node in root.iter("major"))
    shared = {
        "patient_id": uid,
        "study_id": uid,
        "source_labels": headings,
        "locations": _locations(card, headings),
    }
    if reports:
        for node in root.iter("AbstractText"):
            name = (node.get("Label") or "").strip().lower()
            text = " ".join("".join(node.itertext()).split())
            if name in REPORT_SECTIONS and text:
                before = shared.get(f"report_{name}")
                shared[f"report_{name}"] = f"{before} {text}" if before else text
            elif text:
                skipped[name] += 1
        shared["report_language"] = "en"
    images = [node.get("id") for node in root.findall("parentImage") if node.get("id")]
    if not images:
        return [shared | {"image_id": uid, "file": None}]
    return [shared | {"image_id": image, "file": image} for image in images]


def _parsed(data: bytes) -> ElementTree.Element:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise InputError("a report declares XML entities, which Open-i never does; fetch it again")
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError:
        raise InputError("a report is not XML; unpack NLMCXR_reports.tgz again") from None


def _locations(card: DataCard, headings: str) -> str | None:
    places: dict[str, set[str]] = {}
    for heading in headings.split("|"):
        _, *qualifiers = [part.strip().lower() for part in heading.split("/")]
        words = {w for part in qualifiers for w in card.locations.get(part, {}).values()}
        for finding in card.findings_of(heading) or ():
            places.setdefault(finding, set()).update(words)
    return to_cell({name: sorted(words) for name, words in places.items() if words})


def _views(files: Download, images: pd.Series) -> tuple[pd.Series, str]:
    """Return image -> view from the projections file, or from the DICOM files."""
    path = files.find("indiana_projections.csv")
    key, column = "filename", "projection"
    if path is None:
        path, key, column = files.find("nlmcxr_dicom_metadata.csv"), "imageid", "View Position"
    if path is None:
        return pd.Series("unknown", index=images.index), "no projections here: views unknown"
    found, note = files.look_up(images, path, key, [column], what="views", form=_file_form)
    return found[column].set_axis(images.index), note


def _file_form(name: str) -> str:
    """Return how images are compared: 1_IM-0001-3001.dcm.png is CXR1_IM-0001-3001."""
    return "cxr" + name_form(name).removeprefix("cxr")
