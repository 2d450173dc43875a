"""Signatures on messages: what they hold, whom they let in, and the keys that they are made with."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Never
from uuid import UUID

import pytest
from typer.testing import CliRunner

from contracts.message import Command, Event
from contracts.money import Money
from contracts.order import OrderCreated
from contracts.registry import Registry
from messaging import keys
from messaging.bus import Answers, Delivery, Outgoing, Receipt
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.keys import PrivateKey, UnusableKey
from messaging.memory import MemoryBroker, MemoryBus
from messaging.outbox_rows import as_message, outgoing
from messaging.process import BadConfiguration, bus_of, load
from messaging.received import Received, Unreadable, read
from messaging.senders import Senders
from messaging.settings import ServiceSettings
from messaging.signing import KEY_HEADER, SIGNATURE_HEADER, Signer, SigningBus, Verifier
from orchestrator.catalog import Catalog
from orchestrator.cli.app import app
from orchestrator.letters import Letter, State
from orchestrator.redriving import Undeliverable, again
from orchestrator.routing import Router
from orchestrator.sagas.fulfill_order import FULFILL_ORDER
from orchestrator.sharding import Placement
from tests.signatures import delivered, publish

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MESSAGE = UUID("018e0000-0000-7000-8000-000000000001")


class Painted(Event, type="fence.painted"):
    color: str


class Paint(Command[Painted, Never], type="fence.paint"):
    color: str


REGISTRY = Registry([Painted, Paint])
FENCE, SHED, ORCHESTRATOR = keys.new("fence"), keys.new("shed"), keys.new("orchestrator")


def _message(said: Event | Command[Painted, Never], source: str = "fence") -> Outgoing:
    envelope = Envelope(MESSAGE, said.wire_type, said.wire_version, source, NOON)
    return as_message(outgoing(said, envelope))


PAINTED = _message(Painted(color="red"))
PAINT = _message(Paint(color="red"), "orchestrator")


def _senders(*known: PrivateKey, now: datetime = NOON, retired: datetime | None = None) -> Senders:
    public = {key.id: replace(key.public_half, retired=retired) for key in known}
    return Senders(signatures=Verifier(public, lambda: now), by_user=False)


EVERYBODY = _senders(FENCE, SHED, ORCHESTRATOR)


def _refused(delivery: Delivery, senders: Senders = EVERYBODY) -> tuple[str, str]:
    found = read(delivery, REGISTRY, senders)
    assert isinstance(found, Unreadable), found
    assert found.envelope is not None
    return found.reason, found.error


@pytest.mark.parametrize(
    ("message", "key"),
    [(PAINTED, FENCE), (PAINT, ORCHESTRATOR), (PAINTED, ORCHESTRATOR)],
    ids=["event", "command", "another's event"],
)
def test_what_its_sender_has_signed_is_read(message: Outgoing, key: PrivateKey) -> None:
    """An event by its service, a command by the orchestrator, which may say everything."""
    assert isinstance(read(delivered(message, key), REGISTRY, EVERYBODY), Received)


WRONG = "its body, type, id or source is not what was signed"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"body": PAINTED.body.replace(b"red", b"tan")}, WRONG),
        ({"body": PAINTED.body.replace(b":{", b": {")}, WRONG),
        ({"type": "fence.paint"}, WRONG),
        ({"message_id": "018e0000-0000-7000-8000-000000000002"}, WRONG),
        ({"app_id": "shed"}, WRONG),
        ({"type": None}, WRONG),
        ({"headers": {KEY_HEADER: SHED.id}}, WRONG),
        ({"headers": {SIGNATURE_HEADER: "AAAA"}}, WRONG),
        ({"headers": {SIGNATURE_HEADER: "\u00fc"}}, WRONG),
        ({"headers": {SIGNATURE_HEADER: 7}}, "its signature is not two texts, amends-key and amends-signature"),
        ({"headers": {KEY_HEADER: "mine"}}, "signed with the key 'mine', which is not among the public keys here"),
    ],
)
def test_what_is_not_as_it_was_signed_is_refused(changed: dict[str, object], why: str) -> None:
    """Not a byte of the body may differ, nor what broker tools show of it."""
    genuine = delivered(PAINTED, FENCE)
    if isinstance(headers := changed.get("headers"), dict):
        changed = {"headers": {**genuine.headers, **headers}}
    reason, said = _refused(replace(genuine, **changed))  # type: ignore[arg-type]  # a field's name and value each

    assert (reason, why in said) == ("bad_signature", True), said


def test_what_is_not_signed_is_refused_whichever_way_it_comes() -> None:
    """Also where a native message has a signature: what it says would stand outside of what is signed."""
    assert _refused(delivered(PAINTED, None)) == ("bad_signature", "it is not signed")
    native = Delivery(queue="q", tag=1, body=b'{"color":"red"}', exchange="amends.events", routing_key="fence.painted")
    assert _refused(replace(native, type="fence.painted", message_id="1")) == ("bad_signature", "it is not signed")

    bare = replace(PAINTED, body=b'{"color":"red"}', content_type="application/json")
    reason, why = _refused(delivered(bare, FENCE))
    assert reason == "bad_signature"
    assert why.startswith("it is signed, but no structured CloudEvent")


def test_a_key_speaks_for_its_service_only() -> None:
    """As a user of the broker does: nobody else's events, and no commands."""
    assert _refused(delivered(PAINTED, SHED)) == (
        "forbidden_sender",
        "by its signature user 'shed' may not say fence.painted; that is for 'fence'",
    )
    assert _refused(delivered(PAINT, FENCE))[0] == "forbidden_sender"
    both = Senders(signatures=EVERYBODY.signatures)
    assert _refused(replace(delivered(PAINTED, FENCE), user_id="shed"), both)[0] == "forbidden_sender"
    assert isinstance(read(replace(delivered(PAINTED, FENCE), user_id="fence"), REGISTRY, both), Received)


