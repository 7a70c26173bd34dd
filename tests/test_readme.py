"""What the README and the pages of docs/ show works: commands, Python, paths, pictures, tables."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from docs.fences import DOCS, ROOT, blocks, commands, pages, run_page
from docs.gallery import LARGEST, badge, badges
from tests.backends.test_endpoint import Server, reply
from workbench.cli import COMMANDS

README = ROOT / "README.md"
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in pages()}
#: What a page says its Python prints.
SAID = {"README.md": "pleural effusion", "docs/start.md": "pleural effusion"}


def shell_lines(name: str) -> list[list[str]]:
    return [line for code in blocks(TEXTS[name], "sh") for line in commands(code)]


def shown(pattern: str) -> list[tuple[Path, str]]:
    """Page and match, of every match on every page."""
    found = ((name, re.findall(pattern, text)) for name, text in TEXTS.items())
    return [(ROOT / name, match) for name, matches in found for match in matches]


def test_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 150


def test_every_block_is_of_a_tested_kind():
    assert {kind for _, kind in shown(r"(?m)^```(\w+)$")} <= {"sh", "python", "powershell"}
    started = {line[0] for name in TEXTS for line in shell_lines(name)}
    assert started == {"make", "workbench"}


@pytest.mark.parametrize(
    "line",
    sorted({" ".join(line) for name in TEXTS for line in shell_lines(name) if line[0] == "make"}),
)
def test_make_target_exists(line):
    if shutil.which("make") is None:
        pytest.skip("needs make")
    done = subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_steps_without_make_name_what_is_there():
    for code in (code for text in TEXTS.values() for code in blocks(text, "powershell")):
        assert "--constraint constraints.txt" in code
        extras = re.findall(r"\.\[([\w,]+)\]", code)
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert all(re.search(rf"^{one} = \[", project, re.M) for one in extras[0].split(","))
        assert set(re.findall(r"workbench (\w+)", code)) <= set(COMMANDS)


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if "\n```" in text])
def test_code_runs_in_this_order(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    server = Server(reply("There is a pleural effusion."))
    made = [value for _, value in run_page(ROOT / name, served=server.url.split("/")[2])]
    server.stop()
    assert len(made) == sum(len(blocks(TEXTS[name], kind)) for kind in ("python", "sh"))
    assert SAID.get(name, "") in capsys.readouterr().out


def test_names_mentioned_in_prose_exist():
    import workbench as wb

    for _, path in set(shown(r"`[^`\n]*?\bwb\.([\w.]+)\(")):
        owner = wb
        for name in path.split("."):
            owner = getattr(owner, name)
        assert callable(owner), path


def test_table_lists_every_command_in_order():
    listed = re.findall(r"^\| `workbench ([\w-]+)", TEXTS["docs/commands.md"], flags=re.MULTILINE)
    assert listed == list(COMMANDS)


def test_linked_files_exist():
    links = shown(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")
    assert len(links) > 50
    assert [link for link in links if not (link[0].parent / link[1]).exists()] == []


def test_every_page_is_reached_from_the_readme():
    reached, new = set(), {README}
    while new:
        reached |= new
        links = [(page, link) for page, link in shown(r"\]\(([^)#\s]+\.md)[^)]*\)") if page in new]
        new = {Path(os.path.normpath(page.parent / link)) for page, link in links} - reached
    assert {ROOT / name for name in TEXTS} <= reached


def test_pictures_are_small_described_and_used():
    used = shown(r"!\[([^\]]*)\]\(([^)]+)\)")
    assert all(len(text) > 10 for _, (text, _) in used)
    there = {page.parent / link for page, (_, link) in used}
    assert there == set((DOCS / "pictures").iterdir())
    assert [path.name for path in there if path.stat().st_size > LARGEST] == []


def test_badges_say_what_the_project_says():
    said = {
        path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "pictures").glob("*.svg")
    }
    expected = {name: badge(*words) for name, words in badges().items()}
    assert {**said, "tests": ""} == {**expected, "tests": ""}
    # at least so many, so that a new test needs no new badge
    there, claimed = (int(re.search(r">([0-9,]+)[+]", svg)[1].replace(",", ""))
                      for svg in (expected["tests"], said["tests"]))  # fmt: skip
    assert there >= claimed
