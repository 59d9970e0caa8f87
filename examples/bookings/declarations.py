"""What the service says, and what the mesh makes of it."""

from __future__ import annotations

from mesh_core.model import Col, Entity, Event, Key, View, add, patch, upsert
from mesh_core.model.grants import grant


class HallOpened(Event, type="bookings.hall.opened.v1"):
    """A hall takes bookings from now on."""

    key_fields = ("hall",)
    hall: str
    seats: int


class SeatsBooked(Event, type="bookings.hall.booked.v1"):
    """Seats of a hall were booked by somebody."""

    key_fields = ("hall",)
    hall: str
    seats: int
    guest: str


class Hall(Entity, service="bookings"):
    """A hall, with what is left of it."""

    hall: Key[str]
    seats: Col[int]
    booked: Col[int]
    last_guest: Col[str | None]
    folds = (
        upsert(HallOpened, booked=0),
        patch(SeatsBooked, booked=add(SeatsBooked.seats), last_guest=SeatsBooked.guest),
    )


hall_overview = View(
    "hall_overview",
    Hall,
    hall=Hall.hall,
    seats=Hall.seats,
    booked=Hall.booked,
    last_guest=Hall.last_guest,
)

grants = [grant(hall_overview, "anonymous")]
