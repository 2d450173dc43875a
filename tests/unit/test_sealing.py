"""Sealing and opening: a value opens with its subject's key, where it was sealed, unchanged; else it never does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import model_validator

from contracts import Erased, Event, Personal, Registry, Sealed, Sensitive, Upcaster, Withheld
from contracts.message import Message
from contracts.places import Misplaced
from contracts.withheld import ERASED
from messaging.envelope import Envelope
from messaging.keys import decoded, encoded
from messaging.memory_keys import MemoryKeys
from messaging.received import Received
from messaging.sealing import (
    Sealing,
    Unopenable,
    UnusableSubject,
    authenticated,
    hiding,
    in_plain_text,
    sealing_in_a_thread,
)
from messaging.subject_keys import KeysUnavailable
from tests.contract.messaging.bench import NOON
from tests.unit.mailing import Ordered, Parcel, SendReceipt

ORDER = UUID("1b4e28ba-2fa1-41d2-883f-0016d3cca427")
ADA = Ordered(
    order_id=ORDER, customer_id="ada", email="ada@example.com", parcels=(Parcel(weight=3, recipient="Bo Cy"),)
)
REGISTRY = Registry([Ordered, SendReceipt])


def _keys() -> MemoryKeys:
    numbers, firsts = iter(range(1, 100)), iter(range(100))
    return MemoryKeys(
        random=lambda size: bytes(range(first := next(firsts), first + size)), name=lambda: f"key-{next(numbers)}"
    )


def _sealing(keys: MemoryKeys) -> Sealing:
    return Sealing(keys, nonce=lambda size: b"\1" * size)


async def _written(keys: MemoryKeys, *messages: Message) -> list[dict[str, Any]]:
    return [json.loads(each) for each in await _sealing(keys).written(messages)]


def _received(kind: type[Message], data: dict[str, Any], number: int = 1, registry: Registry = REGISTRY) -> Received:
    envelope = Envelope(UUID(int=number), kind.wire_type, kind.wire_version, "shop", NOON)
    message = registry.opened_later().parse(kind.wire_type, kind.wire_version, data)
    return Received(envelope, message, data, json.dumps(data), "q")


async def _opened(keys: MemoryKeys, *received: Received) -> Sequence[Received | Unopenable]:
    return await _sealing(keys).opened(received, REGISTRY)


async def _why(keys: MemoryKeys, kind: type[Message], data: dict[str, Any]) -> str:
    (found,) = await _opened(keys, _received(kind, data))
    assert isinstance(found, Unopenable)
    return str(found)


async def test_what_is_written_holds_no_plain_value_and_opens_again() -> None:
    """What is not marked stays as it is; the rest is as before for who has the key."""
    keys = _keys()
    (data,) = await _written(keys, ADA)
    assert data | {"email": "", "parcels": []} == {
        "order_id": str(ORDER),
        "customer_id": "ada",
        "email": "",
        "phone": None,
        "parcels": [],
        "greeting": "hello",
    }
    assert data["email"] | {"data": ""} == {
        "$sealed": "1",
        "type": "shop.ordered",
        "field": "email",
        "key": "key-1",
        "nonce": "AQEBAQEBAQEBAQEB",
        "data": "",
    }
    assert (data["parcels"][0]["weight"], data["parcels"][0]["recipient"]["field"]) == (3, "parcels.*.recipient")
    assert "ada@" not in json.dumps(data)
    assert "Bo Cy" not in json.dumps(data)
    (found,) = await _opened(keys, _received(Ordered, data))
    assert isinstance(found, Received)
    assert ADA == found.message
    assert ("ada@example.com", "Bo Cy") == found.secrets


async def test_the_form_of_a_token_is_what_the_page_says() -> None:
    """AES-256-GCM over the value's JSON; what it is bound to are four texts, each after its length in four bytes."""
    (data,) = await _written(_keys(), ADA)
    bound = b"\0\0\0\x0famends-sealed-1\0\0\0\x03ada\0\0\0\x0cshop.ordered\0\0\0\x05email"
    assert bound == authenticated("ada", "shop.ordered", "email")
    said = AESGCM(bytes(range(32))).decrypt(b"\1" * 12, decoded(data["email"]["data"]), bound)
    assert b'"ada@example.com"               ' == said
    assert len(said) == 32


