"""The explorer: a radiograph and a report beside each other, and a map for every word of it.

    wb.explore(model, image)
    wb.explore(model, image, against=other_model)       # or another image, or a second method
    wb.explore(model, wb.phantom(7, domain="ct"), lateral=True)        # also from the side

Two models on one radiograph: each with its own texts and maps, and what they state finding by
finding. Of a model that shows nothing of its inside (an endpoint) there are the texts.

A click on a word, phrase, sentence or finding shows where it came from, by any method of
`wb.saliency`; words can be coloured by what the image contributed to them; questions are answered
in place. Where no widget can run a picture stands in, and `save` writes a page that needs no
Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from workbench.backends.levels import WRITER, needs
from workbench.errors import OptionError, WorkbenchError
from workbench.figures.page import html_file
from workbench.figures.words import FULL
from workbench.generation import Generation
from workbench.interface import ChestXrayModel
from workbench.saliency import METHODS
from workbench.saliency.methods import method_of
from workbench.trace import Trace
from workbench.widgets._front import Front, quick, script, slow, styles
from workbench.widgets._worker import Job, watched
from workbench.widgets.explorer_page import choices_of, explorer_page, explorer_still
from workbench.widgets.explorer_side import (
    Passage,
    Side,
    expected_images,
    map_for,
    part_in,
    rows_of,
    said_of,
)
from workbench.widgets.radiographs import colour_tables, grid_of

#: Maps that are kept, so that going back to a word costs nothing.
MOST_MAPS = 400


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class View(_Strict):
    """How the images are shown."""

    zoom: float = 1.0
    x: float = 0.5
    y: float = 0.5
    centre: float = 0.5
    width: float = 1.0
    preset: Literal["", "lung", "mediastinum", "bone"] = ""
    flip: bool = False
    invert: bool = False
    model: bool = False
    crop: bool = True
    hand: bool = False


class Choice(_Strict):
    """A chosen part of a text: characters, a finding, or the whole text."""

    passage: int
    start: int | None = None
    end: int | None = None
    finding: Annotated[str, Field(max_length=80)] | None = None


class Settings(_Strict):
    """What is chosen on the page, and what a new explorer shows."""

    method: Annotated[str, AfterValidator(lambda name: method_of(name).name)] = "attention"
    second: Annotated[str, AfterValidator(lambda name: name and method_of(name).name)] = ""
    layer: NonNegativeInt | None = None
    head: NonNegativeInt | None = None
    sign: Literal["both", "for", "against"] = "both"
    opacity: Annotated[float, Field(ge=0, le=1)] = 0.6
    smooth: bool = True
    overlay: bool = True
    truth: bool = False
    lateral: bool = False
    colour: Literal["none", "image", "attention", "confidence"] = "none"
    pick: Literal["word", "sentence"] = "word"
    view: View = View()
    chosen: list[Choice | None] = []


DEFAULTS: dict[str, Any] = Settings().model_dump()


def checked_settings(kept: Mapping[str, Any], given: object, sides: int) -> dict[str, Any]:
    """Return the settings with those of a page; what the page leaves out stays."""
    try:
        new = Settings.model_validate(given).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        shown = shorten(repr(first["input"]), 60)
        raise OptionError(f"the setting {where!r} cannot be {shown}: {first['msg']}") from None
    if len(new.get("chosen", ())) > sides:
        raise OptionError(f"the setting 'chosen' cannot be longer than {sides}")
    return {**kept, **new}


@needs(WRITER)
def explore(
    model: ChestXrayModel,
    image: object,
    *,
    against: Any = None,
    report: Generation | Trace | None = None,
    method: str = "attention",
    lateral: bool = False,
) -> Explorer:
    """Open the explorer of a model and an image: show it as the last line of a cell.

    Args:
        model: which one.
        image: a Radiograph, anything `load_radiograph` reads, or a phantom, whose truth can then
            be outlined.
        against: another model for the same image, another image for the same model, or the name of
            a second method; shown side by side. None for one view.
        report: what the model wrote about the image, as a `Generation` or a `Trace`; None has it
            written.
        method: the method to begin with, one of `wb.saliency.METHODS`.
        lateral: show a CT phantom from the side too, with its truth outlined in both views: a
            lesion lights up in both, and a point of one is a line in the other.

    Raises:
        InputError: an image cannot be read, or the report is of another model or image.
        OptionError: an unknown method; `lateral` of what is no upright CT phantom, or beside
            `against`.

    >>> wb.explore(model, case, report=report).state()["sides"][0].keys() >= {"passages"}
    True
    """
    settings = DEFAULTS | {"method": method_of(method).name}
    sides = [Side(model, image, report)]
    if isinstance(against, str) and against in METHODS:
        settings["second"] = against
    elif isinstance(against, ChestXrayModel):
        sides.append(Side(against, image))
    elif against is not None:
        sides.append(Side(model, against))
    if lateral and against is not None:
        raise OptionError("lateral=True takes the place of `against`; give one of the two")
    if lateral:
        settings |= {"lateral": bool(sides[0].lateral), "truth": True}
    return Explorer(sides, settings)


class Explorer(Front):
    """The widget; see `explore`."""

    _esm = script("explorer.js")
    _css = styles("radiograph.css", "explorer.css")

    def __init__(self, sides: list[Side], settings: dict[str, Any]) -> None:
        #: One, or two to be compared.
        self.sides = sides
        self.settings = settings
        self._maps: dict[tuple, dict] = {}
        self._revision = 0
        notices = dict.fromkeys(side.model.notice for side in self.sides)
        super().__init__(title="Explorer", notice="; ".join(notices))

    def state(self) -> dict[str, Any]:
        """Return everything a view shows; what models did not write yet is missing."""
        names = self._names()
        return {
            "revision": self._revision,
            "settings": self.settings,
            "tables": colour_tables(),
            "full": FULL,
            "sides": [side.to_dict(name) for side, name in zip(self.sides, names, strict=True)],
            "lateral": self._lateral(),
        }

    def _lateral(self) -> dict[str, Any] | None:
        """Return the view from the side, {} where nobody asked for it, None where there is none."""
        if len(self.sides) > 1 or self.sides[0].upright is None:
            return None
        return self.sides[0].lateral if self.settings["lateral"] else {}

    @quick
    def texts(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return the texts alone, for a view that has the images already."""
        return {"revision": self._revision, "sides": [side.texts() for side in self.sides]}

    @quick
    def keep(self, message: Mapping[str, Any]) -> None:
        """Keep what is chosen on the page, so that the next view shows the same."""
        self.settings = checked_settings(self.settings, message.get("settings"), len(self.sides))

    @quick
    def look(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return the map of recorded attention."""
        if message.get("method") != "attention":
            raise OptionError(f"only attention is read at once, got {message.get('method')!r}")
        return self._map(message)

    @quick
    def rows(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attention of every token of a text in one layer or head."""
        trace = self._side(message).trace(message.get("passage"))
        return rows_of(trace, part_in(message, "layer"), part_in(message, "head"))

    @slow
    def map(self, message: Mapping[str, Any], job: Job) -> dict[str, Any]:
        """Return the map of any method; what it reads is told on the way."""
        side, method = self._side(message), method_of(message.get("method"))
        total = expected_images(method, side.model)
        with watched(side.model, job, total=total):
            return self._map(message)

    @slow
    def lateral(self, message: Mapping[str, Any], job: Job) -> dict[str, Any]:
        """Return the chest from the side."""
        return self._side(message).lateral

    @slow
    def write(self, message: Mapping[str, Any], job: Job) -> dict[str, Any]:
        """Write the report, or with `again` another one with chance, piece by piece."""
        side = self._side(message)
        if side.passages and not message.get("again"):
            return self._written(side.passages[0])
        return self._written(side.write(job))

    @slow
    def ask(self, message: Mapping[str, Any], job: Job) -> dict[str, Any]:
        """Answer a question about the image and the newest report, piece by piece."""
        return self._written(self._side(message).ask(message.get("question"), job))

    @slow
    def ground(self, message: Mapping[str, Any], job: Job) -> dict[str, Any]:
        """Return what the image contributed to each word of a text."""
        side = self._side(message)
        with watched(side.model, job):
            return {"words": side.ground(message.get("passage"))}

    @slow
    def page(self, message: Mapping[str, Any], job: Job) -> dict[str, Any]:
        """Return the explorer as a page that needs no Python."""
        return {"html": self._page(job.check)}

    def save(self, path: str | Path, *, methods: Sequence[str] = ()) -> Path:
        """Write a page that opens in any browser, without Python and without a network.

        Words show their recorded attention; maps that were computed before are there too.

        Args:
            path: the page.
            methods: also compute the maps of every word, sentence and finding by these.

        Raises:
            InputError: the name does not end in .html.
            OptionError: an unknown method.
        """
        wanted = [method_of(name).name for name in methods]
        with html_file(path) as partial:
            for number, side in enumerate(self.sides):
                side.ensure_report()
                for passage, method in product(side.passages, wanted):
                    for choice in choices_of(passage):
                        asked = {"side": number, "passage": passage.number, "choice": choice}
                        with suppress(WorkbenchError):  # no map of these words: the page says so
                            self._map(asked | {"method": method})
            partial.write_text(self._page(), encoding="utf-8")
        return Path(path)

    def still(self) -> str:
        """Return a picture and the text; a small model writes its report for it."""
        for side in self.sides:
            if side.small:
                side.ensure_report()
        return explorer_still(self.sides, self.settings["method"], self.notice)

    def _page(self, check: Callable[[], None] = lambda: None) -> str:
        traits = {"title": self.title, "notice": self.notice}
        return explorer_page(self.sides, self.state(), dict(self._maps), traits, check)

    def _side(self, message: Mapping[str, Any]) -> Side:
        number = message.get("side", 0)
        if number not in range(len(self.sides)) or isinstance(number, bool):
            raise OptionError(f"sides go from 0 to {len(self.sides) - 1}, got {number!r}")
        return self.sides[number]

    def _map(self, message: Mapping[str, Any]) -> dict[str, Any]:
        key = map_key(message)
        if (kept := self._maps.get(key)) is not None:
            return kept
        trace = self._side(message).trace(message.get("passage"))
        made = map_for(trace, message)
        found = self._maps[key] = {"grid": grid_of(made.values), **said_of(made)}
        if len(self._maps) > MOST_MAPS:
            del self._maps[next(iter(self._maps))]
        return found

    def _written(self, passage: Passage) -> dict[str, Any]:
        """Tell other views that there is a new text, and return it."""
        self._revision += 1
        self.tell("written", revision=self._revision)
        return {"passage": passage.page, "revision": self._revision}

    def _names(self) -> list[str]:
        """Return what tells the sides apart."""
        if len(self.sides) == 1:
            return [""]
        first, second = self.sides
        if first.model is not second.model:
            names = [side.model.card.name for side in self.sides]
        else:
            names = [side.image.contract.source for side in self.sides]
        same = names[0] == names[1]
        return [f"{name} ({at})" if same else name for at, name in enumerate(names, 1)]


def map_key(message: Mapping[str, Any]) -> tuple:
    """Return what decides a map, from a message that may hold anything."""
    choice = message.get("choice")
    choice = choice if isinstance(choice, Mapping) else {}
    parts = [message.get(name) for name in ("side", "passage", "method", "layer", "head")]
    parts += [choice.get(name) for name in ("start", "end", "finding")]
    return tuple(part if isinstance(part, (int, str)) else repr(part) for part in parts)
