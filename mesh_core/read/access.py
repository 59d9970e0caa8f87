"""What a subject may see: the live versions without what it may not. The one place that decides it.

What reads compile from are versions, and a version that is seen by a subject has the columns of its grants alone, and
rows of a subquery that has only those that it may see, with null where a column is another's. So nothing that a request
can say (a filter, an order, a cursor, a count) reaches more than an answer could have, and where no grant has a
condition, the SQL is that of somebody who may see everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mesh_core.model.entity import EntityModel
from mesh_core.model.expressions import ColumnRef
from mesh_core.model.grants import GrantCondition, GrantModel
from mesh_core.model.paths import Path
from mesh_core.model.types import SQL_TYPES, ColumnType
from mesh_core.model.view_model import ViewColumn, ViewModel, references
from mesh_core.read.conditions import Comparison, Condition, Junction, Reference
from mesh_core.read.grants import Held
from mesh_core.read.row_security import Alternatives, alternatives, setting
from mesh_core.read.subject import ADMIN, Subject
from mesh_core.read.values import canonical
from mesh_core.read.versions import Live, Seen, Version
from mesh_core.read.writing import Writer
from mesh_core.store.schemas import READ
from mesh_core.store.tables import ruled_name

REMEMBERED = 1000
"""Subjects that differ in what they may see, of whom it is remembered what that is."""

Rule = Condition | bool
"""Which rows: those that meet a condition, all or none."""
Place = tuple[Path, str]
"""A column of an entity, and how its row is reached from the root's."""


def seen_by(live: Live, subject: Subject) -> Live:
    """The live versions as `subject` sees them: entities and views that it may see nothing of are not there."""
    if ADMIN in subject.roles:
        return live
    claims = {name: claimed(subject.claims, name) for name in live.grants.claims_of(subject.roles)}
    identity = (subject.roles, json.dumps(list(claims.values()), default=str) if claims else "")
    found = live.seen_by.get(identity)
    if found is None:
        if len(live.seen_by) >= REMEMBERED:
            live.seen_by.clear()
        found = live.seen_by[identity] = _Seeing(live, live.grants.held(subject.roles), claims).live_seen()
    return found


def claimed(claims: Mapping[str, Any], name: str) -> Any:
    """A claim of a token, or what is at a path of dots in one; None where there is none."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def entries_seen(live: Live, alias: str) -> tuple[str, tuple[object, ...]]:
    """SQL of whether an entry (`service`, `entity`, `key` of `alias`) may be seen, with what it binds.

    It may where its entity's row may, or a row of a view that is rooted in it.
    """
    if live.resources is None:
        return "true", ()
    values: list[object] = []
    cases = []
    sources: dict[str, list[Version]] = {name: [entity] for name, entity in live.entities.items()}
    for root, views in live.rooted.items():
        sources.setdefault(root, []).extend(views)
    for name, versions in sources.items():
        values.append(name)
        if not all(version.ruled for version in versions):
            cases.append("WHEN %s::text THEN true")
            continue
        entity = live.declared.get(name)
        found = []
        for version in versions:
            if entity is not None and set(entity.record_key) <= set(version.columns):
                found.append(f"EXISTS (SELECT FROM {version.rows} AS r WHERE {_is_row(entity, alias)})")
                values += version.values
        cases.append(f"WHEN %s::text THEN {' OR '.join(found) or 'false'}")
    if not cases:
        return "false", ()
    return f"CASE {alias}.service || '.' || {alias}.entity {' '.join(cases)} ELSE false END", tuple(values)


def _is_row(entity: EntityModel, alias: str) -> str:
    """Whether row r is one that the entry's key names, however that key was written."""
    types = {column.name: SQL_TYPES[column.type.kind] for column in entity.columns}
    count = len(entity.record_key)
    parts = []
    for number, name in enumerate(entity.record_key, 1):
        part = f"{alias}.key" if count == 1 else f"mesh.part_of_key({alias}.key, {number}, {count})"
        kind = types[name]
        if kind != "text":
            part = f"CASE WHEN pg_input_is_valid({part}, '{kind}') THEN ({part})::{kind} END"
        parts.append(f'r."{name}" = {part}')
    return " AND ".join(parts)


