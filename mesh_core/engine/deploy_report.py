"""What a deploy works with, what it is asked, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from mesh_core.engine.planning import Change, Kind
from mesh_core.engine.proving import Proof
from mesh_core.log.interface import Admin, Driver, TopicFacts
from mesh_core.model.builtin import MESH_TOPIC
from mesh_core.model.catalog import Catalog
from mesh_core.model.event import Contract
from mesh_core.store.deploys import Record
from mesh_core.store.versions import VersionRow

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """What a deploy did to one entity or view; `rows` of a view that was filled."""

    kind: Kind
    name: str
    change: Change
    details: Sequence[str] = ()
    relation: str = ""
    rows: int | None = None


@dataclass
class DeployReport:
    """What a deploy did, how the new versions compare with those they replace, and what it noticed."""

    steps: list[Step] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything serves that did not before."""
        return any(step.change not in ("unchanged", "unused") for step in self.steps)

    def add(self, later: DeployReport) -> None:
        """Add what a deploy right after this one did."""
        self.steps += [step for step in later.steps if step.change not in ("unchanged", "unused")]
        self.proofs += later.proofs
        self.warnings += later.warnings


@dataclass(frozen=True)
class Topics:
    """How topics are made that do not exist."""

    partitions: int
    replication: int


@dataclass(frozen=True)
class Wishes:
    """What whoever deploys asks for.

    `rebuild` names what is built though it is unchanged. `require_equal`: no swap if new rows differ from those that
    serve. Where a log has lost its beginning, `accept_truncated` builds from what is left, and `seed_from_live` begins
    with the rows that serve. `processes` may read history at once. `nothing_else` than what `rebuild` names: no deploy
    of what the catalog has changed.
    """

    rebuild: Collection[str] = ()
    require_equal: bool = False
    accept_truncated: bool = False
    seed_from_live: bool = False
    processes: int = 1
    nothing_else: bool = False


AS_DECLARED = Wishes()


@dataclass(frozen=True)
class Given:
    """What a deploy works with from its beginning to its end.

    `connection` has the deploy lock. `contracts` are of all events that the log may have. `entry_topics` are all that are
    declared or feed a version: any event may register an entry of a workflow. `kept_up` is what projectors write when the
    deploy begins.
    """

    connection: psycopg.Connection[Any]
    database_url: str
    driver: Driver
    contracts: Sequence[Contract]
    catalog: Catalog
    facts: Mapping[str, TopicFacts]
    entry_topics: Sequence[str]
    record: Record
    kept_up: Sequence[VersionRow] = ()
    progress: Progress = lambda line: None
    wishes: Wishes = AS_DECLARED


def make_topics(
    admin: Admin, catalog: Catalog, topics: Topics, also: Collection[str], report: DeployReport
) -> dict[str, TopicFacts]:
    """Create the declared topics that are missing, and look at them all; doubts about them go into the report.

    `also` are topics of live versions: looked at too, but left out if they are gone, since they had events.
    """
    names = sorted({*catalog.topics, MESH_TOPIC})
    facts = admin.describe(names)
    for name in names:
        if name not in facts:
            admin.create_topic(name, topics.partitions, topics.replication)
    facts = admin.describe(sorted({*names, *also}))
    report.warnings += [problem for name in names for problem in facts[name].problems()]
    return facts
