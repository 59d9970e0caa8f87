"""A service with its own database that takes part in the mesh by events: halls, and seats booked in them.

    service.py       its HTTP interface, its tables, its commands
    declarations.py  what the mesh makes of its events: MESH_CATALOG=examples.bookings.declarations

README.md says how to run it, docs/how-to/outbox.md how to make such a service.
"""
