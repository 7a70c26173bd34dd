"""Whatever a figure says lies inside it, also where names and texts are long."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

import workbench as wb
from workbench.figures import draw_masks, plot_case, plot_input
from workbench.figures.estimates import plot_bars
from workbench.figures.maps import draw_map, draw_small_multiples
from workbench.figures.style import lines_within, text_inches
from workbench.findings import PHANTOM_FINDINGS
from workbench.finetune.planner import GB, PARTS, STRATEGIES, MemoryNeed, MemoryPlan
from workbench.hallucination.detectors import DETECTORS

LONG = "Whether a very long statement about WIDE MODELS (and what they are used for) still fits. "
PIXELS = np.linspace(0, 1, 64 * 53, dtype=np.float32).reshape(64, 53)
MASK = np.zeros(PIXELS.shape, bool)
MASK[30:44, 8:20] = True


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def outside(figure: Figure) -> list[str]:
    """Texts that are shown and reach over the edge of a figure."""
    FigureCanvasAgg(figure).draw()
    renderer, edge = figure.canvas.get_renderer(), figure.bbox
    ticks = {
        text
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        for text in (tick.label1, tick.label2)
        # matplotlib keeps labels of ticks that lie outside the limits and does not draw them
        if not axes.axison or not _shown(axis, tick)
    }
    found = []
    for text in figure.findobj(Text):
        if text in ticks or not text.get_visible() or not text.get_text().strip():
            continue
        box = text.get_window_extent(renderer)
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= edge.x1 + 1 and box.y1 <= edge.y1 + 1
        if not inside:
            found.append(text.get_text())
    return found


def _shown(axis, tick) -> bool:
    low, high = sorted(axis.get_view_interval())
    return low <= tick.get_loc() <= high


def test_a_text_over_the_edge_would_be_seen():
    figure = plt.figure(figsize=(3, 2))
    figure.text(0.5, 0.5, LONG)
    assert outside(figure) == [LONG]


def case(**more) -> Figure:
    verdicts = [(name, "present", "not mentioned") for name in PHANTOM_FINDINGS]
    given = {"text": LONG * 20, "title": LONG, "footer": LONG * 3} | more
    return plot_case(PIXELS, {"nodule": MASK}, verdicts=verdicts, **given)


def with_map(**more) -> Figure:
    return case(values=PIXELS, values_title=LONG, values_details=LONG, **more)


def plan() -> Figure:
    """Every strategy, each as large as the largest of the published model: 128 GB."""
    sizes = {"parameters": 7 * 10**9, "learning": 7 * 10**9, "context": 0.75 * GB}
    needs = [
        MemoryNeed(name, checkpointing, **dict.fromkeys(PARTS, 20 * GB), **sizes)
        for name in STRATEGIES
        for checkpointing in (False, True)
    ]
    return MemoryPlan("ECOFRI/CXR-LLAVA-v2", tuple(needs)).plot().figure


FIGURES = {
    "case": case,
    "case, few words": lambda: case(text="", title="", footer=""),
    "case with a map": with_map,
    "case with a map, few words": lambda: with_map(text="Normal.", title="mini", footer=""),
    "case, a wide image": lambda: plot_case(
        PIXELS.T, {}, text=LONG, verdicts=[("nodule", "absent", "absent")], title=LONG
    ),
    "masks": lambda: draw_masks(PIXELS, dict.fromkeys(PHANTOM_FINDINGS, MASK)).figure,
    "map": lambda: draw_map(PIXELS, PIXELS, title=LONG, details=LONG, caution=LONG).figure,
    "signed map": lambda: draw_map(PIXELS, PIXELS - 0.5, signed=True, title="m").figure,
    "maps": lambda: draw_small_multiples(
        PIXELS, [(f"{n} {LONG}", PIXELS) for n in range(5)], title=LONG, details=LONG * 2
    ),
    "input": lambda: plot_input(
        PIXELS, PIXELS[:53], visible_box=(0, 5, 53, 58), fit="crop",
        facts=[LONG, *(f"fact {n} of it" for n in range(30))], warnings=[("code", LONG * 3)],
    ),
    "suspicion": lambda: plot_bars(
        ["pleural effusion", "nodule"], np.ones(2), None, title=max(DETECTORS, key=len),
        xlabel="greater is more suspect",
    ).figure,
    "plan": plan,
    "phantom, as the model sees it": lambda: wb.phantom(seed=7).image.show(),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_everything_that_is_said_lies_inside(name):
    assert outside(FIGURES[name]()) == []


@pytest.fixture(scope="module")
def run(tiny):
    model = wb.load_model(tiny, device="cpu")
    drawn = wb.phantom(seed=7, findings=["nodule"], size=model.image_size)
    return model.trace(drawn, model.report(drawn, max_new_tokens=3))


def test_figures_of_a_short_text_have_room_for_their_own_words(run):
    sources = wb.attention.sources(run)
    for figure in (run.plot().figure, sources.plot(by="word").figure):
        assert outside(figure) == []


# --- names beside outlines -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_no_name_covers_an_outline_or_another_name(seed):
    wanted = ["pleural effusion", "nodule", "pneumothorax", "atelectasis"]
    drawn = wb.phantom(seed=seed, findings=wanted[: 2 + seed % 3], size=256)
    figure = draw_masks(drawn.image.pixels, drawn.masks).figure
    FigureCanvasAgg(figure).draw()
    (ax,) = figure.axes
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in ax.texts if text.get_text()]
    for one, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[one + 1 :])
        for outline in ax.collections:
            for path in outline.get_paths():
                points = ax.transData.transform(path.vertices)
                inside = (points >= (box.x0, box.y0)) & (points <= (box.x1, box.y1))
                assert not inside.all(axis=1).any()


# --- lines ---------------------------------------------------------------------------------------


def test_lines_are_as_wide_as_asked_and_lose_no_word():
    text = f"{LONG}\n\n{'M' * 60} end"
    lines = lines_within(text, 2.0, 13)
    assert all(text_inches(line, 13) <= 2.0 for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert "" in lines
    assert lines_within("", 2.0, 13) == []


def test_what_does_not_fit_ends_in_an_ellipsis():
    lines = lines_within(LONG * 5, 2.0, 13, "bold", most=3)
    assert len(lines) == 3
    assert lines[-1].endswith(" ...") and text_inches(lines[-1], 13, "bold") <= 2.0
