"""Work over many phantoms in several processes, each with the model and one thread.

Does not know: what the work is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

from tqdm.auto import tqdm

Order = TypeVar("Order")
Result = TypeVar("Result")

#: The model of a worker process.
_loaded: list[Any] = []


def run_orders(
    model: Any, work: Callable[[Any, Order], Result], orders: Sequence[Order], jobs: int
) -> Iterator[Result]:
    """Yield `work(model, order)` of every order, in turn.

    Args:
        model: a `ChestXrayModel`; processes load it again from where it was loaded.
        work: a function of a module, so that other processes find it.
        orders: what to work on.
        jobs: processes; 1 works in this one.
    """
    if jobs == 1:
        yield from (work(model, order) for order in orders)
        return
    loaded = model.loaded
    source = "mini" if loaded.card.name == "mini" else str(loaded.directory)
    options = {name: getattr(loaded.placement, name) for name in ("device", "dtype", "quantize")}
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_load, initargs=(source, options)
    ) as pool:
        yield from pool.map(partial(_here, work), orders)


def run_left(
    model: Any,
    work: Callable[[Any, Order], Result],
    orders: Sequence[Order],
    done: MutableMapping[Order, Result],
    *,
    jobs: int,
    progress: bool,
) -> list[Result]:
    """Do what is not done yet and return the result of every order, in turn.

    Args:
        model, work, orders, jobs: see `run_orders`.
        done: order -> result; what is worked on is put there at once.
        progress: whether to show a bar of all orders.
    """
    left = [order for order in orders if order not in done]
    with tqdm(
        total=len(orders), initial=len(orders) - len(left), desc="phantoms", disable=not progress
    ) as bar:
        for order, found in zip(left, run_orders(model, work, left, jobs), strict=True):
            done[order] = found
            bar.update()
    return [done[order] for order in orders]


def _load(source: str, options: Mapping[str, Any]) -> None:
    """Give a worker process its model and one thread."""
    import torch

    from workbench.interface import load_model

    torch.set_num_threads(1)
    _loaded.append(load_model(source, **options))


def _here(work: Callable[[Any, Order], Result], order: Order) -> Result:
    return work(_loaded[0], order)
