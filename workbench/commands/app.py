"""`workbench app`: explorer, reviewer, reader study and training monitor as pages in the browser.

The pages are served to this computer only, behind a random token; `--public` opens them to the
network, behind a password. Each open page has a Python process of its own.
"""

from __future__ import annotations

import argparse
import getpass
import importlib.util
import os
import sys
import threading
import webbrowser
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import workbench.commands._shared as shared
import workbench.commands.report as answers
from workbench.commands._app_site import Site, host_name, own_names, site_folder
from workbench.errors import InputError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    from workbench.commands._app_server import AppServer

#: Environment variable with the password of `--public`; it never stands on the command line.
PASSWORD = "WORKBENCH_APP_PASSWORD"
SHORTEST_PASSWORD = 12
PORT = 8866
MOST_TABS = 8
#: Processes beyond those of a class, for pages that are loaded again.
SPARE = 2
#: Bytes of a page's process with `mini` in it; further weights come on top.
PROCESS = 480 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Without --image the explorer shows a phantom whose findings are known. Ctrl-C ends\n"
        f"the app. --public takes its password from {PASSWORD}, or asks for it."
    )
    shared.add_model_arguments(parser)
    option = partial(shared.option, parser.add_argument_group("pages"))
    option("--image FILE", "radiographs to explore: PNG, JPEG, TIFF or DICOM", type=Path,
           nargs="+", default=[])  # fmt: skip
    option("--upright", answers.TURNED, action="store_true")
    option("--run DIR", "review the errors of this run", type=Path)
    option("--whole", "review every report of the run, with or without a suspected error",
           action="store_true")  # fmt: skip
    option("--reviewer NAME", "initials beside the verdicts (default: your login name)")
    option("--study DIR", "read this study, with --reader", type=Path)
    option("--reader NAME", "initials of the reader")
    option("--manifest FILE", "what is known of the images of the run and the study", type=Path)
    option("--root DIR", "folder of these images (that of the run or the manifest)", type=Path)
    option("--training DIR", "watch this training run", type=Path)
    option = partial(shared.option, parser.add_argument_group("server"))
    most = f"most pages open at a time, each a Python process with its model (default {MOST_TABS})"
    warm = (
        "for a class: keep N pages ready, with the model loaded, so that explorers open at once; "
        f"--tabs is then N + {SPARE} unless given"
    )
    named = (
        "with --public: another name of this computer, such as that of the proxy before it (may be "
        "repeated)"
    )
    listen = f"where to listen (default {PORT}; 0 takes a free one)"
    option("--port N", listen, type=partial(_whole, 0, 65535), default=PORT)
    option("--tabs N", most, type=partial(_whole, 1, 1000))
    option("--class N", warm, type=partial(_whole, 1, 1000), default=0, dest="warm")
    option("--no-browser", "only print the address", action="store_true")
    option("--public", "listen to the whole network, behind a password", action="store_true")
    option("--allow-host NAME", named, type=host_name, action="append", default=[])


def _whole(low: int, high: int, text: str) -> int:
    if text.isascii() and text.isdecimal() and low <= int(text) <= high:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {text}")


def run(args: argparse.Namespace) -> int:
    if args.allow_host and not args.public:
        args.parser.error("--allow-host needs --public; without it only this computer is served")
    if (args.study is None) != (args.reader is None):
        args.parser.error("--study and --reader belong together")
    for given, name in ((args.reviewer is not None, "--reviewer"), (args.whole, "--whole")):
        if given and args.run is None:
            args.parser.error(f"{name} needs --run")
    if args.root is not None and args.manifest is None and args.run is None:
        args.parser.error("--root needs --manifest or --run")
    if args.upright and not args.image:
        args.parser.error("--upright needs --image; a run keeps whether its images were turned")
    shared.check_model(args)
    shared.need_paths(args)
    args.tabs = args.tabs or (args.warm + SPARE if args.warm else MOST_TABS)
    if args.warm:
        shared.note(_memory(args))
    site = _site(args)
    password = _password() if args.public else None
    if importlib.util.find_spec("voila") is None:
        raise MissingDependencyError(
            "workbench app needs Voila; install it with: pip install 'cxr-llava-workbench[app]'"
        )
    # for its check of addresses, which is not used here, jsonschema builds 38 grammars: a second
    sys.modules.setdefault("rfc3987_syntax", cast(ModuleType, None))
    from workbench.commands._app_server import serve

    with site_folder(site) as folder:
        serve(args, site, folder, password, partial(_ready, args))
    shared.note("The app has ended.")
    return 0


