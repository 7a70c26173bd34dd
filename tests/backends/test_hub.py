"""Checkpoints of any family by hub id: a hub on this machine, and its cache without a network."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

import workbench as wb
from tests.backends.families import FAMILIES
from workbench.errors import CheckpointError
from workbench.model.licence import NOT_CLINICAL
from workbench.model.source import PUBLISHED_ID, CheckpointSource, find_local, terms_for

ID, COMMIT = "someone/chest-model", "c" * 40
CARD = """---
license: other
license_name: health-ai-terms
license_link: https://example.org/terms
base_model: google/medgemma-4b-it
---
# A model
"""


class Hub:
    """Answers as the hub does, from a folder; `asked` are the files that were fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.gated, self.asked = folder, False, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, *, body: bool):
                path = self.path.split("?")[0]
                files = sorted(p for p in outer.folder.rglob("*") if p.is_file())
                names = [str(p.relative_to(outer.folder)) for p in files]
                status, data, more = 404, b"", {"X-Error-Code": "EntryNotFound"}
                if path.startswith("/api/models/"):
                    tree = [{"path": name, "type": "file", "size": 1, "oid": ""} for name in names]
                    about = {"id": ID, "sha": COMMIT, "siblings": []}
                    data = json.dumps(tree if "/tree/" in path else about).encode()
                    status, more = 200, {"Content-Type": "application/json"}
                elif "/resolve/" in path and outer.gated:
                    status, more = 403, {"X-Error-Code": "GatedRepo"}
                elif (name := path.split(f"/{COMMIT}/")[-1]) in names:
                    data = (outer.folder / name).read_bytes()
                    tag = hashlib.sha256(data).hexdigest()
                    status, more = 200, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}
                    if body:
                        outer.asked.append(name)
                self.send_response(status)
                for key, value in {**more, "Content-Length": str(len(data))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if body:
                    self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    directory = FAMILIES["qwen2_5_vl"](tmp_path_factory.mktemp("hub") / "model")
    (directory / "README.md").write_text(CARD)
    return directory


@pytest.fixture
def hub(checkpoint, tmp_path, monkeypatch):
    """Return a hub that holds the checkpoint, with code, pickles and a second format beside it."""
    folder = shutil.copytree(checkpoint, tmp_path / "served")
    (folder / "original").mkdir()
    for name in ("modeling.py", "pytorch_model.bin", "original/consolidated.00.safetensors"):
        (folder / name).write_bytes(b"never")
    made = Hub(folder)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", made.url)
    template = f"{made.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_model_of_another_family_is_fetched_with_all_it_needs(hub, caplog):
    with caplog.at_level(logging.WARNING):
        model = wb.load_model(ID, device="cpu", dtype="float32")
    assert type(model).__name__ == "TransformersModel"
    assert (model.card.name, model.card.revision) == (ID, COMMIT)
    assert model.card.licence == "health-ai-terms (https://example.org/terms)"
    assert model.prompts.name == "medgemma" and "not for clinical use" in model.notice.lower()
    assert hub.asked[:2] in (["README.md", "config.json"], ["config.json", "README.md"])
    assert {"chat_template.jinja", "tokenizer.json"} <= set(hub.asked)
    assert not [name for name in hub.asked if name.endswith((".py", ".bin")) or "/" in name]
    fetching = next(one for one in caplog.messages if one.startswith("fetching"))
    assert "health-ai-terms" in fetching and "LLaMA" not in fetching
    assert model.report(wb.phantom(seed=1), max_new_tokens=3).model.id == ID


def test_what_was_fetched_once_is_opened_without_a_network(hub, monkeypatch):
    wb.load_model(ID, device="cpu")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert find_local(ID) is not None
    assert wb.load_model(ID, device="cpu").card.revision == COMMIT and not hub.asked


def test_terms_that_were_not_accepted_say_where_to_do_that(hub):
    hub.gated = True
    with pytest.raises(CheckpointError, match=rf"accept first.*huggingface.co/{ID}.*hf auth login"):
        wb.load_model(ID, device="cpu")


def test_pickles_are_not_fetched(hub):
    (hub.folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no model.safetensors.*pickled.*convert them"):
        wb.load_model(ID, device="cpu")
    assert not [name for name in hub.asked if name.endswith(".bin")]


def test_code_that_a_checkpoint_names_is_not_run(checkpoint, tmp_path, caplog):
    copy = shutil.copytree(checkpoint, tmp_path / "coded")
    ran = tmp_path / "ran"
    (copy / "own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    for name in ("config.json", "processor_config.json"):
        path = copy / name
        fields = json.loads(path.read_text()) if path.is_file() else {}
        names = ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor")
        fields["auto_map"] = {name: "own.Own" for name in names}
        path.write_text(json.dumps(fields))
    with caplog.at_level(logging.WARNING):
        model = wb.load_model(copy, device="cpu")
    assert any("coded names code of its own, which is not run" in one for one in caplog.messages)
    assert model.report(wb.phantom(seed=1), max_new_tokens=2).token_ids and not ran.exists()


def test_a_type_that_only_its_own_code_knows_is_refused(checkpoint, tmp_path):
    copy = shutil.copytree(checkpoint, tmp_path / "unknown")
    fields = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**fields, "model_type": "llava_mistral"}))
    match = r"type 'llava_mistral'.*code beside the weights is never run.*converted"
    with pytest.raises(CheckpointError, match=match):
        wb.load_model(copy, device="cpu")


@pytest.mark.parametrize(
    ("name", "head", "licence"),
    [
        (PUBLISHED_ID, "license: mit", "CC BY-NC 4.0"),  # known, whatever a copy states
        ("someone/cxr-llava-tuned", "license: apache-2.0", "apache-2.0"),
        ("someone/cxr-llava-tuned", "license: [mit, cc-by-4.0]", "mit, cc-by-4.0"),
        ("someone/cxr-llava-tuned", "tags: [x]", "not stated"),
        ("someone/cxr-llava-tuned", "license: [", "not stated"),
    ],
)
def test_terms_are_those_of_the_card(tmp_path, name, head, licence):
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n")
    found = terms_for(CheckpointSource(name, "hub", tmp_path), {})
    assert found.licence.startswith(licence) and NOT_CLINICAL in found.notice.lower()
    own = terms_for(CheckpointSource("x", "directory", tmp_path), {"licence": "mine"})
    assert own.licence == "mine"
