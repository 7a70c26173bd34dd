"""Models behind an OpenAI-compatible endpoint: real servers, and every way in which one fails."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.process import BaseProcess

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import workbench as wb
from tests.backends.families import FAMILIES
from tests.helpers import forked, free_port
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
                answer = answer(outer.asked[-1]) if callable(answer) else answer
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
    monkeypatch.setattr(endpoint, "RETRIES", 2)
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


@pytest.mark.parametrize("refusal", [(422, b""), (400, {"error": {"message": "unknown: top_k"}})])
def test_a_server_that_takes_no_top_k_is_asked_without(serve, refusal, caplog):
    server = serve(refusal, reply())
    model = wb.load_model(server.url, name="t")
    text = model.report(image(), temperature=1.0, seed=1)
    assert text.settings.top_k == 0 and "takes no top_k" in caplog.text
    assert model.report(image(1), temperature=1.0, seed=1).settings.top_k == 0
    assert ["top_k" in asked for asked in server.asked] == [True, False, False]


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
        ((422, {"error": {"message": "no such field"}}), InputError, "refuses the request"),
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
    monkeypatch.setattr(endpoint, "RETRIES", 12)
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
    """Start what `transformers serve` is for a directory, and end it."""
    from transformers.cli.serve import Serve

    process = forked(partial(Serve, str(directory), host="127.0.0.1", port=port, device="cpu"))
    try:
        _wait_for(port, process)
        yield process
    finally:
        process.kill()
        process.join()


def _wait_for(port: int, process: BaseProcess) -> None:
    import socket

    for _ in range(600):
        assert process.is_alive(), "the server ended"
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("the server did not start")


def test_a_real_server_killed_and_started_again(tmp_path, monkeypatch):
    """`transformers serve`: 24 images, as one whole run gives them."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    monkeypatch.setattr(endpoint, "RETRIES", 20)
    directory, port = FAMILIES["llava"](tmp_path / "llava"), free_port()
    manifest = _manifest(tmp_path, 24)
    options = {"max_new_tokens": 6}
    url = f"http://127.0.0.1:{port}/v1"
    model = wb.load_model(url, name=str(directory))
    answer, answered, parts = model.answer, [], []

    def counted(job):
        answered.append(answer(job))
        if len(answered) == 8:
            process.kill()
        return answered[-1]

    model.answer = counted
    run = threading.Thread(
        target=lambda: parts.append(
            wb.run(manifest, model=model, out=tmp_path / "parts", **options)
        )
    )
    with transformers_serve(directory, port) as process:
        run.start()
        process.join(120)
        assert not parts, "the run ended before the server was killed"
    with transformers_serve(directory, port):
        run.join(300)
        assert len(answered) == 24  # nothing that was answered is asked again
        model.answer = answer
        whole = wb.run(manifest, model=model, out=tmp_path / "whole", **options)
    assert (parts[0].to_frame()["status"] == "done").all()
    pd.testing.assert_series_equal(parts[0].to_frame()["text"], whole.to_frame()["text"])


# --- what answers and their first words tell -----------------------------------------------------


def seen_in(asked: dict) -> np.ndarray:
    """Return the picture of a request, in [0, 1]."""
    url = asked["messages"][-1]["content"][0]["image_url"]["url"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))) / 255


def odds_reply(odds: float, words=("Yes", "No")) -> dict:
    """Return a reply that starts with the first of two words at these odds, among others."""
    yes = -np.log1p(np.exp(-odds))
    made = reply(words[0])
    likely = [(f" {words[0]}", yes), (words[1], yes - odds), ("Maybe", -30.0)]
    first = made["choices"][0]["logprobs"]["content"][:1]
    first[0]["top_logprobs"] = [{"token": t, "logprob": p, "bytes": None} for t, p in likely]
    made["choices"][0]["logprobs"]["content"] = first
    return made