async def test_the_length_of_a_token_tells_no_choice() -> None:
    """True from false, one word from another: what is short is as long as all that is."""

    class Chosen(Event, type="t.chosen", subject="who"):
        who: str
        what: Sensitive[bool | str]

    keys = _keys()
    chosen: list[bool | str] = [True, False, "", "no", "x" * 30]
    written = await _written(keys, *(Chosen(who="w", what=each) for each in chosen))
    assert {len(each["what"]["data"]) for each in written} == {64}
    registry = Registry([Chosen])
    received = [_received(Chosen, data, number, registry) for number, data in enumerate(written, 1)]
    opened = await _sealing(keys).opened(received, registry)
    assert [Chosen(who="w", what=each) for each in chosen] == [
        each.message for each in opened if isinstance(each, Received)
    ]


async def test_a_command_opens_what_was_carried_to_it() -> None:
    """A token that a saga has passed on is read where the contract says that it is carried."""
    keys = _keys()
    (data,) = await _written(keys, ADA)
    command = {"order_id": str(ORDER), "customer_id": "ada", "to": data["email"]}
    (found,) = await _opened(keys, _received(SendReceipt, command))
    assert isinstance(found, Received)
    assert SendReceipt(order_id=ORDER, customer_id="ada", to="ada@example.com") == found.message


async def test_a_token_that_was_moved_or_changed_does_not_open() -> None:
    """To another subject, from another place that it claims, or with a byte changed: it says so and quotes nothing."""
    keys = _keys()
    data, other = await _written(keys, ADA, ADA.model_copy(update={"customer_id": "bob"}))
    token = data["email"]
    lie = data["parcels"][0]["recipient"] | {"field": "email"}
    wrongs = [
        data | {"customer_id": "bob"},
        other | {"email": token},
        data | {"email": lie},
        data | {"email": token | {"data": ("A" if token["data"][0] != "A" else "B") + token["data"][1:]}},
        data | {"email": token | {"data": token["data"][:-2]}},
        data | {"email": token | {"nonce": "AAEBAQEBAQEBAQEB"}},
        data | {"email": token | {"nonce": "AAAA"}},
        data | {"email": token | {"key": "key-2"}},
        data | {"email": token | {"data": "A"}},
    ]
    for wrong in wrongs:
        told = await _why(keys, Ordered, wrong)
        assert told.startswith("what was sealed for shop.ordered ")
        assert "does not open here: it was changed, or sealed for another subject, type or field" in told
    told = await _why(keys, Ordered, data | {"email": token | {"key": "strange"}})
    assert "what was sealed for shop.ordered email names a key that was never made here" in told


@pytest.mark.parametrize("said", [b"ada@example.com", b"NaN", b'"\xff"', b""], ids=["text", "nan", "bytes", "empty"])
async def test_what_opens_and_is_no_json_harms_nobody(said: bytes) -> None:
    """Another program has sealed it wrongly: it is told as such, and quoted nowhere."""
    keys = _keys()
    (data,) = await _written(keys, ADA)
    bound = authenticated("ada", "shop.ordered", "email")
    data["email"]["data"] = encoded(AESGCM(bytes(range(32))).encrypt(b"\1" * 12, said, bound))
    assert "what was sealed for shop.ordered email opens, and is no JSON" in await _why(keys, Ordered, data)


async def test_what_is_erased_is_erased_for_everybody() -> None:
    """What was sealed before is gone, what is said of somebody afterwards is not written down; others are untouched."""
    keys = _keys()
    bob = ADA.model_copy(update={"customer_id": "bob"})
    before, of_bob = await _written(keys, ADA, bob)
    keys.erase("ada")
    (after,) = await _written(keys, ADA)
    assert after["email"] == {"$sealed": "1", "erased": True}
    found = await _opened(keys, _received(Ordered, before), _received(Ordered, after, 2), _received(Ordered, of_bob, 3))
    messages = [each.message for each in found if isinstance(each, Received)]
    gone = Ordered(
        order_id=ORDER,
        customer_id="ada",
        email=ERASED,
        parcels=(Parcel(weight=3, recipient=ERASED),),
    )
    assert [gone, gone, bob] == messages
    assert isinstance(messages[0], Ordered)
    assert isinstance(messages[0].email, Erased)
    (again,) = await _written(keys, gone)
    assert again["email"] == {"$sealed": "1", "erased": True}


