"""What the README shows works: commands, Python, paths and the table of commands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from workbench.cli import COMMANDS, DONE, main

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def shell_lines() -> list[list[str]]:
    lines = "".join(blocks("sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def test_every_block_is_of_a_tested_kind():
    assert set(re.findall(r"^```(\w+)$", TEXT, flags=re.MULTILINE)) == {"sh", "python"}
    assert {line[0] for line in shell_lines()} == {"make", "workbench"}


@pytest.mark.parametrize(
    "line", [line for line in shell_lines() if line[0] == "make"], ids=" ".join
)
def test_make_target_exists(line):
    if shutil.which("make") is None:
        pytest.skip("needs make")
    done = subprocess.run([*line, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_shell_commands_run_in_this_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for line in shell_lines():
        if line[0] == "workbench":
            assert main(line[1:]) == DONE, line
            assert capsys.readouterr().out.strip(), line


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert "pleural effusion" in capsys.readouterr().out


def test_names_mentioned_in_prose_exist():
    import workbench as wb

    for path in set(re.findall(r"`[^`\n]*?\bwb\.([\w.]+)\(", TEXT)):
        owner = wb
        for name in path.split("."):
            owner = getattr(owner, name)
        assert callable(owner), path


def test_table_lists_every_command_in_order():
    listed = re.findall(r"^\| `workbench ([\w-]+)", TEXT, flags=re.MULTILINE)
    assert listed == list(COMMANDS)


def test_linked_files_exist():
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
