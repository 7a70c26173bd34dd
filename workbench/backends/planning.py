"""A plan of what a checkpoint will take, from its configuration alone."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from workbench.backends.vlm_reader import is_vlm, open_empty
from workbench.model.card import config_of
from workbench.model.costs import Asked
from workbench.model.placement import find_hardware, place
from workbench.model.plan import Plan, make_plan
from workbench.model.sizes import Shape, empty_model
from workbench.model.source import find_local


def plan(
    source: str | os.PathLike = "mini",
    tasks: str | Sequence[str] | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: str | None = None,
    batch_size: int = 8,
    new_tokens: int = 128,
) -> Plan:
    """Predict memory and time of tasks of a model on this machine, before anything is loaded.

    Args:
        source: "mini", a directory or its config.json, or a hub id that is on this machine; of
            "ECOFRI/CXR-LLAVA-v2" the sizes are known without its files.
        tasks: some of `workbench.model.costs.TASKS`: "report", "batch", "trace", "grounding", every
            method of `workbench.saliency.METHODS`, "train lora", "train projector"; all when None.
        device, dtype, quantize: as for `load_model`.
        batch_size: reports that are written together.
        new_tokens: tokens of a report, and of the text of a trace and a map.

    Returns:
        Per task bytes and seconds, whether this machine has the memory, and what fits where it has
        not. Nothing of it was measured but the speed of the machine.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be read.
        DeviceError: the weights alone do not fit; the message names what does.
        OptionError: a task or an option is unknown.

    >>> [(one.task, one.fits) for one in wb.plan("mini", ["report", "relevancy"]).tasks]
    [('report', True), ('relevancy', True)]
    """
    path = os.fspath(source)
    if os.path.basename(path) == "config.json" and os.path.isfile(path):
        path = os.path.dirname(os.path.abspath(path))
    found = find_local(path)
    if found is not None and is_vlm(found.directory):
        _, shape = open_empty(found.directory)
    else:
        config = config_of(path, found)
        shape = Shape.of(empty_model(config), config.image_tokens)
    where = place(shape.sizes, find_hardware(), device=device, dtype=dtype, quantize=quantize)
    name = path if found is None else found.name
    asked = Asked.of(batch_size, new_tokens)
    return make_plan(shape, where, name=name, tasks=tasks, asked=asked)
