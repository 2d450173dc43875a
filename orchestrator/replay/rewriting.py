"""Every place of a bundle where a value of somebody's may lie: what `Rewriter` makes of it, put in its place.

What the definition says and the machine reckons (types, steps, rounds, times) is nobody's and stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol
from uuid import UUID

from pydantic import BaseModel

from contracts.message import Message
from messaging.envelope import decode_stored
from orchestrator.replay.bundle import Bundle, ParkedMessage
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.saga.definition import Saga

Json = dict[str, Any]
_IDS = ("id", "correlationid", "causationid", "compensates")
_TEXTS = ("source", "partitionkey", "subject")


class Rewriter(Protocol):
    """What becomes of a value, by what kind of place it lies in."""

    def content(self, value: Any, model: type[BaseModel]) -> Any:
        """Of a message's data, or a saga's (parsed JSON)."""

    def words(self, text: str) -> str:
        """Of a text that may quote anything: a reason, a key, who acted."""

    def identity(self, text: str) -> str:
        """Of the id of a message or of the instance; `text` need not be a UUID."""


class UnknownContent(ValueError):
    """Something in a bundle is of no contract or kind that is known here: nobody can say what in it is sensitive."""


class Rewriting:
    """A bundle, part by part; raises UnknownContent where a message's contract or what a fact says is not known.

    `sagas` are the definitions by version: what a transition established, the one says that decided it.
    """

    def __init__(self, sagas: Mapping[int, Saga[Any]], rewriter: Rewriter) -> None:
        # An answer to a command of one version may come when the instance has another already.
        self._messages = {
            (each.wire_type, each.wire_version): each for saga in sagas.values() for each in saga.messages()
        }
        self._sagas = sagas
        self._newest = sagas[max(sagas)]
        self._rewriter = rewriter

    def bundle(self, bundle: Bundle) -> Bundle:
        """The whole of it but definition and schemas, which hold nobody's values."""
        return replace(
            bundle,
            recorded=self._recorded(bundle.recorded),
            parked=tuple(self._parked(each) for each in bundle.parked),
        )

    def _recorded(self, recorded: Recorded) -> Recorded:
        return replace(
            recorded,
            id=UUID(self._rewriter.identity(str(recorded.id))),
            key=self._rewriter.words(recorded.key),
            reason=self._rewriter.words(recorded.reason),
            data=_text(self._data(json.loads(recorded.data), recorded.version)),
            progress=_text(self._progress(json.loads(recorded.progress), recorded.version)),
            transitions=tuple(
                self.transition(each, version)
                for each, version in zip(recorded.transitions, recorded.versions(), strict=True)
            ),
        )

    def transition(self, line: RecordedTransition, version: int) -> RecordedTransition:
        """One line of the history, which this version of the saga decided."""
        return replace(
            line,
            input=_text(self._input(json.loads(line.input))),
            facts=_text([self._fact(each, version) for each in json.loads(line.facts)]),
            commands=_text([self._command(each) for each in json.loads(line.commands)]),
        )

    def _data(self, value: Any, version: int) -> Any:
        return None if value is None else self._rewriter.content(value, self._sagas[version].data)

    def _progress(self, progress: Json, version: int) -> Json:
        steps = {name: [*step[:5], self._data(step[5], version), *step[6:]] for name, step in progress["steps"].items()}
        return progress | {"reason_before": self._rewriter.words(progress["reason_before"]), "steps": steps}

    def _input(self, given: Json) -> Json:
        return self._message(given) | self._of(given, ("source", "who", "why"), ("message_id", "causation_id"))

    def _fact(self, fact: Json, version: int) -> Json:
        _check(fact)
        changed = self._of(fact, ("reason", "why"), ())
        if "data" in fact:
            changed["data"] = self._data(fact["data"], version)
        if "made_from" in fact:
            changed["made_from"] = {step: self._data(each, version) for step, each in fact["made_from"].items()}
        return fact | changed

    def _command(self, command: Json) -> Json:
        return self._message(command) | self._of(command, (), ("id", "compensates"))

    def _message(self, holder: Json) -> Json:
        if "type" not in holder:
            return holder
        model = self._model(holder["type"], holder["version"])
        return holder | {"data": self._rewriter.content(holder["data"], model)}

    def _of(self, holder: Json, texts: tuple[str, ...], identities: tuple[str, ...]) -> Json:
        told = {name: self._rewriter.words(holder[name]) for name in texts if holder.get(name)}
        return told | {name: self._rewriter.identity(holder[name]) for name in identities if holder.get(name)}

    def _parked(self, message: ParkedMessage) -> ParkedMessage:
        content: Json = json.loads(message.body)
        model = self._model(message.type, content.get("dataversion", 1))
        body = {name: value for name, value in content.items() if name in _KEPT} | {
            **self._of(content, _TEXTS, _IDS),
            "data": self._rewriter.content(content["data"], model),
        }
        text = _text(body)
        # A foreign id is no UUID: its message's is derived from it.
        identity = decode_stored(text)[0].id
        return replace(message, message_id=identity, body=text, reason=self._rewriter.words(message.reason))

    def _model(self, wire_type: str, version: int) -> type[Message]:
        model = self._messages.get((wire_type, version))
        if model is None:
            raise UnknownContent(
                f"it holds {wire_type} v{version}, which {self._newest!r} does not hear or send here; where that "
                "announces its end, say in the function's annotation what it returns"
            )
        return model


# What else an envelope may say is in no contract: it is left out.
_KEPT = frozenset(
    {"specversion", "type", "time", "datacontenttype", "dataversion", "dataschema", "traceparent", *_IDS, *_TEXTS}
)


FACTS = {
    "started": ("data",),
    "data_changed": ("data",),
    "command_sent": ("step", "direction", "round", "attempt", "due"),
    "wait_begun": ("step", "due"),
    "step_succeeded": ("step",),
    "step_skipped": ("step",),
    "step_refused": ("step",),
    "step_in_doubt": ("step",),
    "step_compensated": ("step",),
    "compensation_begun": ("reason",),
    "became_stuck": ("reason", "gave_up"),
    "resumed": (),
    "deadline_moved": ("step", "due"),
    "migrated": ("from_version", "to_version", "data", "renamed", "made_from"),
    "completed": (),
    "compensated": (),
    "abandoned": ("reason",),
    "came_late": ("why",),
}
"""What each kind of fact says. `Rewriting` puts something in the place of data, made_from, reason and why; the rest is
nobody's."""


def _check(fact: Json) -> None:
    """Raises UnknownContent where a fact says what is not enumerated here."""
    kind = fact["fact"]
    if kind not in FACTS:
        raise UnknownContent(f"it holds a fact {kind}, which this version of Amends does not know")
    unknown = sorted(fact.keys() - {"fact", *FACTS[kind]})
    if unknown:
        raise UnknownContent(f"its fact {kind} says {', '.join(unknown)}, which this version of Amends does not know")


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
