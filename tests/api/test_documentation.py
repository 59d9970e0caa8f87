"""docs/reference/http.md tells all routes and all problems, and no others."""

from __future__ import annotations

import json
import re

from api import authentication, ingesting, issuer, problems
from api.app import create_app
from api.declarations.documents import EXAMPLE
from api.documents import document
from api.negotiation import NotAcceptable
from mesh_core.contracts import SchemaNotUnderstood
from mesh_core.engine import announcing
from mesh_core.errors import DependencyUnavailable
from mesh_core.log import errors as log
from mesh_core.model import DeclarationError
from mesh_core.read import database
from mesh_core.read import errors as read
from mesh_core.settings import ROOT, Settings
from tests.api.conftest import NO_KAFKA

PAGE = (ROOT / "docs" / "reference" / "http.md").read_text()


def test_every_route_is_documented() -> None:
    app = create_app(Settings(database_url="postgresql://x/x", kafka_bootstrap_servers=NO_KAFKA))
    paths = document(app, [])["paths"]
    served = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert set(re.findall(r"^\| `(GET|POST|PUT|DELETE) ([^`]+)` \|", PAGE, re.MULTILINE)) == served


def test_the_declaration_that_is_shown_is_that_of_the_document() -> None:
    page = (ROOT / "docs" / "reference" / "declarations.md").read_text()
    (shown,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert json.loads(shown) == EXAMPLE


def test_every_problem_is_documented_with_its_status() -> None:
    abstract = {read.ReadError, read.NotFound, read.RequestError, read.Unmet}
    errors = {
        *(
            value
            for value in vars(read).values()
            if isinstance(value, type) and issubclass(value, read.ReadError)
        ),
        database.ConnectionLost,
        authentication.Unauthenticated,
        issuer.IssuerUnavailable,
        problems.InvalidBody,
        announcing.TooManyDeploys,
        DependencyUnavailable,
        DeclarationError,
        problems.BodyTooLarge,
        problems.EventsRefused,
        problems.IncompatibleContracts,
        SchemaNotUnderstood,
        ingesting.TooManyEvents,
        ingesting.BeingPublished,
        ingesting.IngestUnavailable,
        log.EnvelopeError,
        log.MessageTooLarge,
        problems.UnsupportedMediaType,
        NotAcceptable,
        log.LogUnavailable,
        log.DeliveryTimeout,
        log.DeliveryFailed,
        log.TopicMissing,
    } - abstract
    expected = {(problems.kind_of(error), str(problems.status_of(error("")))) for error in errors}
    expected |= {
        ("not-found", "404"),
        ("method-not-allowed", "405"),
        ("invalid-request", "422"),
        ("internal-error", "500"),
        ("url-too-long", "414"),
        ("too-many-requests", "429"),
    }
    documented = {
        (kind, status)
        for kinds, status in re.findall(r"^\| (`[^|]+`) \| (\d{3}) \|", PAGE, re.MULTILINE)
        for kind in re.findall(r"`([^`]+)`", kinds)
    }
    assert documented == expected
