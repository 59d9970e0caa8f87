"""What the demo prints once it serves: a joined row, and where to look further."""

from __future__ import annotations

import importlib
from typing import Any

import typer

from mesh_core.cli.demo.served import get
from mesh_core.cli.output import print_table

ORDER = 10248
PERSONAS = (
    ("who sells", "--role sales"),
    ("who ships", "--role logistics"),
    ("who runs it", "--role admin"),
    ("a customer", "--role customer --claim customer_id=QUICK"),
)
"""Who they are, and the options of their tokens."""


def show_row(url: str) -> None:
    """Print one order, joined from the events of five services."""
    row: dict[str, Any] = get(f"{url}/v1/views/order_overview/{ORDER}")[0]
    typer.echo(
        f"\nOrder {ORDER} as order_overview serves it, joined from sales, crm, hr, inventory and logistics:\n"
    )
    print_table(["column", "value"], [[name, _text(value)] for name, value in row.items()])


def show_commands(url: str) -> None:
    """Print what to try while it is served."""
    workflow = importlib.import_module("projections.northwind.history").workflow_of(ORDER)
    lines = (
        ("documentation", f"{url}/docs"),
        ("this row", f"curl {url}/v1/views/order_overview/{ORDER}"),
        ("some rows", f"curl '{url}/v1/views/order_overview?customer_id=QUICK&limit=3'"),
        ("a customer", f"curl {url}/v1/views/customer_overview/QUICK"),
        ("a workflow", f"curl {url}/v1/workflows/{workflow}"),
        ("how it runs", "./mesh status"),
    )
    typer.echo()
    for what, how in lines:
        typer.echo(f"{what:<14} {how}")
    typer.echo("\nWithout a token you are anonymous, and see all views. As somebody else:\n")
    for who, options in PERSONAS:
        token = f"$(./mesh token {options})"
        typer.echo(f'{who:<14} curl -H "Authorization: Bearer {token}" {url}/v1/views/order_overview?limit=2')


def _text(value: object) -> object:
    return "; ".join(map(str, value)) if isinstance(value, list) else value
