"""Damaged input ends in an error of the workbench, soon, and without much memory.

Every reader gets its share, and then all of them a minute of what the fuzzer makes, the same inputs
every time. `python -m tests.fuzz --seed N --seconds N` takes others, for as long as you like.
"""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import sys
import tracemalloc
import zlib
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

import workbench as wb
from tests.fuzz import running, seeds
from tests.fuzz.readers import Reader, all_readers
from workbench._store import parse_json, read_json
from workbench.cli import main
from workbench.errors import InputError, OptionError, RunError, WorkbenchError
from workbench.hallucination.text_checks import check_text
from workbench.imaging.dicom import MAX_FILE_BYTES
from workbench.model.prompt import question_messages, render_chat
from workbench.reports import label
from workbench.review.verdicts import Annotations
from workbench.runs.store import RunStore

#: Inputs of each reader, times its share; those that take long get few.
EACH, SEED = 10, 11
_QUIET = settings(
    max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@pytest.fixture(scope="module")
def readers(tmp_path_factory) -> list[Reader]:
    return all_readers(tmp_path_factory.mktemp("fuzz"))


def test_every_reader_takes_sound_input_and_refuses_damaged_input_in_words(readers, capfd):
    faults, outcome = [], running.Outcome(seed=SEED)
    assert len(readers) >= 30
    for reader in readers:
        for sound in reader.sound:
            came = running.try_one(reader, sound)
            if came != "taken" and not (reader.name == "shard index" and came == "refused"):
                faults.append((reader.name, "sound", came))
        for number in range(EACH * reader.share):
            outcome.note(reader, number, SEED)
    assert faults == []
    assert outcome.to_dict()["faults"] == []
    assert outcome.clean
    assert outcome.total > 900
    assert outcome.total > outcome.taken.total() > 100


def test_the_fuzzer_finds_faults_and_tells_refusals_from_them():
    def read(data: bytes) -> None:
        if data == b"bad":
            raise InputError("no good; copy it again")
        if data == b"mute":
            raise InputError("")
        if data != b"good":
            raise KeyError("x")

    reader = Reader("made", (b"good",), lambda data, rng, others: data, read)
    assert running.try_one(reader, b"good") == "taken"
    assert running.try_one(reader, b"bad") == "refused"
    assert running.try_one(reader, b"mute") == "an error without a message"
    assert "KeyError" in running.try_one(reader, b"else")
    outcome = running.Outcome()
    outcome.note(reader, 0, 0)
    other = running.Outcome()
    other.note(Reader("odd", (b"x",), reader.damage, read), 0, 0)
    outcome.add(other)
    assert outcome.total == 2 and not outcome.clean
    assert outcome.to_dict()["uncaught_exceptions"] == 1
    assert running.damaged(reader, 5, 1) == running.damaged(reader, 5, 1)


# --- texts ---------------------------------------------------------------------------------------


@_QUIET
@given(st.text(max_size=300))
def test_any_text_can_be_read_as_a_report(text):
    found = label(text)
    assert all(0 <= row.start <= row.end <= len(text) for row in found.rows)
    for issue in check_text(text).issues:
        assert text[issue.start : issue.end] == issue.text


@_QUIET
@given(st.text(max_size=200))
def test_any_question_is_asked_or_refused_and_never_speaks_for_the_model(text):
    try:
        prompt = render_chat(question_messages(text))
    except WorkbenchError:
        return
    # with the text taken out, the frame is that of any question: nothing was opened or closed
    frame = render_chat(question_messages("?"))
    for mark in ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<image>", "<s>", "</s>"):
        assert prompt.count(mark) == frame.count(mark)


@pytest.mark.parametrize(
    "piece", ["no effusion, ", "no ", "effusion or ", "No pneumothorax. ", "("]
)
def test_a_report_that_repeats_itself_is_read_in_steps_that_grow_with_its_length(
    piece, monkeypatch
):
    """Counted in calls of the rules, not in seconds."""
    counts = []
    for times in (20, 40, 80):
        seen = 0

        def count(frame, event, _):
            nonlocal seen
            seen += event == "call"

        sys.setprofile(count)
        try:
            label(piece * times)
        finally:
            sys.setprofile(None)
        counts.append(seen)
    assert counts[2] <= 3.2 * counts[1] + 200, counts


def test_a_text_longer_than_any_report_is_refused():
    for read in (label, check_text):
        with pytest.raises(InputError, match="characters is no report"):
            read("No effusion. " * 50_000)


# --- JSON and YAML -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, '"\\ud800"', "nul", "", "\xff", "{}x"]
)
def test_json_that_is_none_is_a_value_error(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError):
        read_json(path)
    if "ud800" not in text:
        with pytest.raises(ValueError):
            parse_json(text)


# --- bombs ---------------------------------------------------------------------------------------


