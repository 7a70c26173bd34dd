"""What reviewers said, as DICOM structured reports that other systems file beside the image.

    workbench review export runs/first --manifest m.parquet --dicom-sr --out sr

For each reviewed case: the model's report, and a reviewer's own where there is one, as Basic Text
(TID 2000); the verdicts and boxes of each reviewer as a measurement report (TID 1500), a group for
each verdict and a planar region for each box. Codes are those of `codes.yaml`. Nothing is verified
in DICOM's sense, and every document says what the model may be used for.

An image that is no DICOM file, or was turned before anybody saw it, is written too, as a secondary
capture that the documents refer to: boxes are in its pixels.

Source: DICOM PS3.3 A.35 (documents) and C.18.6 (coordinates), PS3.16 (templates); Bridge et al.,
Highdicom, J Digit Imaging 2022.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import yaml

from workbench._version import __version__
from workbench.data.frames import save_frame
from workbench.data.images import Root
from workbench.data.mapping import from_cell
from workbench.errors import InputError, MissingDependencyError
from workbench.imaging import load_radiograph
from workbench.imaging.writing import (
    MAKER,
    image_header,
    is_dicom,
    save_dicom,
    secondary_capture,
    uid,
)
from workbench.model.licence import RESEARCH_NOTICE
from workbench.review.error_queue import ErrorQueue
from workbench.review.verdicts import Annotation, Annotations
from workbench.runs.record import stated_notice, turned_upright

if TYPE_CHECKING:
    from highdicom.sr import (
        CodedConcept,
        ContentSequence,
        ImageRegion,
        MeasurementsAndQualitativeEvaluations,
        ObserverContext,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        TextContentItem,
    )
    from pydicom.dataset import Dataset

    _Group = MeasurementsAndQualitativeEvaluations | PlanarROIMeasurementsAndQualitativeEvaluations

#: This project's own coding scheme.
SCHEME = "99CXRWB"
INDEX = "index.csv"
COLUMNS = ("source", "id", "kind", "author", "file")
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
    return yaml.safe_load((files("workbench.review") / "codes.yaml").read_text("utf-8"))


def save_dicom_sr(
    queue: ErrorQueue,
    annotations: Annotations,
    folder: str | os.PathLike[str],
    *,
    identified: bool = False,
) -> pd.DataFrame:
    """Write the current verdicts, boxes and reports about the cases of a queue as DICOM files.

    Args:
        queue: of the run, with the folder of its images.
        folder: made if needed; `index.csv` in it says which file is what.
        identified: write who the patient is, as the DICOM file of the image says; else documents
            contain the pseudonym of the manifest, and only the identifiers of study and image.

    Returns:
        One row for each file, columns `COLUMNS`.

    Raises:
        MissingDependencyError: highdicom is not installed.
        InputError: there are no verdicts about cases of this queue, or an image is not there.
    """
    _need_highdicom()
    folder = Path(folder)
    rows_of = queue.joined.cases.to_dict("records")
    cases = {(row["source"], row["id"]): row for row in rows_of}
    given = [item for item in annotations.current() if (item.source, item.id) in cases]
    if not given:
        raise InputError(
            f"{len(annotations):,} verdicts, none about a case of this queue; judge entries first "
            "(`workbench app --run`), or open the queue of the run that they are about"
        )
    if queue.root is None:
        raise InputError(
            "documents refer to images, and it is not known where these are; name the manifest "
            "with manifest= and the folder of images with root="
        )
    given.sort(key=lambda item: (item.source, item.id, item.reviewer))
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    judged = groupby(given, key=lambda item: (item.source, item.id))
    for number, (key, items) in enumerate(judged, start=1):
        case = _Case(queue, key, cases[key], identified)
        for n, made in enumerate(case.documents(list(items)), start=1):
            name = f"{number:04d}-{n}-{made.kind}.dcm"
            save_dicom(made.dataset, folder / name)
            rows.append((*key, made.kind, made.author, name))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    save_frame(table, folder / INDEX)
    return table


class _Document(NamedTuple):
    kind: str
    author: str
    dataset: Dataset


@dataclass(frozen=True)
class _Case:
    """A reviewed case: the image that documents are about, and the documents."""

    queue: ErrorQueue
    key: tuple[str, str]
    row: Mapping[Hashable, object]
    identified: bool

    def documents(self, items: list[Annotation]) -> Iterator[_Document]:
        """Yield the image where it has to be written, then the documents about it."""
        image, captured = self._image()
        if captured is not None:
            yield _Document("image", "", captured)
        first = min(item.time for item in items)
        when = self.queue.record.get("outcome", {}).get("finished", first)
        text, model = str(self.row["text"]), self._model.get("id", "model")
        content = _basic_text(text, _device(self._model), self._notice)
        yield _Document("report", model, self._basic(content, image, when, text, model))
        for who, own in groupby(items, key=lambda item: item.reviewer):
            mine = list(own)
            for item in [one for one in mine if one.report][-1:]:
                content = _basic_text(item.report, _person(who), self._notice)
                made = self._basic(content, image, item.time, item.report, who)
                yield _Document("report", who, made)
            yield _Document("review", who, self._review(mine, image))

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
        self, content: ContentSequence, image: Dataset, when: str, text: str, author: str
    ) -> Dataset:
        from highdicom.sr import EnhancedSR
        from pydicom.uid import BasicTextSRStorage

        made = _dated(EnhancedSR(**self._about(image, content, when, "report", author, text)))
        # highdicom has no class of its own for it; text and references are all that is in it
        made.SOPClassUID = BasicTextSRStorage
        return made

    def _review(self, items: list[Annotation], image: Dataset) -> Dataset:
        from highdicom.sr import ComprehensiveSR, MeasurementReport, ObservationContext

        groups = [group for item in items for group in _groups(item, image)]
        report = MeasurementReport(
            ObservationContext(observer_person_context=_person(items[0].reviewer)),
            procedure_reported=_code("report", "procedure"),
            imaging_measurements=groups,
        )
        report[0].ContentSequence.append(_comment(self._notice))
        who, last = items[-1].reviewer, items[-1].time
        about = self._about(image, report, last, "review", who, *(item.n for item in items))
        return _dated(ComprehensiveSR(**about))

    def _about(
        self,
        image: Dataset,
        content: ContentSequence,
        when: str,
        kind: str,
        author: str,
        *parts: str,
    ) -> dict:
        """Return what every document says of itself."""
        from highdicom.coding_schemes import CodingSchemeIdentificationItem

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


def _code(part: str, name: str) -> CodedConcept:
    """Return a code of the table; a name that is not in it gets one of the own scheme."""
    from highdicom.sr import CodedConcept

    known = code_table().get(part, {}).get(name)
    scheme, value, meaning = known[:3] if known else (SCHEME, name.replace(" ", "-").lower(), name)
    return CodedConcept(value, scheme, meaning)


def _comment(text: str) -> TextContentItem:
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    name = _code("report", "comment")
    return TextContentItem(name, text, RelationshipTypeValues.CONTAINS)


def _person(name: str) -> ObserverContext:
    from highdicom.sr import ObserverContext, PersonObserverIdentifyingAttributes

    written = f"{name.translate(_NAME_MARKS).strip()}^"
    return ObserverContext(_code("report", "person"), PersonObserverIdentifyingAttributes(written))


def _device(model: Mapping[str, str]) -> ObserverContext:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext

    name = str(model.get("id", "unknown model"))
    identity = uid("model", name, model.get("sha256", ""))
    attributes = DeviceObserverIdentifyingAttributes(identity, name=name)
    return ObserverContext(_code("report", "device"), attributes)


def _basic_text(text: str, observer: ObserverContext, notice: str) -> ContentSequence:
    """Return a report as content of TID 2000: title, language, observer, findings, notice."""
    from highdicom.sr import (
        ContainerContentItem,
        ContentSequence,
        LanguageOfContentItemAndDescendants,
        RelationshipTypeValues,
        TextContentItem,
    )
    from highdicom.sr.templates import DEFAULT_LANGUAGE

    contains = RelationshipTypeValues.CONTAINS
    section = ContainerContentItem(_code("report", "findings"), relationship_type=contains)
    said = TextContentItem(_code("report", "finding"), text or "(no text)", contains)
    section.ContentSequence = ContentSequence([said])
    root = ContainerContentItem(_code("report", "title"), template_id="2000")
    language = LanguageOfContentItemAndDescendants(DEFAULT_LANGUAGE)
    root.ContentSequence = ContentSequence()
    for items in (language, observer, [section, _comment(notice)]):
        root.ContentSequence.extend(items)
    return ContentSequence([root], is_root=True)


def _groups(item: Annotation, image: Dataset) -> Iterator[_Group]:
    """Yield the group of a verdict (TID 1501), then a planar region for each box (TID 1410)."""
    from highdicom.sr import (
        MeasurementsAndQualitativeEvaluations,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    said = MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(uid("verdict", item.n), item.kind or "verdict"),
        **_finding(item.finding, item.side),
        qualitative_evaluations=list(_evaluations(item)),
        source_images=[SourceImageForMeasurementGroup.from_source_image(image)],
    )
    if item.comment:
        said[0].ContentSequence.append(_comment(item.comment))
    yield said
    for n, box in enumerate(from_cell(item.boxes), start=1):
        yield PlanarROIMeasurementsAndQualitativeEvaluations(
            TrackingIdentifier(uid("box", item.n, n), f"box {n}"),
            referenced_region=_region(box, image),
            **_finding(box.get("finding") or "", ""),
        )


def _evaluations(item: Annotation) -> Iterator[QualitativeEvaluation]:
    from highdicom.sr import QualitativeEvaluation

    for name, (attribute, part) in _EVALUATIONS.items():
        given = getattr(item, attribute)
        for value in (given,) if isinstance(given, str) else given:
            if value:
                yield QualitativeEvaluation(_code("", name), _code(part, value))


def _finding(name: str, side: str) -> dict:
    """Return finding type and site; a finding that is not named has a side at most."""
    from highdicom.sr import FindingSite

    known = code_table()["findings"].get(name)
    laterality = _code("sides", side) if side else None
    site = FindingSite(_code("sites", known[4] if known else "chest"), laterality)
    kind = {"finding_type": _code("findings", name)} if name else {}
    return kind | ({"finding_sites": [site]} if name or side else {})


def _region(box: Mapping[str, float], image: Dataset) -> ImageRegion:
    from highdicom.sr import GraphicTypeValues, ImageRegion, SourceImageForRegion

    left, top = float(box["x"]), float(box["y"])
    right, bottom = left + float(box["width"]), top + float(box["height"])
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    inside = np.clip(corners, 0, [image.Columns, image.Rows])
    source = SourceImageForRegion.from_source_image(image)
    return ImageRegion(GraphicTypeValues.POLYLINE, inside, source)


def _need_highdicom() -> None:
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "DICOM structured reports need the package highdicom; install it with "
            "pip install 'cxr-llava-workbench[dicom]'"
        ) from error
