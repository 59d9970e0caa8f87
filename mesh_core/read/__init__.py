"""Reading: request ► checked query ► SQL. The only place that compiles reads.

`grammar` checks a request against a version's columns and gives a query; `compiler` turns a query into one
statement; `database` runs it and sees to it that the version was live in the statement's own snapshot. Rows
and their position always come from one snapshot.
"""

from mesh_core.read.catalogue import relations, views
from mesh_core.read.contracts import contracts_reflect, registered_contracts, service_contracts
from mesh_core.read.database import Database
from mesh_core.read.deploys import deploys, one_deploy
from mesh_core.read.errors import ReadError
from mesh_core.read.grammar import Paging
from mesh_core.read.histories import HistoryPage, Told, history_seen
from mesh_core.read.registered import registered_view, registered_views, undeployed
from mesh_core.read.roles import check_grants, grants, roles
from mesh_core.read.rows import Answer, Page, Stream, list_rows, one_row, stream_rows
from mesh_core.read.several import Asked, answer_several
from mesh_core.read.status import MeshStatus, mesh_status
from mesh_core.read.timeline import timeline
from mesh_core.read.versions import Live, Version
from mesh_core.read.waiting import Demand
from mesh_core.read.workflows import workflow, workflows_of

__all__ = [
    "Answer",
    "Asked",
    "Database",
    "Demand",
    "HistoryPage",
    "Live",
    "MeshStatus",
    "Page",
    "Paging",
    "ReadError",
    "Stream",
    "Told",
    "Version",
    "answer_several",
    "check_grants",
    "contracts_reflect",
    "deploys",
    "grants",
    "history_seen",
    "list_rows",
    "mesh_status",
    "one_deploy",
    "one_row",
    "registered_contracts",
    "registered_view",
    "registered_views",
    "relations",
    "roles",
    "service_contracts",
    "stream_rows",
    "timeline",
    "undeployed",
    "views",
    "workflow",
    "workflows_of",
]