def test_a_retired_key_proves_nothing_any_more() -> None:
    """From its moment on, by the reader's clock and not by what the message says of its time."""
    delivery = delivered(PAINTED, FENCE)
    before = _senders(FENCE, now=NOON - timedelta(seconds=1), retired=NOON)
    assert isinstance(read(delivery, REGISTRY, before), Received)
    reason, why = _refused(delivery, _senders(FENCE, now=NOON, retired=NOON))
    assert (reason, why) == (
        "bad_signature",
        f"it is signed with the key '{FENCE.id}', which is retired since 2026-03-01T12:00:00+0000",
    )


def test_a_service_has_two_keys_while_one_follows_the_other() -> None:
    """Both are read while both are published."""
    newer = keys.new("fence", "fence-2027")
    both = _senders(FENCE, newer)
    for key in (FENCE, newer):
        assert isinstance(read(delivered(PAINTED, key), REGISTRY, both), Received)
    assert "not among the public keys" in _refused(delivered(PAINTED, FENCE), _senders(newer))[1]


def _letter(delivery: Delivery, reason: str) -> Letter:
    return Letter(
        id=UUID(int=1),
        service="fence",
        queue="fence.events",
        reason=reason,
        error="",
        message_id=str(MESSAGE),
        type=delivery.type,
        correlation_id=None,
        exchange="amends.events",
        routing_key="fence.painted",
        properties={
            "content_type": CONTENT_TYPE,
            "message_id": delivery.message_id,
            "app_id": delivery.app_id,
            "headers": dict(delivery.headers),
        },
        body=delivery.body,
        size=len(delivery.body),
        attempts=0,
        failures=1,
        first_at=NOON,
        at=NOON,
        state=State.OPEN,
        decided_at=None,
        decided_by=None,
        decided_why=None,
        redriven_as=None,
        handled_at=None,
    )


def test_what_was_refused_for_its_signature_is_sent_again_only_with_a_good_one() -> None:
    """It would leave signed by the orchestrator: a key that was missing lets it through, nothing else does."""
    letter = _letter(delivered(PAINTED, FENCE), "bad_signature")
    for senders, words in (
        (None, "nothing proved who sent it; where a key was missing, set AMENDS_SIGNING=require"),
        (Senders(), "nothing proved who sent it"),
        (_senders(SHED), "not among the public keys here (AMENDS_PUBLIC_KEYS)"),
    ):
        with pytest.raises(Undeliverable, match=re.escape(words)):
            again(letter, NOON, senders)
    forged = replace(letter, body=PAINTED.body.replace(b"red", b"tan"))
    with pytest.raises(Undeliverable, match=re.escape(WRONG)):
        again(forged, NOON, EVERYBODY)

    assert again(letter, NOON, EVERYBODY).message_id == MESSAGE


def test_what_is_handed_on_to_another_shard_is_signed_by_the_orchestrator() -> None:
    """Only what was signed by who may say it; there it is read, as all that the orchestrator says."""
    created = OrderCreated(order_id=UUID(int=1), customer_id="ada", total=Money(amount=1, currency="USD"), items=1)
    message = as_message(outgoing(created, Envelope(MESSAGE, "order.created", 1, "order", NOON)))
    order = keys.new("order")
    senders = _senders(order, ORCHESTRATOR)
    catalog = Catalog([FULFILL_ORDER])
    routers = [Router(catalog, Placement(number, 2), senders) for number in (0, 1)]

    assert [each.route(delivered(message, None)) for each in routers] == [None, None]
    (routed,) = [found for each in routers if (found := each.route(delivered(message, order))) is not None]
    (handed_on,) = routed.messages
    assert isinstance(read(delivered(handed_on, ORCHESTRATOR), catalog.registry, senders), Received)


