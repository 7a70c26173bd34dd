"""The figure of a trace: one bar a token, whose parts are the shares of the frame."""

import warnings
from dataclasses import replace

import numpy as np
from matplotlib import pyplot
from matplotlib.colors import to_hex

from workbench.figures.attention import KIND_COLOURS, KIND_NAMES
from workbench.trace import AttentionRows


def few(run, tokens):
    """The first tokens of a run, called otherwise."""
    trace, count = run.trace, len(tokens)
    layout = replace(trace.layout, tokens=tokens, offsets=trace.layout.offsets[:count])
    values = trace.language.values[:, :, :count, : layout.length]
    rows = AttentionRows(values, trace.language.layers, False, 2, 4)
    return replace(trace, layout=layout, language=rows, logprobs=trace.logprobs[:count])


def test_bars_are_the_shares_of_the_frame(lab):
    trace = lab.run("A_tiny").trace
    before = dict(pyplot.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = trace.plot()
        ax.figure.canvas.draw()
    assert dict(pyplot.rcParams) == before
    frame = trace.to_frame()
    below = np.zeros(len(frame))
    for (kind, colour), bars in zip(KIND_COLOURS.items(), ax.containers, strict=True):
        assert bars.get_label() == KIND_NAMES[kind]
        assert {to_hex(bar.get_facecolor()) for bar in bars} == {colour}
        np.testing.assert_allclose([bar.get_height() for bar in bars], frame[kind], atol=1e-6)
        np.testing.assert_allclose([bar.get_y() for bar in bars], below, atol=1e-6)
        below += frame[kind].to_numpy()
    np.testing.assert_allclose(below, 1, atol=1e-5)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(KIND_NAMES.values())


def test_tokens_are_written_as_they_are(lab):
    trace = few(lab.run("A_tiny"), ("\u2581Small", "$\\frac$", "\u2581"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = trace.plot()
        ax.figure.canvas.draw()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["Small", "$\\frac$", "\u00b7"]


def test_it_draws_where_it_is_told(lab):
    ax = pyplot.figure().add_subplot()
    assert lab.run("A_tiny").trace.plot(ax) is ax
    assert len(pyplot.get_fignums()) == 1


def test_a_long_text_gets_a_wide_figure_but_not_an_endless_one(lab):
    run = lab.run("A_tiny")
    short = few(run, ("a", "b")).plot().figure.get_figwidth()
    long = run.trace.plot().figure.get_figwidth()
    assert 7 <= short <= long <= 26
