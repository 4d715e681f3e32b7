"""README, docs and model cards: their links lead somewhere, and their commands parse."""

import re
import shlex
from pathlib import Path

import pytest
from dvc.cli import parse_args

from roads.__main__ import main
from roads.recipes import changed_params, read_changes, read_recipe
from tests.project import ROOT, code_blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CARDS = sorted((ROOT / "models").glob("*/**/README.md"))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=lambda page: str(page.relative_to(ROOT)))
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


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_have_valid_options_and_params(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roads.__main__.exit_status", lambda command: 0)  # parse only
    text = "\n".join(code_blocks(page)).replace("\\\n", "").replace("python -m roads", "roads")
    trained_by = r"^\| how \| `(?:\w+=\S+ )?(dvc .*)` \|$"  # in a model card
    how = re.findall(trained_by, page.read_text(encoding="utf-8"), re.MULTILINE)
    for line in [*how, *re.findall(r"^(?:.*&& )?(?:dvc|roads) .*$", text, re.MULTILINE)]:
        for command in line.split("&&"):
            program, *words = shlex.split(command, comments=True)
            if program == "dvc":
                parsed = parse_args(words)
                changes = getattr(parsed, "set_param", None) or []
                first = [change.split(",")[0] for change in changes]  # of a grid
                changed_params(read_changes(first), ROOT / "params.yaml")
            elif program == "roads":
                main(words)
                if words[0] == "run":
                    recipe = read_recipe(ROOT / f"recipes/{words[1]}.yaml")
                    given = [word for word in words[2:] if not word.startswith("--")]
                    changed_params(recipe | read_changes(given), ROOT / "params.yaml")
