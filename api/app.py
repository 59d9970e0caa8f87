"""`create_app`: wiring only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from api import admin, contracts, declarations, deploys, events, problems, queries, roles, views, workflows
from api.answers import EXPOSED
from api.authentication import Authenticator
from api.context import Mesh
from api.contracts.page import serve_asyncapi
from api.deploying import Deploying
from api.documents import serve_openapi
from api.events.routes import EventsFirst
from api.histories import Histories
from api.ingesting import Ingesting
from api.middleware import RequestTelemetry, UrlLimit
from api.publishing import Publishing
from api.registry import Registry
from api.swagger import serve_swagger
from api.views.routes import RowsFirst, serve_rows
from mesh_core import stack
from mesh_core.log import KafkaConfig
from mesh_core.read import Database, Paging
from mesh_core.read.cursor import cursor_key
from mesh_core.read.filters import Bounds
from mesh_core.settings import Settings, load_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """The API over the Postgres and Kafka of `settings`, by default those of the environment.

    Connects to nothing yet. Raises StackNotRunning where nothing says where those are.
    """
    settings = settings or load_settings()
    addresses = stack.resolve(settings)
    kafka = KafkaConfig.from_settings(settings, addresses.kafka_bootstrap_servers)
    database = Database(
        addresses.database_url,
        pool_size=settings.database_pool_size,
        statement_timeout_seconds=settings.statement_timeout_seconds,
    )
    registry = Registry(settings, database, kafka)
    mesh = Mesh(
        settings,
        database,
        registry=registry,
        ingesting=Ingesting(settings, database, registry, addresses.database_url, kafka),
        publishing=Publishing(kafka),
        authenticator=Authenticator(settings),
        deploying=Deploying(settings, addresses.database_url, kafka),
        histories=Histories(settings, addresses.database_url, kafka),
        paging=Paging(
            settings.page_limit_default,
            settings.page_limit_max,
            cursor_key(settings.cursor_key, addresses.database_url),
            settings.stream_rows_max,
            Bounds(settings.query_conditions_max, settings.query_depth_max, settings.query_list_max),
        ),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with mesh.database:
            yield
            await mesh.ingesting.close()
            await mesh.publishing.close()
            await mesh.histories.close()

    app = FastAPI(
        title="Flexmesh",
        summary="Joined read models of all services, kept up to date from their events.",
        version="1",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.mesh = mesh
    for feature in (views, queries, workflows, events, contracts, declarations, deploys, roles, admin):
        app.include_router(feature.router)
    serve_rows(app)
    problems.install(app)
    serve_openapi(app)
    serve_swagger(app)
    serve_asyncapi(app)
    app.add_middleware(RowsFirst)
    app.add_middleware(UrlLimit, longest=settings.url_bytes_max)
    app.add_middleware(EventsFirst)
    app.add_middleware(RequestTelemetry)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=[origin.strip() for origin in settings.cors_origins.split(",")],
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=600,
        )
    return app
