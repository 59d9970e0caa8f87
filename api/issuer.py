"""The public keys of whoever issues tokens, as its JWKS document tells them."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

import jwt

from mesh_core.errors import DependencyUnavailable
from mesh_core.telemetry import get_logger
from mesh_core.tokens import FAMILIES

KEPT_SECONDS = 300.0
"""After so long the keys are asked for again, though all are known."""
PAUSE_SECONDS = 10.0
"""At most so often the issuer is asked, however many tokens name a key that nobody knows."""
TIMEOUT_SECONDS = 5.0
"""Of the whole answer."""
MAX_BYTES = 1_000_000
_PIECE = 65_536
_log = get_logger(__name__)


class IssuerUnavailable(DependencyUnavailable):
    """The issuer of tokens cannot be asked for its keys."""


class Issuer:
    """Keys by `kid`. Those that were had last are kept while the issuer cannot be asked, or answers what is no JWKS."""

    def __init__(self, url: str, algorithms: frozenset[str]) -> None:
        """`algorithms` are those that a key may be for, all of one family. Asks nothing yet."""
        self._url = url
        self._usable = next(frozenset(names) for names in FAMILIES.values() if algorithms <= set(names))
        self._keys: Mapping[str | None, Any] = {}
        self._asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None

    async def key(self, kid: str | None) -> Any | None:
        """The key of this name, or the only one where a token names none; None where there is none.

        Who names a key that is known never waits. Raises IssuerUnavailable where none was ever had.
        """
        found = self._known(kid)
        if found is not None:
            if self._older_than(KEPT_SECONDS):
                self._ask()
            return found
        if self._older_than(PAUSE_SECONDS):
            self._ask()
        if self._asking is not None:
            await asyncio.shield(self._asking)
            found = self._known(kid)
        if found is None and not self._keys:
            raise IssuerUnavailable(
                "The keys of whoever issues tokens cannot be had.",
                remedy="Try again; whoever runs the mesh checks MESH_AUTH_JWKS_URL.",
            )
        return found

    def _known(self, kid: str | None) -> Any | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _older_than(self, seconds: float) -> bool:
        return self._asked_at is None or time.monotonic() - self._asked_at >= seconds

    def _ask(self) -> None:
        """Have the keys asked for, unless they are being asked for."""
        if self._asking is None:
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                self._keys = _keys(await asyncio.to_thread(_fetched, self._url), self._usable)
        except Exception as error:  # whatever it answers, the last keys stay
            _log.warning(
                "the keys of the issuer cannot be had; the last ones are kept",
                error=f"{type(error).__name__}: {error}"[:200],
            )
        finally:
            self._asking = None


class _Straight(urllib.request.HTTPRedirectHandler):
    """Nowhere else than where the settings say."""

    def redirect_request(self, *_: Any) -> None:
        """No other request."""


_opener = urllib.request.build_opener(_Straight)


def _fetched(url: str) -> Any:
    until = time.monotonic() + TIMEOUT_SECONDS
    body = b""
    with _opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
        while piece := answer.read1(_PIECE):
            body += piece
            if len(body) > MAX_BYTES:
                raise ValueError(f"the JWKS document has more than {MAX_BYTES:,} bytes")
            if time.monotonic() > until:  # a thread that nobody waits for any more
                raise TimeoutError(f"it takes more than {TIMEOUT_SECONDS:g} s")
    return json.loads(body)


def _keys(document: Any, usable: frozenset[str]) -> Mapping[str | None, Any]:
    """The public keys of a JWKS document that can verify; what else is in it is passed over."""
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("it is no JWKS document")
    found: dict[str | None, Any] = {}
    for told in document["keys"]:
        # One with a private part is known to everybody, so it proves nothing.
        if not isinstance(told, dict) or told.get("use", "sig") != "sig" or "d" in told:
            continue
        if not isinstance(told.get("kid"), str | None):
            continue
        try:
            key = jwt.PyJWK(told)
        except jwt.PyJWTError:
            continue
        if key.algorithm_name in usable:
            found[key.key_id] = key.key
    if not found:
        raise ValueError("it has no key for the algorithms of MESH_AUTH_ALGORITHMS")
    return found
