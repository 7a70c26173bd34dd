"""When the process of a page may start and when it ends, without a server and without processes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("voila", reason="needs voila (the app extra)")

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError

from workbench.commands import _app_server
from workbench.commands._app_server import AppServer, Processes, configuration


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch):
    """Let a start take a moment and start nothing, and waiting for room be short."""

    async def start(self, *, kernel_id, **options):
        await asyncio.sleep(0.01)
        self._kernels[kernel_id] = SimpleNamespace()
        return kernel_id

    monkeypatch.setattr(AsyncMappingKernelManager, "start_kernel", start)
    monkeypatch.setattr(_app_server, "ROOM_TRIES", 3)


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