def test_a_picture_that_says_it_is_huge_is_refused_before_it_is_unpacked():
    header = struct.pack(">2I5B", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = b"".join(_chunk(*one) for one in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")),
                                             (b"IEND", b"")))  # fmt: skip
    with _little_memory(), pytest.raises(InputError, match="more than the limit"):
        wb.load_radiograph(b"\x89PNG\r\n\x1a\n" + body)


def test_a_picture_with_more_pixels_than_its_bytes_can_hold_is_refused_before_room_is_made():
    sink = io.BytesIO()
    Image.fromarray(seeds.film(8)).convert("RGB").save(sink, "WEBP")
    found = sink.getvalue()
    at = found.index(b"\x9d\x01\x2a") + 3  # behind the start code: width and height
    wide = found[:at] + struct.pack("<2H", 9496, 6144) + found[at + 4 :]
    with _little_memory(), pytest.raises(InputError, match="promises 6144 x 9496 pixels"):
        wb.load_radiograph(wide[:1335])


def test_a_run_whose_rows_have_a_schema_that_is_no_text_is_said_to_be_damaged(tmp_path):
    path = tmp_path / "rows.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE rows (status TEXT PRIMARY KEY, n INTEGER)")
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE rows", b"CREATE T\xffBLE rows"))
    with pytest.raises(InputError, match="cannot be read as the rows"):
        wb.runs.load(tmp_path)
    with pytest.raises(RunError), RunStore(tmp_path):
        pass


def test_a_note_in_a_picture_that_unpacks_without_end_is_refused():
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "a" * 30_000_000, zip=True)
    sink = io.BytesIO()
    Image.fromarray(seeds.film(8)).save(sink, "PNG", pnginfo=notes)
    assert len(sink.getvalue()) < 100_000
    with _little_memory(), pytest.raises(InputError, match="damaged or cut short"):
        wb.load_radiograph(sink.getvalue())


def test_a_deflated_film_that_unpacks_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("workbench.imaging.dicom.MAX_FILE_BYTES", 1_000_000)
    assert MAX_FILE_BYTES <= 2_000_000_000
    deflated = seeds.dicom_files()[3]
    at = 132
    start = _end_of_meta(deflated, at)
    packer = zlib.compressobj(wbits=-15)
    body = zlib.decompress(deflated[start:], wbits=-15)
    bomb = packer.compress(body + b"\x09\x00\x01\x00UN\0\0" + struct.pack("<I", 50_000_000))
    bomb += packer.compress(b"\0" * 50_000_000) + packer.flush()
    assert len(bomb) < 100_000
    with _little_memory(), pytest.raises(InputError, match="unpack"):
        wb.load_radiograph(deflated[:start] + bomb)


@pytest.mark.parametrize(("rows", "columns"), [(65_535, 65_535), (1, 65_535), (0, 5), (65_535, 24)])
def test_a_film_whose_header_promises_other_sizes_is_refused(rows, columns):
    found = seeds.dicom_files()[0]
    for tag, value in (("10", rows), ("11", columns)):
        at = found.index(b"\x28\x00" + bytes.fromhex(tag) + b"\x00US\x02\x00")
        found = found[: at + 8] + struct.pack("<H", value) + found[at + 10 :]
    with _little_memory(), pytest.raises(InputError):
        wb.load_radiograph(found)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _end_of_meta(data: bytes, at: int) -> int:
    assert data[at : at + 8] == b"\x02\x00\x00\x00UL\x04\x00"
    return at + 12 + struct.unpack("<I", data[at + 8 : at + 12])[0]


class _little_memory:
    """What Python and NumPy allocate inside stays below 100 MB."""

    def __enter__(self):
        tracemalloc.start()

    def __exit__(self, *_):
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100e6, f"{peak / 1e6:.0f} MB"


# --- paths ---------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path):
    """A picture that no manifest below `films` may reach; returns the folder and the picture."""
    folder = tmp_path / "films"
    (folder / "sub").mkdir(parents=True)
    secret = tmp_path / "secret.png"
    Image.fromarray(seeds.film(8)).save(secret)
    Image.fromarray(seeds.film(8)).save(folder / "film.png")
    (folder / "link.png").symlink_to(secret)
    (folder / "away").symlink_to(tmp_path)
    return folder, secret


def test_no_path_of_a_manifest_leaves_its_root(outside, tiny, tmp_path):
    folder, secret = outside
    wrong = ["../secret.png", str(secret), "link.png", "away/secret.png", "sub/../../secret.png",
             "~/secret.png", "file:///etc/passwd", "..\\secret.png", "sub/../../x/../secret.png",
             "film.png\0.png", "/dev/zero", "//secret.png", "C:secret.png"]  # fmt: skip
    rows = [{"image_id": f"w{n}", "path": path} for n, path in enumerate(wrong)]
    import pandas as pd

    frame = pd.DataFrame([*rows, {"image_id": "good", "path": "film.png"}])
    frame.to_parquet(folder / "films.parquet")
    found = wb.run(folder / "films.parquet", model=tiny, device="cpu", out=tmp_path / "run",
                   max_new_tokens=1).to_frame()  # fmt: skip
    assert found.loc[found["status"] == "done", "id"].tolist() == ["good"]
    assert found.loc[found["status"] == "failed", "error"].str.contains("leads out of").all()


