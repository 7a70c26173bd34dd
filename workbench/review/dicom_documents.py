"""The documents about one reviewed case: Basic Text (TID 2000) and measurement reports (TID 1500).

Only `dicom_sr` imports this module, since it needs highdicom.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import groupby
from typing import NamedTuple

import numpy as np
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr.templates import DEFAULT_LANGUAGE
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage

from workbench._store import read_yaml
from workbench._version import __version__
from workbench.data.images import Root
from workbench.data.mapping import from_cell
from workbench.imaging import load_radiograph
from workbench.imaging.writing import MAKER, image_header, is_dicom, secondary_capture, uid
from workbench.model.licence import RESEARCH_NOTICE
from workbench.review.error_queue import ErrorQueue
from workbench.review.verdicts import Annotation
from workbench.runs.record import stated_notice, turned_upright

_Group = (
    sr.MeasurementsAndQualitativeEvaluations | sr.PlanarROIMeasurementsAndQualitativeEvaluations
)

#: This project's own coding scheme.
SCHEME = "99CXRWB"
#: Name of an evaluation -> attribute of an annotation, and the part of the codes for its values.
_EVALUATIONS = {
    "Verdict": ("verdict", ""),
    "Severity of the error": ("severity", ""),
    "Error of the report": ("errors", ""),
    "Said by the model": ("said", "presence"),
    "Known before review": ("reference", "presence"),
    "Taken for true": ("true", "presence"),
}
#: What a name in DICOM must not contain.
_NAME_MARKS = str.maketrans("^=\\", "   ")


@cache
def code_table() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Return the codes: part -> name -> scheme, value, meaning, source (and site of a finding)."""
    return read_yaml("workbench.review", "codes.yaml")


class Document(NamedTuple):
    """A DICOM object: what it is, and whose words it has."""

    kind: str
    author: str
    dataset: Dataset


@dataclass(frozen=True)
class ReviewedCase:
    """A reviewed case: the image that documents are about, and the documents."""

    queue: ErrorQueue
    key: tuple[str, str]
    row: Mapping[Hashable, object]
    identified: bool

    def documents(self, items: list[Annotation]) -> Iterator[Document]:
        """Yield the image where it has to be written, then the documents about it."""
        image, captured = self._image()
        if captured is not None:
            yield Document("image", "", captured)
        first = min(item.time for item in items)
        when = self.queue.record.get("outcome", {}).get("finished", first)
        text, model = str(self.row["text"]), self._model.get("id", "model")
        content = _basic_text(text, _device(self._model), self._notice)
        yield Document("report", model, self._basic(content, image, when, text, model))
        for who, own in groupby(items, key=lambda item: item.reviewer):
            mine = list(own)
            for item in [one for one in mine if one.report][-1:]:
                content = _basic_text(item.report, _person(who), self._notice)
                made = self._basic(content, image, item.time, item.report, who)
                yield Document("report", who, made)
            yield Document("review", who, self._review(mine, image))

    @property
    def _model(self) -> dict:
        return self.queue.record.get("fixed", {}).get("model", {})

    @property
    def _notice(self) -> str:
        return stated_notice(self.queue.record) or RESEARCH_NOTICE

    def _image(self) -> tuple[Dataset, Dataset | None]:
        """Return the header of the image, and a capture of it where none can be referred to."""
        path = Root(self.queue.root or "").image(str(self.row["path"] or ""))
        upright = turned_upright(self.queue.record)
        patient = str(self.row["patient_id"] or "")
        header = image_header(path, key=self.key, patient=patient, identified=self.identified)
        if is_dicom(path) and not upright:
            return header, None
        radiograph = load_radiograph(path, upright=upright)
        depth = np.uint8 if radiograph.contract.bits <= 8 else np.uint16
        pixels = np.round(radiograph.pixels * np.iinfo(depth).max).astype(depth)
        drawn = (*self.key, header.PatientID, hashlib.sha256(pixels.tobytes()).hexdigest())
        header.SeriesInstanceUID, header.SOPInstanceUID = (
            uid("series", *drawn),
            uid("image", *drawn),
        )
        burned_in = radiograph.contract.burned_in
        captured = secondary_capture(
            pixels, header, description="Image as it was reviewed", burned_in=burned_in
        )
        return captured, captured

    def _basic(
        self, content: sr.ContentSequence, image: Dataset, when: str, text: str, author: str
    ) -> Dataset:
        made = _dated(sr.EnhancedSR(**self._about(image, content, when, "report", author, text)))
        # highdicom has no class of its own for it; text and references are all that is in it
        made.SOPClassUID = BasicTextSRStorage
        return made

    def _review(self, items: list[Annotation], image: Dataset) -> Dataset:
        groups = [group for item in items for group in _groups(item, image)]
        report = sr.MeasurementReport(
            sr.ObservationContext(observer_person_context=_person(items[0].reviewer)),
            procedure_reported=_code("report", "procedure"),
            imaging_measurements=groups,
        )
        report[0].ContentSequence.append(_comment(self._notice))
        who, last = items[-1].reviewer, items[-1].time
        about = self._about(image, report, last, "review", who, *(item.n for item in items))
        return _dated(sr.ComprehensiveSR(**about))

    def _about(
        self,
        image: Dataset,
        content: sr.ContentSequence,
        when: str,
        kind: str,
        author: str,
        *parts: str,
    ) -> dict:
        """Return what every document says of itself."""
        time, of = datetime.fromisoformat(when), (*self.key, image.PatientID)
        own = CodingSchemeIdentificationItem(
            SCHEME, name="Review of reports", responsible_organization=MAKER
        )
        return {
            "evidence": [image],
            "content": content,
            "series_instance_uid": uid("series", *of, kind, author),
            "series_number": 1,
            "sop_instance_uid": uid("document", *of, kind, author, when, *parts),
            "instance_number": 1,
            "manufacturer": MAKER,
            "manufacturer_model_name": MAKER,
            "software_versions": __version__,
            "is_complete": True,
            "series_description": f"{kind.capitalize()}, not for clinical use",
            "content_date": time.date(),
            "content_time": time.time(),
            "specific_character_set": "ISO_IR 192",
            "coding_schemes": [own],
        }