# -- leaving -------------------------------------------------------------------------------------------------


class _Slow(MemoryBus):
    """Keeps what it is to publish, in the order in which it is told."""

    def __init__(self) -> None:
        super().__init__(MemoryBroker(), service="fence")
        self.told: list[str] = []

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        self.told.extend(each.message_id for each in messages)
        return [Receipt.CONFIRMED] * len(messages)


async def test_calls_keep_their_order_however_long_they_take_to_sign() -> None:
    """A call of one message that comes second is not written before a call of many."""
    inner = _Slow()
    bus = SigningBus(inner, Signer(FENCE))
    many = [replace(PAINTED, message_id=str(number)) for number in range(50)]
    one = replace(PAINTED, message_id="last")
    await asyncio.gather(bus.publish(many), bus.publish([one]), bus.publish([]))

    assert inner.told == [*map(str, range(50)), "last"]


class _Prompt(_Slow):
    """It writes what it is told to send now."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Outgoing] = []

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        self.sent.extend(messages)
        return partial(self.publish, messages)


async def test_what_is_sent_now_is_signed_and_passes_no_call_that_is_being_signed() -> None:
    """Nor is so much signed at once that everybody else waits for it."""
    inner = _Prompt()
    bus = SigningBus(inner, Signer(FENCE))
    answers = bus.send_now([PAINTED])
    assert answers is not None
    assert await answers() == [Receipt.CONFIRMED]
    assert [each.headers[KEY_HEADER] for each in inner.sent] == [FENCE.id]

    many = [replace(PAINTED, message_id=str(number)) for number in range(50)]
    assert bus.send_now(many) is None
    publishing = asyncio.create_task(bus.publish(many))
    await asyncio.sleep(0)
    assert bus.send_now([PAINTED]) is None
    await publishing
    assert len(inner.sent) == 1


def test_a_signature_leaves_everything_else_as_it_was() -> None:
    """Two headers are added; whoever does not know them reads the message as before."""
    given = replace(PAINTED, headers={"tenant": "blue"})
    signed = Signer(FENCE).signed(given)

    assert signed.headers["tenant"] == "blue"
    assert signed.headers[KEY_HEADER] == FENCE.id
    assert replace(signed, headers=given.headers) == given
    assert encode(Envelope(MESSAGE, "fence.painted", 1, "fence", NOON), Painted(color="red")).encode() == signed.body


# -- keys and settings ---------------------------------------------------------------------------------------


def _ask(monkeypatch: pytest.MonkeyPatch, mode: str, key: Path | None, public: Path | None) -> ServiceSettings:
    monkeypatch.setenv("AMENDS_SIGNING", mode)
    for name, path in (("AMENDS_SIGNING_KEY_FILE", key), ("AMENDS_PUBLIC_KEYS", public)):
        monkeypatch.delenv(name, raising=False)
        if path is not None:
            monkeypatch.setenv(name, str(path))
    return ServiceSettings()


def test_settings_say_whether_and_with_which_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Off unless asked for; whoever requires signatures takes those of the published keys."""
    off = ServiceSettings()
    assert (off.allowed, off.own_key) == (None, None)
    public = publish(tmp_path, FENCE, SHED)
    private = tmp_path / f"{FENCE.id}.private.json"

    signs = _ask(monkeypatch, "sign", private, None)
    assert signs.allowed is None
    assert signs.own_key == FENCE
    senders = _ask(monkeypatch, "require", private, public).allowed
    assert senders is not None
    assert isinstance(read(delivered(PAINTED, FENCE), REGISTRY, senders), Received)
    assert read(delivered(PAINTED, None), REGISTRY, None) is not None
    assert _refused(delivered(PAINTED, ORCHESTRATOR), senders)[0] == "bad_signature"
    assert isinstance(bus_of(_memory(signs), "fence", MemoryBroker()), SigningBus)
    assert isinstance(bus_of(_memory(off), "fence", MemoryBroker()), MemoryBus)


def _memory(settings: ServiceSettings) -> ServiceSettings:
    return settings.model_copy(update={"amqp_url": type(settings.amqp_url)("memory://")})


