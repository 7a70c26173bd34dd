"""One HTML page of everything that was measured: the bars, figures, and a table of each section.

Figures are drawn with matplotlib and put into the page, which needs nothing else to be read.

Does not know: what should have come out (`bars`).
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path

from workbench.figures.numbers import method_name

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:32px auto;padding:0 20px;
color:#1b1b1b}h1{font-size:26px;margin-bottom:4px}h2{font-size:19px;margin-top:34px}
table{border-collapse:collapse;margin:8px 0}td,th{padding:4px 14px 4px 0;text-align:left;
border-bottom:1px solid #e3e6ea;vertical-align:top}td.n{text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums}.ok{color:#1a7f37}.miss{color:#b42318}img{max-width:100%}
.quiet{color:#5f6773}details{margin:6px 0}pre{font-size:12px;overflow:auto;background:#f6f7f9;
padding:10px}"""
#: How a clock is called on the page.
_CLOCKS = {"cpu": "processor time", "wall": "wall time"}
OURS, OTHER, GREY = "#20639b", "#c8553d", "#9aa3ad"

#: Section -> which of its times are ours; the others are peers'.
_OURS = {
    "report": ("ours",),
    "questions": ("together", "one by one"),
    "batch": ("batched", "sequential"),
    "many": ("flowing",),
    "capture": ("generation", "generation and record"),
    "grounding": ("first", "next"),
    "runs": ("run",),
}


def write_page(result: Mapping, bars: list[dict], to: Path) -> None:
    """Write the page.

    Args:
        result: machine and sections, as `bench.json` has them.
        bars: what `judged` returned.
        to: the file.
    """
    sections, clock = result["sections"], result["machine"]["clock"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Speed</title>",
        f"<style>{STYLE}</style><h1>How fast, against what</h1>",
        f"<p class=quiet>{html.escape(_machine(result['machine']))}</p>",
        f"<p>Ratios are medians within rounds, of {_CLOCKS[clock]}; sizes and every single "
        "measurement are in <code>bench.json</code>. Blue bars are the workbench, red ones what it "
        "is held against.</p>",
        _bars(bars),
    ]
    figures = {"Against the machine": _limits, "Against others": _ways, "Growth": _growth,
               "Saliency": _saliency, "A long run": _long}  # fmt: skip
    for title, draw in figures.items():
        figure = draw(sections, clock)
        if figure is not None:
            parts.append(f"<h2>{title}</h2>{_image(figure, title)}")
    parts.append("<h2>Every section</h2>" + _spent(sections))
    to.write_text("\n".join(parts))


def _machine(machine: Mapping) -> str:
    return (
        f"{machine['system']}, {machine['threads']} of {machine['cores']} cores "
        f"({machine['processor']}, {machine['instructions']}); Python {machine['python']}, "
        f"torch {machine['torch']}, transformers {machine['transformers']}"
    )


def _bars(bars: list[dict]) -> str:
    rows = "".join(
        f"<tr><td class={'ok' if bar['ok'] else 'miss'}>{'reached' if bar['ok'] else 'missed'}"
        f"<td>{html.escape(bar['name'])}<td class=n><b>{bar['shown']}</b><td class=n>"
        f"{html.escape(bar['wanted'])}<td class=n>{bar['rounds']}"
        for bar in bars
    )
    return f"<table><tr><th><th>what<th>measured<th>wanted<th>rounds{rows}</table>"


def _spent(sections: Mapping) -> str:
    rows = []
    for name, found in sections.items():
        if "error" in found:
            rows.append(f"<tr><td>{name}<td class=miss colspan=3>{html.escape(found['error'])}")
            continue
        note = " <span class=quiet>(quick: numbers mean nothing)</span>" if found["quick"] else ""
        rows.append(
            f"<tr><td>{name}<td>{html.escape(found['title'])}{note}<td class=n>"
            f"{found['spent']['cpu']:.0f} s<td class=n>"
            f"{found['memory']['peak_bytes'] / 1e6:,.0f} MB"
        )
    head = "<tr><th>section<th>what it does<th>processor<th>peak memory"
    return f"<table>{head}{''.join(rows)}</table>"


def _image(figure, title: str) -> str:
    import matplotlib.pyplot as plt

    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=144, bbox_inches="tight")
    plt.close(figure)
    encoded = base64.b64encode(data.getvalue()).decode()
    return (
        f"<img alt='{title}: the figures are in bench.json' src='data:image/png;base64,{encoded}'>"
    )


def _axes(count: int, height: float, columns: int = 3):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(count, columns)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(10.4, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat[:count])


def _usable(sections: Mapping, name: str) -> Mapping | None:
    found = sections.get(name)
    return None if found is None or "error" in found else found


