"""The service: commands that hold its rules, and say what they did in the transaction in which they did it.

uvicorn --factory examples.bookings.service:create_app     # BOOKINGS_DATABASE_URL=postgresql+psycopg://…
mesh relay --outbox bookings=postgresql://…                # README.md has it whole
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from examples.bookings.declarations import HallOpened, SeatsBooked
from mesh_core.emit import MeshMiddleware
from mesh_core.emit.outbox import OutboxSession, VersionConflict, outbox_table


class Base(DeclarativeBase):
    """The tables of the service."""


class Hall(Base):
    """The aggregate: what the rules are about. `version` counts its events."""

    __tablename__ = "halls"
    hall: Mapped[str] = mapped_column(primary_key=True)
    seats: Mapped[int]
    booked: Mapped[int]
    version: Mapped[int]


OUTBOX = outbox_table(Base.metadata)
Seats = Annotated[int, Field(ge=1, le=100_000)]


class SoldOut(Exception):
    """There are not so many seats left."""


class HallToOpen(BaseModel):
    """The body of a command."""

    seats: Seats


class Booking(BaseModel):
    """The body of a command."""

    seats: Seats
    guest: str


def open_hall(session: OutboxSession, name: str, seats: int) -> None:
    """Command: from now on the hall takes bookings."""
    session.add(Hall(hall=name, seats=seats, booked=0, version=1))
    session.add_event(HallOpened(hall=name, seats=seats), expected_version=0)


def book(session: OutboxSession, name: str, seats: int, guest: str) -> int:
    """Command: book seats if they are there; how many are left.

    Raises LookupError and SoldOut; and at its commit VersionConflict, where another booking came first: what was
    decided here was decided on seats that are gone.
    """
    hall = session.get(Hall, name)
    if hall is None:
        raise LookupError(name)
    if hall.booked + seats > hall.seats:
        raise SoldOut
    session.add_event(SeatsBooked(hall=name, seats=seats, guest=guest), expected_version=hall.version)
    session.flush()  # whoever comes second is told here, before anything else of it is written
    hall.booked += seats
    hall.version += 1
    return hall.seats - hall.booked


def create_app(database_url: str | None = None) -> FastAPI:
    """The service over its own database."""
    engine = create_engine(database_url or os.environ["BOOKINGS_DATABASE_URL"], pool_size=20)
    sessions = sessionmaker(engine, class_=OutboxSession, info={"outbox": OUTBOX})

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        Base.metadata.create_all(engine)
        yield
        engine.dispose()

    app = FastAPI(title="Bookings", lifespan=lifespan)
    app.add_middleware(MeshMiddleware)  # type: ignore[arg-type]  # plain ASGI, of no framework's types

    @app.put("/halls/{hall}", status_code=201)
    def put_hall(hall: str, body: HallToOpen) -> dict[str, str]:
        try:
            with sessions.begin() as session:
                open_hall(session, hall, body.seats)
        except (IntegrityError, VersionConflict):
            raise HTTPException(409, f"{hall} is open already") from None
        return {"hall": hall}

    @app.post("/halls/{hall}/bookings", status_code=201)
    def post_booking(hall: str, body: Booking) -> dict[str, int]:
        try:
            with sessions.begin() as session:
                return {"left": book(session, hall, body.seats, body.guest)}
        except LookupError:
            raise HTTPException(404, f"there is no {hall}") from None
        except SoldOut:
            raise HTTPException(409, "there are not so many seats left") from None
        except VersionConflict:
            raise HTTPException(409, "somebody was faster; try again", {"Retry-After": "0"}) from None

    return app
