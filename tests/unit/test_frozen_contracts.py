"""Published contracts: what lies frozen is what the classes say, and what would break somebody is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Never

import pytest
from pydantic import BaseModel, ConfigDict

from contracts import Command, Event, Money, fulfillment, order, payment
from contracts.freeze import Freezer, as_text, breaks, file_name, messages_of, schema_of
from contracts.message import Message
from contracts.schemas.__main__ import HERE, main

OWN = messages_of([order, payment, fulfillment])


@pytest.mark.parametrize("message", OWN, ids=file_name)
def test_a_published_contract_is_what_was_frozen(message: type[Message]) -> None:
    """Each message of ours has its schema on file, to the letter; `make schemas` writes what is new."""
    assert (HERE / file_name(message)).read_text("utf-8") == as_text(schema_of(message))


def test_nothing_published_is_forgotten() -> None:
    """Every schema on file belongs to a class, and every module's messages are on file."""
    assert (
        {
            "fulfillment.completed.v1.json",
            "fulfillment.failed.v1.json",
            "order.cancel.v1.json",
            "order.canceled.v1.json",
            "order.cancellation_requested.v1.json",
            "order.confirm.v1.json",
            "order.confirmed.v1.json",
            "order.created.v1.json",
            "order.rejected.v1.json",
            "payment.authorize.v1.json",
            "payment.authorized.v1.json",
            "payment.capture.v1.json",
            "payment.captured.v1.json",
            "payment.failed.v1.json",
            "payment.refund.v1.json",
            "payment.refunded.v1.json",
            "payment.void.v1.json",
            "payment.voided.v1.json",
        }
        == {path.name for path in HERE.glob("*.json")}
        == {file_name(message) for message in OWN}
    )


def test_a_schema_says_what_json_schema_has_no_word_for() -> None:
    """Kind, key and answers are part of a contract too."""
    frozen = json.loads((HERE / "payment.authorize.v1.json").read_text("utf-8"))
    assert "urn:amends:payment.authorize:v1" == frozen["$id"]
    assert {
        "kind": "command",
        "key": "order_id",
        "answers": ["payment.authorized", "payment.failed"],
    } == frozen["x-amends"]
    assert {"kind": "event", "key": "order_id"} == schema_of(order.OrderCreated)["x-amends"]


# -- what breaks somebody ------------------------------------------------------------------------------------


class Place(BaseModel):
    """Where a parcel is."""

    model_config = ConfigDict(extra="forbid")

    city: str


class Preciser(BaseModel):
    """Where a parcel is, and more."""

    model_config = ConfigDict(extra="forbid")

    city: str
    street: str = ""


class Box(BaseModel):
    """A box, and what is in it."""

    label: str
    inside: list[Box] = []


class Crate(BaseModel):
    """A box by another name."""

    label: int
    inside: list[Crate] = []


class Sent(Event, type="parcel.sent", key="parcel"):
    """As it was published."""

    parcel: str
    weight: int
    note: str = ""


class Sameness(Event, type="parcel.sent", key="parcel"):
    """Other words about the same."""

    parcel: str
    weight: int
    note: str = ""


class Grown(Event, type="parcel.sent", key="parcel"):
    """One more optional field."""

    parcel: str
    weight: int
    note: str = ""
    color: str | None = None


class Shrunk(Event, type="parcel.sent", key="parcel"):
    """A field less."""

    parcel: str
    note: str = ""


class Demanding(Event, type="parcel.sent", key="parcel"):
    """One more required field."""

    parcel: str
    weight: int
    color: str
    note: str = ""


class Stricter(Event, type="parcel.sent", key="parcel"):
    """What was optional is required."""

    parcel: str
    weight: int
    note: str


class Laxer(Event, type="parcel.sent", key="parcel"):
    """What was required is optional."""

    parcel: str
    weight: int = 0
    note: str = ""


class Otherwise(Event, type="parcel.sent", key="parcel"):
    """Another type and another default."""

    parcel: str
    weight: str
    note: str = "-"


class Reordered(Event, type="parcel.sent", key="note"):
    """Ordered by something else."""

    parcel: str
    weight: int
    note: str = ""


class Lost(Event, type="parcel.lost"):
    """An answer."""


class Send(Command[Sent, Never], type="parcel.send"):
    """A command."""

    where: Place


class SendOrLose(Command[Sent, Lost], type="parcel.send"):
    """The same with another answer."""

    where: Place


class SendPrecisely(Command[Sent, Never], type="parcel.send"):
    """The same with more inside."""

    where: Preciser


class Stacked(Event, type="parcel.stacked"):
    """A recursive contract."""

    box: Box


class StackedOtherwise(Event, type="parcel.stacked"):
    """Another one."""

    box: Crate