def any_of(rules: Iterable[Rule]) -> Rule:
    """Rows of any of them."""
    return _joined("or", rules, True)


def all_of(rules: Iterable[Rule]) -> Rule:
    """Rows of all of them."""
    return _joined("and", rules, False)


def _joined(operator: Any, rules: Iterable[Rule], decisive: bool) -> Rule:
    parts: dict[Condition, None] = {}
    for rule in rules:
        if rule is decisive:
            return decisive
        if not isinstance(rule, bool):
            parts[rule] = None
    if not parts:
        return not decisive
    return next(iter(parts)) if len(parts) == 1 else Junction(operator, tuple(parts))


@dataclass(frozen=True)
class _Seeing:
    """What some roles see with some claims."""

    live: Live
    held: Held
    claims: Mapping[str, Any]

    def live_seen(self) -> Live:
        """The live versions as they see them."""
        entities = {name: seen for name, each in self.live.entities.items() if (seen := self._entity(each))}
        views = {name: seen for name, each in self.live.views.items() if (seen := self._view(each))}
        rules = {
            each.relation: self._let_through(each)
            for each in (*entities.values(), *views.values())
            if each.ruled
        }
        return replace(
            self.live,
            entities=entities,
            views=views,
            seen_by={},
            row_security=setting(rules) if rules else "",
            resources=frozenset(self.held),
        )

    def _let_through(self, version: Version) -> list[Alternatives]:
        """What row-level security must let through of a version: by its own grants, and by those of its root."""
        types, model = version.all_columns, version.model
        own = {name: name for name in types}
        kind = "view" if isinstance(model, ViewModel) else "entity"
        found = [alternatives(self.held[f"{kind}:{version.name}"], types, self.claims.get, own)]
        if isinstance(model, ViewModel) and model.root in self.live.grants.guarded:
            grants = self.held.get(f"entity:{model.root}", ())
            found.append(alternatives(grants, types, self.claims.get, _exposed(model, ())))
        return found

    def _entity(self, version: Version) -> Version | None:
        grants = self.held.get(f"entity:{version.name}")
        if not grants:
            return None
        own = {name: name for name in version.all_columns}
        return self._seen(version, [self._any(version, grants, own)], self._granted(version, grants, own))

    def _view(self, version: Version) -> Version | None:
        model = version.model
        assert isinstance(model, ViewModel)
        grants = self.held.get(f"view:{version.name}")
        if not grants:
            return None
        own = {name: name for name in version.all_columns}
        rows = [self._any(version, grants, own)]
        for name in version.key:  # whoever may not see the key of a row may not see that there is one
            if (rule := self._joined_from(version, ((), name))) is None:
                return None
            rows.append(rule)
        columns: dict[str, Rule] = {}
        for name, rule in self._granted(version, grants, own).items():
            joined = [self._joined_from(version, place) for place in _places(model, model.column(name))]
            known = [each for each in joined if each is not None]
            if len(known) == len(joined):
                columns[name] = all_of([rule, *(each for each in known if each not in rows)])
        return self._seen(version, rows, columns)

    def _granted(
        self, version: Version, grants: Sequence[GrantModel], names: Mapping[str, str]
    ) -> dict[str, Rule]:
        """The columns that some of the grants give, with the rows in which they do; the key is in all of them."""
        found: dict[str, Rule] = {}
        for name in version.all_columns:
            giving = [grant for grant in grants if name in version.key or grant.gives(name)]
            if giving:
                found[name] = True if len(giving) == len(grants) else self._any(version, giving, names)
        return found

    def _joined_from(self, version: Version, place: Place) -> Rule | None:
        """In which rows a value that comes from there may be seen; None where in none, whatever the rows."""
        model = version.model
        assert isinstance(model, ViewModel)
        path, name = place
        entity = path[-1].target if path else model.root
        if entity not in self.live.grants.guarded:
            return True
        exposed = _exposed(model, path)
        source = self.live.declared.get(entity)
        keys = source.key if source else ()
        usable = [
            grant
            for grant in self.held.get(f"entity:{entity}", ())
            if (grant.columns is None or name in ("", *grant.columns, *keys))
            and all(each.column in exposed for each in grant.where)
        ]
        return self._any(version, usable, exposed) if usable else None

    def _any(self, version: Version, grants: Iterable[GrantModel], names: Mapping[str, str]) -> Rule:
        """The rows of any of these grants; `names` are the version's names of the columns that they compare."""
        return any_of(all_of(self._holds(version, each, names) for each in grant.where) for grant in grants)

    def _holds(self, version: Version, condition: GrantCondition, names: Mapping[str, str]) -> Rule:
        name = names.get(condition.column, "")
        kind = version.all_columns.get(name)
        if kind is None:  # of a column that is gone since
            return False
        value = condition.value if condition.claim is None else self.claims.get(condition.claim)
        reference = Reference(name, kind.kind)
        if condition.operator == "eq":
            text = _spelled(kind, value)
            return False if text is None else Comparison(reference, "eq", text)
        if not isinstance(value, list):
            return False
        texts = tuple(text for text in (_spelled(kind, each) for each in value) if text is not None)
        return Comparison(reference, "in", texts) if texts else False

    def _seen(self, version: Version, rows: Sequence[Rule], columns: Mapping[str, Rule]) -> Version:
        rule = all_of(rows)
        types = {
            name: version.all_columns[name] if shown is True else version.all_columns[name].as_nullable()
            for name, shown in columns.items()
        }
        if rule is True and all(shown is True for shown in columns.values()):
            return replace(version, seen=Seen(types))
        writer = Writer()
        select = ", ".join(_masked(writer, name, shown) for name, shown in columns.items())
        where = _written(writer, rule)
        # Where rows are others', row-level security sees to it once more.
        relation = version.relation if rule is True else ruled_name(version.relation)
        sql = f'(SELECT {select} FROM {READ}."{relation}" WHERE {where})'
        values = tuple(writer.values)
        return replace(version, seen=Seen(types, sql, values, rule is not True, select, where))