def _memory(args: argparse.Namespace) -> str:
    """Say what a class takes; OptionError where this computer has not so much left."""
    import psutil

    weights = sum(path.stat().st_size for path in Path(args.model).glob("*.safetensors"))
    each, free = (PROCESS + weights) / 1e9, psutil.virtual_memory().available / 1e9
    count = min(args.warm, args.tabs)
    needed = f"{count} pages kept ready take about {count * each:.1f} GB ({each:.1f} GB each)"
    if count * each > free:
        fits = int(free / each)
        raise OptionError(
            f"{needed}, but {free:.1f} GB are free; "
            + (f"--class {fits} would fit" if fits else "close other programs")
        )
    return (
        f"{needed}, of {free:.1f} GB that are free; up to {args.tabs} pages can be open: "
        f"{args.tabs * each:.1f} GB"
    )


def _site(args: argparse.Namespace) -> Site:
    paths = shared.chosen(args, "run study manifest root training")
    same = "model device dtype name allow_remote prompts upright whole reader"
    options: dict[str, Any] = shared.chosen(args, same)
    options |= {name: path and str(path.absolute()) for name, path in paths.items()}
    login = "reviewer"
    with suppress(OSError, KeyError, ImportError):  # no such user, as in some containers
        login = getpass.getuser()
    return Site(
        images=tuple(str(path.absolute()) for path in args.image),
        reviewer=args.reviewer or login if args.run else None,
        folder=str(Path.cwd()),
        **options,
    )


def _password() -> str:
    """Return the password of `--public`, and take it out of the environment."""
    given = os.environ.pop(PASSWORD, None)
    if given is None:
        if not sys.stdin.isatty():
            raise InputError(
                f"--public needs a password of at least {SHORTEST_PASSWORD} characters; set the "
                f"environment variable {PASSWORD}, or start the app in a terminal to be asked"
            )
        given = getpass.getpass("Password for everybody who may see the app: ")
        if len(given) >= SHORTEST_PASSWORD and given != getpass.getpass("The same again: "):
            raise InputError("the two passwords differ; start again")
    if len(given) < SHORTEST_PASSWORD:
        raise OptionError(
            f"the password has {len(given)} characters; it needs at least {SHORTEST_PASSWORD}, "
            "such as four unrelated words"
        )
    return given


def _ready(args: argparse.Namespace, server: AppServer) -> None:
    """Say where the app is, once; open the browser."""
    pages = [page.name for page in server.site.pages if page.ready]
    where = {"url": server.url, "port": server.port, "public": args.public, "pages": pages}
    said = (
        f"The workbench is at\n\n    {server.url}\n\nThe address contains the key: anybody on this "
        "computer who has it can open the pages.\nCtrl-C ends the app."
    )
    shared.answer(args, where, [_exposed(args, server) if args.public else said])
    sys.stdout.flush()
    if not args.no_browser:
        entrance = server.entrance()  # the token must not stand in the list of processes
        threading.Thread(target=webbrowser.open, args=[entrance.as_uri()], daemon=True).start()


def _exposed(args: argparse.Namespace, server: AppServer) -> str:
    """Say what `--public` gives to whom."""
    named = sorted(own_names(network=True) - own_names() | set(args.allow_host))
    seen = ["the model and what it answers"]
    seen += [f"the {len(args.image)} images"] if args.image else []
    if args.run:
        seen += ["the images and reports of the run, and its verdicts, which they can write too"]
    if args.study:
        seen += ["the radiographs and reports of the study, and the grades of "
                 f"{args.reader}, which they can write too"]  # fmt: skip
    seen += ["the curves of the training run"] if args.training else []
    lines = "\n".join(f"  - {text}" for text in seen)
    return (
        f"The workbench is open to the network, on port {server.port} of\n\n"
        f"    {', '.join(named) or 'this computer'}\n\n"
        f"Everybody who knows the password sees\n{lines}\n"
        f"and gets a Python process on this computer for each open page, at most {args.tabs}; it "
        "answers what the\npages ask and runs no code of theirs.\n\n"
        "THE CONNECTION IS NOT ENCRYPTED: password and images can be read on their way. Put the "
        "app behind a\nproxy that speaks TLS, and name the proxy with --allow-host.\n"
        "Ctrl-C ends the app."
    )
