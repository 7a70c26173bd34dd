"""The Python side of the explorer, without a browser: what pages get, and how questions end."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

import workbench as wb
from tests.backends.families import FAMILIES
from tests.widgets.conftest import FINDING
from workbench._repr import plain
from workbench.errors import InputError, OptionError
from workbench.radiograph import InputContract, Radiograph
from workbench.saliency import METHODS
from workbench.widgets import Explorer, radiographs
from workbench.widgets._worker import Cancelled, Job, watched
from workbench.widgets.explorer import DEFAULTS, checked_settings
from workbench.widgets.explorer_side import lateral_of, rows_of


@pytest.fixture(scope="module")
def trace(mini, case):
    return mini.trace(case.image)


@pytest.fixture
def explorer(mini, case, trace):
    return listening(wb.explore(mini, case, report=trace))


def listening(widget: Explorer) -> Explorer:
    """Keep what a widget says, as JSON would carry it."""
    widget.sent = []
    widget.send = lambda content, buffers=None: widget.sent.append(
        json.loads(json.dumps(content, allow_nan=False))
    )
    return widget


def ask(widget, name, **content):
    """Ask as a page does and return the last message about it."""
    number = len(widget.sent) + 1000
    widget._receive({"id": number, "ask": name, **content})
    assert widget.worker.wait(120)
    return [message for message in widget.sent if message.get("id") == number][-1]


def unpacked(grid) -> np.ndarray:
    whole = np.frombuffer(base64.b64decode(grid["data"]), "<i2")
    return whole.reshape(grid["shape"]) * grid["scale"]


def span(trace, words):
    chosen = trace.select(words)
    return {"start": chosen.start, "end": chosen.end}


# --- state ---------------------------------------------------------------------------------------


def test_state_holds_everything_and_is_plain(explorer, case, trace):
    state = json.loads(json.dumps(plain(explorer.state()), allow_nan=False))
    side = state["sides"][0]
    assert [method["name"] for method in side["methods"]] == list(METHODS)
    assert [row["name"] for row in side["truth"]] == list(case.masks)
    passage = side["passages"][0]
    assert passage["text"] == trace.text
    words = [trace.text[word["start"] : word["end"]] for word in passage["words"]]
    assert words == trace.text.split()
    assert all(0 <= word["probability"] <= 1.0001 for word in passage["words"])
    assert {row["finding"]: row["code"] for row in passage["findings"]}[FINDING] == "present"
    assert explorer.notice == explorer.sides[0].model.notice
    assert "not for clinical use" in explorer.notice.lower()


def test_methods_that_failed_the_randomisation_check_carry_their_caution(explorer):
    methods = {method["name"]: method for method in explorer.state()["sides"][0]["methods"]}
    assert "fails the randomisation check" in methods["rollout"]["caution"]
    assert methods["relevancy"]["caution"] is None
    assert [name for name, method in methods.items() if method["layers"]] == [
        "attention",
        "attention_without_sinks",
        "rollout",
    ]


def test_nothing_is_written_before_it_is_asked_for(mini, case):
    widget = wb.explore(mini, case)
    assert widget.state()["sides"][0]["passages"] == []


# --- maps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["finding", "phrase", "word", "whole"])
def test_recorded_rows_give_the_map_of_the_package(explorer, trace, choice):
    passage = explorer.state()["sides"][0]["passages"][0]
    rows = unpacked(passage["rows"])
    given = {
        "finding": {"finding": FINDING},
        "phrase": span(trace, "No pneumothorax."),
        "word": span(trace, "effusion"),
        "whole": {},
    }[choice]
    answer = ask(explorer, "look", method="attention", passage=1, choice=given)["answer"]
    sentence = next(a for a in passage["sentences"] if "effusion" in trace.text[a[0] : a[1]])
    start, end = {
        "finding": sentence,
        "whole": [0, len(trace.text)],
    }.get(choice, [given.get("start"), given.get("end")])
    tokens = [n for n, (a, b) in enumerate(passage["offsets"]) if a < end and b > start]
    found = wb.attention.to_image(trace, trace.text[start:end] if choice != "whole" else None)
    np.testing.assert_allclose(
        rows[tokens].mean(0), found.values, atol=2 * passage["rows"]["scale"]
    )
    np.testing.assert_allclose(unpacked(answer["grid"]), found.values, atol=answer["grid"]["scale"])
    assert answer["share"] == pytest.approx(found.scores["image_share"])


def test_words_pay_attention_to_words_before_them_only(explorer, trace):
    passage = explorer.state()["sides"][0]["passages"][0]
    between = unpacked(passage["between"])
    own = trace.language.pick()[:, trace.layout.span("generated").slice]
    np.testing.assert_allclose(between, own, atol=passage["between"]["scale"])
    assert between.shape == (len(trace.layout.tokens),) * 2
    assert np.triu(between).max() == 0 and between[-1, :-1].min() >= 0


def test_layers_and_heads_are_those_of_the_package(explorer, trace):
    answer = ask(explorer, "rows", passage=1, layer=2, head=1)["answer"]
    own = trace.language.pick(2, 1)[:, trace.layout.span("image").slice]
    rows = unpacked(answer).reshape(own.shape)
    np.testing.assert_allclose(rows, own, atol=answer["scale"])
    looked = ask(explorer, "look", method="attention", passage=1, choice={}, layer=2, head=1)
    assert looked["answer"]["details"].startswith("layer 2 of 0 to 3 \u00b7 head 1 of 0 to 4")


@pytest.mark.parametrize("method", ["rollout", "relevancy", "grad_cam"])
def test_a_map_is_that_of_explain_with_all_that_is_said_of_it(explorer, trace, method):
    answer = ask(explorer, "map", method=method, passage=1, choice={"finding": FINDING})["answer"]
    expected = wb.saliency.explain(trace, finding=FINDING, method=method)
    np.testing.assert_allclose(
        unpacked(answer["grid"]), expected.values, atol=2 * answer["grid"]["scale"]
    )
    assert (answer["title"], answer["caution"]) == (expected.title, expected.caution)
    assert answer["signed"] is expected.signed


def test_a_map_is_computed_once(explorer):
    given = {"method": "grad_cam", "passage": 1, "choice": {"finding": FINDING}}
    first = ask(explorer, "map", **given)["answer"]
    explorer.sides[0].passages.clear()
    assert ask(explorer, "map", **given)["answer"] == first


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        ({"method": "guess"}, "OptionError", "unknown method 'guess'"),
        ({"method": ["attention"]}, "OptionError", "unknown method"),
        ({"method": "relevancy", "side": 3}, "OptionError", "sides go from 0 to 0"),
        ({"method": "relevancy", "passage": 9}, "OptionError", "no text number 9"),
        ({"method": "relevancy", "choice": {"start": 5, "end": 5}}, "OptionError", "within 0 to"),
        ({"method": "relevancy", "choice": {"start": "a"}}, "OptionError", "within 0 to"),
        ({"method": "relevancy", "choice": "all"}, "OptionError", "expected a choice"),
        (
            {"method": "relevancy", "choice": {"finding": "fracture"}},
            "InputError",
            "does not speak",
        ),
        ({"method": "rollout", "layer": 99}, "OptionError", "layer 99 was not recorded"),
        ({"method": "rollout", "head": "x"}, "InputError", "head must be a whole number"),
    ],
)
def test_questions_that_make_no_sense_are_refused_in_words(explorer, content, kind, words):
    answer = ask(explorer, "map", **{"passage": 1, "choice": {}} | content)
    assert answer["kind"] == kind
    assert words in answer["failure"]


def test_only_attention_is_read_in_the_message_handler(explorer):
    answer = ask(explorer, "look", method="relevancy", passage=1, choice={})
    assert "only attention is read at once" in answer["failure"]


def test_a_map_can_be_cancelled_and_leaves_the_model_as_it_was(explorer, mini, monkeypatch):
    network = mini.engine.model
    original = Job.progress

    def cancelled_after_some(job, done, total=None, text=""):
        original(job, done, total, text)
        if done > 16:
            explorer._receive({"cancel": job.id})

    monkeypatch.setattr(Job, "progress", cancelled_after_some)
    answer = ask(explorer, "map", method="kernel_shap", passage=1, choice={"finding": FINDING})
    assert answer.get("cancelled") is True
    progress = [m["progress"] for m in explorer.sent if "progress" in m]
    assert progress[0]["total"] == 256
    assert not network.vision_tower._forward_pre_hooks and not network.llama._forward_pre_hooks
    again = ask(explorer, "map", method="relevancy", passage=1, choice={})
    assert "answer" in again


def test_watching_ends_with_a_crash_too(mini):
    network = mini.engine.model
    job = Job(1, "work", lambda message: None)
    with pytest.raises(KeyError), watched(mini, job):
        raise KeyError("inside")
    assert not network.vision_tower._forward_pre_hooks
    job.cancel()
    with pytest.raises(Cancelled), watched(mini, job):
        mini.report(np.zeros((64, 64), np.uint8))
    assert not network.llama._forward_pre_hooks


# --- texts ---------------------------------------------------------------------------------------


def pieces(widget, number):
    return "".join(m["piece"] for m in widget.sent if m.get("id") == number and "piece" in m)


def test_a_report_arrives_in_pieces_that_join_to_the_text(mini, case):
    widget = listening(wb.explore(mini, case))
    answer = ask(widget, "write", again=False)
    text = answer["answer"]["passage"]["text"]
    assert pieces(widget, answer["id"]) == text == mini.report(case).text
    assert {"tell": "written", "revision": 1} in widget.sent
    again = ask(widget, "write", again=False)
    assert again["answer"]["passage"]["number"] == answer["answer"]["passage"]["number"]
    other = ask(widget, "write", again=True)["answer"]["passage"]
    assert other["kind"] == "sample"
    assert "temperature 0.2, top-p 0.8, seed 1" in other["origin"]


def test_a_question_is_answered_after_the_report(explorer, mini, case):
    answer = ask(explorer, "ask", question=" Is there a pneumothorax? ")
    passage = answer["answer"]["passage"]
    assert passage["kind"] == "answer"
    assert passage["question"] == "Is there a pneumothorax?"
    assert pieces(explorer, answer["id"]) == passage["text"]
    dialogue = explorer.sides[0].passages[-1].trace.generation
    assert explorer.sides[0].passages[0].trace.text in dialogue.prompt
    looked = ask(explorer, "look", method="attention", passage=passage["number"], choice={})
    assert looked["answer"]["share"] > 0


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("  ", "a question needs text"),
        ("<image> what?", "<image>"),
        (None, "expected a question as text"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(explorer, question, words):
    answer = ask(explorer, "ask", question=question)
    assert answer["kind"] == "InputError"
    assert words in answer["failure"]
    assert len(explorer.sides[0].passages) == 1


def test_a_text_that_is_stopped_is_kept_and_says_so(mini, case, monkeypatch):
    widget = listening(wb.explore(mini, case))
    original = Job.piece

    def stopped_after_one(job, text):
        original(job, text)
        job.cancel()

    monkeypatch.setattr(Job, "piece", stopped_after_one)
    ask(widget, "write")
    passage = widget.sides[0].passages[0]
    assert passage.trace.generation.stopped_by == "cancelled"
    assert "stopped before its end" in passage.page["origin"]


def test_texts_alone_are_those_of_the_state(explorer):
    texts = ask(explorer, "texts")["answer"]["sides"][0]
    state = json.loads(json.dumps(plain(explorer.state()["sides"][0])))
    assert texts == {name: state[name] for name in texts}
    assert "radiograph" not in texts


def test_old_answers_make_room_and_the_report_stays(explorer, trace):
    side = explorer.sides[0]
    for _ in range(25):
        side.add("answer", trace, "again?")
    assert len(side.passages) == 20
    assert side.passages[0].kind == "report"
    assert side.passages[-1].number == 26


def test_contributions_are_those_of_grounding_word_by_word(explorer, trace):
    answer = ask(explorer, "ground", passage=1)["answer"]
    expected = wb.hallucination.ground(trace).words()["contribution"]
    np.testing.assert_allclose(answer["words"], expected, atol=1e-6)
    assert explorer.state()["sides"][0]["contributions"]["1"] == answer["words"]


# --- comparing -----------------------------------------------------------------------------------


def test_against_is_a_method_an_image_or_a_model(mini, case, tiny):
    assert wb.explore(mini, case, against="relevancy").settings["second"] == "relevancy"
    images = wb.explore(mini, case, against=wb.phantom(seed=3))
    assert [side.image.contract.source for side in images.sides] == images._names()
    models = listening(wb.explore(mini, case, against=wb.load_model(tiny)))
    assert models._names() == ["mini", "A_tiny"]
    assert models.notice.count(";") == 1
    answer = ask(models, "write", side=1)
    number = answer["answer"]["passage"]["number"]
    looked = ask(models, "look", side=1, method="attention", passage=number, choice={})
    assert looked["answer"]["grid"]["shape"] == list(models.sides[1].passages[0].trace.layout.grid)


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return wb.load_model(FAMILIES["llava"](tmp_path_factory.mktemp("llava")), dtype="float32")


def test_two_families_show_one_radiograph_each_as_it_sees_it(mini, llava, tmp_path):
    grey = np.zeros((210, 140), np.uint8)
    grey[60:90, 20:50] = 255
    widget = wb.explore(mini, Radiograph.from_array(grey), against=llava)
    for side in widget.sides:
        side.add("report", side.model.report(side.image, max_new_tokens=5))
    first, second = widget.state()["sides"]
    assert {m["name"] for m in first["methods"]} - {m["name"] for m in second["methods"]} == {
        "rollout",
        "integrated_gradients_patches",
    }
    for state, side in zip((first, second), widget.sides, strict=True):
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(state["seen"]["png"])))) > 127
        left, top, right, bottom = state["seen"]["box"]
        rows, columns = np.nonzero(seen)
        middle = (
            left + (columns.mean() + 0.5) / seen.shape[1] * (right - left),
            top + (rows.mean() + 0.5) / seen.shape[0] * (bottom - top),
        )
        np.testing.assert_allclose(middle, (35, 75), atol=1.5)
        assert rows_of(side.trace(1))["shape"][1:] == list(side.trace(1).layout.grid)
    page = widget.save(tmp_path / "two.html").read_text(encoding="utf-8")
    held = json.loads(re.search(r'id="held">(.+?)</script>', page)[1])
    assert {one["side"] for one in held["said"]} == {0, 1}


def test_of_an_endpoint_there_are_texts_only(mini, case, trace, tmp_path):
    pytest.importorskip("openai")
    served = wb.load_model("http://127.0.0.1:9/v1", name="served")
    bare = replace(trace.generation, tokens=(), token_ids=(), offsets=(), logprobs=np.zeros(0))
    widget = listening(wb.explore(mini, case, report=trace, against=served))
    widget.sides[1].add("report", replace(bare, model=served.identity))
    side = json.loads(json.dumps(plain(widget.state()["sides"][1])))
    assert "behind an endpoint, which writes texts only" in side["closed"]
    assert (side["methods"], side["layers"], side["heads"]) == ([], 0, 0)
    (passage,) = side["passages"]
    assert passage["rows"] is None and passage["text"] == trace.text
    assert [row["finding"] for row in passage["findings"]] == [
        row["finding"] for row in widget.sides[0].passages[0].page["findings"]
    ]
    asked = {"side": 1, "passage": 1, "method": "relevancy", "choice": {}}
    for name in ("map", "ground", "rows"):
        assert "behind an endpoint" in ask(widget, name, **asked)["failure"]
    assert "behind an endpoint" in widget.save(tmp_path / "two.html").read_text(encoding="utf-8")
    assert html.escape(trace.text) in widget.still()


def test_wrong_arguments_are_refused(mini, case, trace):
    with pytest.raises(OptionError, match="unknown method 'magic'"):
        wb.explore(mini, case, method="magic")
    with pytest.raises(InputError, match="nowhere"):
        wb.explore(mini, case, against="nowhere.png")
    with pytest.raises(InputError, match=r"does not come back|other pixels"):
        wb.explore(mini, wb.phantom(seed=8), report=trace.generation)
    with pytest.raises(InputError, match="the trace is about 'phantom seed 7"):
        wb.explore(mini, wb.phantom(seed=8), report=trace)
    with pytest.raises(InputError, match="expected a Generation or a Trace, got str"):
        wb.explore(mini, case, report="No effusion.")


def test_a_ct_phantom_is_shown_from_the_side_where_that_is_asked(mini, case):
    front = wb.phantom(11, domain="ct", findings=["nodule"], size=64)
    explorer = wb.explore(mini, front)
    assert (explorer.state()["lateral"], wb.explore(mini, case).state()["lateral"]) == ({}, None)
    asked = wb.explore(mini, front, lateral=True)
    state = asked.state()
    assert state["settings"]["lateral"] and state["settings"]["truth"]
    assert state["lateral"] == explorer.sides[0].lateral == lateral_of(front)
    assert state["lateral"]["truth"][0]["name"] == "nodule"
    with pytest.raises(OptionError, match=r"domain 'ct' and the view 'PA'.*wb\.phantom\(seed"):
        wb.explore(mini, case, lateral=True)
    with pytest.raises(OptionError, match="takes the place of `against`"):
        wb.explore(mini, front, against="relevancy", lateral=True)


def test_a_foreign_radiograph_is_warned_about_beside_its_text(mini):
    image = Radiograph.from_array(np.full((300, 200), 90, np.uint8), source="real.png")
    widget = listening(wb.explore(mini, image))
    passage = ask(widget, "write")["answer"]["passage"]
    assert "out-of-domain" in [row["code"] for row in passage["warnings"]]
    assert "out-of-domain" in widget.still()


# --- what is chosen ------------------------------------------------------------------------------


def test_settings_are_kept_for_the_next_view(explorer):
    chosen = {"truth": True, "opacity": 0.3, "chosen": [{"passage": 1, "finding": FINDING}]}
    assert ask(explorer, "keep", settings=chosen)["answer"] == {}
    settings = explorer.state()["settings"]
    assert settings == DEFAULTS | chosen


@pytest.mark.parametrize(
    "given",
    [
        {"method": "guess"}, {"opacity": 2}, {"opacity": float("nan")}, {"truth": "yes"},
        {"sign": "up"}, {"layer": -1}, {"layer": True}, {"view": {"zoom": "far"}}, {"view": []},
        {"view": {"other": 1}}, {"chosen": [None, None]}, {"chosen": [{"finding": "x" * 200}]},
        {"view": {"preset": "brain"}}, {"unknown": 1}, {"second": 5}, {1: 2}, "settings", None,
    ],
)  # fmt: skip
def test_settings_that_are_none_change_nothing(given):
    kept = dict(DEFAULTS)
    with pytest.raises(OptionError, match=r"cannot be|expected settings"):
        checked_settings(kept, given, 1)
    assert kept == DEFAULTS


# --- without a page ------------------------------------------------------------------------------


def test_still_picture_says_what_the_page_says(mini, case):
    widget = wb.explore(mini, case)
    shown = widget._repr_html_()
    assert "trained on phantoms, not for real radiographs" in shown
    assert html.escape(widget.sides[0].passages[0].trace.text) in shown
    assert "<script" not in shown and "http" not in shown
    assert re.search(r'<img [^>]*alt="Map over the radiograph: attention', shown)


def test_a_notebook_gets_the_widget_and_the_picture(explorer):
    data, _ = DisplayFormatter().format(explorer)
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/html"] == explorer.still()


def test_a_large_model_is_not_made_to_write_for_a_picture(mini, case, monkeypatch):
    monkeypatch.setattr("workbench.widgets.explorer_side.SMALL", 1000)
    widget = wb.explore(mini, case)
    assert "The report is written when the app is opened" in widget.still()
    assert widget.sides[0].passages == []


def test_saved_page_holds_everything_and_nothing_of_a_hostile_name(mini, trace, tmp_path):
    hostile = "</script><script>alert(1)</script><!--.png"
    contract = InputContract(source=hostile, domain="phantom", original_size=trace.image.size)
    image = Radiograph(trace.image.pixels, contract)
    widget = listening(wb.explore(mini, image, report=trace))
    ask(widget, "map", method="grad_cam", passage=1, choice={})
    text = widget.save(tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert hostile not in text and "<!--" not in text
    assert text.count("<script") == text.count("</script>") == 2
    held = json.loads(re.search(r'id="held">(.*?)</script>', text)[1])
    assert held["state"]["sides"][0]["radiograph"]["source"] == hostile
    assert [row["key"][2] for row in held["maps"]] == ["grad_cam"]
    assert len(held["said"]) > len(trace.text.split())
    assert not re.search(r"""(?:src|href)=["']?https?:""", text)
    with pytest.raises(InputError, match=r"page\.pdf: the page is written as \.html"):
        widget.save(tmp_path / "page.pdf")