def _dated(made: Dataset) -> Dataset:
    """Return a document that was made when its content was: the same export, the same bytes."""
    made.InstanceCreationDate, made.InstanceCreationTime = made.ContentDate, made.ContentTime
    for item in made.ContributingEquipmentSequence:
        if "ContributionDateTime" in item:
            item.ContributionDateTime = f"{made.ContentDate}{made.ContentTime}"
    return made


# --- content -------------------------------------------------------------------------------------


def _code(part: str, name: str) -> sr.CodedConcept:
    """Return a code of the table; a name that is not in it gets one of the own scheme."""
    known = code_table().get(part, {}).get(name)
    scheme, value, meaning = known[:3] if known else (SCHEME, name.replace(" ", "-").lower(), name)
    return sr.CodedConcept(value, scheme, meaning)


def _comment(text: str) -> sr.TextContentItem:
    name = _code("report", "comment")
    return sr.TextContentItem(name, text, sr.RelationshipTypeValues.CONTAINS)


def _person(name: str) -> sr.ObserverContext:
    written = f"{name.translate(_NAME_MARKS).strip()}^"
    return sr.ObserverContext(
        _code("report", "person"), sr.PersonObserverIdentifyingAttributes(written)
    )


def _device(model: Mapping[str, str]) -> sr.ObserverContext:
    name = str(model.get("id", "unknown model"))
    identity = uid("model", name, model.get("sha256", ""))
    attributes = sr.DeviceObserverIdentifyingAttributes(identity, name=name)
    return sr.ObserverContext(_code("report", "device"), attributes)


def _basic_text(text: str, observer: sr.ObserverContext, notice: str) -> sr.ContentSequence:
    """Return a report as content of TID 2000: title, language, observer, findings, notice."""
    contains = sr.RelationshipTypeValues.CONTAINS
    section = sr.ContainerContentItem(_code("report", "findings"), relationship_type=contains)
    said = sr.TextContentItem(_code("report", "finding"), text or "(no text)", contains)
    section.ContentSequence = sr.ContentSequence([said])
    root = sr.ContainerContentItem(_code("report", "title"), template_id="2000")
    language = sr.LanguageOfContentItemAndDescendants(DEFAULT_LANGUAGE)
    root.ContentSequence = sr.ContentSequence()
    for items in (language, observer, [section, _comment(notice)]):
        root.ContentSequence.extend(items)
    return sr.ContentSequence([root], is_root=True)


def _groups(item: Annotation, image: Dataset) -> Iterator[_Group]:
    """Yield the group of a verdict (TID 1501), then a planar region for each box (TID 1410)."""
    said = sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid("verdict", item.n), item.kind or "verdict"),
        **_finding(item.finding, item.side),
        qualitative_evaluations=list(_evaluations(item)),
        source_images=[sr.SourceImageForMeasurementGroup.from_source_image(image)],
    )
    if item.comment:
        said[0].ContentSequence.append(_comment(item.comment))
    yield said
    for n, box in enumerate(from_cell(item.boxes), start=1):
        yield sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            sr.TrackingIdentifier(uid("box", item.n, n), f"box {n}"),
            referenced_region=_region(box, image),
            **_finding(box.get("finding") or "", ""),
        )


def _evaluations(item: Annotation) -> Iterator[sr.QualitativeEvaluation]:
    for name, (attribute, part) in _EVALUATIONS.items():
        given = getattr(item, attribute)
        for value in (given,) if isinstance(given, str) else given:
            if value:
                yield sr.QualitativeEvaluation(_code("", name), _code(part, value))


def _finding(name: str, side: str) -> dict:
    """Return finding type and site; a finding that is not named has a side at most."""
    known = code_table()["findings"].get(name)
    laterality = _code("sides", side) if side else None
    site = sr.FindingSite(_code("sites", known[4] if known else "chest"), laterality)
    kind = {"finding_type": _code("findings", name)} if name else {}
    return kind | ({"finding_sites": [site]} if name or side else {})


def _region(box: Mapping[str, float], image: Dataset) -> sr.ImageRegion:
    left, top = float(box["x"]), float(box["y"])
    right, bottom = left + float(box["width"]), top + float(box["height"])
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    inside = np.clip(corners, 0, [image.Columns, image.Rows])
    source = sr.SourceImageForRegion.from_source_image(image)
    return sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, inside, source)
