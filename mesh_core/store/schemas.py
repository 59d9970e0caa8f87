"""The three schemas of the database.

`mesh` is control data, migrated by Alembic; `data` has the physical tables of entity and view versions, built
from declarations; `read` has SQL views over the live ones, for the API and any BI tool.
"""

CONTROL, DATA, READ = "mesh", "data", "read"
