"""A service with its own database that takes part in the mesh by events: halls, and seats booked in them.

    service.py       its HTTP interface, its tables, its commands
    declarations.py  what the mesh makes of its events: MESH_CATALOG=examples.bookings.declarations

docs/how-to/outbox.md says how to run such a service and `mesh relay` beside it.
"""