def _limits(sections: Mapping, clock: str):
    found = _usable(sections, "report")
    if found is None:
        return None
    figure, (axis,) = _axes(1, 2.2)
    names = ["decoding: bandwidth", "vision: operations", "image and prompt: operations"]
    shares = [
        found["bandwidth_fraction"][clock],
        found["flops_fraction"]["vision"],
        found["flops_fraction"]["prefix"],
    ]
    axis.barh(names[::-1], [100 * share for share in shares[::-1]], color=OURS, height=0.6)
    for at, share in enumerate(shares[::-1]):
        axis.text(100 * share + 1, at, f"{share:.0%}", va="center")
    axis.axvline(100, color=GREY, linestyle="--", linewidth=1)
    axis.set(xlim=(0, 112), xlabel="% of what this machine can do, measured in the same process")
    limits = found["limits"]
    note = (
        f"{limits['bandwidth_bytes_per_second'] / 1e9:.1f} GB/s, "
        f"{limits['flops_per_second'] / 1e9:.0f} GFLOP/s, threads: {limits['threads']}; "
        f"{found['tokens_per_second'][clock]:.0f} tokens/s"
    )
    axis.set_title(note, fontsize=10, loc="left")
    return figure


def _ways(sections: Mapping, clock: str):
    shown = []
    for name in _OURS:
        found = _usable(sections, name)
        if found is not None:
            shown.append((name, found.get("latency") or found["times"], found))
    if not shown:
        return None
    figure, axes = _axes(len(shown), 2.1)
    for axis, (name, times, found) in zip(axes, shown, strict=True):
        ways = list(times)[::-1]
        seconds = [times[way][clock] for way in ways]
        if name == "batch":  # two of the ways wrote four reports
            count = found["reports"]
            seconds = [
                s if w == "batched" else s * count / 4 for w, s in zip(ways, seconds, strict=True)
            ]
        colours = [OURS if way in _OURS[name] else OTHER for way in ways]
        axis.barh(ways, seconds, color=colours, height=0.6)
        axis.margins(x=0.18)
        for at, value in enumerate(seconds):
            axis.text(value, at, f" {value:.3g}", va="center", fontsize=8)
        axis.set_title(name, fontsize=10, loc="left")
        axis.set_xlabel(f"seconds of {_CLOCKS[clock]}", fontsize=8)
        axis.tick_params(labelsize=8)
    return figure


def _growth(sections: Mapping, clock: str):
    found = _usable(sections, "scaling")
    if found is None:
        return None
    figure, axes = _axes(len(found["curves"]), 2.5, columns=2)
    for axis, (name, curve) in zip(axes, found["curves"].items(), strict=True):
        axis.loglog(curve["sizes"], curve["seconds"], "o-", color=OURS)
        axis.set_title(f"{name}: exponent {curve['exponent']:.2f}", fontsize=10, loc="left")
        axis.set_ylabel("seconds", fontsize=8)
        sizes = curve["sizes"]
        axis.set_xticks(sizes, [f"{s / 1e6:.0f} MB" if s > 1e5 else str(s) for s in sizes])
        axis.minorticks_off()
    return figure


def _saliency(sections: Mapping, clock: str):
    found = _usable(sections, "saliency")
    if found is None:
        return None
    times = {method_name(name): each[clock] for name, each in found["methods"].items()}
    times |= {name: each[clock] for name, each in found["captum"].items() if "captum" in name}
    order = sorted(times, key=times.get, reverse=True)
    figure, (axis,) = _axes(1, 0.6 + 0.28 * len(order))
    colours = [OTHER if name.startswith("captum") else OURS for name in order]
    axis.barh(order, [times[name] for name in order], color=colours, height=0.65)
    axis.set(xscale="log", xlabel=f"seconds of {_CLOCKS[clock]} for one map of `mini`")
    for at, name in enumerate(order):
        axis.text(times[name], at, f" {times[name]:.2g} s", va="center", fontsize=8)
    return figure


def _long(sections: Mapping, clock: str):
    found = _usable(sections, "runs")
    if found is None:
        return None
    run = found["long"]
    figure, (axis,) = _axes(1, 2.4)
    for name, colour in (("early", GREY), ("late", OURS)):
        axis.plot([1000 * s for s in run[f"{name}_block_seconds"]], color=colour, label=name)
    axis.set(xlabel="block, the two runs in turn", ylabel="processor ms a block", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8)
    axis.set_title(
        f"{run['rows']:,} rows: a late block takes {run['drift']:+.1%} "
        f"(± {run['drift_standard_error']:.1%}), memory {run['memory_growth']:+.1%}",
        fontsize=10,
        loc="left",
    )
    return figure
