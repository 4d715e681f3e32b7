"""README and docs: their links lead somewhere, and their commands parse."""

import re
import shlex
from pathlib import Path

import pytest
from dvc.cli import parse_args

from roads.__main__ import main
from roads.recipes import changed_params, read_changes
from tests.project import ROOT, code_blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short_and_names_every_page() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for page in PAGES[1:]:
        assert f"(docs/{page.name})" in text, page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_valid_options_and_params(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roads.__main__.exit_status", lambda command: 0)  # parse only
    text = "\n".join(code_blocks(page)).replace("\\\n", "")
    for line in re.findall(r"^(?:.*&& )?(?:dvc|roads) .*$", text, re.MULTILINE):
        for command in line.split("&&"):
            program, *words = shlex.split(command, comments=True)
            if program == "dvc":
                parsed = parse_args(words)
                changes = getattr(parsed, "set_param", None) or []
                first = [change.split(",")[0] for change in changes]  # of a grid
                changed_params(read_changes(first), ROOT / "params.yaml")
            elif program == "roads":
                main(words)
