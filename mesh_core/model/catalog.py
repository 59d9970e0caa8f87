"""The catalog: everything declared, as plain data, checked as a whole."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from mesh_core.model.builtin import BUILT_IN_ENTITIES, BUILT_IN_EVENTS
from mesh_core.model.entity import Entity, EntityModel
from mesh_core.model.errors import DeclarationError
from mesh_core.model.event import Contract, Event
from mesh_core.model.grants import Grant, GrantModel, check_grant, sorted_grants
from mesh_core.model.view import CustomView, View
from mesh_core.model.view_data import view_from_data
from mesh_core.model.view_model import ViewModel

MAX_DECLARATION = 500_000
"""Bytes of a registered declaration; the event that carries it has at most 1 MiB."""


@dataclass(frozen=True)
class Catalog:
    """Contracts by event type, entities by `service.entity`, views by name; the built-in ones included."""

    contracts: Mapping[str, Contract] = field(default_factory=dict)
    entities: Mapping[str, EntityModel] = field(default_factory=dict)
    views: Mapping[str, ViewModel] = field(default_factory=dict)
    grants: tuple[GrantModel, ...] = ()
    """What roles may see, in no order that matters."""

    @classmethod
    def of(
        cls,
        events: Iterable[type[Event]] = (),
        entities: Iterable[type[Entity]] = (),
        views: Iterable[View[Any] | CustomView[Any]] = (),
        grants: Iterable[Grant] = (),
    ) -> Catalog:
        """The catalog of these declarations. Raises DeclarationError on what contradicts each other."""
        contracts: dict[str, Contract] = {}
        models: dict[str, EntityModel] = {}
        view_models: dict[str, ViewModel] = {}
        for event in (*BUILT_IN_EVENTS, *events):
            _add("event", contracts, event.type, event.contract)
        for entity in (*BUILT_IN_ENTITIES, *entities):
            _add("entity", models, entity.model.name, entity.model)
            for fold in entity.model.folds:
                _add("event", contracts, fold.contract.type, fold.contract)
        for view in views:
            _add("view", view_models, view.model.name, view.model)
            _check_place(view.model, models)
        _check_topics(contracts.values())
        made = sorted_grants([each.model for each in grants])
        for grant in made:
            check_grant(grant, models, view_models)
        return cls(contracts, models, view_models, made)

    def registrable(self, name: str, data: Any) -> ViewModel:
        """The view that `data` declares, which can be registered under `name` beside what the code declares.

        Raises DeclarationError.
        """
        if name in self.views:
            raise DeclarationError(
                f"View {name} is declared in the code.", remedy="Change it there, or register another name."
            )
        model = self.view_of(data)
        _check_name(name, model)
        if (length := len(json.dumps(model.to_document()))) > MAX_DECLARATION:
            raise DeclarationError(
                f"{name}: with all that is derived the declaration has {length:,} bytes; at most {MAX_DECLARATION:,}.",
                remedy="Make two views of it.",
            )
        return model

    def view_of(self, data: Any) -> ViewModel:
        """The view that `data` declares over these entities, all checked. Raises DeclarationError.

        `to_document` of a view is such data; `mesh_core.model.view_data` says what can be left out.
        """
        model = view_from_data(data, self.entities)
        _check_place(model, self.entities)
        return model

    def with_registered(self, declarations: Mapping[str, Any]) -> Catalog:
        """With the views that are registered as data, by name. Raises DeclarationError naming the one that cannot work.

        What a registration says of types is derived anew, as it is of a declaration in code.
        """
        views = dict(self.views)
        for name, data in declarations.items():
            try:
                model = view_from_data(data, self.entities, types_as_told=False)
                _check_name(name, model)
                _check_place(model, self.entities)
                _add("view", views, name, model, lambda view: [view.to_json(), view.presentation])
            except DeclarationError as error:
                raise DeclarationError(
                    f"The registered view {name} does not fit what the code declares: {error.args[0]}",
                    remedy=f"{error.remedy} PUT or DELETE /v1/admin/views/{name} corrects or removes it.".strip(),
                ) from error
        return replace(self, views=views)

    @classmethod
    def load(cls, modules: str) -> Catalog:
        """The catalog of comma-separated importable modules, packages with all that is inside them.

        Raises DeclarationError when a module cannot be imported or declares what cannot work.
        """
        names = filter(None, (part.strip() for part in modules.split(",")))
        return cls._of_modules(module for name in names for module in _modules(name))

    @classmethod
    def of_file(cls, path: Path) -> Catalog:
        """The catalog of what a Python file declares or imports, and of the entities that its views read.

        Raises DeclarationError when it cannot be run or declares what cannot work.
        """
        if not path.is_file():
            raise DeclarationError(f"There is no file {path}.")
        if "" not in sys.path:
            sys.path.insert(0, "")
        name = f"declared_in_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise DeclarationError(f"{path} is no Python file.", remedy="Give one whose name ends in .py.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        with _readably(f"The file {path}", "Check what it imports, and the folder you are in."):
            spec.loader.exec_module(module)
        return cls._of_modules([module], reached=True)

    @classmethod
    def _of_modules(cls, modules: Iterable[ModuleType], *, reached: bool = False) -> Catalog:
        """What modules declare, and with `reached` the entities that their views read, wherever these are declared."""
        events: dict[type[Event], None] = {}
        entities: dict[type[Entity], None] = {}
        views: dict[View[Any] | CustomView[Any], None] = {}
        grants: dict[Grant, None] = {}
        for module in modules:
            declared: list[Any] = list(vars(module).values())
            for value in (
                *declared,
                *chain(*(each for each in declared if isinstance(each, list | tuple))),
            ):
                if isinstance(value, type) and issubclass(value, Event) and hasattr(value, "type"):
                    events[value] = None
                elif isinstance(value, type) and issubclass(value, Entity) and value is not Entity:
                    entities[value] = None
                elif isinstance(value, View | CustomView):
                    views[value] = None
                elif isinstance(value, Grant):
                    grants[value] = None
        if reached:
            read = {name for view in views for name in view.model.entities}
            known = {entity.model.name for entity in entities}
            for entity in Entity.__subclasses__():
                name = entity.model.name
                if name in read and name not in known and Entity.models[name] is entity.model:
                    entities[entity] = None
        built_in: set[Any] = {*BUILT_IN_EVENTS, *BUILT_IN_ENTITIES}
        return cls.of(
            [e for e in events if e not in built_in],
            [e for e in entities if e not in built_in],
            views,
            grants,
        )

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that feed at least one entity, sorted."""
        return tuple(sorted({entity.topic for entity in self.entities.values()}))

    def fingerprint(self, name: str) -> str:
        """A digest of an entity or view and all that it reads, documentation excluded."""
        if name in self.entities:
            return digest(self.entities[name].to_json())
        view = self.views[name]
        return digest([view.to_json(), [self.entities[entity].to_json() for entity in sorted(view.entities)]])


