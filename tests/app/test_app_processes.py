"""When the process of a page may start and when it ends, without a server and without processes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("voila", reason="needs voila (the app extra)")

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError

from workbench.commands import _app_processes
from workbench.commands._app_processes import Processes
from workbench.commands._app_server import AppServer, configuration


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch):
    """Let a start take a moment and start nothing, and waiting for room be short."""

    async def start(self, *, kernel_id, **options):
        await asyncio.sleep(0.01)
        self._kernels[kernel_id] = Kernel()
        return kernel_id

    monkeypatch.setattr(AsyncMappingKernelManager, "start_kernel", start)
    monkeypatch.setattr(_app_processes, "ROOM_TRIES", 3)


def test_a_class_that_opens_pages_at_once_gets_no_more_than_allowed():
    async def many():
        held = Processes(most=4)
        return await asyncio.gather(
            *(held.start_kernel() for _ in range(30)), return_exceptions=True
        )

    found = asyncio.run(many())
    refused = [one for one in found if isinstance(one, HTTPError)]
    assert len(set(found) - set(refused)) == 4
    assert {one.status_code for one in refused} == {503}
    assert len(refused) == 26


def test_a_page_waits_for_the_process_of_one_that_is_being_closed():
    async def reload():
        held = Processes(most=1)
        first = await held.start_kernel()
        asyncio.get_running_loop().call_later(0.05, held._kernels.clear)
        second = await held.start_kernel()
        return first, second, held.list_kernel_ids()

    first, second, left = asyncio.run(reload())
    assert first != second
    assert left == [second]


def test_a_page_that_nobody_looks_at_gives_its_process_back(tmp_path):
    server = AppServer(config=configuration(tmp_path, password=None, tabs=3))
    held = Processes(parent=server)
    assert held.most == 3
    assert held.cull_idle_timeout == 120
    assert not held.cull_connected  # somebody looks at the page
    assert not held.cull_busy  # the page is still opening


class Kernel(SimpleNamespace):
    """A process that lives, or has died."""

    async def is_alive(self) -> bool:
        return not vars(self).get("dead")


def warming(act):
    """Run `act(held)` where two of at most three processes wait for a page."""

    async def ready():
        held = Processes(most=3, warm=2)
        held.fill()
        await held._filling
        return await act(held)

    return asyncio.run(ready())


async def no_wait(self, name):
    """Answer at once."""


@pytest.fixture
def warm(monkeypatch):
    monkeypatch.setattr(_app_processes.shared, "note", lambda text: None)
    monkeypatch.setattr(Processes, "_answers", no_wait)
    monkeypatch.setattr(_app_processes, "REFILL_AFTER", 0.0)


def test_a_page_gets_a_process_that_waited_and_another_takes_its_place(warm):
    async def open_pages(held):
        waited = held.list_kernel_ids()
        given = [await held.start_kernel(), await held.start_kernel()]
        await held._filling
        return waited, given, held.list_kernel_ids(), held._waiting

    waited, given, all_of_them, waiting = warming(open_pages)
    assert given == waited
    assert len(all_of_them) == 3  # two pages, and room for one that waits
    assert waiting == [name for name in all_of_them if name not in given]


def test_one_that_died_while_it_waited_is_given_to_no_page(warm):
    async def open_page(held):
        first, second = held.list_kernel_ids()
        held._kernels[first].dead = True
        return await held.start_kernel(), second

    given, second = warming(open_page)
    assert given == second


def test_one_that_waits_is_kept_however_long_and_a_closed_page_is_followed_by_another(
    warm, monkeypatch
):
    ended = []

    async def end(self, kernel_id, **options):
        ended.append(kernel_id)
        del self._kernels[kernel_id]

    monkeypatch.setattr(AsyncMappingKernelManager, "cull_kernel_if_idle", end)
    monkeypatch.setattr(AsyncMappingKernelManager, "shutdown_kernel", end)

    async def close(held):
        opened = [await held.start_kernel() for _ in range(3)]
        await held._filling
        assert held._waiting == []  # no room
        await held.shutdown_kernel(opened[0])
        await held._filling
        for name in list(held.list_kernel_ids()):
            await held.cull_kernel_if_idle(name)
        return opened, held._waiting, held.list_kernel_ids()

    opened, waiting, left = warming(close)
    assert ended == opened
    assert waiting == left and len(left) == 1