def sees_a_corner(asked: dict) -> dict:
    """Answer yes the surer, the brighter the upper left corner is."""
    picture = seen_in(asked)
    return odds_reply(8 * float(picture[: len(picture) // 4, : picture.shape[1] // 4].mean()) - 2)


def bright_corner() -> wb.Radiograph:
    grey = np.full((96, 64), 60, np.uint8)
    grey[:24, :16] = 250
    return wb.load_radiograph(grey)


def test_odds_of_the_first_word(serve):
    server = serve(sees_a_corner)
    model, shown = wb.load_model(server.url, name="t"), bright_corner()
    pixels = model.pixels(shown)
    odds = wb.hallucination.yes_odds(model, [pixels, 0 * pixels], "Is there a nodule?")
    np.testing.assert_allclose(odds, [8 * 250 / 255 - 2, -2], atol=1e-3)
    asked = server.asked[0]
    assert (asked["max_tokens"], asked["logprobs"], asked["top_logprobs"]) == (1, True, 20)
    assert asked["messages"][1]["content"][1]["text"] == "Is there a nodule?"


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("occlusion", {}),
        ("adaptive_occlusion", {"budget": 60}),
        ("kernel_shap", {"samples": 200, "regions": (4, 4)}),
    ],
)
def test_a_map_of_an_answer_points_where_the_answer_comes_from(serve, method, options):
    model = wb.load_model(serve(sees_a_corner).url, name="t")
    found = wb.saliency.explain_answer(
        model,
        bright_corner(),
        "Is there a nodule?",
        method=method,
        cells=4,
        fill="black",
        **options,
    )
    x, y = found.peak
    assert (x < 16 and y < 24) and found.values.shape in {(4, 4), (8, 8)}
    assert found.to_original().shape == (96, 64) and found.settings["model"]["id"] == "t"
    assert "Is there a nodule?" in found.target and found.unit == "change of log-odds"


def test_answers_are_grounded_by_changed_images(serve):
    model = wb.load_model(serve(sees_a_corner).url, name="t")
    found = wb.hallucination.ground_answers(
        model, bright_corner(), findings=["nodule", "pneumothorax"], ablations=["blank", "mirrored"]
    )
    frame = found.to_frame()
    assert frame["finding"].tolist() == ["nodule", "pneumothorax"]
    np.testing.assert_allclose(frame["blank"], 8 * 250 / 255, atol=1e-3)
    np.testing.assert_allclose(frame["contribution"], frame["blank"])  # a mirror takes nothing away
    np.testing.assert_allclose(frame["mirrored"], 8 * 190 / 255, atol=1e-3)
    assert found.plot() and "nodule" in found._repr_html_()


def test_a_reader_and_an_endpoint_are_asked_alike():
    """`mini`: odds, maps and grounding of answers are those of its own log-probabilities."""
    model, case = wb.load_model("mini"), wb.phantom(seed=3, findings=["pleural effusion"])
    found = wb.hallucination.ground_answers(
        model, case, findings=["pleural effusion"], ablations=["blank"]
    )
    question = "Is there a pleural effusion?"
    pixels = model.pixels(case)
    prompt = model.prompt_ids(model.prompts.question_messages(question), pixels)
    each = []
    for word in ("Yes", "No"):
        ids = model.tokenizer.encode(word, add_bos=False)
        logs = model.force(pixels, prompt, ids).log_softmax(-1)
        each.append(float(logs[range(len(ids)), ids].sum()))
    assert found.odds[0] == pytest.approx(each[0] - each[1], abs=1e-4)
    drawn = wb.saliency.explain_answer(
        model, case, question, method="kernel_shap", regions=(2, 2), samples=8
    )
    assert drawn.scores["forwards"] >= 8 and drawn.geometry == model.geometry(case.image)


def test_polling_under_augmentation_and_a_report_that_is_edited(serve):
    """A denied finding is taken back; the new text, which nobody read, has no tokens."""

    def answers(asked: dict) -> dict:
        if asked["max_tokens"] == 1:
            return odds_reply(-3.0)
        return reply("There is a pneumothorax.")

    server = serve(answers)
    model = wb.load_model(server.url, name="t")
    mitigation = wb.hallucination.PollAndRewrite()
    report = model.report(image(), mitigation=mitigation, max_new_tokens=9)
    assert report.text == "No pneumothorax." and report.original.text == "There is a pneumothorax."
    assert not report.tokens and [change.finding for change in report.changes] == ["pneumothorax"]
    assert len(server.asked) == 1 + 10  # the image and nine augmentations


def test_probes_that_ask(serve):
    """Polling, presupposition, sycophancy, wording and self-consistency, each with its answers."""
    model = wb.load_model(serve(reply("Yes, there is a nodule.")).url, name="t")
    cases = [(image(n), {"nodule": "present" if n else "absent"}) for n in range(2)]
    h = wb.hallucination
    for probe in (h.probe_polling, h.probe_presupposition, h.probe_sycophancy, h.probe_wording):
        table = probe(model, cases, findings=["nodule"])
        assert len(table.to_frame()) and table.settings["model"]["device"] == "127.0.0.1"
    table = h.probe_self_consistency(model, cases, samples=2, findings=["nodule"])
    assert len(table.to_frame())


@pytest.mark.parametrize(
    "answers",
    [
        (reply(told=False),),
        ((400, {"error": {"message": "top_logprobs must be less than 5"}}), reply(told=False)),
        (reply(),),  # log-probabilities of what was written, and of nothing else
    ],
)
def test_without_log_probabilities_one_sentence_refuses(serve, answers):
    model = wb.load_model(serve(*answers).url, name="t")
    for ask in (
        lambda: wb.hallucination.yes_odds(model, [model.pixels(image())], "Is there a nodule?"),
        lambda: wb.saliency.explain_answer(model, image(), "Is there a nodule?"),
        lambda: wb.hallucination.ground_answers(model, image()),
    ):
        with pytest.raises(OptionError, match=r"no log-probabilities.*load_model\(DIRECTORY\)"):
            ask()


def test_an_answer_that_is_neither_yes_nor_no(serve):
    model = wb.load_model(serve(odds_reply(1.0, ("Certainly", "Hardly"))).url, name="t")
    with pytest.raises(InputError, match="neither 'Yes' nor 'No' but with such as ' Certainly'"):
        wb.saliency.explain_answer(model, image(), "Is there a nodule?")


def test_a_method_that_reads_the_inside_explains_no_answer(serve):
    model = wb.load_model(serve(sees_a_corner).url, name="t")
    with pytest.raises(OptionError, match="occlusion, adaptive_occlusion, kernel_shap"):
        wb.saliency.explain_answer(model, image(), "Is there a nodule?", method="relevancy")
    with pytest.raises(OptionError, match="cells"):
        wb.saliency.explain_answer(model, image(), "Is there a nodule?", cells=1)
