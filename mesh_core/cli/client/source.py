"""Where a client's views come from: a running API, or the database of the settings. Both tell the same facts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from mesh_core.errors import DependencyUnavailable, MeshError, UsageError

if TYPE_CHECKING:
    from mesh_core.cli.surroundings import Surroundings

Views = Sequence[Mapping[str, Any]]
"""As `GET /v1/views` answers them."""

TIMEOUT_SECONDS = 30.0


class Refused(MeshError):
    """The API refused to tell its views."""


def views_of_api(url: str, token: str | None) -> Views:
    """What `GET /v1/views` answers whoever has the token. Raises UsageError, DependencyUnavailable, Refused."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(
            f"{url} is not the address of an API.", remedy="For example --url http://127.0.0.1:8000"
        )
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    asked = Request(f"{url.rstrip('/')}/v1/views", headers=headers)  # noqa: S310  # checked above
    try:
        with urlopen(asked, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            return _checked(url, answer.read())
    except HTTPError as error:
        with error:
            raise Refused(
                f"{url} answered {error.code}: {_detail(error)}.",
                remedy="Check --url, and --token or MESH_TOKEN: the client has the views that they may see.",
            ) from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise DependencyUnavailable(
            f"{url} cannot be reached: {reason}.", remedy="Check that an API runs there."
        ) from None


def views_of_database(role: str | None) -> Views:
    """The views that are live in the database of the settings, as the role sees them; None: all. Raises ReadError."""
    from mesh_core.cli.surroundings import find_surroundings

    return asyncio.run(_read(find_surroundings(), role))


async def _read(mesh: Surroundings, role: str | None) -> Views:
    from mesh_core import read
    from mesh_core.read.subject import MESH, Subject

    timeout = mesh.settings.statement_timeout_seconds
    async with read.Database(mesh.database_url, pool_size=1, statement_timeout_seconds=timeout) as database:
        subject = MESH if role is None else Subject("mesh client", (role,), {})
        found: Views = (await read.views(database.as_seen_by(subject))).document
        return found


def _checked(url: str, body: bytes) -> Views:
    try:
        found = json.loads(body)
        if all(view["name"] and view["key"] and view["columns"] for view in found):
            return list(found)
    except (ValueError, TypeError, KeyError):
        pass
    raise Refused(f"What {url} answers is not a list of views.", remedy="Check --url.")


def _detail(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read())["detail"]).rstrip(".")
    except (ValueError, TypeError, KeyError):
        return str(error.reason)
