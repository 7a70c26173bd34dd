"""What goes into a score card: every accepted form, bad input, and a status for every row."""

from __future__ import annotations

import pandas as pd
import pytest

from workbench.errors import InputError
from workbench.evaluation import read_reports, score

TEXTS = {
    "a": "There is a left pleural effusion. No pneumothorax.",
    "b": "No pleural effusion. There is a nodule.",
    "c": "Possible pneumothorax.",
}
CODES = {
    "a": {"pleural effusion": "present", "pneumothorax": "absent"},
    "b": {"pleural effusion": "absent", "nodule": "present"},
    "c": {"pneumothorax": "uncertain"},
}


def write(path, frame: pd.DataFrame, **options):
    frame.to_csv(path, index=False, **options)
    return path


def quick(predictions, references, **options):
    return score(predictions, references, **{"resamples": 10} | options)


# ---------------------------------------------------------------- accepted forms


def test_every_form_reads_the_same(tmp_path):
    table = pd.DataFrame({"id": list(TEXTS), "text": list(TEXTS.values())})
    wide = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "Pleural Effusion": ["1.0", "0.0", ""],
            "Pneumothorax": ["0.0", "", "-1.0"],
            "Lung Nodule": ["", "1.0", ""],
        }
    )
    long = pd.DataFrame(
        [(key, name, code, 0) for key, row in CODES.items() for name, code in row.items()],
        columns=["id", "finding", "code", "start"],
    )
    forms = {
        "mapping": TEXTS,
        "codes": CODES,
        "frame": table,
        "csv": write(tmp_path / "texts.csv", table),
        "tsv": write(tmp_path / "texts.tsv", table, sep="\t"),
        "bom": write(tmp_path / "bom.csv", table, encoding="utf-8-sig"),
        "wide": write(tmp_path / "wide.csv", wide),
        "wide numbers": wide.replace("", None).astype(dict.fromkeys(wide.columns[1:], float)),
        "long": write(tmp_path / "long.csv", long),
    }
    parquet = tmp_path / "texts.parquet"
    table.to_parquet(parquet)
    forms["parquet"] = parquet
    for name, form in forms.items():
        found = read_reports(form)
        assert list(found.entries) == ["a", "b", "c"], name
        spoken = {
            key: {f: c for f, c in found.codes(key).items() if c != "not mentioned"}
            for key in found.entries
        }
        assert spoken == CODES, name
    assert read_reports(forms["csv"]).name == "texts"
    assert read_reports(forms["wide"]).findings == ("pleural effusion", "pneumothorax", "nodule")


def test_what_workbench_label_writes_is_accepted(tmp_path):
    from workbench.cli import main

    texts = TEXTS | {"d": "Thank you for the referral."}
    source = write(tmp_path / "t.csv", pd.DataFrame(texts.items(), columns=["id", "text"]))
    assert main(["label", str(source), "--out", str(tmp_path / "labels.csv")]) == 0
    card = quick(TEXTS | {"d": "No nodule."}, tmp_path / "labels.csv")
    assert card.statuses["scored"] == 2, "c is uncertain and d mentions nothing"
    assert card.statuses["nothing to score"] == 2
    assert sum(card.statuses.values()) == 4


def test_only_findings_with_a_column_are_scored():
    labels = pd.DataFrame({"id": ["a", "b"], "nodule": ["present", ""], "note": ["x", "y"]})
    assert list(quick(TEXTS, labels).per_finding) == ["nodule"]
    with pytest.raises(InputError, match="no finding has a column on both sides"):
        quick(TEXTS, pd.DataFrame({"id": ["a"], "no finding": ["present"]}))


def test_texts_win_over_labels_beside_them():
    table = pd.DataFrame({"id": ["a"], "text": ["No nodule."], "nodule": ["present"]})
    found = read_reports(table)
    assert found.kind == "texts"
    assert found.codes("a") == {"nodule": "absent"}


def test_ids_are_texts_and_keep_their_zeros(tmp_path):
    path = write(tmp_path / "ids.csv", pd.DataFrame({"id": ["007", "08"], "text": ["x", "NA"]}))
    assert read_reports(path).entries == {"007": "x", "08": "NA"}
    assert list(read_reports({1: "x", 2: "y"}).entries) == ["1", "2"]


# ---------------------------------------------------------------- status of every row


