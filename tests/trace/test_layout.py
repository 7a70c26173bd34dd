"""TokenLayout: spans, patches over the file that was read, and the choice of words."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from workbench.errors import InputError, OptionError
from workbench.reports import sentences
from workbench.trace import TokenLayout

TEXT = (
    "There is a pleural effusion on the left, small in size. No pneumothorax. "
    "Impression: Small left  pleural\neffusion."
)
PRIMES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41)

geometries = st.fixed_dictionaries(
    {
        "size": st.tuples(st.sampled_from(PRIMES), st.sampled_from(PRIMES)),
        "grid": st.sampled_from(((2, 2), (2, 5), (5, 3))),
        "side": st.sampled_from((30, 60)),
        "fit": st.sampled_from(("crop", "pad")),
    }
)


@pytest.fixture(scope="module")
def told(lab) -> TokenLayout:
    return lab.layout(TEXT)


# ------------------------------------------------------------------ spans


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=3, max_size=3), st.integers(1, 5), st.integers(1, 5))
def test_spans_are_contiguous_and_cover_everything(lab, lengths, rows, columns):
    before, behind, made = (("x",) * n for n in lengths)
    geometry = lab.layout().geometry
    offsets = ((0, 0),) * len(made)
    layout = TokenLayout("", made, offsets, before, behind, (rows, columns), geometry)
    spans = layout.spans
    assert [span.kind for span in spans] == ["prompt", "image", "question", "generated"]
    assert [len(span) for span in spans] == [lengths[0], rows * columns, *lengths[1:]]
    assert spans[0].start == 0 and spans[-1].stop == layout.length
    assert all(a.stop == b.start for a, b in itertools.pairwise(spans))
    covered = [position for span in spans for position in range(layout.length)[span.slice]]
    assert covered == list(range(layout.length))
    assert all(layout.span(span.kind) is span for span in spans)


def test_a_token_was_chosen_one_position_before_it(told):
    generated = told.span("generated")
    assert told.query_of(0) == generated.start - 1 == told.span("question").stop - 1
    assert told.query_of(len(told.tokens) - 1) == told.length - 2


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda x: x.span("words"),
            "one of prompt, image, question, generated; got 'words'",
        ),
        (lambda x: x.query_of(-1), "numbered from 0; got -1"),
        (lambda x: x.query_of(len(x.tokens)), r"tokens: 24 in the text, .*; got 24"),
        (lambda x: x.patch_box(16), "from 0 to 15, got 16"),
        (lambda x: x.patch_box(-1), "from 0 to 15, got -1"),
    ],
)
def test_numbers_out_of_range_are_errors(told, ask, message):
    with pytest.raises(OptionError, match=message):
        ask(told)


def test_tokens_without_offsets_are_an_error(told):
    with pytest.raises(InputError, match="2 tokens came with 1 offsets"):
        TokenLayout("ab", ("a", "b"), ((0, 1),), (), (), (1, 1), told.geometry)


# ------------------------------------------------------------------ geometry


def test_boxes_by_hand(lab):
    # 6 x 4 pixels, the middle 4 x 4 of them seen: two pixels a patch
    crop = lab.layout(size=(6, 4), side=4, grid=(2, 2))
    assert [crop.patch_box(p) for p in range(4)] == [
        (0, 1, 2, 3),
        (2, 1, 4, 3),
        (0, 3, 2, 5),
        (2, 3, 4, 5),
    ]
    assert crop.patch_size == (2, 2)
    assert [crop.patch_at(0.5, y) for y in (0.5, 1.5, 2.9, 3, 4.9, 5)] == [None, 0, 0, 2, 2, None]
    wide = lab.layout(size=(4, 6), side=4, grid=(2, 2))
    assert wide.patch_box(1) == (3, 0, 5, 2)
    assert [wide.patch_at(x, 3.5) for x in (0.5, 1.5, 3.5, 5.5)] == [None, 2, 3, None]
    pad = lab.layout(size=(2, 4), side=4, grid=(2, 2), fit="pad")
    assert pad.patch_box(0) == (0, -1, 2, 1) and pad.patch_box(3) == (2, 1, 4, 3)
    flat = lab.layout(size=(6, 6), side=6, grid=(2, 3))
    assert flat.patch_size == (3, 2)
    assert flat.patch_box(4) == (2, 3, 4, 6) and flat.patch_at(2.5, 3.5) == 4
    # two model pixels for each pixel
    fine = lab.layout(size=(2, 2), side=4, grid=(4, 4))
    assert fine.patch_box(6) == (1, 0.5, 1.5, 1)


@settings(max_examples=60, deadline=None)
@given(geometries)
def test_the_middle_of_every_box_is_in_its_patch(lab, options):
    layout = lab.layout(**options)
    for patch in range(layout.image_tokens):
        left, top, right, bottom = layout.patch_box(patch)
        assert left < right and top < bottom
        assert layout.patch_at((left + right) / 2, (top + bottom) / 2) == patch


@settings(max_examples=40, deadline=None)
@given(geometries)
def test_every_pixel_is_in_the_box_of_its_patch_or_cropped_away(lab, options):
    layout = lab.layout(**options)
    height, width = options["size"]
    left, top, right, bottom = layout.geometry.crop_box
    for y, x in itertools.product(np.arange(height) + 0.5, np.arange(width) + 0.5):
        patch = layout.patch_at(x, y)
        if patch is None:
            assert options["fit"] == "crop"
            assert not (left + 1e-9 < x < right - 1e-9 and top + 1e-9 < y < bottom - 1e-9)
        else:
            box = layout.patch_box(patch)
            assert box[0] - 1e-9 <= x <= box[2] + 1e-9 and box[1] - 1e-9 <= y <= box[3] + 1e-9


@settings(max_examples=60, deadline=None)
@given(geometries)
def test_boxes_tile_what_the_model_sees(lab, options):
    layout = lab.layout(**options)
    rows, columns = layout.grid
    boxes = np.array([layout.patch_box(p) for p in range(layout.image_tokens)])
    boxes = boxes.reshape(rows, columns, 4)
    np.testing.assert_allclose(boxes[:, 1:, 0], boxes[:, :-1, 2], atol=1e-9)
    np.testing.assert_allclose(boxes[1:, :, 1], boxes[:-1, :, 3], atol=1e-9)
    assert np.ptp(boxes[:, 0, 0]) == 0 and np.ptp(boxes[0, :, 1]) == 0
    whole = (*boxes[0, 0, :2], *boxes[-1, -1, 2:])
    if options["fit"] == "crop":
        np.testing.assert_allclose(whole, layout.geometry.crop_box, atol=1e-9)
    else:
        height, width = options["size"]
        assert whole[0] <= 1e-9 and whole[1] <= 1e-9
        assert whole[2] >= width - 1e-9 and whole[3] >= height - 1e-9


# ------------------------------------------------------------------ choosing words


def test_nothing_named_is_the_whole_text(told):
    chosen = told.select()
    assert (chosen.kind, chosen.text) == ("text", TEXT)
    assert chosen.tokens == tuple(range(len(told.tokens) - 1)), "the end token wrote nothing"


def test_a_phrase_is_found_whatever_its_case_and_white_space(told):
    chosen = told.select("SMALL left\tpleural   Effusion")
    assert (chosen.kind, chosen.text) == ("phrase", "Small left  pleural\neffusion")
    assert TEXT[chosen.start : chosen.end] == chosen.text
    assert "".join(told.tokens[t] for t in chosen.tokens) == " Small left  pleural\neffusion"
    assert str(chosen) == chosen.text


def test_occurrences_are_counted_from_zero(told):
    first, second = (told.select("pleural effusion", occurrence=n) for n in (0, 1))
    assert first.start == TEXT.index("pleural") and second.start == TEXT.rindex("pleural")
    with pytest.raises(OptionError, match=r"'pleural effusion' occurs: 2 in the text.*got 2"):
        told.select("pleural effusion", occurrence=2)
    with pytest.raises(OptionError, match="got -1"):
        told.select("pleural effusion", occurrence=-1)


def test_marks_of_patterns_are_plain_characters(lab):
    layout = lab.layout("Nodule (20 mm?) a+b.")
    assert layout.select("(20 mm?) A+B.").text == "(20 mm?) a+b."
    with pytest.raises(InputError, match="does not contain"):
        layout.select("20.mm")


def test_part_of_a_token_chooses_the_token(lab):
    layout = lab.layout("No cardiomegaly.")
    chosen = layout.select("megal")
    assert chosen.text == "megal" and chosen.tokens == (1,)


def test_a_token_by_number(told):
    for number, (start, end) in enumerate(told.offsets[:-1]):
        chosen = told.select(token=number)
        assert (chosen.kind, chosen.tokens) == ("token", (number,))
        assert (chosen.start, chosen.end, chosen.text) == (start, end, TEXT[start:end])
    end = told.select(token=len(told.tokens) - 1)
    assert end.text == "</s>" and end.start == end.end == len(TEXT)


def test_a_word_by_number_or_by_name(told):
    assert told.select(word=3).text == "pleural"
    assert told.select(word=7).text == "left,"
    assert told.select(word="left").text == "left"
    assert told.select(word="left", occurrence=1).start == TEXT.index("left  pleural")
    assert told.select("p").text == "p"
    for word in ("effus", "f", "eft"):
        with pytest.raises(InputError, match="does not contain"):
            told.select(word=word)


def test_a_sentence_by_number(told):
    assert told.select(sentence=1).text == "No pneumothorax."
    assert told.select(sentence=1).kind == "sentence"


@pytest.mark.parametrize(
    ("text", "finding", "wanted"),
    [
        (TEXT, "pleural effusion", "pleural effusion on the left"),
        (TEXT, "effusion", "pleural effusion on the left"),
        (TEXT, "pneumothorax", "pneumothorax"),
        ("There is a nodule in the left lower lung zone.", "nodule", "nodule in the left lower"),
        ("Left-sided pneumothorax.", "pneumothorax", "Left-sided pneumothorax"),
        ("There are effusions on both sides.", "pleural effusion", "effusions on both"),
        ("Opacity in the left and right lower zones.", "lung opacity", None),
        # a comma ends the place
        ("Pleural effusion, left.", "pleural effusion", "Pleural effusion"),
        # present comes before absent
        ("No left pneumothorax. Right pneumothorax.", "pneumothorax", "Right pneumothorax"),
        # the neighbour keeps its own place
        (
            "There is a left pleural effusion and left lower lobe consolidation.",
            "consolidation",
            "left lower lobe consolidation",
        ),
        (
            "There is a left pleural effusion and left lower lobe consolidation.",
            "pleural effusion",
            "left pleural effusion",
        ),
        (
            "Pneumothorax in the right upper zone and a nodule in the left lower zone.",
            "pneumothorax",
            "Pneumothorax in the right upper",
        ),
        (
            "Pneumothorax in the right upper zone and a nodule in the left lower zone.",
            "nodule",
            "nodule in the left lower",
        ),
        ("Small bilateral effusions with bilateral atelectasis.", "atelectasis", None),
    ],
)
def test_a_finding_is_chosen_with_its_side_and_zone(lab, text, finding, wanted):
    wanted = (
        wanted
        or {
            "lung opacity": "Opacity in the left and right lower",
            "atelectasis": "bilateral atelectasis",
        }[finding]
    )
    chosen = lab.layout(text).select(finding=finding)
    assert (chosen.kind, chosen.text) == ("finding", wanted)


def test_findings_are_counted_too(told):
    assert told.select(finding="pleural effusion", occurrence=1).text == "left  pleural\neffusion"
    with pytest.raises(OptionError, match=r"mentions of pleural effusion: 2 in the text.*got 2"):
        told.select(finding="pleural effusion", occurrence=2)


def test_an_absent_phrase_is_an_error_that_shows_the_text(told, lab):
    with pytest.raises(InputError, match=r"does not contain 'nodule'.*There is a pleural effusion"):
        told.select("nodule")
    long = lab.layout("word " * 200)
    with pytest.raises(InputError, match=r"word word.*\.\.\.'") as caught:
        long.select("nodule")
    assert len(str(caught.value)) < 330


@pytest.mark.parametrize("phrase", ["", " \n", 5])
def test_an_empty_phrase_is_an_error_that_shows_the_text(told, phrase):
    with pytest.raises(InputError, match=r"phrase is empty.*There is a pleural effusion"):
        told.select(phrase)


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        ({"phrase": "left", "token": 0}, OptionError, "got phrase and token"),
        ({"word": 0, "sentence": 0, "finding": "x"}, OptionError, "word and sentence and finding"),
        ({"token": 99}, OptionError, "numbered from 0; got 99"),
        ({"token": -1}, OptionError, "numbered from 0; got -1"),
        ({"word": 99}, OptionError, "words: 18 in the text, numbered from 0; got 99"),
        ({"sentence": 9}, OptionError, "sentences: 3 in the text, numbered from 0; got 9"),
        ({"sentence": "first"}, OptionError, "got 'first'"),
        ({"finding": "nodule"}, InputError, "does not speak of nodule.*There is a pleural"),
        ({"finding": "gout"}, OptionError, "unknown finding 'gout'"),
        ({"phrse": "left"}, OptionError, "unknown option 'phrse'; did you mean 'phrase'"),
        (
            {"layer": 3},
            OptionError,
            "expected one of: phrase, token, word, sentence",
        ),
    ],
)
def test_bad_choices_are_errors(told, choice, error, message):
    with pytest.raises(error, match=message):
        told.select(**choice)


def test_a_selection_stands_for_itself_in_its_own_text(told, lab):
    for named in ({"finding": "effusion"}, {"sentence": 1}, {"token": 23}, {}):
        chosen = told.select(**named)
        assert told.select(chosen) is chosen
        assert (chosen.finding == "pleural effusion") == ("finding" in named)
    with pytest.raises(OptionError, match="got a selection and token"):
        told.select(told.select("left"), token=0)
    with pytest.raises(InputError, match=r"'left' is of another text.*'No nodule"):
        lab.layout("No nodule. No pneumothorax on the right.").select(told.select("left"))


words = st.lists(
    st.sampled_from(("No", "left", "effusion", "a", "3", ".", ",", "(b)", "Nodule")),
    min_size=1,
    max_size=12,
)
gaps = st.sampled_from((" ", "  ", "\n", " \t"))


@settings(max_examples=80, deadline=None)
@given(words, st.data())
def test_any_run_of_words_is_found(lab, parts, data):
    text = parts[0] + "".join(data.draw(gaps) + part for part in parts[1:])
    layout = lab.layout(text)
    first = data.draw(st.integers(0, len(parts) - 1))
    last = data.draw(st.integers(first + 1, len(parts)))
    phrase = data.draw(gaps).join(parts[first:last])
    mixed = "".join(random.Random(first).choice((c.upper(), c.lower())) for c in phrase)
    chosen = layout.select(mixed)
    assert chosen.text.lower().split() == phrase.lower().split()
    assert chosen.text == text[chosen.start : chosen.end]
    for number, (start, end) in enumerate(layout.offsets):
        touches = bool(set(range(start, end)) & set(range(chosen.start, chosen.end)))
        assert (number in chosen.tokens) == touches


@settings(max_examples=40, deadline=None)
@given(words, st.data())
def test_words_and_sentences_share_out_the_tokens(lab, parts, data):
    text = " ".join(parts)
    layout = lab.layout(text)
    counts = {"word": len(text.split()), "sentence": len(sentences(text))}
    assume(counts["sentence"])
    for kind, count in counts.items():
        pieces = [layout.select(**{kind: number}) for number in range(count)]
        chosen = [token for piece in pieces for token in piece.tokens]
        assert sorted(set(chosen)) == list(layout.select().tokens)
        assert all(a.end <= b.start for a, b in itertools.pairwise(pieces))