@pytest.mark.parametrize(
    ("published", "today", "said"),
    [
        (Sent, Sent, []),
        (Sent, Sameness, []),
        (Sent, Grown, []),
        (Sent, Shrunk, ["weight is gone"]),
        (Grown, Sent, ["color is gone"]),
        (Sent, Demanding, ["color is new and required, but older messages lack it"]),
        (Sent, Stricter, ["note was optional and is required, but older messages may lack it"]),
        (Sent, Laxer, ["weight was required and is optional, but older readers insist on it"]),
        (
            Sent,
            Otherwise,
            ['weight.type was "integer" and is "string"', 'note.default was "" and is "-"'],
        ),
        (Sent, Reordered, ['x-amends.key was "parcel" and is "note"']),
        (Send, SendOrLose, ['x-amends.answers was ["parcel.sent"] and is ["parcel.sent", "parcel.lost"]']),
        (Send, SendPrecisely, ["where.street is new, but older readers refuse fields they do not know"]),
        (Stacked, Stacked, []),
        (Stacked, StackedOtherwise, ['box.label.type was "string" and is "integer"']),
    ],
)
def test_what_breaks_a_reader_or_a_writer_is_told(published: Any, today: Any, said: list[str]) -> None:
    """A published contract only ever grows by optional fields, where its readers do not mind."""
    assert said == breaks(schema_of(published), schema_of(today))


# -- the program ---------------------------------------------------------------------------------------------


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the team's module anew with the given messages."""

    def make(*messages: type[Message]) -> str:
        made = ModuleType("shop_contracts")
        for message in messages:
            monkeypatch.setattr(message, "__module__", "shop_contracts")
            setattr(made, message.__name__, message)
        monkeypatch.setitem(sys.modules, "shop_contracts", made)
        return "shop_contracts"

    return make


def test_our_own_contracts_are_frozen(capsys: pytest.CaptureFixture[str]) -> None:
    """The program that CI runs has nothing to say."""
    assert 0 == main(["--check"])
    assert ("", "") == capsys.readouterr()


def test_new_versions_are_frozen_and_grown_ones_refreshed(
    shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing is written, and what has grown by an optional field is written again."""
    directory = ["--directory", str(tmp_path)]
    assert 0 == main([shop(Sent, Lost), *directory])
    assert "frozen: parcel.lost.v1.json\nfrozen: parcel.sent.v1.json\n" == capsys.readouterr().out
    assert json.loads((tmp_path / "parcel.sent.v1.json").read_text("utf-8")) == schema_of(Sent)
    assert 0 == main([shop(Grown, Lost), *directory])
    assert "frozen: parcel.sent.v1.json\n" == capsys.readouterr().out
    assert 0 == main([shop(Grown, Lost), *directory])
    assert "" == capsys.readouterr().out


def test_a_check_writes_nothing(shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It fails where something is not frozen, and says what to run."""
    assert 1 == main([shop(Sent), "--directory", str(tmp_path), "--check"])
    assert "not frozen: parcel.sent.v1.json; run python -m contracts.schemas\n" == capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())


def test_a_breaking_change_is_refused_and_nothing_is_written(
    shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal names the file, the field and the way out."""
    main([shop(Sent), "--directory", str(tmp_path)])
    before = (tmp_path / "parcel.sent.v1.json").read_text("utf-8")
    capsys.readouterr()
    assert 1 == main([shop(Shrunk, Lost), "--directory", str(tmp_path)])
    assert (
        "refused: parcel.sent.v1.json: weight is gone; restore it, or leave Shrunk as it was and make a class with "
        "version=2 and an upcaster\n"
    ) == capsys.readouterr().err
    assert before == (tmp_path / "parcel.sent.v1.json").read_text("utf-8")
    assert not (tmp_path / "parcel.lost.v1.json").exists()


def test_a_message_that_is_gone_is_refused(shop: Any, tmp_path: Path) -> None:
    """Somebody may still hold one."""
    main([shop(Sent, Lost), "--directory", str(tmp_path)])
    shop(Lost)
    assert [
        (
            "parcel.sent.v1.json: no class speaks this any more, but messages of it may still be on their way; "
            "keep the class and add an upcaster"
        )
    ] == Freezer(tmp_path, [Lost]).refusals()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shop_contracts"], "say with --directory where the schemas of these modules lie"),
        (["--directory", "nowhere/at/all"], "nowhere/at/all is no directory; create it first"),
        (["no_such_module", "--directory", "."], "No module named 'no_such_module'; name an importable module"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2 and a sentence."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert 2 == ended.value.code
    assert capsys.readouterr().err.endswith(f"error: {said}\n")


def test_imported_messages_belong_to_their_own_module() -> None:
    """A module that mentions another's message does not publish it; money is no message."""
    assert {"fulfillment.completed", "fulfillment.failed"} == {each.wire_type for each in messages_of([fulfillment])}
    assert not issubclass(Money, Message)
