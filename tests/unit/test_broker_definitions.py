"""What services need of the broker, and what becomes of it as definitions."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy import broker_definitions
from messaging.__main__ import app as messaging
from messaging.grants import topic_permissions
from messaging.needs import Needs, as_json, from_json, own
from messaging.rabbitmq_definitions import definitions, hashed, senders
from messaging.senders import Senders
from messaging.topology import COMMANDS, DEAD_LETTERS, EVENTS, Binding, Queue, QueueType, Spread, Topology
from orchestrator.cli.app import app
from services.payment.__main__ import app as payment

TRAVEL = Needs(
    "travel",
    Topology().with_queue(Queue("travel.commands", (Binding(COMMANDS, "flight.book"),))),
    own("travel", "flight.booked", "travel.told", "flight.full"),
)


def test_a_password_is_hashed_as_rabbitmq_does() -> None:
    """The example of RabbitMQ's own page about password hashing."""
    assert hashed("test12", bytes.fromhex("908DC60A")) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_two_users_with_one_password_have_different_hashes() -> None:
    """Four random bytes, and a SHA-256."""
    first, second = hashed("secret"), hashed("secret")
    assert first != second
    assert len(base64.b64decode(first)) == 36


def test_needs_are_read_as_they_were_written() -> None:
    """Queues of every kind and what lies before them included."""
    queue = Queue("orchestrator.events.0", (Binding("spread", "1"),), QueueType.CLASSIC, None, None, True, True)
    needs = Needs("orchestrator", Topology((EVENTS,), (queue,), (Spread("spread", (Binding(EVENTS, "a.b"),)),)), ())

    assert from_json(as_json(needs)) == needs


def test_who_says_what_is_not_called_after_him_is_told() -> None:
    """Whose events have another first word; where that is a service's too, it goes on saying its own."""
    shop = Needs("shop", Topology(exchanges=(EVENTS,)), (Binding(EVENTS, "shop.#"), Binding(EVENTS, "order.#")))
    order = Needs("order", Topology(), own("order"))

    assert senders([TRAVEL, shop, order]) == (
        "flight.booked=travel",
        "flight.full=travel",
        "order=order",
        "order=shop",
    )
    assert senders([order]) == ()


def test_a_service_may_publish_what_it_says_and_read_what_is_its_own() -> None:
    """As regular expressions with both their ends; what it does not write to has a topic permission all the same."""
    made = definitions([TRAVEL], "/", {"travel": "hash"})

    assert made["permissions"][0] == {
        "user": "travel",
        "vhost": "/",
        "configure": "^$",
        "write": r"^(amends\.events|amends\.dead\-letters)$",
        "read": r"^travel\..+$",
    }
    assert {each["exchange"]: each["write"] for each in made["topic_permissions"]} == {
        EVENTS: r"^(travel\..+|flight\.booked|flight\.full)$",
        COMMANDS: "^$",
        DEAD_LETTERS: r"^travel\..+$",
    }
    assert {each["read"] for each in made["topic_permissions"]} == {"^$"}
    (user,) = (each for each in made["users"] if each["name"] == "travel")
    assert (user["password_hash"], user["tags"]) == ("hash", [])
    assert [each["password_hash"] for each in made["users"] if each["name"] != "travel"] == ["", ""]


def test_what_does_not_go_together_is_refused() -> None:
    """Two services of one name, one queue in two ways, and patterns that permissions cannot say."""
    again = Needs("order", Topology().with_queue(Queue("travel.commands")), ())
    odd = Needs("odd", Topology(), (Binding(EVENTS, "a.*.c"),))
    for needs, words in (
        ([TRAVEL, TRAVEL], "two of these are called 'travel'"),
        ([TRAVEL, again], "the queue 'travel.commands' is needed in two ways"),
        ([odd], "'a.*.c' is no type"),
    ):
        with pytest.raises(ValueError, match=words.replace("*", r"\*")):
            definitions(needs, "/", {})


@pytest.mark.parametrize("name", ["operator", "amends", "", "Order", "a b"])
def test_a_name_that_cannot_be_a_users_is_refused(name: str) -> None:
    """Among them those of the users that are there anyway."""
    with pytest.raises(ValueError, match="cannot be the name of a service"):
        Needs(name, Topology(), ())


def _emitting(name: str, *others: str) -> Needs:
    return Needs(name, Topology(exchanges=(EVENTS,)), tuple(Binding(EVENTS, each) for each in (f"{name}.#", *others)))


