"""The page for people at `/docs`: whole without any other host."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from api.swagger import FOLDER


def references(page: str) -> list[str]:
    return re.findall(r'(?:src|href|url)\s*[=:]\s*"([^"]*)"', page)


def test_the_page_and_all_that_it_asks_for_come_from_here(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "//" not in re.sub(r"<!.*?>", "", page.text)
    asked = references(page.text)
    assert len(asked) == 4
    for path in asked:
        assert client.get(path).status_code == 200, path
    assert client.get("/redoc").status_code == 404


def test_assets_may_be_kept_for_ever_and_nothing_else_is_served(client: httpx.Client) -> None:
    kinds = {}
    for path in references(client.get("/docs").text):
        if path != "/openapi.json":
            answer = client.get(path)
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.content == (FOLDER / Path(path).name).read_bytes()
            kinds[Path(path).suffix] = answer.headers["content-type"].split(";")[0]
    assert kinds == {".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
    assert client.get(f"{Path(path).parent}/package.txt").status_code == 404


def test_the_policy_of_the_page_names_no_other_host(client: httpx.Client) -> None:
    policy = client.get("/docs").headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    sources = {source for rule in rules.values() for source in rule.split()}
    assert not [source for source in sources if not source.startswith("'") and source != "data:"]


def test_no_parameter_is_filled_in_before_anybody_asks(client: httpx.Client) -> None:
    # What setDefaultValue of ParameterRow in the vendored bundle takes for a value; examples of a schema it does not.
    document = client.get("/openapi.json").json()
    parameters = [
        parameter
        for path in document["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", ())
    ]
    assert any("examples" in parameter["schema"] for parameter in parameters)
    for parameter in parameters:
        assert not {"example", "examples", "default", "content"} & set(parameter), parameter
        assert not {"example", "default"} & set(parameter["schema"]), parameter
        assert parameter["schema"].get("type") != "object"


def test_what_is_vendored_says_what_it_is_and_has_its_licence() -> None:
    package, digest = (FOLDER / "package.txt").read_text().splitlines()
    assert re.fullmatch(r"swagger-ui-dist@\d+\.\d+\.\d+", package)
    assert re.fullmatch(r"sha512 [0-9a-f]{128}", digest)
    files = {file.name for file in FOLDER.iterdir()}
    assert {"LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"} <= files
