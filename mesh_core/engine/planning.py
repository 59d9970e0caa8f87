"""What a deploy would do: which versions are new, changed, unchanged, revived or unused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mesh_core.model.catalog import Catalog
from mesh_core.model.entity import EntityModel
from mesh_core.model.grants import GrantModel
from mesh_core.model.view_model import ViewModel
from mesh_core.store.versions import VersionRow

Kind = Literal["entity", "view", "grants"]
Change = Literal["new", "changed", "rebuilt", "revived", "annotated", "unchanged", "unused"]
MAX_SAID = 20
"""Differing grants that are said one by one."""
Name = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True)
class Planned:
    """What becomes of one entity or view.

    `new` and `changed` are built, `rebuilt` too though their declaration is the same; `revived` is a previous version
    that was kept up, and only has to be swapped back; of what is `annotated` only the presentation differs, which needs
    no build. `details` say what differs, for people.
    """

    kind: Kind
    name: str
    change: Change
    details: tuple[str, ...] = ()
    live: VersionRow | None = None
    """What serves now."""
    revived: VersionRow | None = None

    @property
    def built(self) -> bool:
        """Whether a new version is filled."""
        return self.change in ("new", "changed", "rebuilt")


@dataclass(frozen=True)
class DeployPlan:
    """What becomes of every entity and view, in the order of the catalog, entities first."""

    steps: Sequence[Planned]
    presentations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is said of each view, by name."""
    grants: Collection[GrantModel] = ()
    """What roles may see."""
    by_name: Mapping[Name, Planned] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {(step.kind, step.name): step for step in self.steps})

    def to_json(self) -> list[dict[str, Any]]:
        """The steps as plain data, for the record."""
        return [
            {
                "kind": step.kind,
                "name": step.name,
                "change": step.change,
                "details": list(step.details),
                "live": step.live.relation if step.live else None,
            }
            for step in self.steps
        ]

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return any(step.built or step.change == "revived" for step in self.steps)


def plan(
    catalog: Catalog,
    rows: Iterable[VersionRow],
    rebuild: Collection[str] = (),
    granted: Collection[GrantModel] = (),
) -> DeployPlan:
    """What makes the versions in `rows`, and what is `granted`, match the catalog.

    `rebuild` names what is built anew all the same.
    """
    live: dict[Name, VersionRow] = {}
    previous: dict[Name, list[VersionRow]] = {}
    for row in rows:
        if row.state == "live":
            live[row.kind, row.name] = row
        elif row.state == "previous":
            previous.setdefault((row.kind, row.name), []).append(row)
    steps = [
        _entity(
            catalog, name, live.get(("entity", name)), previous.get(("entity", name), ()), name in rebuild
        )
        for name in catalog.entities
    ]
    reads = {step.name: _stays(step) for step in steps}
    steps += [
        _view(
            catalog, name, live.get(("view", name)), previous.get(("view", name), ()), reads, name in rebuild
        )
        for name in catalog.views
    ]
    known = {(step.kind, step.name) for step in steps}
    for (kind, name), row in live.items():
        if (kind, name) not in known:
            steps.append(Planned("entity" if kind == "entity" else "view", name, "unused", live=row))
    if said := grant_differences(granted, catalog.grants):
        steps.append(Planned("grants", "declared", "annotated", said))
    presentations = {name: view.presentation for name, view in catalog.views.items()}
    return DeployPlan(steps, presentations, catalog.grants)


def _stays(step: Planned) -> int | None:
    """The version that will serve, if it is there already."""
    row = step.revived or (None if step.built else step.live)
    return row.id if row is not None else None


def _entity(
    catalog: Catalog, name: str, live: VersionRow | None, previous: Iterable[VersionRow], anew: bool
) -> Planned:
    model, fingerprint = catalog.entities[name], catalog.fingerprint(name)
    if live is None:
        return Planned("entity", name, "new")
    if live.fingerprint == fingerprint:
        return Planned("entity", name, "rebuilt" if anew else "unchanged", live=live)
    details = entity_differences(EntityModel.from_json(live.declaration), model)
    revived = next((row for row in previous if row.fingerprint == fingerprint), None)
    if revived is not None and not anew:
        return Planned("entity", name, "revived", details, live, revived)
    return Planned("entity", name, "changed", details, live)


