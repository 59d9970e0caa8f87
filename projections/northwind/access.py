"""Who may see what of Northwind: three people as they work there or buy there, and whoever sends no token."""

from __future__ import annotations

from mesh_core.model.grants import CONTRACTS, RELATIONS, TIMELINE, WORKFLOWS, claim, column, grant, publishing
from projections.northwind.views import customer_overview, order_overview, product_sales, workflow_overview

own = claim("customer_id") == column("customer_id")

grants = [
    # The demo shows its views to anybody who can reach it.
    *(
        grant(view, "anonymous")
        for view in (order_overview, customer_overview, product_sales, workflow_overview)
    ),
    *(
        grant(resource, "anonymous")
        for resource in (WORKFLOWS, TIMELINE, RELATIONS, CONTRACTS, publishing("mesh"))
    ),
    # Whoever sells sees every order with what it is worth, and may tie entries together.
    *(grant(view, "sales") for view in (order_overview, customer_overview, product_sales)),
    *(grant(resource, "sales") for resource in (WORKFLOWS, TIMELINE, RELATIONS, publishing("mesh"))),
    # Whoever ships needs to know where to, and nothing of money.
    grant(
        order_overview,
        "logistics",
        columns=["customer_name", "required_on", "shipper_name", "shipped_at", "ship_city", "ship_country"],
    ),
    grant(WORKFLOWS, "logistics"),
    # A courier tells what it does with shipments, and sees whose they are.
    grant(order_overview, "courier", columns=["customer_name", "shipper_name", "shipped_at"]),
    grant(publishing("logistics"), "courier"),
    # A customer sees its own orders, by a claim of its token.
    grant(order_overview, "customer", where=own),
    grant(customer_overview, "customer", where=own),
]
