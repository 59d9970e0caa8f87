"""What can be set, called or measured is documented, and nothing else is."""

from __future__ import annotations

import re
from collections.abc import Iterator

import typer
from prometheus_client import REGISTRY, CollectorRegistry
from typer.core import TyperCommand, TyperGroup

from mesh_core.cli.main import create_app
from mesh_core.model import builtin
from mesh_core.settings import ROOT, Settings
from mesh_core.store import control
from mesh_core.telemetry import metrics

REFERENCE = ROOT / "docs" / "reference"


def first_cells(page: str) -> list[str]:
    """What stands in backquotes at the start of the page's table rows."""
    return re.findall(r"^\| `([^`]+)`", (REFERENCE / page).read_text(), re.MULTILINE)


def exposed(registry: CollectorRegistry) -> list[str]:
    """The metrics of the mesh in this registry, as declared: those of any process left out."""
    families = [family for family in registry.collect() if family.name.startswith("mesh_")]
    return [f"{family.name}_total" if family.type == "counter" else family.name for family in families]


def commands(command: object, path: str = "mesh") -> Iterator[tuple[str, TyperCommand]]:
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    elif isinstance(command, TyperCommand):
        yield path, command


def test_every_setting_with_its_default_and_meaning() -> None:
    text = (REFERENCE / "settings.md").read_text()
    rows = Settings().describe()
    assert first_cells("settings.md") == [row.variable for row in rows]
    for row in rows:
        default = f"`{row.default}`" if row.default else "–"
        assert f"| `{row.variable}` | {default} | {row.description}" in text


def test_every_command_and_option_that_is_shown_exists() -> None:
    documented = [cell for cell in first_cells("commands.md") if cell.startswith("mesh ")]
    known = dict(commands(typer.main.get_command(create_app())))
    named = {path: cell for cell in documented for path in known if f"{cell} ".startswith(f"{path} ")}
    assert set(named) == set(known)
    assert len(documented) == len(known)
    for path, cell in named.items():
        options = {option for param in known[path].params for option in (*param.opts, *param.secondary_opts)}
        assert set(re.findall(r"--[a-z-]+", cell)) <= options, path


def test_every_metric_of_each_process() -> None:
    documented = {
        section.partition("\n")[0]: re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)
        for section in (REFERENCE / "metrics.md").read_text().split("\n## ")[1:]
    }
    publishing = documented["Whatever publishes"]
    assert documented.keys() == {"A projector", "A relay", "Whatever publishes", "The API"}
    assert exposed(metrics.PROJECTOR) == documented["A projector"]
    assert exposed(metrics.RELAY) == documented["A relay"]
    assert exposed(metrics.API) == publishing + documented["The API"]
    assert exposed(REGISTRY) == publishing


def test_every_control_table() -> None:
    tables = {name.removeprefix("mesh.") for name in control.metadata.tables}
    section = (REFERENCE / "tables.md").read_text().partition("## `mesh`")[2]
    assert set(re.findall(r"^\| `([a-z_]+)`", section, re.MULTILINE)) == tables


def test_every_event_of_the_mesh_itself() -> None:
    text = (REFERENCE / "events.md").read_text()
    for event in builtin.BUILT_IN_EVENTS:
        assert f"| `{event.type}` ({', '.join(f'`{name}`' for name in event.key_fields)})" in text
