"""Declarations changed in random ways, deployed and rolled back, over a random history under live writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_core.engine.swapping import rollback
from mesh_core.log import Delivered
from tests.engine.desk import ClientGone, TicketMoved, catalog, say
from tests.engine.events import Said, encoded
from tests.support.mesh import Mesh
from tests.support.services import Services, fresh_settings

FLAGS = ("sums", "with_city", "ticket_list", "by_workflow", "priced", "tools")


@dataclass(frozen=True)
class Deploy:
    flags: tuple[str, ...]
    doc: str


@dataclass(frozen=True)
class Rebuild:
    name: str


@dataclass(frozen=True)
class Rollback:
    pass


@dataclass(frozen=True)
class Say:
    turns: int
    gone: bool


@dataclass(frozen=True)
class Break:
    """A record that cannot be read, or an event of a wrong key."""

    key: int
    unreadable: bool


@dataclass(frozen=True)
class Decide:
    which: int
    action: str


Step = Deploy | Rebuild | Rollback | Say | Break | Decide

STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        Deploy, st.sets(st.sampled_from(FLAGS)).map(lambda flags: tuple(sorted(flags))), st.sampled_from("ab")
    ),
    st.builds(Deploy, st.sets(st.sampled_from(FLAGS)).map(lambda flags: tuple(sorted(flags))), st.just("")),
    st.builds(Rebuild, st.sampled_from(("desk.client", "desk.ticket", "client_overview"))),
    st.just(Rollback()),
    st.builds(Say, st.integers(1, 12), st.booleans()),
    st.builds(Break, st.integers(0, 4), st.booleans()),
    st.builds(Decide, st.integers(0, 9), st.sampled_from(("discard", "edit", "retry"))),
)


class Story:
    """Steps on one mesh, two projectors running all the while."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.turn, self.broken = mesh, 0, list[tuple[Delivered, str]]()

    def take(self, step: Step) -> None:
        mesh = self.mesh
        match step:
            case Deploy(flags, doc):
                mesh.deploy(catalog(**dict.fromkeys(flags, True), doc=doc), processes=1)
            case Rebuild(name):
                assert all(proof.equal for proof in mesh.deploy(rebuild=[name]).proofs)
            case Rollback():
                if mesh.query("SELECT FROM mesh.versions WHERE state = 'previous'"):
                    rollback(mesh.database_url)
            case Say(turns, gone):
                say(mesh, range(self.turn, self.turn + turns))
                self.turn += turns
                if gone:
                    key = f"C{self.turn % 5}"
                    mesh.publish(ClientGone(client_id=key), key)
            case Break(key, unreadable):
                text = f"C{key}"
                value = b"{" if unreadable else None
                self.broken.append((mesh.send("desk.events", text.encode(), value), text))
                mesh.publish(TicketMoved(ticket_id=key, client_id=text), key)
            case Decide(which, action) if self.broken:
                letter, key = self.broken[which % len(self.broken)]
                mesh.decide(letter, action, edit_of(key, self.turn) if action == "edit" else None)
            case _:
                pass


def edit_of(key: str, turn: int) -> bytes:
    said = Said("desk.events", key, "desk.client.saved.v1", {"client_id": key, "name": f"edited {turn}"})
    value = encoded(said, event_id=f"edit{turn}", second=turn)[1]
    assert value is not None
    return value


@pytest.fixture
def meshes(services: Services) -> Iterator[Any]:
    with ExitStack() as stack:

        def make() -> Mesh:
            mesh = Mesh(stack.enter_context(fresh_settings(services)), catalog())
            stack.callback(mesh.close)
            return mesh

        yield make


def tell(mesh: Mesh, steps: list[Step]) -> None:
    mesh.deploy()
    story = Story(mesh)
    with mesh.projecting(), mesh.projecting():
        for step in steps:
            story.take(step)
        mesh.wait_caught_up()
    mesh.project()
    mesh.assert_sound()
    report = mesh.deploy(rebuild=[*mesh.catalog.entities, *mesh.catalog.views])
    assert all(proof.equal for proof in report.proofs), report.proofs
    mesh.project()
    mesh.assert_sound()


@pytest.mark.timeout(400)
@given(steps=st.lists(STEPS, min_size=4, max_size=10))
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_change_under_live_writes_ends_in_what_a_build_from_scratch_gives(
    meshes: Any, steps: list[Step]
) -> None:
    tell(meshes(), steps)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(steps=st.lists(STEPS, min_size=5, max_size=25))
@settings(max_examples=60, derandomize=False, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_change_under_live_writes_at_length(meshes: Any, steps: list[Step]) -> None:
    tell(meshes(), steps)
