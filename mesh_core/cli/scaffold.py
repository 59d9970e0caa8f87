"""`mesh new`: a domain to begin with."""

from __future__ import annotations

import keyword
import re
from typing import Annotated

import typer

from mesh_core.errors import MeshError, UsageError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,29}", re.ASCII)
_TAKEN = ("mesh", "northwind", "conftest")


class AlreadyThere(MeshError):
    """There is a domain of that name."""


def register(app: typer.Typer) -> None:
    """Adds the command `new`."""
    app.command("new")(new)


def new(
    domain: Annotated[str, typer.Argument(help="Lower case, such as shop; also the service's name.")],
) -> None:
    """Write a domain that works: events, entities, a view, sample events and a test, in projections/DOMAIN.

    Example: mesh new shop
    """
    from mesh_core.cli.scaffold_files import FILES
    from mesh_core.settings import ROOT, load_settings

    if not _NAME.fullmatch(domain) or keyword.iskeyword(domain) or domain in _TAKEN:
        raise UsageError(
            f"{domain!r} cannot be the name of a domain.",
            remedy="Use at most 30 lower-case letters, digits and _, a letter first; for example shop.",
        )
    folder = ROOT / "projections" / domain
    if folder.exists():
        raise AlreadyThere(f"{folder} is there already.", remedy="Take another name, or move it away.")
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    for name, template in FILES.items():
        path = folder / name.replace("DOMAIN", domain)
        path.write_text(template.replace("DOMAIN", domain), encoding="utf-8")
        typer.echo(f"wrote {path.relative_to(ROOT)}")
    modules = load_settings().catalog_modules
    own = f"projections.{domain}"
    catalog = ",".join(modules if own in modules else (*modules, own))
    typer.echo(f"\nNext: echo MESH_CATALOG={catalog} >> .env")
    typer.echo("      ./mesh migrate && ./mesh deploy")
    typer.echo(f"      ./mesh events publish projections/{domain}/history.jsonl")
