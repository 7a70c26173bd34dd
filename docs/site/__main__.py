"""`python -m docs.site`, which is `make site`: documentation and course as pages that need nothing.

The documentation is in the folder, the course in its folder `course`, explorers of phantoms that
need no Python in `explore`. Every lesson is run and
becomes a page; the instructor's page, the glossary and an index come with them. Stopped and started
again it resumes: a lesson that was run already, by this command or by the tests, is not run a
second time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from docs.site.course import NOTEBOOKS, ROOT, lessons
from docs.site.documentation import COURSE, documentation
from docs.site.execute import executed
from docs.site.explorers import EXPLORE, explorers
from docs.site.pages import TEXTS, index_page, lesson_page, section, text_page
from docs.site.screenshots import screenshots
from workbench._progress import progress
from workbench._store import whole_file
from workbench.errors import WorkbenchError
from workbench.interface import load_model

#: Pages of lessons before they are dressed; the tests leave theirs here too.
KEPT = ROOT / "out" / "lessons"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site; return 0, or 1 where a lesson failed or a package is not installed."""
    parser = argparse.ArgumentParser(prog="python -m docs.site", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "site", help="folder (out/site)")
    parser.add_argument("--model", default="mini", help="model of every lesson (mini)")
    parser.add_argument("--only", nargs="*", default=(), help="numbers of lessons, e.g. 00 03")
    parser.add_argument("--again", action="store_true", help="run lessons that were run already")
    args = parser.parse_args(arguments)
    try:
        build(args.out / COURSE, model=_place(args.model), only=args.only, again=args.again)
        for warning in documentation(args.out):
            print(warning, file=sys.stderr)
        explorers(args.out / EXPLORE, load_model(args.model))
        pictures = args.out.with_name(f"{args.out.name}-pictures")
        if made := screenshots(args.out, pictures):
            print(f"{len(made)} pictures of pages, at three widths, in {pictures}")
    except WorkbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(args.out / "index.html")
    return 0


def build(
    out: Path,
    *,
    model: str = "mini",
    only: Sequence[str] = (),
    again: bool = False,
    kept: Path = KEPT,
    notebooks: Path = NOTEBOOKS,
) -> None:
    """Write every page of the course into a folder.

    Args:
        out: folder; made if it is not there.
        model: what stands in the parameter `MODEL` of every lesson.
        only: numbers of lessons; all of them when empty. The index lists what was made.
        again: run lessons that were run already.
        kept: where pages of lessons are kept between runs.
        notebooks: the lessons, with the instructor's page and the glossary.

    Raises:
        WorkbenchError: a lesson failed, or there is no such lesson; what was made so far stays.
    """
    described = load_model(model).card
    course = lessons(notebooks)
    chosen = [lesson for lesson in course if not only or lesson.number in only]
    if not chosen:
        raise WorkbenchError(f"no lesson {', '.join(only)}; there are 00 to {course[-1].number}")
    out.mkdir(parents=True, exist_ok=True)
    done = []
    for lesson in progress(chosen, label="lessons"):
        done.append(executed(lesson, kept, again=again, MODEL=model))
        page = lesson_page(done[-1], chosen, notice=described.notice)
        _write(out / f"{lesson.stem}.html", page)
    for source, page in TEXTS.items():
        _write(out / page, text_page(notebooks / source))
    paths = section((notebooks / "README.md").read_text(encoding="utf-8"), "Paths")
    index = index_page(done, model=described.name, notice=described.notice, paths=paths)
    _write(out / "index.html", index)


def _place(model: str) -> str:
    """Return a model's folder as an absolute path, since lessons run in a folder of their own."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def _write(path: Path, html: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(html, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
