"""`order_overview` as it would be if Northwind gave no discounts."""

from mesh_core.model import View, many
from projections.northwind.entities import Line, Order

lines = many(Line.order_id, Order.order_id)

order_overview = View(
    "order_overview",
    Order,
    order_id=Order.order_id,
    placed_at=Order.placed_at,
    total=lines.sum(Line.unit_price * Line.quantity),
)