def test_no_shard_index_leaves_its_folder(tiny, tmp_path):
    from workbench.errors import CheckpointError
    from workbench.model.weights import find_weights

    (tmp_path / "a").mkdir()
    weights = Path(tiny) / "model.safetensors"
    (tmp_path / "model-1.safetensors").write_bytes(weights.read_bytes())
    for name in ("../model-1.safetensors", str(weights), "a/../../x.safetensors", "..", ""):
        index = tmp_path / "a" / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"x": name}}))
        with pytest.raises(CheckpointError):
            find_weights(tmp_path / "a")


# --- what others open ----------------------------------------------------------------------------

FORMULA = '=HYPERLINK("http://x";"y")'
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.mark.parametrize("command", ["label", "check-text"])
def test_commands_over_texts_write_no_formula(command, tmp_path):
    text = f"{FORMULA} compared to prior, unchanged pleural effusion."
    (tmp_path / "in.csv").write_text(
        "id,text\n" + f'"@SUM(1)","{text.replace(chr(34), chr(34) * 2)}"\n'
    )
    assert main([command, str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")]) == 0
    _no_formula(tmp_path / "out.csv")
    assert "'@SUM(1)" in (tmp_path / "out.csv").read_text()


def test_tables_of_a_review_and_a_score_card_write_no_formula(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"id": [FORMULA, "+1+1", "b"], "text": ["A nodule.", "-2", FORMULA]})
    references = frame.assign(text=["No nodule.", "No nodule.", "A nodule."])
    queue = wb.review.queue(frame)
    queue.save(tmp_path / "queue.csv")
    wb.evaluation.save_card(wb.evaluation.score(frame, references), tmp_path / "card")
    notes = Annotations(tmp_path / "notes.jsonl")
    notes.add(id=FORMULA, finding="nodule", verdict="unclear", reviewer="=A", comment=FORMULA)
    notes.save(tmp_path / "notes.csv")
    files = list(tmp_path.rglob("*.csv"))
    assert len(files) >= 4
    for path in files:
        _no_formula(path)


def _no_formula(path: Path) -> None:
    import csv

    for row in csv.reader(path.read_text().splitlines()):
        for cell in row:
            try:
                float(cell)
            except ValueError:
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), (path.name, cell)


def test_no_page_runs_what_a_text_says(tiny, tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"id": [SCRIPT, "b"], "text": [f"A nodule. {SCRIPT}", "No nodule."]})
    frame = frame.assign(source=SCRIPT)
    references = pd.DataFrame({"id": [SCRIPT, "b"], "text": ["No nodule.", SCRIPT]})
    card = wb.evaluation.score(frame, references)
    wb.evaluation.save_card(card, tmp_path / "card")
    queue = wb.review.queue(frame)
    pages = [path.read_text() for path in tmp_path.rglob("*.html")]
    shown = [queue, queue.case(SCRIPT), label(frame["text"][0]), check_text(frame["text"][0]), card]
    image = wb.radiograph.Radiograph.from_array(seeds.film(8), source=SCRIPT)
    model = wb.load_model(tiny, device="cpu")
    report = model.ask(image, f"Is there {SCRIPT}", max_new_tokens=2)
    pages += [one._repr_html_() for one in (*shown, image, report)]
    assert len(pages) >= 8
    for page in pages:
        assert "<script>alert" not in page and "<img src=x" not in page
    assert any("&lt;script&gt;" in page for page in pages)


def test_a_recipe_runs_nothing_and_yaml_tags_are_refused(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(f"name: !!python/object/apply:os.mkdir ['{tmp_path / 'ran'}']\n")
    with pytest.raises(OptionError, match="is not YAML"):
        wb.finetune.read_recipe(path)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(path.read_text())


def test_many_damaged_inputs_are_refused_in_words_and_little_memory():
    outcome = running.fuzz(count=750, seed=12)
    assert outcome.clean, outcome.to_dict()
    assert outcome.total == 750
    assert outcome.peak_mb < 1000, outcome.growths


def test_a_process_of_its_own_is_watched():
    """The command itself, on few inputs of a quick reader."""
    outcome = running.fuzz(count=40, seed=1, only="PNG")
    assert outcome.total == 40 and outcome.clean, outcome.to_dict()
    assert outcome.inputs == {"PNG": 40}
    assert 20 < outcome.peak_mb < 4000
