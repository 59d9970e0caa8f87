"""Links lead somewhere, code in the README runs, decisions have their three parts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mesh_core.model import Catalog, Entity, View
from mesh_core.settings import ROOT

TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
).stdout.split()
PAGES = [ROOT / name for name in TRACKED] or [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen:
            continue
        seen.add(page)
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            there = (page.parent / target).resolve()
            if there.is_dir():
                ahead += there.glob("*.md")
            elif there.suffix == ".md" and there.exists():
                ahead.append(there)
    documentation = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert documentation - seen == set()


def test_the_view_of_the_readme_can_be_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, model in Catalog.load("projections.northwind").entities.items():
        monkeypatch.setitem(Entity.models, name, model)  # other tests declare entities of the same names
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    found: dict[str, object] = {}
    exec(code, found)  # noqa: S102  # our own README
    view = found["best_customers"]
    assert isinstance(view, View)
    northwind = Catalog.load("projections.northwind")
    assert view.model.entities <= set(northwind.entities)
    assert view.model.key == ("customer_id",)


def test_the_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)", text):
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=name)
def test_a_decision_has_its_three_parts(page: Path) -> None:
    text = page.read_text()
    assert re.fullmatch(r"\d{3}-[a-z0-9-]+\.md", page.name)
    assert text.startswith(f"# {page.name[:3]}: ")
    for part in ("Context", "Decision", "Consequence"):
        assert f"**{part}.** " in text


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(page.name[:3]) for page in (ROOT / "docs" / "decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