def test_what_is_wrong_with_keys_is_said_at_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which file, what is wrong with it and how to mend it; never what is secret in it."""
    public = publish(tmp_path, FENCE)
    private = tmp_path / f"{FENCE.id}.private.json"
    other = tmp_path / "other.json"
    keys.write_private(SHED, other)
    bad = tmp_path / "bad.json"

    def refused(words: str, mode: str, key: Path | None, folder: Path | None) -> None:
        with pytest.raises(ValueError, match=re.escape(words)) as error:
            _ask(monkeypatch, mode, key, folder)
        assert keys.encoded(FENCE.private) not in str(error.value)

    refused("AMENDS_SIGNING=sign needs this service's private key", "sign", None, None)
    refused("AMENDS_SIGNING=require needs the public keys of all services", "require", private, None)
    refused(f"the public half of this service's own key '{SHED.id}' is not in", "require", other, public)
    refused(f"{tmp_path / 'nowhere'} cannot be read: No such file", "require", private, tmp_path / "nowhere")
    for text, words in (
        ("{", "the private key is no JSON"),
        ("[]", "the private key is no JSON Web Key"),
        (keys.as_json(FENCE.public_half), "the private key is only a public half"),
        (keys.as_json(FENCE).replace("Ed25519", "X25519"), "the private key is no Ed25519 key"),
        (keys.as_json(FENCE).replace('"d": "', '"d": "A'), "its d is not 32 bytes of base64url"),
        (keys.as_json(FENCE).replace('"service"', '"servant"'), "its service is missing"),
    ):
        bad.write_text(text)
        refused(words, "sign", bad, None)
    (public / "retired.json").write_text(keys.as_json(SHED.public_half).replace("}", ', "retired": "soon"}'))
    refused("retired is no moment; write 2026-12-01T00:00:00Z", "require", private, public)
    (public / "retired.json").write_text(keys.as_json(FENCE.public_half))
    refused("there are two keys of the id", "require", private, public)
    (public / "retired.json").write_text(keys.as_json(SHED))
    refused("holds a private key; only public halves belong there", "require", private, public)
    mixed = replace(FENCE, public=SHED.public)
    bad.write_text(keys.as_json(mixed))
    with pytest.raises(BadConfiguration, match=r"the two halves of the key .* do not belong together"):
        bus_of(_memory(_ask(monkeypatch, "sign", bad, None)), "fence", MemoryBroker())


def test_a_process_without_its_key_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 78, and how to mend it."""
    monkeypatch.setenv("AMENDS_SIGNING", "sign")
    with pytest.raises(SystemExit) as ended:
        load(ServiceSettings)

    assert ended.value.code == 78
    assert capsys.readouterr().err == (
        "configuration: AMENDS_SIGNING=sign needs this service's private key: name its file in "
        "AMENDS_SIGNING_KEY_FILE (`amends keys new` makes one)\n"
    )


def test_a_service_whose_own_key_is_retired_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody would read what it says."""
    public = publish(tmp_path, FENCE, retired=NOON)
    with pytest.raises(ValueError, match=r"own key .* is retired"):
        _ask(monkeypatch, "require", tmp_path / f"{FENCE.id}.private.json", public)


def test_keys_may_lie_in_one_file_too(tmp_path: Path) -> None:
    """A JSON Web Key Set, as other tools write it."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [json.loads(keys.as_json(each.public_half)) for each in (FENCE, SHED)]}))
    assert keys.public_keys(path) == {FENCE.id: FENCE.public_half, SHED.id: SHED.public_half}
    path.write_text('{"keys": [7]}')
    with pytest.raises(UnusableKey, match="is no set of keys"):
        keys.public_keys(path)


def test_the_command_makes_a_key_and_shows_it(tmp_path: Path) -> None:
    """The private half is for its owner's eyes; nothing is written over."""
    private, public = tmp_path / "fence.json", tmp_path / "public"
    public.mkdir()
    words = ["keys", "new", "fence", "--id", "fence-2026", "--private", str(private), "--public", str(public)]
    made = CliRunner().invoke(app, words)

    assert (made.exit_code, made.stdout) == (0, f"{private}\n{public / 'fence-2026.json'}\n"), made.stderr
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key = keys.private_key(private.read_text())
    assert keys.public_keys(public) == {"fence-2026": key.public_half}
    shown = CliRunner().invoke(app, ["keys", "show", str(public), "-o", "json"])
    assert json.loads(shown.stdout) == [{"id": "fence-2026", "service": "fence", "retired": None, "usable": True}]
    table = CliRunner().invoke(app, ["keys", "show", str(public)]).stdout
    assert [line.split() for line in table.splitlines()] == [
        ["key", "speaks", "for", "retired"],
        ["fence-2026", "fence", "no"],
    ]

    before = private.read_text()
    for words, code, complaint in (
        (["keys", "new", "fence", "--private", str(private)], 1, "there already"),
        (["keys", "new", "fe/nce", "--private", str(tmp_path / "n.json")], 2, "cannot be a key's service"),
        (["keys", "show", str(tmp_path / "none")], 78, "cannot be read: No such file"),
    ):
        ended = CliRunner().invoke(app, words)
        assert (ended.exit_code, complaint in ended.stderr) == (code, True), ended.stderr
        assert ended.stdout == ""
    assert private.read_text() == before
