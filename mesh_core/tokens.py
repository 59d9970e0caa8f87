"""Tokens as the settings say: with which key and algorithms they are verified, and those made for development."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mesh_core.errors import UsageError
from mesh_core.settings import MalformedSetting, Settings

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "a shared secret": ("HS256", "HS384", "HS512"),
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512", "ES256K"),
    "EdDSA": ("EdDSA",),
}
"""Algorithms by the kind of key that they take. Only those of one may be set: a public key must never be a secret."""
MIN_SECRET = 32
"""Bytes of a shared secret."""


def algorithms_of(settings: Settings) -> tuple[str, ...]:
    """The algorithms that a token may be signed with, all of one family. Raises MalformedSetting."""
    named = tuple(filter(None, (name.strip() for name in settings.auth_algorithms.split(","))))
    public = settings.auth_jwks_url is not None or _is_pem(settings)
    if not named:
        return ("RS256",) if public else ("HS256",)
    kinds = {next((kind for kind, known in FAMILIES.items() if name in known), None) for name in named}
    if None in kinds:
        known = ", ".join(name for names in FAMILIES.values() for name in names)
        raise MalformedSetting(
            f"MESH_AUTH_ALGORITHMS has an algorithm that there is not: {settings.auth_algorithms}.",
            remedy=f"There are {known}.",
        )
    if len(kinds) > 1:
        raise MalformedSetting(
            "MESH_AUTH_ALGORITHMS mixes families, so that a key of one could be taken for one of the other.",
            remedy="Name algorithms of one family, such as RS256,PS256.",
        )
    if (kinds == {"a shared secret"}) == public:
        raise MalformedSetting(
            f"MESH_AUTH_ALGORITHMS {settings.auth_algorithms} do not go with the key.",
            remedy="HS algorithms go with a shared secret as MESH_AUTH_KEY, all others with a public key or a JWKS.",
        )
    return named


def key_of(settings: Settings) -> str | None:
    """The key that tokens are verified with: that of the settings, or of the local stack; None where there is none.

    Raises MalformedSetting.
    """
    if settings.auth_key is None:
        return _local_key(settings.stack_path) if settings.database_url is None else None
    key = settings.auth_key.get_secret_value()
    if not _is_pem(settings) and len(key.encode()) < MIN_SECRET:
        raise MalformedSetting(
            f"MESH_AUTH_KEY has fewer than {MIN_SECRET} bytes.", remedy="Make one: openssl rand -hex 32."
        )
    return key


def development_token(
    settings: Settings, roles: Sequence[str], claims: Mapping[str, Any], subject: str, minutes: int
) -> str:
    """A token that holds for so long, signed with the shared key. Raises UsageError where there is none."""
    import jwt

    key = None if settings.auth_jwks_url else key_of(settings)
    if key is None or _is_pem(settings):
        raise UsageError(
            "Tokens are verified with keys of an issuer, so only it can make them.",
            remedy="Ask it for a token; or set MESH_AUTH_KEY to a shared secret, for development.",
        )
    now = int(time.time())
    told: dict[str, Any] = {
        **claims,
        "sub": subject,
        "iss": settings.auth_issuer,
        "aud": settings.auth_audience,
        "iat": now,
        "exp": now + minutes * 60,
    }
    place = told
    *path, last = settings.auth_roles_claim.split(".")
    for part in path:
        place = place.setdefault(part, {})
    place[last] = list(roles)
    return jwt.encode(told, key, algorithm=algorithms_of(settings)[0])


def make_local_key(folder: Path) -> None:
    """The shared secret of a local stack, if it has none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(folder)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(MIN_SECRET))


def _local_key(folder: Path) -> str | None:
    try:
        return _path(folder).read_text().strip() or None
    except OSError:
        return None


def _path(folder: Path) -> Path:
    return folder / "token-key"


def _is_pem(settings: Settings) -> bool:
    return settings.auth_key is not None and "-----BEGIN" in settings.auth_key.get_secret_value()
