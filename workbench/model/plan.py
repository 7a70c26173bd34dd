"""What tasks take on this machine, memory and time, before anything is loaded.

    plan = wb.plan("ECOFRI/CXR-LLAVA-v2", dtype="bfloat16")      # only its configuration is read
    model.plan("relevancy")

Memory is counted on shapes (`workbench.model.costs`). Time is operations and bytes moved over what
this machine reaches: a probe of half a second takes products with matrices of the model's size, of
many rows and of one, once in a process. Everything here is predicted; `benchmarks/plan.py` holds it
against measurement, and LOG.md says of which tasks that was done.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from workbench._repr import result
from workbench.errors import check_one_of
from workbench.model.costs import MAPS, PARTS, TASKS, Asked, Counts
from workbench.model.placement import DTYPES, Placement, device_memory, on_cpu
from workbench.model.sizes import BYTES, Shape

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Which clock the probe reads.
clock = time.perf_counter

#: Maps of a tower that is one stack over the patches, as `workbench.saliency.METHODS` has them.
PATCHWISE = ("rollout", "integrated_gradients_patches")
#: Maps to name where another does not fit, the quickest first.
_OTHERS = ("grad_cam", "token_activation", "kernel_shap")


@result(eq=True)
class Machine:
    """What a device reaches, as the probe measured it.

    Attributes:
        memory: bytes.
        operations: of products of matrices, a second.
        attention: operations of attention, a second.
        bandwidth: bytes read from memory a second.
    """

    device: str
    dtype: str
    memory: int
    operations: float
    attention: float
    bandwidth: float


@functools.cache
@torch.inference_mode()
def probe(device: str, dtype: str, width: int, inner: int, threads: int) -> Machine:
    """Measure this machine, once in a process, by products with weights of a layer's size."""
    where, kind = "cuda:0" if device == "auto" else device, DTYPES[dtype]
    # as many as no cache holds, so that each is read from memory as in a model
    count = max(1, (64 << 20) // (width * inner * kind.itemsize))
    weights = torch.ones(count, inner, width, device=where, dtype=kind)
    rows = torch.ones(128, width, device=where, dtype=kind)
    product = _fastest(lambda: [F.linear(rows, weight) for weight in weights][-1])
    read = _fastest(lambda: [F.linear(rows[:1], weight) for weight in weights][-1])
    one = torch.ones(1, 8, 512, 64, device=where, dtype=kind)
    attention = _fastest(lambda: F.scaled_dot_product_attention(one, one, one)[0, 0])
    reached = 2 * len(rows) * weights.numel() / product, 4 * 512 * one.numel() / attention
    return Machine(device, dtype, device_memory(device), *reached, weights.nbytes / read)


def _fastest(work: Callable[[], torch.Tensor]) -> float:
    """Return the shortest time of some work but for the first, tried for a quarter of a second."""
    seconds, began = [], time.perf_counter()
    while len(seconds) < 4 or time.perf_counter() - began < 0.25:
        start = clock()
        work()[0, 0].item()  # a GPU is waited for
        seconds.append(clock() - start)
    return max(min(seconds[1:]), 1e-9)


@result(eq=True)
class TaskPlan:
    """What a task takes.

    Attributes:
        task: one of `TASKS`.
        weights: bytes of the weights, and of the process itself.
        held: bytes beyond these by part, see `workbench.model.costs`.
        seconds: time; of training, of a step.
        memory: bytes of the device. A CPU reads weights that are mapped from the disk anew, so that
            a little more than fits runs too, only slower.
        instead: options and methods that fit where this does not, or that none does.
    """

    task: str
    weights: float
    held: Mapping[str, float]
    seconds: float
    memory: int
    instead: str = ""

    @property
    def total(self) -> float:
        """Bytes at most."""
        return self.weights + sum(self.held.values())

    @property
    def fits(self) -> bool:
        """Whether the device has so much memory."""
        return self.total <= self.memory


@result(eq=True)
class Plan:
    """What tasks of a model take on a machine; all predicted.

    Attributes:
        model, placement: its name, and what it computes in and where.
        machine: what the probe found.
        asked: what the tasks are asked for.
        tasks: one for each.
    """

    model: str
    placement: str
    machine: Machine
    asked: Asked
    tasks: tuple[TaskPlan, ...]

    def __getitem__(self, task: str) -> TaskPlan:
        """Return the plan of a task; OptionError where there is none of this name."""
        by_name = {one.task: one for one in self.tasks}
        check_one_of("task", task, by_name)
        return by_name[task]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per task: predicted GB, those beyond the weights, seconds, what fits."""
        import pandas as pd

        header = ("task", "memory, GB", "beyond the weights, GB", "seconds", "fits", "instead")
        rows = [
            (
                one.task, one.total / 1e9, sum(one.held.values()) / 1e9, one.seconds,
                "yes" if one.fits else "no", one.instead,
            )
            for one in self.tasks
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=header)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        tasks = [
            {**vars(one), "held": dict(one.held), "total": one.total, "fits": one.fits}
            for one in self.tasks
        ]
        about = {"model": self.model, "placement": self.placement, "predicted": True}
        return about | {"machine": vars(self.machine), "asked": vars(self.asked), "tasks": tasks}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the memory of each task, part by part, beside that of the machine."""
        from workbench.figures.training import plot_memory

        parts = {"weights": [one.weights / 1e9 for one in self.tasks]}
        parts |= {part: [one.held.get(part, 0.0) / 1e9 for one in self.tasks] for part in PARTS}
        names, memory = [one.task for one in self.tasks], round(self.machine.memory / 1e9)
        ax = plot_memory(names, parts, [memory], ax, title=f"Tasks of {self.model}")
        ax.set_xlabel("GB, predicted; dashed: memory of this machine")
        return ax

    @property
    def stated(self) -> str:
        """What was planned, in two sentences."""
        machine, asked = self.machine, self.asked
        return (
            f"{self.model}, {self.placement}: predicted, not measured, for {asked.batch} reports "
            f"in a batch and {asked.new} tokens of text. This machine has "
            f"{machine.memory / 1e9:.1f} GB; in a second it does {machine.operations / 1e9:,.0f} "
            f"billion operations, or reads {machine.bandwidth / 1e9:,.1f} GB."
        )

    def _repr_html_(self) -> str:
        from workbench.figures.tables import frame_table

        return f"<p>{escape(self.stated)}</p>{frame_table(self.to_frame(), digits=2)}"


def make_plan(
    shape: Shape,
    placement: Placement,
    *,
    name: str,
    tasks: str | Sequence[str] | None = None,
    machine: Machine | None = None,
    asked: Asked | None = None,
) -> Plan:
    """Plan tasks of a model of some shape.

    Args:
        placement: where and in what it computes.
        tasks: some of `TASKS`; all that the model has when None.
        machine: what is planned for; this one, measured, when None.
        asked: how long and how many; what stands in `Asked` when None.

    Raises:
        OptionError: a task is unknown, or there is none.
    """
    given = (tasks,) if isinstance(tasks, str) else tasks
    for task in TASKS if given is None else given or ("",):
        check_one_of("task", task, TASKS)
    dtype = str(placement.dtype).removeprefix("torch.")
    sizes = shape.text.hidden_size, shape.text.intermediate_size, torch.get_num_threads()
    machine = machine or probe(placement.device, dtype, *sizes)
    cpu = on_cpu(torch.device(placement.device.replace("auto", "cuda")))
    counts = Counts(shape, asked or Asked(), placement.name, BYTES[dtype], cpu)
    chosen = [task for task in TASKS if _has(counts, task)] if given is None else given
    planned = tuple(_planned(counts, task, machine) for task in chosen)
    return Plan(name, placement.stated, machine, counts.asked, planned)


def _has(counts: Counts, task: str) -> bool:
    """Tell whether a model has a task; quantised weights have no exact gradients."""
    exact = counts.kind in DTYPES or not MAPS.get(task, (0, 0))[1]
    return exact and (counts.shape.patchwise or task not in PATCHWISE)


def _planned(counts: Counts, task: str, machine: Machine) -> TaskPlan:
    """Return the plan of a task, and what fits where it does not."""
    spent, held = counts.of(task)
    seconds = spent @ (1 / machine.operations, 1 / machine.attention, 1 / machine.bandwidth)
    found = TaskPlan(task, counts.weights, held, float(seconds), machine.memory)
    if found.fits:
        return found
    fitting = [
        way for way, other, name in _ways(counts, task)
        if other.weights + sum(other.of(name)[1].values()) <= machine.memory
    ]  # fmt: skip
    return replace(found, instead=" or ".join(fitting[:3]) or "a machine with more memory")


def _ways(counts: Counts, task: str) -> Iterator[tuple[str, Counts, str]]:
    """Yield what else could be done: in words, and how it is counted."""
    asked, size, training = counts.asked, counts.asked.batch, task.startswith("train ")
    other: dict[str, Asked] = {}
    while task == "batch" and (size := size // 2):
        other[f"batch_size={size}"] = replace(asked, batch=size)
    if task == "trace":
        other["heads='mean', vision='mean'"] = replace(asked, heads="mean")
    if training:
        other["training.checkpointing"] = replace(asked, checkpointing=True)
    if task in MAPS and not MAPS[task][1]:
        other["batch_size=1"] = replace(asked, several=1)
    yield from ((way, replace(counts, asked=one), task) for way, one in other.items())
    if counts.kind == "float32":
        yield "dtype='bfloat16'", replace(counts, kind="bfloat16", number=2.0), task
    if task not in MAPS and not training:
        small = "int8" if counts.cpu else "4bit"
        yield f"quantize={small!r}", replace(counts, kind=small), task
    if task in MAPS:
        yield from ((f"method={one!r}", counts, one) for one in _OTHERS if _has(counts, one))
