"""The messages services exchange: pydantic models, pure, shared by everyone.

Import a message class from its own module (`contracts.order`, `contracts.payment`,
`contracts.fulfillment`) and the vocabulary they are built from, from here.
"""

from contracts.marks import SENSITIVE, Carried, Personal, Sensitive
from contracts.message import Command, Event, Message
from contracts.money import Money
from contracts.registry import InvalidMessage, Registry, UnknownMessage, Upcaster
from contracts.withheld import Erased, Sealed, Withheld

__all__ = [
    "SENSITIVE",
    "Carried",
    "Command",
    "Erased",
    "Event",
    "InvalidMessage",
    "Message",
    "Money",
    "Personal",
    "Registry",
    "Sealed",
    "Sensitive",
    "UnknownMessage",
    "Upcaster",
    "Withheld",
]