@pytest.mark.parametrize(
    ("user", "wire_type", "allowed"),
    [
        ("shop", "order.line.added", True),
        ("shop", "order.created", False),
        ("travel", "order.line.added", True),
        ("travel", "order.line.removed", False),
        ("order", "order.line.added", True),
        ("order", "order.created", True),
        ("depot", "order.line.added", False),
    ],
)
def test_readers_take_what_the_broker_lets_through(user: str, wire_type: str, allowed: bool) -> None:
    """What AMENDS_SENDERS has to say adds up to what the users may publish, also where patterns lie in each other."""
    needs = [
        _emitting("order"),
        _emitting("shop", "order.line.#"),
        _emitting("travel", "order.line.added"),
        _emitting("depot"),
    ]
    granted = {each.service: topic_permissions(each, [EVENTS])[0].write for each in needs}

    assert (re.search(granted[user], wire_type) is not None) is allowed
    assert (Senders.parse(senders(needs)).refusal(wire_type, user) is None) is allowed


@pytest.mark.parametrize("pattern", ["#", "orchestrator.#", "operator.#"])
def test_nobody_but_the_orchestrator_is_granted_everything(pattern: str) -> None:
    """The table of who may say what would let such a user say all that these two may."""
    with pytest.raises(ValueError, match="'shop' may not publish"):
        _emitting("shop", pattern)


# -- the commands --------------------------------------------------------------------------------------------


@pytest.fixture
def needed(tmp_path: Path) -> Path:
    """What payment needs, as its program says it."""
    path = tmp_path / "payment.json"
    path.write_text(CliRunner().invoke(payment, ["needs"]).stdout)
    return path


def _definitions(*words: object) -> Result:
    return CliRunner().invoke(app, ["broker", "definitions", *map(str, words)])


def test_partitions_and_shards_are_among_the_definitions(needed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the orchestrator's settings say."""
    monkeypatch.setenv("AMENDS_PARTITIONS", "2")
    monkeypatch.setenv("AMENDS_SHARDS", "sqlite:///a.db,sqlite:///b.db")
    made = json.loads(_definitions(needed, "--vhost", "blue").stdout)

    queues = [each["name"] for each in made["queues"]]
    assert {"orchestrator.events.0", "orchestrator.events.1", "orchestrator.shard.0", "orchestrator.shard.1"} < set(
        queues
    )
    assert len(queues) == len(set(queues))
    (spread,) = (each for each in made["exchanges"] if each["name"] == "orchestrator.partitions")
    assert (spread["type"], spread["arguments"]) == ("x-consistent-hash", {"hash-property": "correlation_id"})
    assert {each["vhost"] for each in made["queues"]} == {"blue"}
    (write,) = (each["write"] for each in made["permissions"] if each["user"] == "orchestrator")
    assert write == r"^(amends\.events|amends\.commands|amends\.dead\-letters|orchestrator\.shards)$"


def test_a_participant_of_ones_own_says_what_it_needs(needed: Path, tmp_path: Path) -> None:
    """`python -m messaging needs`; what it answers under another name is told on stderr."""
    said = CliRunner().invoke(messaging, ["needs", "docs.examples.trip.participant:travel"])
    assert said.exit_code == 0, said.stderr
    (tmp_path / "travel.json").write_text(said.stdout)
    made = _definitions(needed, tmp_path / "travel.json", "--emitter", "shop=order.#")

    assert made.exit_code == 0, made.stderr
    assert "AMENDS_SENDERS=" in made.stderr
    assert "order=shop" in made.stderr
    assert "travel.commands" in {each["name"] for each in json.loads(made.stdout)["queues"]}


def test_what_cannot_be_used_is_said(needed: Path, tmp_path: Path) -> None:
    """A file that is missing or says something else, and a password that is missing or empty: 78, and one line."""
    (tmp_path / "other.json").write_text('{"service": "x"}')
    passwords = tmp_path / "passwords"
    passwords.mkdir()
    for user in ("orchestrator", "payment", "operator"):
        (passwords / user).write_text("secret")
    for words, said in (
        ((tmp_path / "none.json",), "none.json cannot be read: No such file or directory; make it with"),
        ((tmp_path / "other.json",), "other.json does not say what a service needs (topology: Field required"),
        ((needed, "--passwords", passwords), "passwords/monitor cannot be read: No such file or directory; put the"),
        ((needed, needed), "two of these are called 'payment'"),
        ((needed, "--emitter", "Shop"), "'Shop' cannot be the name of a service"),
    ):
        ended = _definitions(*words)
        assert (ended.exit_code, ended.stdout) == (78, ""), words
        assert said in ended.stderr
        assert len(ended.stderr.strip().splitlines()) == 1
    (passwords / "monitor").write_text("\n")
    assert "passwords/monitor is empty" in _definitions(needed, "--passwords", passwords).stderr


def test_the_definitions_that_are_shipped_are_current() -> None:
    """deploy/rabbitmq/definitions.json is what the services need, with a place for each user's password hash."""
    there = broker_definitions.FILE.read_text(encoding="utf-8")
    assert there == broker_definitions.content()
    assert re.findall('"password_hash": "(.*)"', there) == [
        *("@orchestrator@", "@order@", "@payment@"),
        *("@operator@", "@monitor@"),
    ]
