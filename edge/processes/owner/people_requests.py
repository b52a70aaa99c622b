"""List, rename, ignore and remove people, and renew their templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from edge.config import Config
from edge.processes import register
from edge.processes.visit_memory import VisitMemory
from edge.provision.device.control_socket import ControlReply
from edge.provision.protocol import messages
from edge.provision.protocol.replies import Done, People, Person, Removed

_PAGE = 100  # most people in one reply


class PeopleRequests:
    """Handles the requests about enrolled people."""

    def __init__(self, config: Config, memory: VisitMemory) -> None:
        self._config, self._memory = config, memory

    def _list(self, request: messages.ListPeople) -> People:
        everybody = register.listing(self._config)
        page = everybody[request.start : request.start + _PAGE]
        return People(people=[person_of(person) for person in page], total=len(everybody))

    def _rename(self, request: messages.Rename) -> Done:
        renamed = register.rename(self._config, request.person, request.name)
        return Done(note=renamed.id)

    def _ignore(self, request: messages.Ignore) -> Done:
        register.set_ignored(self._config, request.person, ignored=request.ignored)
        return Done()

    def _remove(self, request: messages.Remove) -> Removed:
        erasure = register.remove(self._config, request.person)
        return Removed(person=erasure.person, generation=erasure.generation, key_destroyed=erasure.gone)

    def _renew(self, _: messages.Renew) -> Done:
        count = register.renew(self._config)
        return Done(note=f"{count} people have new templates; without the store key, no old copy can be linked to them")

    def _correct(self, request: messages.Correct) -> Done:
        return self._memory.correct(request)

    HANDLERS: ClassVar[Mapping[type[Any], Callable[..., ControlReply]]] = {
        messages.ListPeople: _list,
        messages.Rename: _rename,
        messages.Ignore: _ignore,
        messages.Remove: _remove,
        messages.Renew: _renew,
        messages.Correct: _correct,
    }


def person_of(public: Mapping[str, Any]) -> Person:
    """Return a person in the form of the protocol. `public`: the fields that may be shown."""
    fields = Person.__struct_fields__
    return msgspec.convert({field: public[field] for field in fields}, Person)