def digest(data: Any) -> str:
    """SHA-256 of canonical JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_topics(contracts: Iterable[Contract]) -> None:
    """Whether the records of each topic are read in one way. Raises DeclarationError."""
    found: dict[str, Contract] = {}
    for contract in contracts:
        first = found.setdefault(contract.topic, contract)
        if first.foreign != contract.foreign:
            raise DeclarationError(
                f"{first.type} and {contract.type} read the records of {contract.topic} in different ways.",
                remedy="Declare the topic once, with the types of all its events.",
            )


def _check_name(name: str, view: ViewModel) -> None:
    if view.name != name:
        raise DeclarationError(f"The declaration is of {view.name}, not of {name}.")


def _check_place(view: ViewModel, entities: Mapping[str, EntityModel]) -> None:
    """Whether a view can stand beside these entities. Raises DeclarationError."""
    for entity in entities.values():
        if entity.table == view.name:
            raise DeclarationError(
                f"View {view.name} has the name of the entity {entity.name}.", remedy="Rename the view."
            )
    if missing := view.entities - set(entities):
        raise DeclarationError(
            f"View {view.name} reads {', '.join(sorted(missing))}, which the catalog does not have."
        )


def _add(
    what: str,
    found: dict[str, Any],
    name: str,
    model: Any,
    content: Callable[[Any], Any] = lambda model: model,
) -> None:
    known = found.setdefault(name, model)
    if known is not model and content(known) != content(model):
        raise DeclarationError(
            f"The {what} {name} is declared twice, differently.", remedy="Keep one of them."
        )


def _modules(name: str) -> list[ModuleType]:
    if "" not in sys.path:
        sys.path.insert(0, "")
    module = _imported(name)
    found = [module]
    if hasattr(module, "__path__"):
        for info in pkgutil.walk_packages(module.__path__, f"{name}."):
            if not info.name.rpartition(".")[2].startswith("test_"):  # tests may lie beside declarations
                found.append(_imported(info.name))
    return found


def _imported(name: str) -> ModuleType:
    with _readably(f"The catalog module {name}", "Check MESH_CATALOG and the folder you are in."):
        return importlib.import_module(name)


@contextmanager
def _readably(what: str, remedy: str) -> Iterator[None]:
    """In one sentence why declarations cannot be had: whatever one raises is its author's to see."""
    try:
        yield
    except DeclarationError as error:
        if where := _declared_at(error):
            error.args = (f"{where}: {error.args[0]}", *error.args[1:])
        raise
    except ModuleNotFoundError as error:
        raise DeclarationError(
            f"{what} cannot be imported: {error}.",
            remedy=remedy,
        ) from error
    except Exception as error:
        if isinstance(error, SyntaxError):
            file, line, said = error.filename or what, error.lineno, error.msg
        else:
            last = traceback.extract_tb(error.__traceback__)[-1]
            file, line, said = last.filename, last.lineno, str(error)
        raised = f"{type(error).__name__}: {said.rstrip('.?')}"
        raise DeclarationError(
            f"{what} cannot be loaded: {_shown(Path(file))}, line {line}: {raised}."
        ) from error


def _declared_at(error: BaseException) -> str:
    """The file and line whose declaration raised this: the last that is not ours."""
    ours = Path(__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if ours not in file.parents and file.is_file() and "importlib" not in file.parts:
            return f"{_shown(file)}, line {frame.lineno}"
    return ""


def _shown(file: Path) -> Path:
    """The path of a file, from the working directory on if it is below it."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file
