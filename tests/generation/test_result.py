"""`Generation`: what it holds, how it is stored, shown and drawn."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from workbench.figures.words import placed_tokens
from workbench.generation.options import DecodingSettings
from workbench.generation.result import Generation, ModelIdentity
from workbench.model.prompt import report_messages
from workbench.radiograph import InputWarning

TEXT = "No effusion.\nHeart <large>."
PIECES = ("No", " eff", "usion", ".", "\n", "Heart", " <large>", ".", "</s>")


def make(**changes) -> Generation:
    ends = np.cumsum([len(piece) for piece in PIECES[:-1]]).tolist()
    starts = [0, *ends[:-1]]
    probabilities = np.array([0.9, 0.5, 0.8, 1.0, 0.7, 0.6, 0.25, 1.0, 0.99])
    fields = {
        "text": TEXT,
        "token_ids": tuple(range(11, 11 + len(PIECES))),
        "tokens": PIECES,
        "logprobs": np.log(probabilities),
        "offsets": (*zip(starts, ends, strict=True), (len(TEXT), len(TEXT))),
        "prompt": "<s>[INST] <image>\nWhat? [/INST]",
        "prompt_ids": (1, -200, 5),
        "settings": DecodingSettings(max_new_tokens=50),
        "seconds": 0.25,
        "stopped_by": "eos",
        "task": "report",
        "source": "film <1>.png",
        "model": ModelIdentity("mini", "ab" * 32),
        "warnings": (InputWarning("notice", "not for <clinical> use"),),
    }
    return Generation(**{**fields, **changes})


@pytest.fixture
def written(lab, name, responder) -> Generation:
    """A real answer of a reference checkpoint."""
    settings = DecodingSettings(temperature=0.2, seed=3, max_new_tokens=40)
    return responder.answer(
        responder.job(
            lab.recorded(name).pixels, report_messages(), settings, task="report", source="grad"
        )
    )


def test_text_is_what_it_prints():
    assert str(make()) == TEXT
    assert make().sentences == ("No effusion.", "Heart <large>.")
    assert repr(make()).startswith("<Generation report of 'film <1>.png': 'No effusion")


def test_words_carry_the_product_of_their_tokens():
    words = make().words
    assert [word.text for word in words] == ["No", "effusion.", "Heart", "<large>."]
    found = [word.probability for word in words]
    np.testing.assert_allclose(found, [0.9, 0.5 * 0.8, 0.6, 0.25], rtol=1e-5)
    assert all(TEXT[word.start : word.end] == word.text for word in words)


def test_arrays_cannot_be_changed_and_have_their_own_memory():
    source = np.zeros(len(PIECES))
    generation = make(logprobs=source)
    source[:] = 5
    assert not generation.logprobs.any()
    assert generation.logprobs.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        generation.logprobs[0] = 1


def test_seed_is_told_only_where_it_matters():
    assert make(settings=DecodingSettings(seed=4)).seed is None
    assert make(settings=DecodingSettings(temperature=0.2, seed=4)).seed == 4


def test_everything_needed_to_repeat_it_is_stored(written):
    stored = json.loads(json.dumps(written.to_dict(), allow_nan=False))
    assert stored["text"] == written.text
    assert stored["seed"] == 3
    assert stored["settings"]["temperature"] == 0.2
    assert stored["settings"]["max_new_tokens"] == 40
    assert stored["prompt"].startswith("<s>[INST] <<SYS>>")
    assert stored["template"]
    assert len(stored["model"]["sha256"]) == 64
    assert {"workbench", "torch", "transformers", "python"} <= set(stored["versions"])
    assert len(stored["token_ids"]) == len(stored["logprobs"]) == len(stored["offsets"])


def test_offsets_cover_the_text(written):
    covered = np.zeros(len(written.text), bool)
    for start, end in written.offsets:
        covered[start:end] = True
    assert covered.all()


def test_frame_has_one_row_per_token(written):
    frame = written.to_frame()
    assert list(frame.columns) == [
        "token", "token_id", "logprob", "probability", "start", "end", "sentence",
    ]  # fmt: skip
    assert tuple(frame["token_id"]) == written.token_ids
    assert ((frame["probability"] > 0) & (frame["probability"] <= 1)).all()
    assert list(make().to_frame()["sentence"]) == [0, 0, 0, 0, -1, 1, 1, 1, -1]
    assert list(make().to_frame()["token"]) == list(PIECES)


def test_text_of_nothing_is_shown_too():
    empty = make(text="", token_ids=(2,), tokens=("</s>",), logprobs=[-0.1], offsets=((0, 0),))
    assert empty.sentences == empty.words == ()
    assert "the model wrote nothing" in empty._repr_html_()
    assert len(empty.to_frame()) == 1
    none = make(text="", token_ids=(), tokens=(), logprobs=[], offsets=(), stopped_by="cancelled")
    assert none.to_frame().empty
    assert none.plot() is not None
    plt.close("all")


def test_html_escapes_and_warns():
    page = make()._repr_html_()
    assert "&lt;large&gt;" in page
    assert "<large>" not in page
    assert "film &lt;1&gt;.png" in page
    assert "not for &lt;clinical&gt; use" in page
    assert "&lt;s&gt;[INST] &lt;image&gt;" in page
    assert "<script" not in page
    assert "greedy" in page
    assert "cut at the limit" not in page
    assert "cut at the limit" in make(stopped_by="limit")._repr_html_()


def test_html_is_darker_where_the_model_was_less_sure():
    page = make()._repr_html_()
    assert 'title="probability 0.25"' in page
    tints = [float(part.split(")")[0]) for part in page.split("rgba(217,108,6,")[1:5]]
    doubts = [1 - word.probability for word in make().words]
    assert np.argsort(tints).tolist() == np.argsort(doubts).tolist()


def test_html_says_how_a_sampled_text_came_about():
    page = make(settings=DecodingSettings(temperature=0.2, seed=77))._repr_html_()
    assert "temperature 0.2, top-p 0.8, top-k 50, seed 77" in page


def test_strip_draws_every_token_with_its_colour():
    ax = make().plot()
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["No", " eff", "usion", ".", "\u21b5", "Heart", " <large>", ".", "</s>"]
    colours = [sum(patch.get_facecolor()[:3]) for patch in ax.patches]
    assert int(np.argmin(colours)) == 6
    assert ax.get_title(loc="left") == "report of film <1>.png, mini"
    plt.close("all")


def test_strip_draws_where_it_is_told_to():
    figure, (left, right) = plt.subplots(1, 2)
    assert make().plot(right) is right
    assert not left.patches
    assert plt.get_fignums() == [figure.number]
    plt.close("all")


def test_dollar_signs_are_text_and_not_formulas():
    pieces = ("a$", "b$", "</s>")
    generation = make(
        text="a$b$",
        token_ids=(1, 2, 3),
        tokens=pieces,
        logprobs=[0, 0, 0],
        offsets=((0, 2), (2, 4), (4, 4)),
    )
    generation.plot().figure.canvas.draw()
    plt.close("all")


def test_layout_breaks_before_words_and_behind_line_breaks():
    labels = ["one", " two", "th", "ree", "\u21b5", "four"]
    cells = placed_tokens(labels, columns=10)
    assert cells == [(0, 0, 3), (1, 0, 4), (1, 4, 2), (1, 6, 3), (1, 9, 1), (2, 0, 4)]
    assert placed_tokens(["x" * 30], columns=10) == [(0, 0, 10)]
    for line, column, width in placed_tokens(["ab", " cd", "e"] * 40, columns=17):
        assert line >= 0
        assert column + width <= 17


def test_results_are_frozen():
    with pytest.raises(AttributeError):
        make().text = "other"
    assert replace(make(), text="other").text == "other"