async def test_keys_are_looked_for_once_whatever_the_number_of_messages() -> None:
    """One look to seal a batch, one to open it, none for what holds nothing sealed."""
    keys = _keys()
    orders = [ADA.model_copy(update={"customer_id": f"c{number}"}) for number in range(50)]
    written = await _written(keys, *orders)
    assert keys.looks == 1
    found = await _opened(keys, *(_received(Ordered, data, number) for number, data in enumerate(written, 1)))
    assert keys.looks == 2
    assert orders == [each.message for each in found if isinstance(each, Received)]
    plain = _received(Ordered, json.loads(ADA.model_dump_json()))
    assert [plain] == list(await _opened(keys, plain))
    assert keys.looks == 2


async def test_what_is_passed_on_stays_the_same_token() -> None:
    """A service that says again what it was told sealed does not seal it anew, and not where it would not open."""
    keys = _keys()
    (data,) = await _written(keys, ADA)
    token = Sealed(**{name: value for name, value in data["email"].items() if name != "$sealed"})
    (again,) = await _written(keys, ADA.model_copy(update={"email": token}))
    assert data["email"] == again["email"]
    with pytest.raises(Misplaced, match=r"what was sealed for shop\.ordered email does not open there"):
        await _written(keys, ADA.model_copy(update={"phone": token}))


@pytest.mark.parametrize("subject", ["", "x" * 201, "a\0b"], ids=["empty", "long", "nul"])
async def test_nobody_has_a_key_by_such_a_name(subject: str) -> None:
    """It is refused before anything is written."""
    with pytest.raises(UnusableSubject, match=r"shop\.ordered: its subject customer_id has"):
        await _written(_keys(), ADA.model_copy(update={"customer_id": subject}))


async def test_upcasters_get_what_was_opened() -> None:
    """Of an older version, too: its value where there is one, and `Erased` where there is none any more."""

    class First(Event, type="t.named", subject="who"):
        who: str
        name: Personal[str]

    class Second(Event, type="t.named", version=2, subject="who"):
        who: str
        first: Personal[str]

    def newer(old: First) -> Second:
        return Second(who=old.who, first=old.name if isinstance(old.name, Withheld) else old.name.split()[0])

    keys, registry = _keys(), Registry([], [Upcaster(First, Second, newer)])
    (data,) = await _written(keys, First(who="w", name="Ada Lovelace"))
    gone = {"who": "w", "name": {"$sealed": "1", "erased": True}}
    received = [_received(First, each, number, registry) for number, each in enumerate((data, gone), 1)]
    assert [First, First] == [type(each.message) for each in received]
    found = await _sealing(keys).opened(received, registry)
    assert [Second(who="w", first="Ada"), Second(who="w", first=ERASED)] == [
        each.message for each in found if isinstance(each, Received)
    ]


async def test_keys_that_are_away_are_nobodys_fault() -> None:
    """Who wants to seal or open is told, and tries again."""
    keys = _keys()
    (data,) = await _written(keys, ADA)
    keys.away = True
    with pytest.raises(KeysUnavailable):
        await _written(keys, ADA)
    with pytest.raises(KeysUnavailable):
        await _opened(keys, _received(Ordered, data))


async def test_what_was_opened_and_does_not_fit_quotes_nothing() -> None:
    """A value that was sealed under another contract is told by its place only."""

    class Counted(Event, type="t.counted", subject="who"):
        who: str
        number: Sensitive[int]

    class Told(Event, type="t.counted", subject="who"):
        who: str
        number: Sensitive[str]

    keys = _keys()
    (data,) = await _written(keys, Told(who="w", number="forty-two"))
    registry = Registry([Counted])
    (found,) = await _sealing(keys).opened([_received(Counted, data, registry=registry)], registry)
    assert isinstance(found, Unopenable)
    assert "what was sealed does not fit its contract: t.counted v1: number: Input should be a valid integer" in str(
        found
    )
    assert "forty" not in str(found)


