"""`mesh token`: what it makes is believed by an API with the same settings."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest

from mesh_core.settings import ROOT
from mesh_core.tokens import make_local_key

SECRET = "a shared secret that is long enough"


def token(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mesh_core.cli", "token", *options],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_token_has_roles_claims_and_an_end() -> None:
    done = token(
        "--role", "customer", "--role", "sales", "--claim", "customer_id=QUICK", "--claim", "tenants=[1, 2]",
        "--subject", "eve", "--minutes", "5", MESH_AUTH_KEY=SECRET, MESH_AUTH_ROLES_CLAIM="realm.roles",
    )  # fmt: skip
    claims = jwt.decode(done.stdout.strip(), SECRET, ["HS256"], audience="flexmesh", issuer="flexmesh")
    assert claims["realm"]["roles"] == ["customer", "sales"]
    assert (claims["sub"], claims["customer_id"], claims["tenants"]) == ("eve", "QUICK", [1, 2])
    assert 280 < claims["exp"] - time.time() <= 300


def test_the_local_stack_has_a_key_of_its_own(tmp_path: Path) -> None:
    assert token("--role", "sales", MESH_STACK_DIR=str(tmp_path)).returncode == 2
    make_local_key(tmp_path)
    key = (tmp_path / "token-key").read_text()
    make_local_key(tmp_path)
    assert (tmp_path / "token-key").read_text() == key, "made once"
    assert (tmp_path / "token-key").stat().st_mode & 0o077 == 0
    made = token("--role", "sales", MESH_STACK_DIR=str(tmp_path)).stdout.strip()
    assert jwt.decode(made, key, ["HS256"], audience="flexmesh")["roles"] == ["sales"]


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (("--role", "a b"), {"MESH_AUTH_KEY": SECRET}, "No role has this name"),
        (("--role", "sales", "--claim", "x"), {"MESH_AUTH_KEY": SECRET}, "has no value"),
        (("--role", "sales"), {"MESH_AUTH_KEY": "short"}, "fewer than 32 bytes"),
        (
            ("--role", "sales"),
            {
                "MESH_AUTH_JWKS_URL": "https://issuer.example/jwks",
                "MESH_AUTH_ISSUER": "x",
                "MESH_AUTH_AUDIENCE": "y",
            },
            "only it can make them",
        ),
    ],
)
def test_what_it_refuses(options: tuple[str, ...], environment: dict[str, str], said: str) -> None:
    done = token(*options, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
