"""Trace: one run of a model, recorded once, from which every analysis starts.

A trace holds what the model saw, what it wrote, how sure it was, and where it looked. Rows of
attention are those of the positions that chose a token: row k belongs to the query at
`layout.query_of(k)`, one position before token k, because that is where token k was decided.
Analyses that run the model again take it from `trace.need_model()`.

On disk a trace is a folder: arrays as safetensors, the rest as JSON.

    trace.save("runs/case7")             ->  runs/case7/trace.json, runs/case7/trace.safetensors
    wb.load_trace("runs/case7")          ->  Trace without a model
"""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, dataclass, field, fields, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from workbench._repr import short_repr
from workbench._store import file_sha256, open_private, read_json, whole_file
from workbench.backends import Reader
from workbench.errors import InputError, OptionError
from workbench.generation import DecodingSettings, Generation
from workbench.generation.result import ModelIdentity
from workbench.radiograph import FitGeometry, InputContract, InputWarning, Radiograph
from workbench.trace.layout import Selection, SelectionOptions, TokenLayout

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Model = TypeVar("Model")

FORMAT = "cxr-workbench-trace/1"
ARRAYS, NOTES = "trace.safetensors", "trace.json"
_LEVELS = 65535
#: What comes of files that are not what was written.
_DAMAGED = (
    SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class AttentionRows:
    """Recorded rows of one tower.

    Attributes:
        values: (layers, heads, queries, keys) float32 or float16; one head where `mean_heads`.
            Every row sums to 1.
        layers: number of each recorded layer in the model.
        total_layers, total_heads: layers that the model has, and heads of each.
    """

    values: np.ndarray
    layers: tuple[int, ...]
    mean_heads: bool
    total_layers: int
    total_heads: int

    __repr__ = short_repr

    def pick(self, layer: int | None = None, head: int | None = None) -> np.ndarray:
        """Return (queries, keys) float32 of a layer and head; the mean over what is not named.

        A negative layer counts from the last.

        Raises:
            OptionError: a layer that was not recorded, or a head of rows averaged over heads.
        """
        heads = self.values if layer is None else self.values[self._at(layer)]
        if head is not None:
            self.need_heads()
            if not 0 <= head < self.total_heads:
                raise OptionError(f"heads go from 0 to {self.total_heads - 1}, got {head}")
            heads = heads[..., head, :, :]
        return heads.mean(tuple(range(heads.ndim - 2)), dtype=np.float32)

    def _at(self, layer: int) -> int:
        number = layer + self.total_layers if layer < 0 else layer
        if number not in self.layers:
            raise OptionError(
                f"layer {layer} was not recorded; recorded layers: "
                f"{', '.join(map(str, self.layers))} of {self.total_layers}. "
                "Trace again with layers=None to keep all"
            )
        return self.layers.index(number)

    def need_heads(self) -> None:
        """Raise `OptionError` where the heads were averaged."""
        if self.mean_heads:
            raise OptionError(
                f"the {self.total_heads} heads of each layer were averaged while recording, so "
                "they cannot be told apart; trace again with heads='each'"
            )


def check_weights(made: str, there: ModelIdentity, here: ModelIdentity, do: str) -> None:
    """Raise `InputError` where something was not `made` with these weights; it says what to do."""
    if there.sha256 != here.sha256:
        raise InputError(
            f"{made} {there.id} ({there.sha256[:12]}), this model is {here.id} "
            f"({here.sha256[:12]}); {do}"
        )


@dataclass(frozen=True, eq=False)
class Trace:
    """One run of one model on one image.

    Attributes:
        image: the radiograph as read.
        pixel_values: (1, S, S) float32, normalised as the model saw it.
        logprobs: (n,) float32, natural log-probability of each token, read again teacher-forced.
        language: attention rows (layers, heads, n, T) of the positions that chose each token;
            keys a row may not look at hold 0.
        vision: attention rows (layers, heads, N + 1, N + 1) of the vision tower, the class token
            first; None where they were not recorded.
        model: the live model, None for a trace that was loaded.
    """

    layout: TokenLayout
    generation: Generation
    image: Radiograph
    pixel_values: np.ndarray
    logprobs: np.ndarray
    language: AttentionRows
    vision: AttentionRows | None = None
    model: Reader | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """The generated text."""
        return self.layout.text

    def select(
        self, phrase: str | Selection | None = None, **named: Unpack[SelectionOptions]
    ) -> Selection:
        """Choose a part of the text; see `TokenLayout.select`."""
        return self.layout.select(phrase, **named)

    def attach(self, model: Reader) -> Trace:
        """Return the trace with the live model that was traced, for analyses that run it again."""
        own, do = self.generation.model, "attach the model that was traced"
        check_weights("the trace was recorded with", own, model.identity, do)
        return replace(self, model=model)

    @overload
    def need_model(self) -> Reader: ...

    @overload
    def need_model(self, kind: type[Model]) -> Model: ...

    def need_model(self, kind: type | None = None) -> object:
        """Return the live model, where asked of a class that can do more than a `Reader`.

        Raises:
            InputError: there is none, or it is of another class.
        """
        if self.model is None:
            raise InputError(
                "this analysis runs the model again, and a loaded trace has none: use "
                f"trace.attach(wb.load_model({self.generation.model.id!r}))"
            )
        if kind is not None and not isinstance(self.model, kind):
            raise InputError(
                f"this analysis takes a {kind.__name__}, as load_model returns it; the trace has a "
                f"{type(self.model).__name__}"
            )
        return self.model

    def need_vision(self) -> AttentionRows:
        """Return the vision tower's rows; `InputError` where they were not recorded."""
        if self.vision is None and self.model is not None and not self.model.patchwise:
            raise InputError(
                f"the vision tower of {self.model.identity.id} is no one stack over the patches of "
                "the whole image, so rollout and flow through it are not defined; use attention of "
                "the words, occlusion or gradients"
            )
        if self.vision is None:
            raise InputError(
                "the trace holds no attention of the vision tower; trace again with vision='each' "
                "or vision='mean'"
            )
        return self.vision

    def save(self, path: str | Path) -> Path:
        """Write the trace into a folder that only its owner can read, and return the folder.

        Pixels are kept (float32 as the model saw them, 16 bit as read); DICOM tags are not. An
        older trace in the folder is replaced.

        Raises:
            OSError: it cannot be written; older files of it are kept.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        towers = {"language": self.language, "vision": self.vision}
        arrays = {
            "pixels": np.rint(self.image.pixels * _LEVELS).astype(np.uint16),
            "pixel_values": np.ascontiguousarray(self.pixel_values),
            "logprobs": self.logprobs,
            "written_logprobs": np.array(self.generation.logprobs),
            **{name: np.ascontiguousarray(rows.values) for name, rows in towers.items() if rows},
        }
        notes: dict[str, object] = {
            "format": FORMAT,
            "layout": asdict(self.layout),
            "contract": self.image.contract.to_dict(),
            "generation": self.generation.to_dict(),
            "towers": {
                name: rows and {key: value for key, value in vars(rows).items() if key != "values"}
                for name, rows in towers.items()
            },
        }
        try:
            with whole_file(folder / ARRAYS) as written, whole_file(folder / NOTES) as noted:
                for partial in (written, noted):
                    open_private(partial).close()
                save_file(arrays, written)
                notes["sha256"] = file_sha256(written)
                noted.write_text(json.dumps(notes, indent=1) + "\n")
        except SafetensorError as error:
            name = f"{folder.name}/{ARRAYS}"
            raise OSError(
                errno.EIO, f"{name}: the trace cannot be written ({error}); make room"
            ) from error
        return folder

    def to_frame(self) -> pd.DataFrame:
        """Return one row per generated token with its attention by kind of position.

        Columns: token, logprob, start, end, and for each of prompt, image, question, generated
        the share of attention (mean over recorded layers and heads) in [0, 1].
        """
        import pandas as pd

        rows = self.language.pick()
        frame = pd.DataFrame(self.layout.offsets, columns=["start", "end"], dtype=int)
        frame.insert(0, "token", self.layout.tokens)
        frame.insert(1, "logprob", self.logprobs)
        shares = {span.kind: rows[:, span.slice].sum(1) for span in self.layout.spans}
        return frame.assign(**shares).rename_axis("position")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw one stacked bar per token: the share of its attention that each kind got."""
        from workbench.figures.attention import KIND_NAMES, draw_sources

        frame = self.to_frame()
        return draw_sources(
            frame["token"].tolist(),
            {kind: frame[kind].to_numpy() for kind in KIND_NAMES},
            title="Where each token looked (mean of layers and heads)",
            ax=ax,
        )

    def __repr__(self) -> str:
        layers, heads = self.language.values.shape[:2]
        seen = "no vision rows" if self.vision is None else "with vision rows"
        return (
            f"<Trace of {self.generation.task} about {self.generation.source!r}: "
            f"{len(self.layout.tokens)} tokens, {self.layout.image_tokens} patches, "
            f"{layers} layers x {heads} heads, {seen}>"
        )

    def _repr_html_(self) -> str:
        spans = ", ".join(f"{len(span)} {span.kind}" for span in self.layout.spans)
        return (
            f"{self.generation._repr_html_()}<p style='font-size:12px;color:#5f5f5f'>"
            f"Trace: {escape(spans)} positions; {escape(repr(self))}</p>"
        )


def load_trace(path: str | Path) -> Trace:
    """Read a trace that `Trace.save` wrote; it has no model until `Trace.attach` gives it one.

    Raises:
        InputError: there is no trace, it is of another format, or it is damaged.

    >>> wb.load_trace(trace.save("trace.npz")).text == report.text
    True
    """
    folder = Path(path)
    for name in (NOTES, ARRAYS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no {name}; expected a folder that trace.save wrote")
    try:
        notes = read_json(folder / NOTES)
        if (found := notes["format"]) == FORMAT:
            if file_sha256(folder / ARRAYS) != notes["sha256"]:
                raise ValueError(f"{ARRAYS} is not the file that {NOTES} was written with")
            return _trace(_tuples(notes), load_file(folder / ARRAYS))
    except _DAMAGED as error:
        raise InputError(
            f"the trace in {folder} is damaged ({type(error).__name__}: {error}); record it again"
        ) from error
    raise InputError(f"{folder} is of format {found!r}; this version reads {FORMAT!r}")


def _tuples(value: object) -> Any:
    """Return a value of JSON with tuples for lists, as the classes of results have them."""
    if isinstance(value, dict):
        return {key: _tuples(part) for key, part in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _trace(notes: dict[str, Any], arrays: dict[str, np.ndarray]) -> Trace:
    layout, contract, generation = (notes[key] for key in ("layout", "contract", "generation"))
    rows = {
        name: kept and AttentionRows(arrays[name], **kept) for name, kept in notes["towers"].items()
    }
    pixels = arrays["pixels"].astype(np.float32) / np.float32(_LEVELS)
    trace = Trace(
        layout=TokenLayout(**layout | {"geometry": FitGeometry(**layout["geometry"])}),
        generation=Generation(
            **{item.name: generation[item.name] for item in fields(Generation)}
            | {
                "logprobs": arrays["written_logprobs"],
                "settings": DecodingSettings(**generation["settings"]),
                "model": ModelIdentity(**generation["model"]),
                "warnings": _warnings(generation),
            }
        ),
        image=Radiograph(pixels, InputContract(**contract | {"warnings": _warnings(contract)})),
        pixel_values=arrays["pixel_values"],
        logprobs=arrays["logprobs"],
        language=rows["language"],
        vision=rows["vision"],
    )
    expected = (len(trace.layout.tokens), trace.layout.length)
    if trace.language.values.shape[2:] != expected:
        raise ValueError(f"rows of {trace.language.values.shape[2:]}, expected {expected}")
    return trace


def _warnings(notes: dict[str, Any]) -> tuple[InputWarning, ...]:
    return tuple(InputWarning(**warning) for warning in notes["warnings"])
