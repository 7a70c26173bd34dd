"""Everything that reads what somebody else wrote, with sound inputs to damage.

A reader is given bytes and either takes them or raises a `WorkbenchError`; anything else is a
fault. Readers of folders put the damaged bytes in the place of one file of a sound folder.

Does not know: how often, how long, in which process (`running`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import mutation, seeds

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "golden" / "checkpoints" / "A_tiny"
Damage = Callable[[bytes, object, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Reader:
    """One way in.

    Attributes:
        name: what it reads.
        sound: inputs that are taken as they are.
        damage: makes a broken one of a sound one.
        read: takes bytes.
        share: how many of all inputs it gets, relative to the others.
    """

    name: str
    sound: tuple[bytes, ...]
    damage: Damage
    read: Callable[[bytes], object]
    share: int = 1


def all_readers(scratch: Path) -> list[Reader]:
    """Return every reader; files are written below `scratch`."""
    found = [*_images(), *_texts(scratch), *_checkpoints(scratch), *_tables(scratch)]
    return [*found, *_runs(scratch), *_traces(scratch), *_small_files(scratch)]


def _images():
    from workbench import load_radiograph

    def look(data: bytes) -> None:
        image = load_radiograph(data)
        image.contract.facts()
        repr(image)

    yield Reader("DICOM", tuple(seeds.dicom_files()), mutation.damage_bytes, look, 24)
    for kind, share in (("PNG", 8), ("JPEG", 8), ("TIFF", 8), ("other pictures", 6)):
        yield Reader(kind, tuple(seeds.picture_files(kind)), mutation.damage_bytes, look, share)


def _texts(scratch: Path):
    from workbench.hallucination.text_checks import check_text
    from workbench.model.prompt import question_messages, render_chat
    from workbench.reports import label, sentences

    def read(data: bytes) -> None:
        text = data.decode("utf-8", "surrogatepass")
        for piece in sentences(text):
            assert text[piece.start : piece.end] == piece.text
        label(text)._repr_html_()
        check_text(text)._repr_html_()

    def ask(data: bytes) -> None:
        render_chat(question_messages(data.decode("utf-8", "surrogatepass")))

    texts = tuple(seeds.report_texts())
    yield Reader("report text", texts, mutation.damage_text, read, 4)
    yield Reader("question", texts, mutation.damage_text, ask, 4)
    yield from _columns_of_texts(scratch / "texts")


def _columns_of_texts(folder: Path):
    from workbench.commands._shared import read_texts
    from workbench.evaluation.report_set import read_reports

    rows = "id,text,patient\n1,No effusion.,a\n2,There is a nodule.,b\n3,,c\n"
    labels = "id,pleural effusion,pneumothorax\n1,present,absent\n2,1,0\n3,-1,\n"
    long = "id,finding,code\n1,nodule,present\n1,edema,absent\n2,no mention,not mentioned\n"
    path = _file(folder, "texts.csv")

    def column(data: bytes) -> None:
        path.write_bytes(data)
        list(read_texts(path))

    def side(data: bytes) -> None:
        path.write_bytes(data)
        read_reports(path, patient_column="patient")

    sound = tuple(text.encode() for text in (rows, labels, long))
    yield Reader("column of texts", sound[:1], mutation.damage_table, column, 3)
    yield Reader("table to score", sound, mutation.damage_table, side, 2)


def _checkpoints(scratch: Path):
    from workbench.model.card import card
    from workbench.model.load import load_checkpoint
    from workbench.model.tokenizer import CxrTokenizer
    from workbench.model.weights import find_weights

    folder = Path(shutil.copytree(TINY, scratch / "checkpoint"))

    def replaced(name: str, read: Callable[[Path], object]) -> Callable[[bytes], None]:
        sound = (folder / name).read_bytes()

        def run(data: bytes) -> None:
            (folder / name).write_bytes(data)
            try:
                read(folder)
            finally:
                (folder / name).write_bytes(sound)

        return run

    def headers(data: bytes) -> None:
        _file(scratch / "weights", "model.safetensors").write_bytes(data)
        find_weights(scratch / "weights")

    def index(data: bytes) -> None:
        _file(scratch / "index", "model.safetensors.index.json").write_bytes(data)
        find_weights(scratch / "index")

    yield Reader("safetensors", (_small_tensors(),), mutation.damage_bytes, headers, 8)
    shards = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    yield Reader("shard index", (_json(shards),), mutation.damage_json, index, 4)
    texts = {"config.json": 2, "model_card.json": 2, "generation_config.json": 1}
    (folder / "model_card.json").write_text('{"name": "x", "domain": "phantom", "licence": "y"}')
    for name, share in texts.items():
        read = replaced(name, lambda where: card(str(where), hashes=False)._repr_html_())
        if name == "generation_config.json":
            read = replaced(name, lambda where: load_checkpoint(where, device="cpu"))
            share = 0
        yield Reader(name, ((folder / name).read_bytes(),), mutation.damage_json, read, share)
    for name in ("tokenizer_config.json", "special_tokens_map.json", "tokenizer.model"):
        damage = mutation.damage_bytes if name.endswith("model") else mutation.damage_json
        read = replaced(
            name, lambda where: CxrTokenizer.from_directory(where).encode("No effusion")
        )
        yield Reader(name, ((folder / name).read_bytes(),), damage, read, 2)


def _tables(scratch: Path):
    from workbench.data import Cohort, Manifest, freeze
    from workbench.data.building import load
    from workbench.data.checking import check
    from workbench.runs.items import Items

    example = (ROOT / "data_manifests" / "examples" / "phantoms.csv").read_text().splitlines()[:4]
    folder = scratch / "tables"
    text = "\n".join(example).encode() + b"\n"
    csv, parquet = _file(folder, "films.csv"), _file(folder, "films.parquet")
    csv.write_bytes(text)
    manifest = Manifest(load(csv, check=False).frame)
    manifest.save(parquet)
    for path in manifest.frame["path"].dropna():
        _file(folder, path).touch()
    frozen = freeze(manifest, name="some").save(folder / "cohort.json").read_bytes()

    def reading(path: Path) -> Callable[[bytes], None]:
        def read(data: bytes) -> None:
            path.write_bytes(data)
            check(load(path, check=False)).to_frame()
            list(Items(path, folder))

        return read

    def cohort(data: bytes) -> None:
        _file(folder, "cohort.json").write_bytes(data)
        Cohort.load(folder / "cohort.json")

    yield Reader("manifest CSV", (text,), mutation.damage_table, reading(csv))
    sound = parquet.read_bytes()
    yield Reader("manifest Parquet", (sound,), mutation.damage_bytes, reading(parquet), 3)
    yield Reader("cohort", (frozen,), mutation.damage_json, cohort, 3)


def _runs(scratch: Path):
    import pandas as pd

    from workbench.review.study import open_study, reader_study
    from workbench.review.study_session import ReaderSession
    from workbench.review.verdicts import Annotations
    from workbench.runs.store import DATABASE, NAME, RESULTS

    folder = _made_run(scratch / "run")
    frame = pd.DataFrame({"id": ["1", "2"], "model": ["No edema.", "A nodule."]})
    frame = frame.assign(reference=["Edema.", "No nodule."])
    study = reader_study(frame, readers=["AB"], out=scratch / "study", seed=1)
    lines = _file(scratch / "lines", "annotations.jsonl")
    notes = Annotations(lines)
    for verdict in ("model wrong", "unclear"):
        notes.add(id="f-1", finding="nodule", verdict=verdict, reviewer="AB", comment="hm")

    def open_all() -> None:
        from workbench.review.error_queue import queue
        from workbench.runs.result import load

        found = load(folder)
        repr(found)
        found._repr_html_()
        found.errors()
        queue(folder)._repr_html_()

    for name, damage, share in (
        (NAME, mutation.damage_json, 2),
        (DATABASE, mutation.damage_bytes, 1),
        (RESULTS, mutation.damage_bytes, 1),
        ("readings.parquet", mutation.damage_bytes, 1),
    ):
        if name == "readings.parquet":
            open_all()
        yield Reader(f"run: {name}", ((folder / name).read_bytes(),), damage,
                     _in_place(folder / name, open_all), share)  # fmt: skip
    yield Reader("annotations", (lines.read_bytes(),), mutation.damage_bytes,
                 _in_place(lines, lambda: notes.to_frame()), 3)  # fmt: skip
    key, own = study.folder / "key.json", study.folder / "readers" / "AB.json"
    yield Reader("study key", (key.read_bytes(),), mutation.damage_json,
                 _in_place(key, lambda: repr(open_study(study.folder))), 2)  # fmt: skip
    yield Reader("reader's file", (own.read_bytes(),), mutation.damage_json,
                 _in_place(own, lambda: ReaderSession(own).next()), 3)  # fmt: skip


def _traces(scratch: Path):
    import numpy as np

    from workbench import load_model
    from workbench.trace.trace import ARRAYS, NOTES, load_trace

    model = load_model(str(TINY), device="cpu")
    image = np.full((40, 40), 99, np.uint8)
    folder = model.trace(image, model.report(image, max_new_tokens=4)).save(scratch / "trace")
    for name, damage in ((NOTES, mutation.damage_json), (ARRAYS, mutation.damage_bytes)):
        yield Reader(f"trace: {name}", ((folder / name).read_bytes(),), damage,
                     _in_place(folder / name, lambda: repr(load_trace(folder))), 1)  # fmt: skip


def _small_files(scratch: Path):
    from workbench.hallucination.calibration import Calibration

    shipped = json.loads((ROOT / "workbench/assets/mini/detector_calibration.json").read_text())
    path = _file(scratch / "small", "calibration.json")
    one = next(iter(shipped.values())) | {"probabilities": [0.1, 0.9], "false": [0, 1]}
    path.write_bytes(_json(one))
    yield Reader("calibration", (_json(one),), mutation.damage_json,
                 _in_place(path, lambda: Calibration.load(path)), 2)  # fmt: skip


def _in_place(path: Path, read: Callable[[], object]) -> Callable[[bytes], None]:
    """Read a folder one of whose files is replaced, and put the sound one back."""
    sound = path.read_bytes()

    def run(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read()
        finally:
            path.write_bytes(sound)

    return run


def _made_run(folder: Path) -> Path:
    """Write the folder of a small run, without a model."""
    from workbench.runs.record import write_record
    from workbench.runs.store import RunStore

    model = {"id": "mini", "sha256": "0" * 64, "notice": "Not for clinical use.", "licence": "x"}
    fixed = {"model": model, "manifest": {"sha256": "1" * 64, "rows": 3}, "fit": "crop"}
    fixed |= {"tasks": [{"name": "report", "kind": "report"}], "decoding": {"seed": 0}}
    with RunStore(folder) as store:
        for at, text in enumerate(("No effusion.", "A left effusion.", None)):
            row = {"row": at, "position": 0, "id": f"f-{at}", "source": "made", "task": "report"}
            row |= {
                "status": "done" if text else "failed",
                "text": text,
                "error": "" if text else "e",
            }
            store.add(at, [row | {"tokens": 3, "mean_logprob": -0.1, "warnings": "", "view": "PA"}])
        store.export()
        write_record(folder, {"fixed": fixed, "sessions": [], "outcome": {"seconds": 1.0}})
    return folder


def _small_tensors() -> bytes:
    import numpy as np
    from safetensors.numpy import save

    return save({"a.weight": np.ones((3, 2), np.float16), "b": np.zeros(5, np.float32)})


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _file(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