def test_every_row_in_is_a_row_out_with_a_status():
    predictions = TEXTS | {"empty": " \n", "only": "No nodule.", "silent": "Thank you."}
    references = TEXTS | {"empty": "No nodule.", "lost": "No nodule.", "silent": "No nodule."}
    references["blank"] = predictions["blank"] = None
    card = quick(predictions, references)
    status = card.rows.set_index("id")["status"].to_dict()
    assert status == {
        "a": "scored",
        "b": "scored",
        "c": "nothing to score",
        "empty": "no text",
        "lost": "no prediction",
        "silent": "nothing to score",
        "blank": "no text",
        "only": "no reference",
    }
    detail = card.rows.set_index("id")["detail"]
    assert detail["empty"] == "empty in predictions"
    assert detail["blank"] == "empty in predictions and references"
    assert sum(card.statuses.values()) == len(set(predictions) | set(references))
    assert len(card.pairs.ids) == 4
    notes = " ".join(card.warnings)
    assert "2 predictions without text" in notes
    assert "1 id without a prediction" in notes
    assert "1 id without a reference" in notes
    assert card.rows.set_index("id").loc["a", "tp"] == 1
    assert card.rows["tp"].sum() == sum(row.tp for row in card.per_finding.values())
    assert pd.isna(card.rows.set_index("id").loc["lost", "tp"])


def test_an_empty_text_is_not_a_report_that_denies_everything():
    card = quick({"a": "", "b": "No nodule."}, TEXTS, policy="blank-as-negative")
    assert all(row.pairs == 1 for row in card.per_finding.values())
    assert card.per_finding["pleural effusion"].omission.n == 0


def test_all_texts_empty_leaves_everything_undefined():
    card = quick({"a": ""}, {"a": "No nodule."})
    assert card.coverage is None
    assert card.averages["micro"].f1.value is None
    assert card.to_dict()["per_finding"]["nodule"]["coverage"] is None
    card.plot()
    card.plot_coverage()
    card.plot_confusion()
    assert "1 no text" in card._repr_html_()


def test_a_very_long_text_is_read_and_its_wording_left_out():
    pytest.importorskip("rouge_score")
    text = "There is a nodule. " * 5300
    assert len(text) > 100_000
    card = quick({"a": text, "b": "x y"}, {"a": text, "b": "x y"}, text_metrics=True)
    assert card.per_finding["nodule"].tp == 1
    rouge = card.texts["ROUGE-L"]
    assert rouge.n == 1
    assert "1 pairs are too long" in rouge.settings
    assert card.texts["BLEU-4"].n == 2


# ---------------------------------------------------------------- bad input


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (frame(key=["a"], text=["x"]), "has no column 'id'; it has: key, text"),
        (frame(id=["a"], report=["x"]), "neither a column 'text' nor label columns"),
        (frame(id=["a", "b", "a"], text=["x"] * 3), r"1 ids more than once \('a'\)"),
        (frame(id=["a", "a"], nodule=["present", ""]), "ids more than once"),
        (frame(id=["a", None], text=["x", "y"]), "row 2 has no id"),
        (frame(id=["a", " "], text=["x", "y"]), "row 2 has no id"),
        (frame(id=["a"], nodule=["maybe"]), "column 'nodule' holds 'maybe'; expected present"),
        (frame(id=["a"], finding=["dragon"], code=["present"]), "unknown finding 'dragon'"),
        (
            frame(id=["a", "a"], finding=["nodule"] * 2, code=["present", "absent"]),
            "two codes for nodule of id 'a': present and absent",
        ),
        (
            frame(id=["a"], edema=["present"], **{"Pulmonary Edema": ["absent"]}),
            "two columns stand for pulmonary edema: 'edema' and 'Pulmonary Edema'",
        ),
        ({"a": "x", "a ": "y"}, "ids more than once"),
        ({"a": "x", "b": {"nodule": "present"}}, "mix texts and labels"),
        ({"a": 3}, "id 'a' has int"),
        (["x", "y"], "got list"),
        ("nowhere.csv", "nowhere.csv is not a file"),
    ],
)
def test_bad_input_says_what_to_do(source, message):
    with pytest.raises(InputError, match=message):
        read_reports(source)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"id,text\na,na\xefve lung\n", "latin.csv", "cannot be read as a CSV file in UTF-8"),
        (b"", "empty.csv", "cannot be read as a CSV file"),
        (b"id,text\na,no nodule, no effusion\n", "commas.csv", "cannot be read as a CSV file"),
        (b'id,text\na,"never closed\n', "quote.csv", "cannot be read as a CSV file"),
        (b"not parquet", "x.parquet", "cannot be read as a Parquet file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, name, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_reports(path)


def test_ids_that_do_not_match_are_shown():
    with pytest.raises(
        InputError, match=r"no id of the predictions \('1', '2'\) occurs .*'a', 'b'"
    ):
        quick({1: "x", 2: "y"}, TEXTS)


def test_the_message_names_the_file_and_its_columns(tmp_path):
    path = write(tmp_path / "run 7.csv", frame(study=["a"], report=["x"]))
    with pytest.raises(InputError, match=r"run 7\.csv has no column 'id'; it has: study, report"):
        read_reports(path)
    found = read_reports(path, id_column="study", text_column="report")
    assert found.entries == {"a": "x"}
