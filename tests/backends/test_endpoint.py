"""Models behind an OpenAI-compatible endpoint: real servers, and every way in which one fails."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import workbench as wb
from tests.backends.families import FAMILIES
from workbench.backends import endpoint
from workbench.errors import InputError, MissingDependencyError, OptionError, RunError

pytest.importorskip("openai")

TOKENS = ["The", " heart", " is", " enlarged", "."]


def reply(text="The heart is enlarged.", *, told=True, stop="stop") -> dict:
    content = [
        {"token": token, "logprob": -0.1 * n, "bytes": None, "top_logprobs": []}
        for n, token in enumerate(TOKENS)
    ]
    choice = {"index": 0, "finish_reason": stop, "message": {"role": "assistant", "content": text}}
    choice["logprobs"] = {"content": content} if told else None
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


class Server:
    """A server that answers with what it is told, in turn, and keeps what it was asked."""

    def __init__(self, *answers, port: int = 0) -> None:
        self.asked, self.headers, self.answers = [], [], list(answers)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.asked.append(json.loads(body))
                outer.headers.append(dict(self.headers))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                status, content = answer if isinstance(answer, tuple) else (200, answer)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                kind = "text/event-stream" if data.startswith(b"data:") else "application/json"
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve():
    made = []

    def start(*answers, **options):
        made.append(Server(*(answers or (reply(),)), **options))
        return made[-1]

    yield start
    for server in made:
        server.stop()


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(endpoint, "PATIENCE", 3.0)
    monkeypatch.setattr(endpoint, "TRIES", 0)
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-this-test")


def image(seed: int = 0) -> wb.Radiograph:
    return wb.load_radiograph(np.random.default_rng(seed).integers(0, 256, (70, 60), np.uint8))


def test_a_report_with_its_tokens(serve):
    server = serve()
    model = wb.load_model(server.url, name="tiny")
    report = model.report(image(), max_new_tokens=33)
    assert report.text == "The heart is enlarged." and report.tokens == tuple(TOKENS)
    assert [report.text[a:b] for a, b in report.offsets] == TOKENS
    np.testing.assert_allclose(report.logprobs, [0, -0.1, -0.2, -0.3, -0.4], atol=1e-6)
    assert report.stopped_by == "eos" and report.model.device == "127.0.0.1"
    asked = server.asked[0]
    assert (asked["model"], asked["max_tokens"], asked["temperature"]) == ("tiny", 33, 0.0)
    roles = [one["role"] for one in asked["messages"]]
    assert roles == ["system", "user"]
    picture, text = asked["messages"][1]["content"]
    assert "Write a radiologic report" in text["text"] and "<image>" not in text["text"]
    data = base64.b64decode(picture["image_url"]["url"].split(",")[1])
    shown = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(shown, np.rint(image().pixels * 255))


def test_sampling_is_asked_for_as_set(serve):
    server = serve()
    wb.load_model(server.url, name="t").report(image(), temperature=0.7, top_p=0.9, seed=5)
    asked = server.asked[0]
    assert (asked["temperature"], asked["top_p"], asked["seed"]) == (0.7, 0.9, 5)


def test_a_chat_sends_the_whole_dialogue(serve):
    server = serve()
    chat = wb.load_model(server.url, name="t").chat(image())
    chat.say("Is the heart enlarged?")
    chat.say("How much?")
    roles = [one["role"] for one in server.asked[1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert len(chat.history) == 2


def test_many_at_once_but_not_more_than_allowed(serve):
    server = serve()
    texts = wb.load_model(server.url, name="t").report_many([image(n) for n in range(9)])
    assert len(texts) == len(server.asked) == 9
    assert len({text.pixels_sha256 for text in texts}) == 9


def test_a_stream_joins_to_its_text(serve):
    def event(piece, stop=None):
        choice = {"index": 0, "delta": {"content": piece}, "finish_reason": stop}
        part = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return b"data: " + json.dumps(part | {"choices": [choice]}).encode() + b"\n\n"

    whole = b"".join(
        [event("The heart "), event("is "), event("large.", "stop"), b"data: [DONE]\n\n"]
    )
    stream = wb.load_model(serve(whole).url, name="t").stream_report(image())
    assert list(stream) and stream.generation.text == "The heart is large."
    assert stream.generation.stopped_by == "eos"
    cut = b"".join([event("The heart "), event("is ")])
    stream = wb.load_model(serve(cut).url, name="t").stream_report(image())
    assert "".join(stream) == "The heart is " and stream.generation.stopped_by == "cancelled"


def test_a_server_that_refuses_log_probabilities_is_asked_without(serve):
    server = serve((400, {"error": {"message": "logprobs are not supported"}}), reply(told=False))
    model = wb.load_model(server.url, name="t")
    text = model.report(image())
    assert len(text.logprobs) == 0 and not text.tokens
    assert all(np.isnan(word.probability) for word in text.words)
    model.report(image(1))
    assert ["logprobs" in asked for asked in server.asked] == [True, False, False]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_waited_for(serve, status):
    server = serve((status, {"error": {"message": "busy"}}), reply())
    assert wb.load_model(server.url, name="t").report(image()).text
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        ((500, {"error": "down"}), RunError, "does not answer.*kept"),
        ((400, {"error": {"message": "too long"}}), InputError, "refuses the request.*too long"),
        ((401, {"error": {"message": "key"}}), OptionError, "wants a key"),
        ((404, {"error": {"message": "no model t"}}), InputError, "no model t"),
        ((200, b"{ not json"), InputError, "cannot be read"),
        ((200, {"choices": []}), InputError, "no choice"),
        ((200, reply(text=None)), InputError, "no text"),
        ((200, b"[]"), InputError, "no choice|cannot be read"),
        ((200, b'"just text"'), InputError, "no choice|cannot be read"),
    ],
)
def test_what_does_not_pass_is_said(serve, answer, error, match):
    with pytest.raises(error, match=match) as caught:
        wb.load_model(serve(answer).url, name="t").report(image())
    assert "secret-of-this-test" not in f"{caught.value}{caught.value.__cause__!r}"


def test_nobody_is_there():
    with pytest.raises(RunError, match=r"127\.0\.0\.1 does not answer"):
        wb.load_model("http://127.0.0.1:9/v1", name="t").report(image())


@pytest.mark.parametrize("host", ["example.org", "10.0.0.5", "0.0.0.0", "127.0.0.1.example.org"])
def test_another_machine_has_to_be_allowed(host):
    with pytest.raises(OptionError, match=r"leave this machine.*--allow-remote"):
        wb.load_model(f"http://{host}:8000/v1", name="t")
    assert wb.load_model(f"http://{host}:8000/v1", name="t", allow_remote=True)


def test_this_machine_has_many_names():
    for host in ("127.0.0.1", "localhost", "[::1]", "127.8.9.1"):
        assert wb.load_model(f"http://{host}:8000/v1", name="t").card.placement


def test_what_belongs_to_an_endpoint_only():
    with pytest.raises(OptionError, match="needs the name"):
        wb.load_model("http://127.0.0.1:1/v1")
    with pytest.raises(OptionError, match="belong to the address"):
        wb.load_model("mini", name="x")


def test_the_inside_is_refused_in_one_sentence(serve):
    model = wb.load_model(serve().url, name="t")
    report = model.report(image())
    for ask in (lambda: model.trace(image(), report), lambda: model.encode(image())):
        with pytest.raises(OptionError, match=r"behind an endpoint.*load_model\(DIRECTORY\)"):
            ask()


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingDependencyError, match="endpoint"):
        wb.load_model("http://127.0.0.1:1/v1", name="t")


def test_the_key_is_sent_and_not_kept(serve, tmp_path):
    server = serve()
    manifest = _manifest(tmp_path, 3)
    wb.run(manifest, model=wb.load_model(server.url, name="t"), out=tmp_path / "run")
    sent = {name.lower(): value for name, value in server.headers[0].items()}
    assert "secret-of-this-test" in sent["authorization"]
    kept = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"secret-of-this-test" not in kept and b"127.0.0.1" in kept


def test_a_run_goes_on_when_the_server_comes_back(serve, tmp_path, monkeypatch):
    """Killed in between and started again: every image is answered once."""
    monkeypatch.setattr(endpoint, "PATIENCE", 60.0)
    server = serve()
    manifest, model = _manifest(tmp_path, 24), wb.load_model(server.url, name="t")
    port = server.server.server_port
    again = []

    def restart():
        while len(server.asked) < 6:
            time.sleep(0.01)
        server.stop()
        time.sleep(1.5)
        again.append(serve(port=port))

    thread = threading.Thread(target=restart)
    thread.start()
    result = wb.run(manifest, model=model, out=tmp_path / "run")
    thread.join()
    frame = result.to_frame()
    assert (frame["status"] == "done").all() and len(frame) == 24
    pictures = [
        asked["messages"][1]["content"][0]["image_url"]["url"]
        for asked in server.asked + again[0].asked
    ]
    # a request that the first server had in hand when it was killed may come twice
    assert len(set(pictures)) == 24 and len(pictures) <= 24 + endpoint.PARALLEL


def _manifest(folder, count: int):
    rows = []
    for number in range(count):
        Image.fromarray(np.rint(image(number).pixels * 255).astype(np.uint8)).save(
            folder / f"{number}.png"
        )
        rows.append({"image_id": f"case{number}", "path": f"{number}.png", "source": "own"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


@contextmanager
def transformers_serve(directory, port: int):
    """Start `transformers serve` for a directory, and end it."""
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(directory)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with open(directory.parent / f"serve-{time.time_ns()}.log", "wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(port, process)
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen) -> None:
    import socket

    for _ in range(600):
        assert process.poll() is None, "the server ended"
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("the server did not start")


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_real_server_killed_and_started_again(tmp_path, monkeypatch):
    """`transformers serve`: 50 images, as one whole run gives them."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    monkeypatch.setattr(endpoint, "PATIENCE", 120.0)
    directory, port = FAMILIES["llava"](tmp_path / "llava"), _free_port()
    manifest = _manifest(tmp_path, 50)
    options = {"max_new_tokens": 6}
    url = f"http://127.0.0.1:{port}/v1"
    model = wb.load_model(url, name=str(directory))
    answer, answered, parts = model.responder.answer, [], []

    def counted(job):
        answered.append(answer(job))
        if len(answered) == 12:
            process.kill()
        return answered[-1]

    model.responder.answer = counted
    run = threading.Thread(
        target=lambda: parts.append(
            wb.run(manifest, model=model, out=tmp_path / "parts", **options)
        )
    )
    with transformers_serve(directory, port) as process:
        run.start()
        process.wait(120)
        assert not parts, "the run ended before the server was killed"
    with transformers_serve(directory, port):
        run.join(300)
        assert len(answered) == 50  # nothing that was answered is asked again
        model.responder.answer = answer
        whole = wb.run(manifest, model=model, out=tmp_path / "whole", **options)
    assert (parts[0].to_frame()["status"] == "done").all()
    pd.testing.assert_series_equal(parts[0].to_frame()["text"], whole.to_frame()["text"])
