"""Projectors, brokers and databases that die under load: nothing is lost, nothing is doubled."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import SecretStr

from mesh_core import stack
from mesh_core.engine import building, bulk
from mesh_core.engine import progress as progress_module
from mesh_core.engine.pruning import prune_all
from mesh_core.errors import DependencyUnavailable
from mesh_core.settings import Settings
from tests.conftest import OwnStack
from tests.engine.desk import ToolBought, catalog, changes, say
from tests.engine.domain import CATALOG, CustomerSaved, CustomerVisited, Item, OrderMoved, OrderPlaced
from tests.support.mesh import Mesh, Outcomes, wait_for

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CUSTOMERS = 50
TOOLS = 30_000


class Load:
    """Publishes rounds of five events, and knows what they must come to."""

    def __init__(self, mesh: Mesh, rounds: int, pause: float = 0.0) -> None:
        self.mesh, self.rounds, self.pause = mesh, rounds, pause

    @property
    def events(self) -> int:
        return 5 * self.rounds

    def publish(self) -> None:
        mesh = self.mesh
        for turn in range(self.rounds):
            key = f"C{turn % CUSTOMERS}"
            items = [Item(product_id=n, quantity=1, unit_price=Decimal("1.25")) for n in range(3)]
            mesh.publish(CustomerSaved(customer_id=key, name=f"name {turn}"), key)
            for visit in (0, 1):
                at = NOON + timedelta(seconds=turn)
                visited = CustomerVisited(customer_id=key, points=turn, spent=Decimal("0.10"), at=at)
                mesh.publish(visited, key, sequence=2 * turn + visit)
            mesh.publish(OrderPlaced(order_id=turn, customer_id=key, placed_at=NOON, items=items), turn)
            mesh.publish(OrderMoved(order_id=turn, customer_id=f"C{turn * 7 % CUSTOMERS}"), turn)
            if self.pause and turn % 50 == 0:
                time.sleep(self.pause)
        mesh.publisher.flush()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Publishes in the background; all of it is in the log at the end."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                self.publish()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield
        thread.join(120)
        assert not thread.is_alive()
        assert not errors, errors

    def assert_exact(self) -> None:
        mesh = self.mesh
        assert mesh.outcomes() == Outcomes(consumed=self.events, applied=self.events)
        mesh.assert_sound()
        loyalty, overview = mesh.rows("crm_loyalty"), mesh.rows("customer_overview")
        for number in range(CUSTOMERS):
            turns = range(number, self.rounds, CUSTOMERS)
            assert loyalty[f"C{number}"]["points"] == 2 * sum(turns)
            assert loyalty[f"C{number}"]["spent"] == Decimal("0.20") * len(turns)
            orders = sum(turn * 7 % CUSTOMERS == number for turn in range(self.rounds))
            assert overview[f"C{number}"]["order_count"] == orders
            assert overview[f"C{number}"]["lifetime"] == orders * 3 * Decimal("0.25")
        assert len(mesh.rows("sales_line")) == 3 * self.rounds


def consumed(mesh: Mesh) -> int:
    return mesh.outcomes().consumed


@pytest.mark.parametrize(
    ("rounds", "kills"),
    [
        pytest.param(900, 3, id="quick"),
        pytest.param(10_000, 20, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
def test_a_projector_killed_again_and_again_loses_and_doubles_nothing(
    settings: Settings, rounds: int, kills: int
) -> None:
    # A name of its own spares the group the wait for the dead member; small batches are cut more often.
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    own = Settings(**given, projector_instance_id="one", projector_batch_min=20, projector_batch_max=100)
    mesh = Mesh(own, CATALOG)
    mesh.deploy()
    load = Load(mesh, rounds)
    step = load.events // (kills + 1)
    with load.under_way():
        for kill in range(1, kills + 1):
            process = mesh.spawn()
            try:
                wait_for(lambda kill=kill: consumed(mesh) >= kill * step, 60, "progress")  # type: ignore[misc]
            finally:
                process.kill()
                process.wait()
            assert consumed(mesh) < load.events, "it was killed in the midst of the work"
    mesh.project()
    load.assert_exact()
    mesh.close()


def kill_kafka(own: OwnStack) -> None:
    stack.kafka.kill(own.directory)


def stop_postgres(own: OwnStack) -> None:
    stack.postgres.stop(own.directory)


def kill_postgres(own: OwnStack) -> None:
    stack.postgres.kill(own.directory)


def settings_of(own: OwnStack) -> Settings:
    return Settings(
        database_url=SecretStr(own.addresses.database_url),
        kafka_bootstrap_servers=own.addresses.kafka_bootstrap_servers,
        projector_metrics_port=0,
        projector_batch_max=500,
    )


def test_kafka_and_postgres_restarted_under_load(own_stack: OwnStack) -> None:
    mesh = Mesh(settings_of(own_stack), CATALOG)
    mesh.deploy()
    load = Load(mesh, 1_500, pause=0.3)
    faults: list[Callable[[OwnStack], None]] = [kill_postgres, kill_kafka, stop_postgres]
    with mesh.projecting(), load.under_way():
        for fault in faults:
            before = consumed(mesh)
            wait_for(lambda before=before: consumed(mesh) > before + 200, 60, "progress")  # type: ignore[misc]
            fault(own_stack)
            time.sleep(0.5)
            stack.start(own_stack.directory)
        wait_for(lambda: consumed(mesh) >= load.events, 90, "catching up by itself")
    load.assert_exact()
    assert mesh.halted() == {}
    mesh.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("stopped", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_postgres_restarted_in_the_midst_of_a_build(
    own_stack: OwnStack, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """What serves is untouched, the deploy says what happened, and the next one clears up and succeeds."""
    monkeypatch.setattr(building, "WORTH_A_PROCESS", 15_000)
    monkeypatch.setattr(bulk, "WINDOW_ROWS", 2_000)
    monkeypatch.setattr(progress_module, "SECONDS", 0.02)  # so that it is seen to read before it has
    mesh = Mesh(settings_of(own_stack), catalog())
    mesh.deploy()
    say(mesh, range(20))
    mesh.project()
    with mesh.driver.admin() as admin:
        admin.create_topic("shed.events", 3, 1)
    for tool in range(TOOLS):
        mesh.publish(ToolBought(tool_id=tool, name=f"saw {tool}"), tool)
    mesh.publisher.flush()
    before = mesh.rows("client_overview")
    faults = [(kill_postgres, "reading")]
    if stopped:
        faults += [(kill_postgres, "computing"), (stop_postgres, "reading")]
    for fault, step in faults:
        struck = threading.Event()

        def progress(
            line: str,
            fault: Callable[[OwnStack], None] = fault,
            step: str = step,
            struck: threading.Event = struck,
        ) -> None:
            if line.startswith(step) and not line.startswith("reading: 0 ") and not struck.is_set():
                struck.set()
                fault(own_stack)
                stack.start(own_stack.directory)

        with pytest.raises(DependencyUnavailable, match=r"Postgres failed .* what serves is whole"):
            mesh.deploy(catalog(tools=True), processes=2, progress=progress)
        assert struck.is_set()
        assert multiprocessing.active_children() == []
        assert mesh.rows("client_overview") == before
        say(mesh, range(20, 25))
        mesh.project()
        before = mesh.rows("client_overview")
        mesh.assert_sound()
    assert changes(mesh.deploy(processes=2)) == {"shed.tool": "new", "tool_list": "new"}
    assert mesh.query("SELECT count(*), count(DISTINCT name) FROM read.tool_list") == [(TOOLS, TOOLS)]
    assert mesh.outcomes("shed.events") == (TOOLS, TOOLS, 0, 0, 0)
    assert [state for (state,) in mesh.query("SELECT state FROM mesh.deploys ORDER BY id")] == [
        "done",
        *["interrupted"] * len(faults),
        "done",
    ]
    pruned = prune_all(mesh.database_url, mesh.catalog)
    assert (pruned.orphans, pruned.left) == ([], [])
    mesh.assert_sound()
    mesh.close()