# --- radiographs --------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 12])
def test_a_radiograph_keeps_every_level_it_has(bits):
    levels = np.random.default_rng(1).integers(0, 2**bits, (37, 53), endpoint=False)
    image = Radiograph.from_array(levels.astype(np.uint16), bits=bits)
    sent = radiographs.radiograph_of(image)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(sent["png"])))).astype(int)
    top = 255
    if bits > 8:
        picture, top = picture[..., 0] * 256 + picture[..., 1], 65535
    np.testing.assert_array_equal(np.rint(picture / top * (2**bits - 1)), levels)
    assert (sent["width"], sent["height"], sent["bits"]) == (53, 37, 8 if bits == 8 else 16)


def test_large_radiographs_are_sent_smaller_with_their_own_size():
    image = Radiograph.from_array(np.zeros((3000, 2000), np.uint8))
    sent = radiographs.radiograph_of(image)
    picture = Image.open(io.BytesIO(base64.b64decode(sent["png"])))
    assert picture.size == (933, 1400)
    assert (sent["width"], sent["height"]) == (2000, 3000)


def test_outlines_lie_on_the_edge_of_the_mask():
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    mask[0:5, 0:5] = True
    rows = radiographs.outlines_of({"nodule": mask, "pneumothorax": np.zeros_like(mask)})
    assert [row["name"] for row in rows] == ["nodule"]
    points = [np.array(path).reshape(-1, 2) for path in rows[0]["paths"]]
    boxes = sorted((p.min(0).tolist(), p.max(0).tolist()) for p in points)
    assert boxes == [([0.0, 0.0], [5.0, 5.0]), ([30.0, 10.0], [50.0, 20.0])]


def test_packed_grids_come_back_within_half_a_step():
    values = np.random.default_rng(0).normal(size=(3, 5)) * 1e-6
    packed = radiographs.grid_of(values)
    np.testing.assert_allclose(unpacked(packed), values, atol=packed["scale"] * 0.5001)
    assert unpacked(radiographs.grid_of(np.zeros((2, 2)))).tolist() == [[0, 0], [0, 0]]