def test_errors_quote_nothing_that_was_opened() -> None:
    """Whole, as Python writes it, or shortened by pydantic, asyncpg or PostgreSQL."""
    secrets = ("ada@example.com", "Ada", "O'Neil\\n")
    told = "ValueError: no ada@example.com of Ada [type=x, input_value='ada@exa...le.com', input_type=str] O'Neil\\n"
    assert "ValueError: no <sealed> of <sealed> [type=x, input_value=<sealed>, input_type=str] <sealed>" == hiding(
        told, secrets
    )
    told = "\n".join(
        (
            "invalid input for query argument $12: 'ada@exam... (not an integer (str))",
            "DETAIL:  Failing row contains (7, ada@exa, Lovelace Street (2)",
            "Lovelace...).",
            "while it was written",
        )
    )
    assert hiding(told, secrets).splitlines() == [
        "invalid input for query argument $12: <sealed> (str))",
        "DETAIL:  Failing row contains (<sealed>).",
        "while it was written",
    ]
    assert "as it is input_value=3, input_type=int" == hiding("as it is input_value=3, input_type=int", ())


async def test_a_program_without_a_loop_seals_in_a_thread() -> None:
    """Keys are fetched on a loop of their own; on that loop itself nobody can wait for it."""
    keys = _keys()

    def script() -> list[str]:
        with sealing_in_a_thread(lambda: keys) as sealing:
            return sealing.wait(sealing.written([ADA]))

    (text,) = await asyncio.to_thread(script)
    assert "ada@" not in text
    assert keys.looks == 1
    here = Sealing(keys, loop=asyncio.get_running_loop())
    with pytest.raises(RuntimeError, match="use an AsyncSession"):
        here.wait(here.written([ADA]))


async def test_a_store_is_closed_where_it_was_opened() -> None:
    """Its connections end with the loop that they belong to, and not when somebody finds them later."""
    closed: list[asyncio.AbstractEventLoop] = []

    class Store(MemoryKeys):
        async def close(self) -> None:
            closed.append(asyncio.get_running_loop())

    def script() -> None:
        with pytest.raises(ZeroDivisionError), sealing_in_a_thread(Store):
            raise ZeroDivisionError

    await asyncio.to_thread(script)
    (loop,) = closed
    assert loop.is_closed()


async def test_marks_without_a_subject_are_written_as_they_are() -> None:
    """A contract that names nobody is not sealed, also where there are keys."""

    class Plain(Event, type="t.plain"):
        name: Personal[str]

    keys = _keys()
    assert [{"name": "Ada"}] == await _written(keys, Plain(name="Ada"))
    assert keys.looks == 0


class Renamed(Event, type="shop.renamed", subject="customer_id"):
    """Read under two names."""

    customer_id: str
    email: Sensitive[str]

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"email": given.get("mail"), **given}


async def test_what_a_person_typed_is_sealed_with_all_that_its_contract_does_not_know() -> None:
    """What is given under a name that nobody writes is not found, and told; the rest of a message is sealed."""
    keys = _keys()
    typed = {"customer_id": "ada", "email": "ada@example.com", "loyalty": {"since": 2019}}
    rewritten = await _sealing(keys).rewritten(Renamed.model_validate(typed), typed)
    assert rewritten | {"email": ""} == typed | {"email": ""}
    assert rewritten["email"]["field"] == "email"
    assert in_plain_text(Renamed.model_validate(rewritten)) == []

    typed = {"customer_id": "ada", "mail": "ada@example.com"}
    rewritten = await _sealing(keys).rewritten(Renamed.model_validate(typed), typed)
    assert in_plain_text(Renamed.model_validate(rewritten)) == ["email"]
    assert in_plain_text(ADA) == ["email", "parcels.*.recipient"]
