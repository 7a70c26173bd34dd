"""Kernels that begin with the package imported: forks of one process that has it, one per lesson.

Importing torch, transformers and matplotlib takes longer than many a lesson. A fork shares nothing
with another one but these imports, so a lesson still begins with no variable and no model.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pkgutil
import sys
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

import workbench

if TYPE_CHECKING:
    from jupyter_client.connect import KernelConnectionInfo

#: What lessons import, and what the package imports where it is first used.
LATER = ("ipykernel.kernelapp", "matplotlib.pyplot", "pandas", "scipy.stats", "captum.attr", "peft")


def forked_kernels() -> AsyncKernelManager | None:
    """Return a manager whose kernel is such a fork; None where processes cannot be forked."""
    if sys.platform != "linux":
        return None
    manager = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    spec = manager.kernel_spec
    manager.provisioner = _Forks(kernel_id=manager.kernel_id, kernel_spec=spec, parent=manager)
    return manager


class _Forks(LocalProvisioner):
    """Starts a kernel as a fork where others start a program."""

    async def launch_kernel(self, cmd: list[str], **given: object) -> KernelConnectionInfo:
        """Fork a kernel; `cmd` is a Python, -m, a module and the arguments that count here."""
        env, cwd = dict(given["env"]), str(given["cwd"])  # pyright: ignore
        self.process = await asyncio.to_thread(_Fork, cmd[3:], env, cwd)  # the first one imports
        self.pid, self.pgid, self.cwd = self.process.pid, None, Path(cwd)
        return self.connection_info


class _Fork:
    """A fork with the face of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], env: Mapping[str, str], cwd: str) -> None:
        context = get_context("forkserver")
        found = pkgutil.walk_packages(workbench.__path__, "workbench.")
        own = [one.name for one in found if "._app_" not in one.name]  # they import a server
        context.set_forkserver_preload([*LATER, *own, __name__])
        self._process = context.Process(target=_run, args=(arguments, env, cwd))
        self._process.start()
        self.pid = self._process.pid
        self.kill, self.terminate = self._process.kill, self._process.terminate

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _run(arguments: list[str], env: Mapping[str, str], cwd: str) -> None:
    import matplotlib
    from ipykernel.kernelapp import IPKernelApp

    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    gc.freeze()  # what was imported stays: no search for garbage there
    matplotlib.rcParams["backend"] = env.get("MPLBACKEND")
    # it ends with the process that forked it
    IPKernelApp.launch_instance([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
