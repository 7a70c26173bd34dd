"""The official label files inside torchxrayvision, counted again by other means.

The files are read here with duckdb, the csv module or regular expressions, never with the code that
is tested. Report texts of Open-i are neither printed nor kept.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter, defaultdict

import duckdb
import pytest

import workbench as wb
from workbench.data.cards import card

ALL_VARCHAR = "read_csv('{}', header=true, all_varchar=true, delim=',', quote='\"')"


@pytest.fixture(scope="module")
def built(published):
    """Build each source once: built("nih")."""
    kept = {}

    def build(name, **options):
        key = (name, *sorted(options.items()))
        if key not in kept:
            kept[key] = wb.data.build(name, source=published, **options)
        return kept[key]

    return build


def counts(manifest, finding: str) -> tuple[int, int, int]:
    found = manifest.summary()["findings"][finding]
    return found["present"], found["absent"], found["uncertain"]


def dict_rows(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
        yield from csv.DictReader(handle)


def plain_rows(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
        return list(csv.reader(handle))[1:]


def test_label_files_are_found_without_importing_the_package(published):
    code = (
        "import sys, workbench.data as d\n"
        "print(d.label_files() is not None, 'torchxrayvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_nih_counts(built, published):
    manifest = built("nih")
    summary = manifest.summary()
    assert (summary["rows"], summary["patients"], summary["boxes"]) == (112_120, 30_805, 984)
    assert all(count["ok"] for count in manifest.expected)
    table = ALL_VARCHAR.format(published / "Data_Entry_2017_v2020.csv.gz")
    query = (
        "select label, count(*) from (select unnest(string_split(\"Finding Labels\", '|')) "
        f"as label from {table}) group by label"
    )
    raw = dict(duckdb.sql(query).fetchall())
    assert len(raw) == 15
    nih = card("nih")
    for label, number in raw.items():
        finding = nih.labels[label][0]
        assert counts(manifest, finding) == (number, 0, 0), label
    either = f"select count(*) from {table} where \"Finding Labels\" similar to '.*(Mass|Nodule).*'"
    assert counts(manifest, "lung lesion")[0] == duckdb.sql(either).fetchall()[0][0]


def test_nih_boxes_are_those_of_the_list(built, published):
    rows = plain_rows(published / "BBox_List_2017.csv.gz")
    raw = Counter(row[1] for row in rows)
    manifest = built("nih")
    boxes = [box for cell in manifest.frame["boxes"].dropna() for box in wb.data.from_cell(cell)]
    assert Counter(box["label"] for box in boxes) == raw
    area = sum(float(row[4]) * float(row[5]) for row in rows)
    assert sum(box["width"] * box["height"] for box in boxes) == pytest.approx(area, rel=1e-4)


def test_nih_adjudicated_counts(built, published):
    manifest = built("nih", labels="adjudicated")
    raw = list(dict_rows(published / "google2019_nih-chest-xray-labels.csv.gz"))
    assert len(manifest) == len(raw) == 4_376
    findings = {
        "Airspace opacity": "lung opacity",
        "Fracture": "fracture",
        "Nodule or mass": "lung lesion",
        "Pneumothorax": "pneumothorax",
    }
    for label, finding in findings.items():
        yes = sum(row[label] == "YES" for row in raw)
        assert counts(manifest, finding) == (yes, len(raw) - yes, 0)


def test_chexpert_counts(built, published):
    manifest = built("chexpert")
    assert len(manifest) == 223_414
    assert manifest.summary()["patients"] == 64_540
    table = ALL_VARCHAR.format(published / "chexpert_train.csv.gz")
    for label, (finding,) in card("chexpert").labels.items():
        query = f'select "{label}", count(*) from {table} group by 1'
        raw = defaultdict(int, {cell or "": n for cell, n in duckdb.sql(query).fetchall()})
        expected = raw["1.0"], raw["0.0"], raw["-1.0"]
        assert counts(manifest, finding) == expected, label
        silent = manifest.summary()["findings"][finding]["not mentioned"]
        assert silent == raw[""], "an empty cell is not a zero"


def test_padchest_counts(built, published):
    manifest = built("padchest")
    assert len(manifest) == 160_861
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
    csv.field_size_limit(2**31 - 1)
    labels, physicians, rows, patients, texts = Counter(), 0, 0, set(), set()
    for row in dict_rows(published / name):
        rows += 1
        patients.add(row["PatientID"])
        physicians += row["MethodLabel"] == "Physician"
        cell = row["Labels"]
        labels.update({x.strip() for x in ast.literal_eval(cell)} if cell != "nan" else ())
        texts.update({row["StudyID"]} if row["Report"].strip() not in ("", "nan") else ())
    assert rows == 160_861, "the published file holds seven rows fewer than the paper counts"
    assert manifest.summary()["patients"] == len(patients)
    assert (manifest.frame["provenance"] == "report-read").sum() == physicians
    assert counts(manifest, "cardiomegaly") == (labels["cardiomegaly"], 0, 0)
    assert counts(manifest, "no finding") == (labels["normal"], 0, 0)
    assert counts(manifest, "hernia") == (labels["hiatal hernia"], 0, 0)
    assert counts(manifest, "pulmonary fibrosis") == (labels["pulmonary fibrosis"], 0, 0)
    assert counts(manifest, "pneumonia")[0] >= labels["pneumonia"]
    assert manifest.summary()["report_texts"] == len(texts)
    assert set(labels) - {""} == set(card("padchest").labels), "every label is in the vocabulary"


def test_padchest_problem_is_the_one_of_the_published_file(built):
    result = built("padchest").check()
    assert result.counts == {"study-of-two-patients": 1}


def test_vindr_counts(built, published):
    manifest = built("vindr-cxr")
    rows = list(dict_rows(published / "vinbigdata-train.csv.gz"))
    marks = defaultdict(set)
    for row in rows:
        marks[row["image_id"], row["class_name"]].add(row["rad_id"])
    assert len(manifest) == len({row["image_id"] for row in rows}) == 15_000
    assert manifest.summary()["boxes"] == sum(row["x_min"] != "" for row in rows)
    findings = {
        "Cardiomegaly": "cardiomegaly",
        "Pneumothorax": "pneumothorax",
        "Consolidation": "consolidation",
        "No finding": "no finding",
        "Nodule/Mass": "lung lesion",
        "ILD": "interstitial lung disease",
    }
    for label, finding in findings.items():
        votes = Counter(len(readers) for (_, name), readers in marks.items() if name == label)
        present, uncertain = votes[2] + votes[3], votes[1]
        assert counts(manifest, finding) == (present, 15_000 - present - uncertain, uncertain)


def test_rsna_pneumonia_counts(built, published):
    manifest = built("rsna-pneumonia")
    with zipfile.ZipFile(published / "kaggle_stage_2_train_labels.csv.zip") as archive:
        text = archive.read(archive.namelist()[0]).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    images = {row["patientId"] for row in rows}
    positive = {row["patientId"] for row in rows if row["Target"] == "1"}
    summary = manifest.summary()
    assert summary["rows"] == len(images) == 26_684
    assert summary["boxes"] == sum(row["x"] != "" for row in rows) == 9_555
    expected = (len(positive), len(images - positive), 0)
    assert counts(manifest, "lung opacity") == counts(manifest, "pneumonia") == expected
    headers = dict_rows(published / "kaggle_stage_2_train_images_dicom_headers.csv.gz")
    impossible = sorted(row["PatientAge"] for row in headers if int(row["PatientAge"]) > 120)
    problems = manifest.check().problems
    assert sorted(problem.value for problem in problems) == impossible == ["148", "150", "151",
                                                                         "153", "155"]  # fmt: skip
    assert built("rsna-pneumonia", repair=True).check().ok


def test_siim_pneumothorax_counts(built, published):
    manifest = built("siim-pneumothorax")
    table = ALL_VARCHAR.format(published / "siim-pneumothorax-train-rle.csv.gz")
    rows = plain_rows(published / "siim-pneumothorax-train-rle.csv.gz")
    outlined = {row[0] for row in rows if row[1].strip() != "-1"}
    images = {row[0] for row in rows}
    assert len(manifest) == len(images) == 12_047
    assert duckdb.sql(f"select count(distinct ImageId) from {table}").fetchall() == [(12_047,)]
    assert counts(manifest, "pneumothorax") == (len(outlined), len(images - outlined), 0)
    assert manifest.summary()["masks"] == sum(row[1].strip() != "-1" for row in rows)


def test_openi_counts(built, published):
    manifest = built("openi")
    headings, images, reports = Counter(), 0, 0
    with tarfile.open(published / "NLMCXR_reports.tgz") as tar:
        for member in tar:
            if not member.name.endswith(".xml"):
                continue
            text = tar.extractfile(member).read().decode("utf-8")
            reports += 1
            pictures = len(re.findall(r"<parentImage id=", text))
            images += pictures
            found = re.findall(r"<major>\s*([^</]*)", text)
            for heading in {item.strip().lower() for item in found}:
                headings[heading] += max(1, pictures)
    summary = manifest.summary()
    assert summary["studies"] == reports == 3_955
    assert summary["images"] == images == 7_470
    assert counts(manifest, "cardiomegaly")[0] == headings["cardiomegaly"]
    assert counts(manifest, "atelectasis")[0] == headings["pulmonary atelectasis"]
    assert counts(manifest, "no finding")[0] == headings["normal"]
    assert counts(manifest, "pneumonia")[0] == headings["pneumonia"]
    assert manifest.check().ok


@pytest.mark.parametrize("name", ["nih", "vindr-cxr", "openi"])
def test_two_builds_are_equal_byte_for_byte(built, published, tmp_path, name):
    first = built(name).save(tmp_path / "a" / "one.parquet").read_bytes()
    again = wb.data.build(name, source=published).save(tmp_path / "b" / "two.parquet")
    assert again.read_bytes() == first
    assert str(published).encode() not in first


@pytest.mark.parametrize("name", ["nih", "openi"])
def test_a_round_trip_keeps_the_content(built, tmp_path, name):
    manifest = built(name)
    for suffix in ("parquet", "csv"):
        path = manifest.save(tmp_path / f"m.{suffix}")
        assert wb.data.load(path).digest() == manifest.digest(), suffix
