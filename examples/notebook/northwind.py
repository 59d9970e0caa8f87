"""Three questions of Northwind's past. Each `# %%` is a cell: run them in an editor or Jupyter, or all of them with Python.

It needs `make demo` in another terminal, and `pip install "flexmesh[analysis]"`.
"""

# %%
from pathlib import Path

import duckdb

from mesh_core.analysis import replay

HERE = Path(__file__).parent

# %% [markdown]
# How full was the backlog, half-year by half-year? No table says it: an order that has been sent since was open then.

# %%
print("Orders open")
for day in ("2016-10-01", "2017-04-01", "2017-10-01", "2018-04-01"):
    orders = replay("order_overview", day)
    ((placed, still_open),) = duckdb.sql(
        "SELECT count(*) AS placed, count(*) FILTER (WHERE shipped_at IS NULL) AS open FROM orders"
    ).fetchall()
    print(f"{day}  {still_open:3} of {placed:3}  {'█' * still_open}")

# %% [markdown]
# Who became a good customer in 2017? What the view was at both ends of the year, joined.

# %%
before = replay("customer_overview", "2017-01-01")
after = replay("customer_overview", "2018-01-01")
print("\nCustomers that grew most in 2017")
print(
    duckdb.sql(
        """
        SELECT company_name, before.lifetime_total AS until_2017, after.lifetime_total AS until_2018,
               after.lifetime_total - before.lifetime_total AS grown_by
        FROM after JOIN before USING (customer_id, company_name) ORDER BY grown_by DESC LIMIT 5
        """
    )
)

# %% [markdown]
# What do discounts cost? The same view, declared without them, over the same events.

# %%
given = replay("order_overview")
without = replay("order_overview", declared=HERE / "without_discount.py")
print("What discounts cost, by year")
print(
    duckdb.sql(
        """
        SELECT year(given.placed_at) AS year, sum(given.total) AS sold, sum(without.total - given.total) AS discounts,
               round(100 * sum(without.total - given.total) / sum(without.total), 1) AS percent
        FROM given JOIN without USING (order_id) GROUP BY year ORDER BY year
        """
    )
)
