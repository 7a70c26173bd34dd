"""When the process of a page may start and when it ends, without a server and without processes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest

pytest.importorskip("voila", reason="needs voila (the app extra)")

from jupyter_server._tz import utcnow
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError

from workbench.commands import _app_handlers
from workbench.commands._app_handlers import ALONE, LEFT_OPEN, Processes


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch):
    """Let a start take a moment and start nothing, and waiting for room be short."""

    async def start(self, *, kernel_id, **options):
        await asyncio.sleep(0.01)
        self._kernels[kernel_id] = SimpleNamespace(callbacks=[])
        return kernel_id

    def call_back(self, kernel_id, act, event):
        self._kernels[kernel_id].callbacks.append((event, act))

    monkeypatch.setattr(AsyncMappingKernelManager, "start_kernel", start)
    monkeypatch.setattr(Processes, "add_restart_callback", call_back)
    monkeypatch.setattr(_app_handlers, "ROOM_TRIES", 3)


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


def test_a_process_that_died_is_forgotten_and_not_started_again(monkeypatch):
    ended = []

    async def shut(self, kernel_id, now=False):
        ended.append((kernel_id, now))

    async def die():
        held = Processes()
        name = await held.start_kernel()
        ((event, act),) = held._kernels[name].callbacks
        act()
        await held._ending
        return name, event

    monkeypatch.setattr(Processes, "shutdown_kernel", shut)
    name, event = asyncio.run(die())
    assert event == "dead"
    assert ended == [(name, True)]


@pytest.mark.parametrize(
    ("looking", "state", "seconds", "ends"),
    [
        (0, "idle", ALONE - 5, False),
        (0, "idle", ALONE + 5, True),
        (0, "busy", ALONE + 5, False),  # the page is still opening
        (0, "busy", LEFT_OPEN + 5, True),
        (1, "idle", ALONE + 5, False),
        (1, "idle", LEFT_OPEN + 5, True),
        (1, "busy", LEFT_OPEN + 5, False),
    ],
)
def test_a_process_ends_when_nobody_looks(looking, state, seconds, ends, monkeypatch):
    ended = []

    async def shut(self, kernel_id, now=False):
        ended.append(kernel_id)

    async def look():
        held = Processes()
        since = utcnow() - timedelta(seconds=seconds)
        held._kernels["a"] = SimpleNamespace(execution_state=state, last_activity=since)
        held._kernel_connections["a"] = looking
        await held.cull_kernel_if_idle("a")

    monkeypatch.setattr(Processes, "shutdown_kernel", shut)
    asyncio.run(look())
    assert ended == (["a"] if ends else [])