def _masked(writer: Writer, name: str, shown: Rule) -> str:
    if shown is True:
        return f'"{name}"'
    return f'CASE WHEN {_written(writer, shown)} THEN "{name}" END AS "{name}"'


def _written(writer: Writer, rule: Rule) -> str:
    return str(rule).lower() if isinstance(rule, bool) else writer.condition(rule)


def _places(model: ViewModel, column: ViewColumn) -> set[Place]:
    """Where the value of a column comes from; of SQL it is not known, so from everywhere that it reads."""
    if column.expression is None:
        return {((), column.name)} if column.name in model.key else {(path, "*") for path in model.paths}
    return set(references(column.expression))


def _exposed(model: ViewModel, path: Path) -> Mapping[str, str]:
    """Columns of the row that a path leads to which the view has as they are, with its names of them."""
    found: dict[str, str] = {} if path else {name: name for name in model.key}
    if any(edge.kind != "one" for edge in path):
        return {}  # of many rows there is no one to compare
    for column in model.columns:
        expression = column.expression
        if isinstance(expression, ColumnRef) and expression.path == path:
            found.setdefault(expression.column, column.name)
    return found


def _spelled(kind: ColumnType, value: Any) -> str | None:
    """A value of a claim as Postgres takes it for a column; None where it cannot be one."""
    if isinstance(value, bool):
        return ("true" if value else "false") if kind.kind == "bool" else None
    if isinstance(value, int) and kind.kind in ("int", "numeric"):
        value = str(value)
    if not isinstance(value, str) or kind.kind in ("bool", "json", "float"):
        return None
    try:
        return canonical(kind.kind, value)
    except ValueError:
        return None
