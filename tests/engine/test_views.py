"""Views of every kind, against rows worked out by hand, while each part of the tree changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from mesh_core.model import (
    Catalog,
    Col,
    CustomView,
    Entity,
    Event,
    Key,
    View,
    by_workflow,
    delete,
    many,
    one,
    patch,
    upsert,
)
from mesh_core.model.builtin import EntryRegistered, Workflow, WorkflowCreated
from tests.support.mesh import Mesh
from tests.support.services import Services, fresh_settings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)


class CountrySaved(Event, type="geo.country.saved.v1"):
    country_id: str
    name: str


class CitySaved(Event, type="geo.city.saved.v1"):
    city_id: str
    country_id: str | None
    name: str


class CityGone(Event, type="geo.city.gone.v1"):
    city_id: str


class TeamSaved(Event, type="club.team.saved.v1"):
    team_id: int
    city_id: str
    name: str


class PlayerSaved(Event, type="club.player.saved.v1"):
    player_id: int
    team_id: int | None
    born_in: str
    name: str
    shirt: int | None = None


class GoalShot(Event, type="club.goal.shot.v1"):
    goal_id: int
    player_id: int
    minute: int


class GoalRevoked(Event, type="club.goal.revoked.v1"):
    goal_id: int


class GoalCorrected(Event, type="club.goal.corrected.v1"):
    goal_id: int
    player_id: int


class Country(Entity, service="geo"):
    country_id: Key[str]
    name: Col[str]
    folds = upsert(CountrySaved)


class City(Entity, service="geo"):
    city_id: Key[str]
    country_id: Col[str | None]
    name: Col[str]
    folds = upsert(CitySaved), delete(CityGone)


class Team(Entity, service="club"):
    team_id: Key[int]
    city_id: Col[str]
    name: Col[str]
    folds = upsert(TeamSaved)


class Player(Entity, service="club"):
    player_id: Key[int]
    team_id: Col[int | None]
    born_in: Col[str]
    name: Col[str]
    shirt: Col[int | None]
    folds = upsert(PlayerSaved)


class Goal(Entity, service="club"):
    goal_id: Key[int]
    player_id: Col[int]
    minute: Col[int]
    folds = upsert(GoalShot), patch(GoalCorrected), delete(GoalRevoked)


team = one(Player.team_id, Team.team_id)
city = one(Team.city_id, City.city_id)
country = one(City.country_id, Country.country_id)
birthplace = one(Player.born_in, City.city_id)
players = many(Player.team_id, Team.team_id)
goals = many(Goal.player_id, Player.player_id)
teams = many(Team.city_id, City.city_id)
cities = many(City.country_id, Country.country_id)

player_card = View(
    "player_card",
    Player,
    player_id=Player.player_id,
    country=team[city[country[Country.name]]],
    goals=goals.count(),
    team_mates=team[players].count(),
)
country_table = View(
    "country_table",
    Country,
    country_id=Country.country_id,
    goals=cities[teams][players][goals].count(),
    late=cities[teams][players][goals].count(where=Goal.minute > 80),
    scorers=cities[teams][players].list(Player.name, by=Player.shirt, limit=3),
)
team_table = View(
    "team_table",
    Team,
    team_id=Team.team_id,
    last_shirt=players.latest(Player.name, by=Player.shirt),
    by_shirt=players.list(Player.name, by=Player.shirt),
    locals=players.count(where=birthplace[City.name] == "Rome"),
    foreign=players.list(birthplace[country[Country.name]], by=Player.name),
    first=players.min(Player.name),
)
workflow_table = View(
    "workflow_table",
    Workflow,
    workflow_id=Workflow.workflow_id,
    name=Workflow.name,
    players=by_workflow(Workflow, Player).list(Player.name),
    player_count=by_workflow(Workflow, Player).count(),
    cities=by_workflow(Workflow, City).list(City.name),
)
player_cities = View(
    "player_cities",
    Player,
    player_id=Player.player_id,
    visited=by_workflow(Player, City).list(City.name),
    visits=by_workflow(Player, City).count(),
)
team_median = CustomView(
    "team_median",
    Team,
    number=1,
    sql="SELECT t.team_id, t.name, percentile_disc(0.5) WITHIN GROUP (ORDER BY p.shirt) AS median_shirt "
    "FROM {club_team} t LEFT JOIN {club_player} p ON p.team_id = t.team_id GROUP BY t.team_id, t.name",
    columns={"team_id": int, "name": str, "median_shirt": int | None},
    edges=[players],
)
CATALOG = Catalog.of(
    entities=[Country, City, Team, Player, Goal],
    views=[
        player_card,
        country_table,
        team_table,
        workflow_table,
        player_cities,
        team_median,
    ],
)


@pytest.fixture(scope="module", params=[10_000, 1], ids=["at_once", "queued"])
def shared(services: Services, request: pytest.FixtureRequest) -> Iterator[Mesh]:
    """All of it also with what reaches more than one root going through the fan-out queue."""
    with fresh_settings(services, fan_out_limit=request.param) as settings:
        mesh = Mesh(settings, CATALOG)
        mesh.deploy()
        with mesh.projecting():
            yield mesh
        mesh.close()


@pytest.fixture
def club(shared: Mesh) -> Club:
    """Italy with Rome, where Roma plays: Ada (7) and Bob (9), born in Rome and in Bern."""
    shared.wait_caught_up()
    shared.wait_drained()
    shared.execute(
        "TRUNCATE "
        + ", ".join(f'data."{name}"' for (name,) in shared.query("SELECT relation FROM mesh.versions"))
    )
    made = Club(shared)
    made.says(CountrySaved(country_id="IT", name="Italy"), "IT")
    made.says(CountrySaved(country_id="CH", name="Switzerland"), "CH")
    made.says(CitySaved(city_id="R", country_id="IT", name="Rome"), "R")
    made.says(CitySaved(city_id="B", country_id="CH", name="Bern"), "B")
    made.says(TeamSaved(team_id=1, city_id="R", name="Roma"), 1)
    made.player(1, "Ada", 7, "R")
    made.player(2, "Bob", 9, "B")
    made.settle()
    return made


class Club:
    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def says(self, event: Event, key: object, workflow: UUID | None = None) -> None:
        self.mesh.publish(event, key, workflow=workflow)

    def player(
        self,
        number: int,
        name: str,
        shirt: int | None,
        born_in: str,
        of: int | None = 1,
        workflow: UUID | None = None,
    ) -> None:
        saved = PlayerSaved(player_id=number, team_id=of, born_in=born_in, name=name, shirt=shirt)
        self.says(saved, number, workflow)

    def goal(self, number: int, player: int, minute: int = 10) -> None:
        self.says(GoalShot(goal_id=number, player_id=player, minute=minute), number)

    def settle(self) -> None:
        self.mesh.wait_caught_up()
        self.mesh.assert_sound()
        self.mesh.wait_drained()
        self.mesh.assert_sound()

    def row(self, view: str, key: Any) -> dict[str, Any]:
        """The row without its key, once all is applied."""
        self.settle()
        row = self.mesh.rows(view)[key]
        return {name: value for name, value in row.items() if name not in CATALOG.views[view].key}


def test_one_of_one_of_one_follows_every_link(club: Club) -> None:
    assert club.row("player_card", 1) == {"country": "Italy", "goals": 0, "team_mates": 2}
    club.says(CountrySaved(country_id="IT", name="Italia"), "IT")
    assert club.row("player_card", 1)["country"] == "Italia"
    club.says(CitySaved(city_id="R", country_id="CH", name="Rome"), "R")
    assert club.row("player_card", 1)["country"] == "Switzerland"
    club.says(CityGone(city_id="R"), "R")
    assert club.row("player_card", 1)["country"] is None
    club.says(CitySaved(city_id="R", country_id=None, name="Rome"), "R")
    assert club.row("player_card", 1)["country"] is None
    club.says(TeamSaved(team_id=1, city_id="B", name="Bern FC"), 1)
    assert club.row("player_card", 1)["country"] == "Switzerland"


def test_many_via_one_counts_the_children_of_a_neighbour(club: Club) -> None:
    club.player(3, "Cid", None, "R")
    assert club.row("player_card", 1)["team_mates"] == 3
    club.player(2, "Bob", 9, "B", of=None)
    assert club.row("player_card", 1)["team_mates"] == 2
    assert club.row("player_card", 2)["team_mates"] == 0


def test_many_of_many_of_many_of_many(club: Club) -> None:
    for number, (player, minute) in enumerate([(1, 10), (1, 85), (2, 90)]):
        club.goal(number, player, minute)
    assert club.row("country_table", "IT") == {"goals": 3, "late": 2, "scorers": ["Ada", "Bob"]}
    club.says(GoalRevoked(goal_id=2), 2)
    assert club.row("country_table", "IT")["late"] == 1
    club.says(CitySaved(city_id="R", country_id="CH", name="Rome"), "R")
    assert club.row("country_table", "IT") == {"goals": 0, "late": 0, "scorers": []}
    assert club.row("country_table", "CH") == {"goals": 2, "late": 1, "scorers": ["Ada", "Bob"]}
    club.player(1, "Ada", 7, "R", of=None)
    assert club.row("country_table", "CH") == {"goals": 0, "late": 0, "scorers": ["Bob"]}


def test_a_child_that_moves_changes_both_parents(club: Club) -> None:
    club.goal(1, 1)
    club.says(GoalCorrected(goal_id=1, player_id=2), 1)
    assert club.row("player_card", 1)["goals"] == 0
    assert club.row("player_card", 2)["goals"] == 1


def test_lists_and_latest_break_ties_by_key_and_put_nothing_last(club: Club) -> None:
    club.player(3, "Cid", 9, "R")
    club.player(4, "Dan", None, "R")
    club.player(0, "Zoe", 7, "R")
    row = club.row("team_table", 1)
    assert row["by_shirt"] == ["Zoe", "Ada", "Bob", "Cid", "Dan"]
    assert row["last_shirt"] == "Cid"
    assert row["first"] == "Ada"


def test_a_condition_over_a_childs_own_neighbour(club: Club) -> None:
    assert club.row("team_table", 1)["locals"] == 1
    assert club.row("team_table", 1)["foreign"] == ["Italy", "Switzerland"]
    club.says(CitySaved(city_id="B", country_id="IT", name="Rome"), "B")
    assert club.row("team_table", 1)["locals"] == 2
    assert club.row("team_table", 1)["foreign"] == ["Italy", "Italy"]
    club.says(CountrySaved(country_id="IT", name="Italia"), "IT")
    assert club.row("team_table", 1)["foreign"] == ["Italia", "Italia"]
    club.says(CityGone(city_id="B"), "B")
    assert club.row("team_table", 1)["foreign"] == ["Italia", None]


def test_a_workflow_counts_each_entry_once_whatever_registers_it(club: Club) -> None:
    club.says(WorkflowCreated(workflow_id=ONE, name="transfer"), ONE)
    club.player(1, "Ada", 7, "R", workflow=ONE)
    club.player(1, "Ada", 8, "R", workflow=ONE)
    by_hand = EntryRegistered(workflow_id=ONE, entry_service="club", entry_entity="player", entry_key="1")
    club.says(by_hand, ONE)
    club.says(CitySaved(city_id="R", country_id="IT", name="Rome"), "R", ONE)
    row = club.row("workflow_table", ONE)
    assert row == {"name": "transfer", "players": ["Ada"], "player_count": 1, "cities": ["Rome"]}
    origins = club.mesh.query(
        "SELECT origin FROM read.mesh_workflow_entry WHERE entity = 'player' ORDER BY origin"
    )
    assert origins == [("club.events",), ("mesh.events",)]


def test_entries_of_two_services_meet_through_any_workflow_once(club: Club) -> None:
    for workflow in (ONE, TWO):
        club.player(1, "Ada", 7, "R", workflow=workflow)
        club.says(CitySaved(city_id="B", country_id="CH", name="Bern"), "B", workflow)
    assert club.row("player_cities", 1) == {"visited": ["Bern"], "visits": 1}
    club.says(CitySaved(city_id="R", country_id="IT", name="Rome"), "R", TWO)
    assert club.row("player_cities", 1) == {"visited": ["Bern", "Rome"], "visits": 2}
    club.says(CitySaved(city_id="R", country_id="IT", name="Roma"), "R")
    assert club.row("player_cities", 1)["visited"] == ["Bern", "Roma"]
    assert club.row("player_cities", 2) == {"visited": [], "visits": 0}


def test_an_entry_may_be_registered_before_its_row_is_there(club: Club) -> None:
    club.says(EntryRegistered(workflow_id=ONE, entry_service="geo", entry_entity="city", entry_key="P"), ONE)
    club.player(1, "Ada", 7, "R", workflow=ONE)
    assert club.row("player_cities", 1)["visits"] == 0
    club.says(CitySaved(city_id="P", country_id=None, name="Paris"), "P")
    assert club.row("player_cities", 1)["visited"] == ["Paris"]
    club.says(CityGone(city_id="P"), "P")
    assert club.row("player_cities", 1)["visited"] == []


def test_a_custom_view_is_kept_up(club: Club) -> None:
    assert club.row("team_median", 1) == {"name": "Roma", "median_shirt": 7}
    club.player(3, "Cid", 99, "R")
    assert club.row("team_median", 1)["median_shirt"] == 9
    club.player(3, "Cid", 99, "R", of=2)
    club.says(TeamSaved(team_id=2, city_id="B", name="Bern FC"), 2)
    assert club.row("team_median", 1)["median_shirt"] == 7
    assert club.row("team_median", 2) == {"name": "Bern FC", "median_shirt": 99}
