"""The messages services exchange: pydantic models, pure, shared by everyone.

Import a message class from its own module (`contracts.order`, `contracts.payment`,
`contracts.fulfillment`) and the vocabulary they are built from, from here.
"""

from contracts.message import Command, Event, Message
from contracts.money import Money
from contracts.registry import InvalidMessage, Registry, UnknownMessage, Upcaster
from contracts.sensitive import SENSITIVE, Sensitive

__all__ = [
    "SENSITIVE",
    "Command",
    "Event",
    "InvalidMessage",
    "Message",
    "Money",
    "Registry",
    "Sensitive",
    "UnknownMessage",
    "Upcaster",
]
