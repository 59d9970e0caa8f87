"""Who asks: the bearer token of a request, verified; or nobody, where a role is given to those without one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jwt
from fastapi import Request
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.issuer import Issuer
from mesh_core.errors import MeshError
from mesh_core.model.grants import role_problem
from mesh_core.read.access import claimed
from mesh_core.read.subject import Subject
from mesh_core.settings import MalformedSetting, Settings
from mesh_core.tokens import algorithms_of, key_of

REMEMBERED, REMEMBERED_SECONDS = 10_000, 60.0
"""Tokens that need not be verified again, and for how long: verifying takes ten times as long as the rest of a read."""
MAX_TOKEN = 8192
MAX_ROLES = 100
_WHOLE = "Send it whole, as it was issued: three parts with dots between them."


class Unauthenticated(MeshError):
    """It is not known who asks."""


class TooManyRequests(MeshError):
    """Whoever asks has asked too often."""

    def __init__(self, detail: str, remedy: str, retry_after: int) -> None:
        super().__init__(detail, remedy=remedy)
        self.retry_after = retry_after


class Authenticator:
    """Verifies tokens as the settings say, and counts how often each subject asks."""

    def __init__(self, settings: Settings) -> None:
        """Asks no issuer yet. Raises MalformedSetting."""
        self._settings = settings
        self._algorithms = algorithms_of(settings)
        self._issuer = (
            Issuer(settings.auth_jwks_url, frozenset(self._algorithms)) if settings.auth_jwks_url else None
        )
        self._key = None if self._issuer else key_of(settings)
        _check_key(self._key, self._algorithms)
        role = settings.auth_anonymous_role
        if role and (problem := role_problem(role)):
            raise MalformedSetting(f"MESH_AUTH_ANONYMOUS_ROLE: {problem}.")
        self._anonymous = Subject("anonymous", (role,), {}) if role else None
        self._known: dict[str, tuple[float, Subject]] = {}
        self._rate = _rates(settings.request_rate)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def subject(self, request: Request) -> Subject:
        """Who asks. Raises Unauthenticated, TooManyRequests, IssuerUnavailable."""
        headers = request.scope["headers"]  # as they came: Starlette looks through all for each
        given = [value.decode("latin-1") for name, value in headers if name == b"authorization"]
        if not given and self._anonymous is not None:
            self._count(f"anonymous {_address(request)}")
            return self._anonymous
        try:
            found = await self._verified(given)
        except Unauthenticated:
            self._count(f"refused {_address(request)}")
            raise
        self._count(f"subject {found.name}")
        return found

    def _count(self, whom: str) -> None:
        """One request more of somebody. Raises TooManyRequests."""
        for rate in self._rate:
            if not self._limiter.hit(rate, whom):
                raise self._too_often(rate, whom)

    async def _verified(self, given: list[str]) -> Subject:
        if not given:
            raise Unauthenticated("The request has no token.", remedy="Send Authorization: Bearer TOKEN.")
        scheme, _, token = given[0].partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated(
                "The Authorization header is not one bearer token.",
                remedy="Send Authorization: Bearer TOKEN.",
            )
        now, token = time.time(), token.strip()
        known = self._known.get(token)
        if known is not None and now < known[0]:
            return known[1]
        claims = await self._claims(token)
        subject = Subject(claims["sub"], self._roles(claims), claims)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[token] = (min(int(claims["exp"]), now + REMEMBERED_SECONDS), subject)
        return subject

    async def _claims(self, token: str) -> dict[str, Any]:
        settings = self._settings
        if len(token) > MAX_TOKEN:
            raise _refused(f"it has more than {MAX_TOKEN} characters")
        if self._issuer is None and self._key is None:
            raise Unauthenticated(
                "No token can be verified here.",
                remedy="Whoever runs the mesh sets MESH_AUTH_KEY or MESH_AUTH_JWKS_URL.",
            )
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            key = self._key if self._issuer is None else await self._issuer.key(kid)
            if key is None:
                raise _refused("its key is none of the issuer's")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(self._algorithms),
                issuer=settings.auth_issuer,
                audience=settings.auth_audience,
                leeway=settings.auth_leeway_seconds,
                options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
        except jwt.InvalidSignatureError as error:
            raise _refused(str(error)) from None
        except jwt.DecodeError as error:
            raise _refused(f"it is no JWT: {error}", _WHOLE) from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _refused(str(error)[:200]) from None
        if not claims["sub"]:
            raise _refused("its subject is empty")
        return claims

    def _roles(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """The roles that a claim names, as a list or a text with spaces; of none that no role can have."""
        told = claimed(claims, self._settings.auth_roles_claim)
        if isinstance(told, str):
            told = told.split()
        if not isinstance(told, list):
            return ()
        roles = {role for role in told[:MAX_ROLES] if isinstance(role, str) and role_problem(role) is None}
        return tuple(sorted(roles))

    def _too_often(self, rate: RateLimitItem, counted: str) -> TooManyRequests:
        reset = self._limiter.get_window_stats(rate, counted).reset_time
        seconds = max(1, int(reset - time.time() + 0.999))
        return TooManyRequests(
            f"There may be {rate}.",
            remedy=f"Ask again in {seconds} s, and more in each request.",
            retry_after=seconds,
        )


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _check_key(key: str | None, algorithms: Sequence[str]) -> None:
    """Whether all of the algorithms can verify with the key. Raises MalformedSetting."""
    for name in algorithms if key else ():
        try:
            jwt.get_algorithm_by_name(name).prepare_key(key)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise MalformedSetting(
                f"MESH_AUTH_KEY cannot verify {name}: {error}.",
                remedy="Set the public key as PEM, and MESH_AUTH_ALGORITHMS to what it is for.",
            ) from None


def _rates(text: str) -> list[RateLimitItem]:
    """What MESH_REQUEST_RATE says. Raises MalformedSetting."""
    try:
        rates = parse_many(text) if text else []
        if all(rate.amount >= 1 for rate in rates):
            return rates
    except ValueError:
        pass
    raise MalformedSetting(
        f"MESH_REQUEST_RATE is {text!r}, which is no rate.",
        remedy="Write 600/minute, or 10/second;600/minute.",
    )


def _refused(reason: str, remedy: str = "Send a token that holds now.") -> Unauthenticated:
    return Unauthenticated(f"The token is refused: {reason.rstrip('.')}.", remedy=remedy)
