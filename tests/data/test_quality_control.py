"""Quality control reads every image once, names the suspects, and can be taken up again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import workbench as wb
from tests.imaging.conftest import build, smooth_film, to_bytes
from workbench.cli import main
from workbench.data.images import dhash, file_dhash, near_pairs
from workbench.data.quality_control import COMMON_WARNINGS, QualityTable
from workbench.errors import InputError, OptionError
from workbench.radiograph import WARNING_CODES


@pytest.fixture
def folder(films, tmp_path):
    """Two radiographs, a copy saved again, one grey value, a torn file, and a text called .png."""
    folder = films("one.png", "two.png", folder=tmp_path / "films", size=512)
    Image.open(folder / "one.png").resize((400, 400)).save(folder / "again.jpg", quality=80)
    Image.new("L", (64, 64), 90).save(folder / "grey.png")
    (folder / "torn.png").write_bytes((folder / "two.png").read_bytes()[:900])
    (folder / "words.png").write_text("this is not an image")
    Image.new("L", (600, 300), 90).save(folder / "wide.png")
    return folder


def reasons(table) -> dict[str, str]:
    return dict(zip(table.frame["image_id"], table.frame["reasons"], strict=True))


def test_suspects_are_named(folder):
    table = wb.data.quality(wb.data.build("folder", source=folder), workers=1)
    found = reasons(table)
    assert found["two"] == ""
    assert "same image as again" in found["one"] or "same image as one" in found["again"]
    assert found["grey"].startswith("constant-image")
    assert found["torn"].startswith("not readable")
    assert "text file" in found["words"]
    summary = table.summary()
    assert (summary["images"], summary["readable"]) == (7, 5)
    assert summary["crop_loss"]["greatest"] == pytest.approx(50, abs=0.1)
    assert table.plot().axes


def test_the_check_names_the_copy_saved_again(folder):
    result = wb.data.build("folder", source=folder).check(rules=["duplicate-image"])
    named = {(p.image_id, p.repair.rsplit("from ", 1)[-1]) for p in result.problems}
    assert ("one", "again") in named or ("again", "one") in named


def test_workers_do_not_change_the_result(films, tmp_path):
    folder = films(*[f"{n}.png" for n in range(40)], folder=tmp_path / "many")
    manifest = wb.data.build("folder", source=folder, hash_files=False)
    one = wb.data.quality(manifest, workers=1).frame
    assert one.equals(wb.data.quality(manifest, workers=2).frame)


def test_it_is_taken_up_where_it_stopped(folder, tmp_path, monkeypatch):
    manifest = wb.data.build("folder", source=folder, hash_files=False)
    whole = wb.data.quality(manifest, workers=1).frame
    seen = []
    import workbench.data.quality_control as control

    look = control.look_at

    def stopping(task, **options):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(task[0])
        return look(task, **options)

    monkeypatch.setattr(control, "look_at", stopping)
    with pytest.raises(KeyboardInterrupt):
        wb.data.quality(manifest, workers=1, out=tmp_path / "q")
    journal = tmp_path / "q" / "quality.jsonl"
    with journal.open("a") as handle:
        handle.write('{"path": "torn li')
    monkeypatch.setattr(control, "look_at", look)
    first = journal.read_text().splitlines()[:3]
    table = wb.data.quality(manifest, workers=1, out=tmp_path / "q").frame
    assert table.equals(whole)
    paths = []
    for line in journal.read_text().splitlines():
        if line.endswith("}") and line.startswith('{"path": "torn li') is False:
            paths.append(json.loads(line)["path"])
    assert len(first) == 3
    assert set(seen) <= set(paths)


def test_lines_of_an_older_reading_are_not_believed(folder, tmp_path):
    manifest = wb.data.build("folder", source=folder, hash_files=False)
    whole = wb.data.quality(manifest, workers=1, out=tmp_path / "q").frame
    journal = tmp_path / "q" / "quality.jsonl"
    old = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in old:
        record.pop("reading")
        record["warnings"] = ""
    journal.write_text("".join(json.dumps(record) + "\n" for record in old))
    assert wb.data.quality(manifest, workers=1, out=tmp_path / "q").frame.equals(whole)


def test_a_changed_file_is_read_again(folder, tmp_path):
    manifest = wb.data.build("folder", source=folder, hash_files=False)
    wb.data.quality(manifest, workers=1, out=tmp_path / "q")
    Image.new("L", (333, 222), 10).save(folder / "two.png")
    table = wb.data.quality(manifest, workers=1, out=tmp_path / "q").frame.set_index("image_id")
    assert (table.loc["two", "rows"], table.loc["two", "columns"]) == (222, 333)


def test_a_lateral_radiograph_that_is_called_frontal_is_a_suspect(tmp_path, chest_dicom):
    (tmp_path / "film.dcm").write_bytes(chest_dicom.read_bytes())
    (tmp_path / "t.csv").write_text("path,view\nfilm.dcm,PA\n")
    table = wb.data.quality(wb.data.build("csv", source=tmp_path), workers=1)
    row = table.frame.iloc[0]
    assert (row["modality"], row["bits"], row["inverted"]) == ("CR", 15, True)
    assert row["view"] == "PA"
    assert row["layout"] > 0.5


def test_options_are_checked(folder):
    manifest = wb.data.build("folder", source=folder, hash_files=False)
    with pytest.raises(OptionError, match="workers must be a whole number of 1 or more"):
        wb.data.quality(manifest, workers=0)
    without = wb.data.Manifest(manifest.frame)
    with pytest.raises(InputError, match="no image is at hand"):
        wb.data.quality(without)
    with pytest.raises(InputError, match="does not know where its images are"):
        without.path(0)


def judged(*codes, view="PA", stated="PA", layout=0.9):
    """A table of one readable image whose contract carries some warnings."""
    row = {
        "path": "a.png",
        "image_id": "a",
        "readable": True,
        "error": None,
        "warnings": "|".join(codes),
        "view": view,
        "stated_view": stated,
        "layout": layout,
    }
    return QualityTable.judged(pd.DataFrame([row]), Path())


@pytest.mark.parametrize("code", [*WARNING_CODES, "a-code-of-tomorrow"])
def test_no_warning_of_the_contract_is_dropped(code):
    table = judged(code)
    assert reasons(table)["a"] == code
    assert len(table.suspects) == (code not in COMMON_WARNINGS)
    assert table.summary()["warnings"] == {code: 1}
    both = judged("crop-loss", code)
    assert code in reasons(both)["a"] and "crop-loss" in reasons(both)["a"]
    assert len(both.suspects) == (code not in COMMON_WARNINGS)


def test_a_lateral_image_that_is_meant_to_be_one_is_no_suspect():
    assert len(judged("lateral-view", view="lateral", stated="lateral").suspects) == 0
    assert "the file says lateral" in reasons(judged("lateral-view", view="lateral"))["a"]
    assert len(judged("lateral-view", view="lateral", stated="unknown").suspects) == 1


def test_warnings_of_files_reach_the_table_and_the_command(tmp_path, capsys):
    """Two views side by side, a window that hides the image, raw data, another part, a mirror."""
    films = {
        "two": {"pixels": np.hstack([smooth_film(256, 256, 12)] * 2)},
        "window": {"WindowCenter": 60000, "WindowWidth": 100},
        "raw": {"PresentationIntentType": "FOR PROCESSING"},
        "knee": {"SeriesDescription": "KNEE AP"},
        "mirrored": {"PatientOrientation": ["R", "F"]},
        "comma": {"WindowCenter": "2048", "WindowWidth": "4096"},
        "sound": {},
    }
    for name, tags in films.items():
        pixels = tags.pop("pixels", smooth_film(512, 512, 12))
        data = to_bytes(build(pixels, bits=12, **tags)).replace(b"2048", b"204,")
        (tmp_path / f"{name}.dcm").write_bytes(data)
    wb.data.build("folder", source=tmp_path).save(tmp_path / "films.csv")
    expected = {
        "two": "aspect-ratio",
        "window": "window",
        "raw": "for-processing",
        "knee": "not-a-chest",
        "mirrored": "orientation",
        "comma": "header",
    }
    code = main(["manifest", "quality", str(tmp_path / "films.csv"), "--root", str(tmp_path),
                 "--workers", "1", "--out", str(tmp_path / "q")])  # fmt: skip
    assert code == 0
    said = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "q" / "quality.csv").set_index("image_id")
    counted = next(line for line in said.splitlines() if line.startswith("warnings: "))
    for name, warning in expected.items():
        assert f"{warning} 1" in counted
        assert warning in table.loc[name, "reasons"].split("; "), name
        line = next(line for line in said.splitlines() if line.startswith(f"{name}: "))
        assert warning in line and table.loc[name, "suspect"]


# --- hashes ---------------------------------------------------------------------------------------


def test_dhash_by_hand():
    ramp = np.tile(np.arange(17.0), (16, 1))
    assert dhash(ramp) == "f" * 64
    assert dhash(-ramp) == "0" * 64
    assert dhash(np.zeros((31, 37))) == "0" * 64
    assert dhash(ramp * 1000 + 5) == dhash(ramp)


def test_dhash_survives_scaling_and_compression(films, tmp_path):
    folder = films("a.png", folder=tmp_path, size=512)
    Image.open(folder / "a.png").resize((301, 301)).save(folder / "a.jpg", quality=60)
    one, two = (int(file_dhash(folder / name), 16) for name in ("a.png", "a.jpg"))
    assert (one ^ two).bit_count() <= 10
    assert file_dhash(folder / "nothing.png") is None


@pytest.mark.parametrize("common", [0, 16])
def test_near_pairs_are_those_of_brute_force(common):
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 256, (307, 32), dtype=np.uint8)
    rows[:, 4 : 4 + common] = rows[0, 4 : 4 + common]
    for at in range(60):
        rows[200 + at] = rows[at]
        for bit in rng.choice(256, at % 14, replace=False):
            rows[200 + at, bit // 8] ^= 1 << (bit % 8)
    hashes = pd.Series([row.tobytes().hex() for row in rows], dtype="string")
    hashes.iloc[300] = None
    words = rows.view(np.uint64)
    expected = [
        (one, two, int(np.bitwise_count(words[one] ^ words[two]).sum()))
        for one in range(300)
        for two in range(one + 1, 300)
    ]
    expected = [pair for pair in expected if pair[2] <= 10]
    found = [pair for pair in near_pairs(hashes) if 300 not in pair[:2] and max(pair[:2]) < 300]
    assert sorted(found) == expected
