"""Structured reports: what was judged is read back by pydicom and highdicom with the same codes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import highdicom.sr as sr
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.uid import BasicTextSRStorage, SecondaryCaptureImageStorage, generate_uid

from tests.privacy.planting import NAME, plain_dicom
from workbench.cli import main
from workbench.errors import InputError, MissingDependencyError
from workbench.findings import ALL_FINDINGS, CODES, SIDES
from workbench.imaging import load_radiograph
from workbench.review import Annotations, queue, save_dicom_sr
from workbench.review.dicom_documents import SCHEME, code_table

BOX = {"x": 10.5, "y": 20, "width": 30, "height": 17.25, "finding": "pleural effusion"}
WIDE = {**BOX, "x": 70, "width": 900, "finding": ""}
PNG, DICOM = (97, 83), (120, 120)


@pytest.fixture(scope="module")
def judged(lab, tmp_path_factory):
    """A queue of two cases, a PNG and a DICOM file of somebody, and what two people said."""
    tmp_path = tmp_path_factory.mktemp("judged")
    folder = tmp_path / "run"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, PNG, dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    source = dcmread(plain_dicom(tmp_path / "b.dcm"))
    source.StudyInstanceUID, source.SeriesInstanceUID = generate_uid(), generate_uid()
    source.PatientName, source.PatientID, source.PatientBirthDate = f"{NAME}^Jane", NAME, "19500607"
    source.PatientOrientation = ["R", "F"]
    source.save_as(tmp_path / "b.dcm")
    lab.rows({"a": "There is pleural effusion.", "b": "No pleural effusion."}).to_parquet(
        folder / "results.parquet"
    )
    known = lab.manifest(
        {"a": {"pleural effusion": "absent"}, "b": {"pleural effusion": "present"}},
        path=["a.png", "b.dcm"],
        patient_id=["p1", "p2"],
    )
    opened = queue(folder, manifest=known, root=tmp_path)
    notes = Annotations(folder / "annotations.jsonl")
    for entry in opened.to_frame().to_dict("records"):
        notes.add(
            entry, verdict="reference wrong", severity="minor", reviewer="AB", true="present",
            errors=["missed", "wrong side"], side="left", comment="Klein: ä",
            report="Small left effusion.", boxes=[BOX, WIDE],
        )  # fmt: skip
        notes.add(entry, verdict="both right", reviewer="Ç^D")
    return opened, notes


@pytest.fixture(scope="module")
def written(judged):
    """The documents: their folder and their table."""
    folder = judged[0].folder.parent / "sr"
    return folder, save_dicom_sr(*judged, folder)


def groups_of(folder, table, source_id: str, who: str):
    rows = table[(table["id"] == source_id) & (table["author"] == who)]
    (name,) = rows.loc[rows["kind"] == "review", "file"]
    return sr.srread(folder / name)


def test_every_word_of_a_verdict_has_a_code_with_a_source():
    table = code_table()
    assert set(table["findings"]) == set(ALL_FINDINGS)
    assert set(table["presence"]) == set(CODES) and set(table["sides"]) == set(SIDES)
    values = [tuple(row[:2]) for row in table["findings"].values()]
    assert len(set(values)) == len(values)
    assert {row[4] for row in table["findings"].values()} == set(table["sites"])
    own = [name for name, row in table["findings"].items() if row[0] == SCHEME]
    assert own == ["enlarged cardiomediastinum", "pleural other"]


def test_codes_of_the_standard_are_what_it_says():
    checked = 0
    for part in code_table().values():
        for scheme, value, meaning, source, *_ in part.values():
            assert scheme in ("SCT", "DCM", "LN", "RADLEX", SCHEME) and source
            if not source.startswith("CID "):
                continue
            listed = cid_concepts[int(source.removeprefix("CID "))][scheme]
            found = [concepts[scheme][name].get(value) for name in listed]
            assert meaning in {one[0] for one in found if one}, (value, meaning)
            checked += 1
    assert checked > 20


def test_what_is_read_back(written):
    folder, table = written
    assert table["kind"].value_counts().to_dict() == {"report": 4, "review": 4, "image": 1}
    assert pd.read_csv(folder / "index.csv").fillna("").to_dict() == table.to_dict()
    assert {path.name for path in folder.glob("*.dcm")} == set(table["file"])
    for key, shape in (("a", PNG), ("b", DICOM)):
        document = groups_of(folder, table, key, "AB")
        (said,) = document.content.get_image_measurement_groups()
        assert said.finding_type == sr.CodedConcept("60046008", "SCT", "Pleural effusion")
        (site,) = said.finding_sites
        assert (site.value.value, site.laterality.meaning) == ("3120008", "Left")
        values = [
            (one.name.meaning, one.value.meaning) for one in said.get_qualitative_evaluations()
        ]
        assert ("Verdict", "reference wrong") in values and ("Taken for true", "Present") in values
        assert [value for name, value in values if name == "Error of the report"] == [
            "missed", "wrong side",
        ]  # fmt: skip
        whole, cut = document.content.get_planar_roi_measurement_groups()
        left, top, right, bottom = 10.5, 20, 40.5, 37.25
        corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        assert np.array_equal(whole.roi.value, corners)
        assert whole.finding_type.value == "60046008" and cut.finding_type is None
        assert cut.roi.value.max(axis=0).tolist() == [shape[1], 37.25]
        other = groups_of(folder, table, key, "Ç^D")
        assert len(other.content.get_image_measurement_groups()) == 1


def texts(document) -> list[str]:
    """Every text of a document, from pydicom alone."""
    found = [str(document.TextValue)] if "TextValue" in document else []
    return found + [text for item in document.get("ContentSequence", []) for text in texts(item)]


def test_reports_are_basic_text_with_their_author_and_notice(written):
    folder, table = written
    for row in table[table["kind"] == "report"].to_dict("records"):
        document = dcmread(folder / row["file"])
        assert document.SOPClassUID == document.file_meta.MediaStorageSOPClassUID
        assert document.SOPClassUID == BasicTextSRStorage
        assert document.VerificationFlag == "UNVERIFIED"
        text = "Small left effusion." if row["author"] == "AB" else "effusion."
        assert any(one.endswith(text) for one in texts(document))
        assert any("not for clinical use" in one for one in texts(document))
        content = sr.ContentSequence.from_sequence(document.ContentSequence)
        (section,) = content.find(sr.CodedConcept("59776-5", "LN", "Findings"))
        assert section.ContentSequence[0].name.value == "121071"


def test_documents_are_about_the_image(written):
    folder, table = written[0], written[1].set_index("file")
    source = dcmread(folder.parent / "b.dcm")
    (name,) = table.index[table["kind"] == "image"]
    images = {"a": dcmread(folder / name), "b": source}
    picture = np.asarray(Image.open(folder.parent / "a.png"))
    assert images["a"].SOPClassUID == SecondaryCaptureImageStorage
    assert np.array_equal(images["a"].pixel_array, picture)
    for name, row in table[table["kind"] != "image"].iterrows():
        document, image = dcmread(folder / name), images[row["id"]]
        assert document.StudyInstanceUID == image.StudyInstanceUID
        (study,) = document.CurrentRequestedProcedureEvidenceSequence
        (series,) = study.ReferencedSeriesSequence
        (reference,) = series.ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == image.SOPInstanceUID
        assert document.PatientID == {"a": "p1", "b": "p2"}[row["id"]]


def test_nobody_is_named_unless_asked_for(judged, written, tmp_path):
    everything = b"".join(path.read_bytes() for path in written[0].iterdir())
    assert NAME.encode() not in everything and b"19500607" not in everything
    table = save_dicom_sr(*judged, tmp_path / "named", identified=True)
    for name in table.loc[table["id"] == "b", "file"]:
        document = dcmread(tmp_path / "named" / name)
        assert (document.PatientName, document.PatientBirthDate) == (f"{NAME}^Jane", "19500607")


def test_the_same_export_is_the_same_bytes_until_somebody_judges(judged, written, tmp_path):
    opened, notes = judged
    folder, table = written
    assert save_dicom_sr(*judged, tmp_path).equals(table)
    for name in table["file"]:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()
    more = Annotations(tmp_path / "more.jsonl")
    more.path.write_bytes(notes.path.read_bytes())
    more.add(opened.to_frame().iloc[0], verdict="unclear", reviewer="AB")
    save_dicom_sr(opened, more, tmp_path)
    names = table.loc[table["kind"] == "review", "file"]
    before, after = ([dcmread(x / n).SOPInstanceUID for n in names] for x in (folder, tmp_path))
    assert [a == b for a, b in zip(before, after, strict=True)].count(False) == 1


def test_boxes_on_a_turned_image_refer_to_the_turned_image(judged, tmp_path):
    opened, notes = judged
    turned = replace(opened, record={"fixed": {"upright": True}})
    table = save_dicom_sr(turned, notes, tmp_path / "sr")
    (name,) = table[(table["kind"] == "image") & (table["id"] == "b")]["file"]
    source, made = dcmread(opened.root / "b.dcm"), dcmread(tmp_path / "sr" / name)
    assert made.SOPInstanceUID != source.SOPInstanceUID
    upright, stored = (load_radiograph(opened.root / "b.dcm", upright=up) for up in (True, False))
    assert np.array_equal(upright.pixels, stored.pixels[:, ::-1])
    assert np.abs(made.pixel_array / 65535 - upright.pixels).max() < 1e-5


def test_what_is_missing_is_said(judged, tmp_path, monkeypatch):
    opened, notes = judged
    with pytest.raises(InputError, match="name the manifest with manifest= and the folder"):
        save_dicom_sr(replace(opened, root=None), notes, tmp_path / "sr")
    empty = Annotations(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="0 verdicts, none about a case of this queue; judge"):
        save_dicom_sr(opened, empty, tmp_path / "sr")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingDependencyError, match=r"highdicom; install it with .*\[dicom\]"):
        save_dicom_sr(opened, notes, tmp_path / "sr")
    assert not (tmp_path / "sr").exists()


def test_command(judged, tmp_path, capsys):
    opened, _ = judged
    given = ["review", "export", str(opened.folder), "--dicom-sr", "--out", str(tmp_path / "sr")]
    known = tmp_path / "m.parquet"
    frame = opened.joined.cases.rename(columns={"id": "image_id"})
    frame[["image_id", "source", "path", "patient_id"]].to_parquet(known)
    assert main([*given, "--manifest", str(known), "--root", str(opened.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kinds"] == {"report": 4, "review": 4, "image": 1} and found["files"] == 9
    assert main(["review", "export", str(opened.folder), "--identified", "--out", "x.csv"]) == 2
    assert "belong to --dicom-sr" in capsys.readouterr().err