def _view(
    catalog: Catalog,
    name: str,
    live: VersionRow | None,
    previous: Iterable[VersionRow],
    entities: Mapping[str, int | None],
    anew: bool,
) -> Planned:
    model, fingerprint = catalog.views[name], catalog.fingerprint(name)
    wanted = {entity: entities[entity] for entity in model.entities}

    def serves(row: VersionRow) -> bool:
        return row.fingerprint == fingerprint and dict(row.reads) == wanted

    if live is None:
        return Planned("view", name, "new")
    said = presentation_differences(live.presentation, model.presentation)
    if serves(live):
        change: Change = "rebuilt" if anew else "annotated" if said else "unchanged"
        return Planned("view", name, change, said, live)
    details = view_differences(ViewModel.from_json(live.declaration), model) + said
    replaced = sorted(entity for entity, id_ in wanted.items() if live.reads.get(entity) != id_)
    details += tuple(f"reads the new version of {entity}" for entity in replaced if entity in live.reads)
    revived = next((row for row in previous if serves(row)), None)
    if revived is not None and not anew:
        return Planned("view", name, "revived", details, live, revived)
    return Planned("view", name, "changed", details, live)


def entity_differences(before: EntityModel, after: EntityModel) -> tuple[str, ...]:
    """What differs between two declarations of an entity, for people."""
    said = _columns({c.name: c.type.sql for c in before.columns}, {c.name: c.type.sql for c in after.columns})
    if before.key != after.key:
        said.append(f"key is ({', '.join(after.key)}), was ({', '.join(before.key)})")
    old = {fold.contract.type for fold in before.folds}
    new = {fold.contract.type for fold in after.folds}
    said += [f"folds {kind}" for kind in sorted(new - old)]
    said += [f"no longer folds {kind}" for kind in sorted(old - new)]
    return tuple(said or ["what its events do"])


def view_differences(before: ViewModel, after: ViewModel) -> tuple[str, ...]:
    """What differs between two declarations of a view, for people; nothing if only what it reads changed."""
    said = _columns({c.name: c.type.sql for c in before.columns}, {c.name: c.type.sql for c in after.columns})
    old, new = before.to_json(), after.to_json()
    if before.root != after.root:
        said.append(f"rooted in {after.root}, was {before.root}")
    said += [f"reads {entity}" for entity in sorted(after.entities - before.entities)]
    said += [f"no longer reads {entity}" for entity in sorted(before.entities - after.entities)]
    said += [f"index on {', '.join(index)} is new" for index in after.indexes if index not in before.indexes]
    said += [f"index on {', '.join(index)} goes" for index in before.indexes if index not in after.indexes]
    if not said and old != new:
        said.append("how it is computed")
    return tuple(said)


def grant_differences(before: Collection[GrantModel], after: Collection[GrantModel]) -> tuple[str, ...]:
    """Of which resources roles are granted something else than before, for people."""
    old, new = set(before), set(after)
    said = []
    for role, resource in sorted({(made.role, made.resource) for made in old ^ new}):
        was, comes = (
            any((made.role, made.resource) == (role, resource) for made in grants) for grants in (old, new)
        )
        said.append(
            f"{role} {'sees other parts of' if was and comes else 'loses' if was else 'gets'} {resource}"
        )
    return tuple(said) if len(said) <= MAX_SAID else (*said[:MAX_SAID], f"and {len(said) - MAX_SAID} more")


def presentation_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two presentations of a view, for people."""
    said = ["what is said of it"] if before.get("doc") != after.get("doc") else []
    old, new = before.get("columns", {}), after.get("columns", {})
    said += [f"what is said of {name}" for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if before.get("cache") != after.get("cache"):
        level, was = (told.get("cache") or "no-cache" for told in (after, before))
        said.append(f"cache level is {level}, was {was}")
    return tuple(said)


def _columns(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    said = [f"column {name} is new" for name in after if name not in before]
    said += [f"column {name} goes" for name in before if name not in after]
    said += [
        f"column {name} is {after[name]}, was {before[name]}"
        for name in after
        if name in before and before[name] != after[name]
    ]
    return said
