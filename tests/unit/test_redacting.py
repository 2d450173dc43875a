"""Redacted bundles: nothing sensitive is left, what belonged together still does, and they replay."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from contracts import SENSITIVE, Sensitive
from contracts.message import Event
from messaging.envelope import Envelope, encode
from orchestrator import Migration, Parallel, Saga, Start, Step
from orchestrator.catalog import Catalog
from orchestrator.history import dump_facts
from orchestrator.replay.bundle import Bundle, ParkedMessage, as_text
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.redacting import CannotRedact, redacted
from orchestrator.replay.replacing import Hidden, Replacing, _complaint
from orchestrator.replay.replaying import replay
from orchestrator.replay.rewriting import FACTS
from orchestrator.replay.tokens import Tokens
from orchestrator.saga import facts as f
from orchestrator.saga.inputs import PersonActed
from orchestrator.saga.state import saga_id
from tests.golden.files import catalog, golden, read
from tests.unit.clinic import (
    Address,
    Admitted,
    Agreed,
    Insure,
    Insured,
    Left,
    NotInsured,
    Release,
    Released,
    Treated,
    clinic,
)
from tests.unit.play import NOON, Action
from tests.unit.recording import Recording

SECRET = b"for tests only"
SAGA = clinic()

PATIENT = Admitted(
    email="ada@lovelace.example",
    patient=UUID("5c0a2f36-1d5d-4b5e-9c7c-0d3c7d2a9b11"),
    name="Ada O'Byron",
    number=48151,
    born=date(1815, 12, 10),
    homes=(Address(street="St James's Square 12", city="London"),),
    kin={"Anne Isabella": "mother"},
    ward="east",
)


def _bundle(recorded: Recorded, *parked: ParkedMessage) -> Bundle:
    return Bundle(recorded, parked, "f", {"name": "clinic"}, {}, "0.1.0")


def _parked(event: Event, identity: UUID, **extra: object) -> ParkedMessage:
    envelope = Envelope(
        id=uuid5(identity, "parked"),
        type=event.wire_type,
        version=1,
        source="front desk",
        time=NOON,
        correlation_id=str(identity),
        key=event.ordering_key,
    )
    body = encode(envelope, event)
    if extra:
        content = json.loads(body)
        content["data"] |= extra
        body = json.dumps(content)
    return ParkedMessage(envelope.id, event.wire_type, "orchestrator.events", body, f"{event!r} came early", NOON, NOON)


def _admitted(patient: Admitted = PATIENT) -> Recording:
    play = Recording(SAGA, f"{patient.email}/{patient.ward}")
    play.event(patient)
    return play


def _compensated() -> Recording:
    play = _admitted()
    play.answer("insurance", Insured(policy="POL-77-ab"))
    play.event(Left(email=PATIENT.email))
    play.answer("insurance", Released())
    return play


def _redacted(play: Recording, *parked: ParkedMessage, secret: bytes = SECRET) -> Bundle:
    return redacted(_bundle(play.recorded, *parked), SAGA, secret)


def _started_with(bundle: Bundle) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(bundle.recorded.transitions[0].input)["data"]
    return content


def test_tokens_have_the_form_of_what_they_stand_for() -> None:
    """An e-mail address, a UUID, a number, a day and a text each stay one; what is not marked stays as it is."""
    made = _started_with(_redacted(_compensated()))
    assert re.fullmatch(r"redacted-[0-9a-f]{16}@example\.com", made["email"])
    assert UUID(made["patient"]).version == 4
    assert made["patient"] != str(PATIENT.patient)
    assert re.fullmatch(r"redacted-[0-9a-f]{16}", made["name"])
    assert re.fullmatch(r"[1-9][0-9]{4}", str(made["number"]))
    assert made["number"] != 48151
    assert date.fromisoformat(made["born"]) != date(1815, 12, 10)
    assert made["homes"][0]["city"] == "London"
    assert made["ward"] == "east"
    ((kin, relation),) = made["kin"].items()
    assert kin.startswith("redacted-")
    assert relation == "mother"


def test_the_same_value_has_the_same_token_everywhere() -> None:
    """In the event, the data, the commands, texts put together from it, the key, and what is parked."""
    play = _compensated()
    bundle = _redacted(play, _parked(Agreed(email=PATIENT.email), play.id))
    made = _started_with(bundle)
    data = json.loads(bundle.recorded.data)
    commands = [each for line in bundle.recorded.transitions for each in json.loads(line.commands)]
    assert made["email"] == data["email"]
    assert f"{made['email']}/east" == bundle.recorded.key
    assert [made["name"], made["number"]] == [commands[0]["data"]["name"], commands[0]["data"]["number"]]
    assert f"{made['name']} <{made['email']}>" == commands[1]["data"]["who"]
    assert data["policy"] == commands[1]["data"]["policy"]
    body = json.loads(bundle.parked[0].body)
    assert [made["email"], made["email"]] == [body["data"]["email"], body["partitionkey"]]
    assert made["email"] in bundle.parked[0].reason


def test_another_secret_gives_other_tokens() -> None:
    """Whoever guesses a value cannot find its token, and two exports have nothing in common."""
    first, again, other = (_started_with(_redacted(_compensated(), secret=each)) for each in (b"a", b"a", b"b"))
    assert first == again
    assert [] == [name for name in ("email", "patient", "name", "number") if first[name] == other[name]]


def test_ids_that_derive_from_a_sensitive_key_are_replaced_and_still_derive() -> None:
    """The instance's id is that of its new key; commands, answers and causes fit each other as before."""
    play = _compensated()
    bundle = _redacted(play, _parked(Agreed(email=PATIENT.email), play.id))
    recorded = bundle.recorded
    assert recorded.id == saga_id("clinic", recorded.key)
    assert json.loads(bundle.parked[0].body)["correlationid"] == str(recorded.id)
    assert json.loads(bundle.parked[0].body)["id"] == str(bundle.parked[0].message_id)
    before = re.findall(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", as_text(_bundle(play.recorded)))
    text = as_text(bundle)
    assert len(before) > 10
    assert [] == [each for each in before if each in text]
    causes = [json.loads(line.input).get("causation_id") for line in recorded.transitions]
    sent = [each["id"] for line in recorded.transitions for each in json.loads(line.commands)]
    assert causes[1] == sent[0]
    assert json.loads(recorded.transitions[2].commands)[0]["compensates"] == sent[0]


def test_ids_stay_where_the_key_tells_nothing() -> None:
    """So that a redacted bundle can be held against logs, wherever that gives nothing away."""
    play = Recording(SAGA, "7")
    play.event(PATIENT)
    saga = clinic()
    saga.starts_on.key = lambda _: 7
    bundle = redacted(_bundle(play.recorded), saga, SECRET)
    assert bundle.recorded.id == play.id
    assert bundle.recorded.key == "7"


def test_a_redacted_bundle_replays() -> None:
    """No difference: what the definition passes on, it passes on as a token."""
    play = _compensated()
    replayed = replay(_redacted(play).recorded, Catalog([SAGA]))
    assert (replayed.transitions, replayed.difference) == (4, None)


def test_errors_that_quote_values_are_redacted() -> None:
    """A traceback that shows the data, also in letters as Python quotes them, shows tokens."""
    play = _admitted(PATIENT.model_copy(update={"ward": "closed"}))
    play.answer("insurance", Insured(policy="POL-77-ab"))
    assert play.status == "stuck"
    assert "O'Byron" in play.current.reason
    text = as_text(_redacted(play))
    assert "no bed for" in text
    assert "Byron" not in text
    assert "James" not in text
    assert "1815" not in text.replace(str(PATIENT.number), "")


def test_what_pydantic_quotes_is_left_out() -> None:
    """It shortens what it refused in the middle, so that no search for the value would find it."""
    play = _admitted()
    shown = "[type=int_parsing, input_value={'email': 'ada@lovelac...x'}, input_type=dict]"
    recorded = replace(play.recorded, reason=shown)
    made = redacted(_bundle(recorded), SAGA, SECRET).recorded.reason
    assert made == "[type=int_parsing, input_value=…, input_type=dict]"


def test_a_value_that_a_long_text_was_cut_through_is_found() -> None:
    """At the beginning and at the end of what was too long to be kept."""
    text = "lovelace.example" + " and so on" * 60 + " ada@lovel"
    made = redacted(_bundle(replace(_admitted().recorded, reason=text)), SAGA, SECRET).recorded.reason
    assert "lovel" not in made
    assert " and so on" in made


def test_letter_case_hides_nothing() -> None:
    """A value in other letters is the same value."""
    text = "ADA@LOVELACE.EXAMPLE and ada o'byron"
    made = redacted(_bundle(replace(_admitted().recorded, reason=text)), SAGA, SECRET).recorded.reason
    assert re.fullmatch(r"redacted-\w{16}@example\.com and redacted-\w{16}", made)


def test_what_the_contract_does_not_know_is_taken_for_sensitive() -> None:
    """A field that a newer sender has added is marked by nobody here: it becomes a token, and so does its value."""
    play = _admitted()
    parked = _parked(Agreed(email=PATIENT.email), play.id, diagnosis={"what": "measles"})
    bundle = _redacted(play, replace(parked, reason="measles came early"))
    diagnosis = json.loads(bundle.parked[0].body)["data"]["diagnosis"]
    assert [] == [each for each in ("what", "measles") if each in json.dumps(diagnosis)]
    assert bundle.parked[0].reason == f"{next(iter(diagnosis.values()))} came early"


def test_an_instance_that_never_started_is_redacted_and_replays() -> None:
    """Stuck at its first event, with an error that quotes it and no data yet."""
    play = Recording(SAGA, f"{PATIENT.email}/nowhere")
    play.event(PATIENT.model_copy(update={"ward": "nowhere"}))
    assert (play.status, play.current.data) == ("stuck", None)
    bundle = _redacted(play)
    assert "lovelace" not in as_text(bundle)
    assert replay(bundle.recorded, Catalog([SAGA])).difference is None


def test_short_values_are_replaced_where_they_are_marked_only() -> None:
    """Of a name of two letters the words around it are not made unreadable, and it replays all the same."""
    short = PATIENT.model_copy(update={"name": "in", "number": 7})
    play = _admitted(short)
    play.person(Action.COMPENSATE)
    play.answer("insurance", Released())
    bundle = redacted(_bundle(replace(play.recorded, reason=play.recorded.reason)), SAGA, SECRET)
    made = _started_with(bundle)
    assert made["name"] != "in"
    assert made["number"] != 7
    assert json.loads(bundle.recorded.data)["name"] == made["name"]
    assert json.loads(bundle.recorded.data)["number"] == made["number"]
    # The command's text is put together from it, and is the one place where it is not known again.
    found = replay(bundle.recorded, Catalog([SAGA])).difference
    assert found is not None
    assert "who" in found.sentence


def test_a_default_is_no_secret() -> None:
    """What stands in the code is left, so that functions that compare with it still do the same."""
    play = _admitted()
    data = json.loads(_redacted(play).recorded.data)
    assert data["policy"] == ""


def test_a_message_of_no_known_contract_stops_it() -> None:
    """Nobody can say what in it is sensitive."""
    line = _admitted().recorded.transitions[0]
    recorded = replace(
        _admitted().recorded, transitions=(replace(line, input=line.input.replace("clinic.admitted", "clinic.other")),)
    )
    with pytest.raises(
        CannotRedact, match=r"it holds clinic\.other v1, which Saga\('clinic', version=1\) does not hear"
    ):
        redacted(_bundle(recorded), SAGA, SECRET)


def test_a_corrupt_history_stops_it() -> None:
    """With one line, and not with a traceback."""
    play = _admitted()
    for broken in ("{}", "[1]", "no json"):
        recorded = replace(play.recorded, progress=broken)
        with pytest.raises(CannotRedact, match="is not as Amends writes it"):
            redacted(_bundle(recorded), SAGA, SECRET)


# -- what people have done to it -----------------------------------------------------------------------------


class Chart(BaseModel):
    """The data of version 1."""

    model_config = ConfigDict(frozen=True)

    email: Sensitive[str]
    name: Sensitive[str]
    policy: Sensitive[str] = ""


class Folder(BaseModel):
    """The data of version 2, where the same things have other names."""

    model_config = ConfigDict(frozen=True)

    address: Sensitive[str]
    full_name: Sensitive[str]
    insurance: Sensitive[str] = ""


def _chart(event: Admitted) -> Chart:
    return Chart(email=event.email, name=event.name)


def _foldered(chart: Chart) -> Folder:
    return Folder(address=chart.email, full_name=chart.name, insurance=chart.policy)


def _guessed(chart: Chart) -> Folder:
    """What the first command was made from gets a value that lies nowhere else."""
    return Folder(address=chart.email, full_name=chart.name, insurance=chart.policy or "hardship-fund")


def _charted() -> Saga[Chart]:
    def insure(data: Chart) -> Insure:
        return Insure(number=1, name=data.name)

    def release(data: Chart) -> Release:
        return Release(policy="none", who=data.name)

    def insured(data: Chart, event: Insured) -> Chart:
        return data.model_copy(update={"policy": event.policy})

    return Saga(
        name="ward",
        version=1,
        data=Chart,
        starts_on=Start(Admitted, _chart, key=lambda event: event.email),
        steps=(
            Parallel(
                Step("first", insure, on_success=insured, compensation=release),
                Step("second", insure, compensation=release),
            ),
        ),
    )


def _renamed(old: Saga[Chart], convert: Callable[[Chart], Folder]) -> Saga[Folder]:
    def insure(data: Folder) -> Insure:
        return Insure(number=1, name=data.full_name)

    def release(data: Folder) -> Release:
        return Release(policy="none", who=data.full_name)

    return Saga(
        name="ward",
        version=2,
        data=Folder,
        starts_on=Start(Admitted, lambda event: _foldered(_chart(event)), key=lambda event: event.email),
        steps=(Parallel(Step("first", insure, compensation=release), Step("later", insure, compensation=release)),),
        migrations=(Migration(old, convert, steps={"second": "later"}),),
    )


def _migrated(convert: Callable[[Chart], Folder] = _foldered) -> tuple[Recording, Catalog]:
    """Under way with a command that was made from earlier data, and whose step is called otherwise in version 2."""
    old = _charted()
    play = Recording(old, PATIENT.email)
    play.event(PATIENT)
    play.answer("first", Insured(policy="POL-77-ab"))
    play.saga = _renamed(old, convert)
    play.take(PersonActed(play.now, Action.MIGRATE, "bea", "v2 is out", from_version=1, to_version=2))
    return play, Catalog([old, play.saga])


def test_a_migrated_instance_is_redacted_and_replays() -> None:
    """Also in what the data has become that a command under way was made from."""
    play, known = _migrated()
    (fact,) = json.loads(play.lines[-1].facts)
    assert fact["made_from"]["later"] == {
        "address": "ada@lovelace.example",
        "full_name": "Ada O'Byron",
        "insurance": "",
    }
    bundle = redacted(_bundle(play.recorded), play.saga, SECRET)
    text = as_text(bundle)
    assert [] == [each for each in ("lovelace", "Byron", "POL-77") if each in text]
    (made,) = json.loads(bundle.recorded.transitions[-1].facts)
    assert ["address", "full_name", "insurance"] == list(made["made_from"]["later"])
    assert made["made_from"]["later"]["full_name"] == made["data"]["full_name"]
    assert replay(play.recorded, known).difference is None
    assert replay(bundle.recorded, known).difference is None


def test_a_value_that_lies_only_where_a_command_was_made_from_is_redacted() -> None:
    """The migration's own function has made it, and the row forgets it with the answer."""
    play, _ = _migrated(_guessed)
    play.answer("second", Insured(policy="POL-77-ab"))
    assert as_text(_bundle(play.recorded)).count("hardship-fund") == 1
    assert "hardship" not in as_text(redacted(_bundle(play.recorded), play.saga, SECRET))


def test_an_instance_with_a_renamed_step_is_redacted_and_replays_to_its_end() -> None:
    """Its participant knows the commands by the old name: ids are derived from that still."""
    play, known = _migrated()
    play.answer("second", NotInsured(reason="no money"))
    play.answer("first", Released())
    assert play.status == "compensated"
    bundle = redacted(_bundle(play.recorded), play.saga, SECRET)
    steps = json.loads(bundle.recorded.progress)["steps"]
    assert steps["later"][6:] == [False, "second"]
    assert "lovelace" not in as_text(bundle)
    assert replay(bundle.recorded, known).difference is None


class Opened(Event, type="notes.opened", key="case"):
    """Says of nothing that it is sensitive."""

    case: str
    told_by: str
    relation: str


OPENED = Opened(case="case 4711", told_by="Anne Isabella Milbanke", relation="a godmother of hers")


class Note(BaseModel):
    """Version 1: who told it, and what she is to her, are nobody's business."""

    model_config = ConfigDict(frozen=True)

    told_by: Sensitive[str]
    relation: Sensitive[str]


class Summary(BaseModel):
    """Version 2 marks nothing any more, and calls one thing otherwise."""

    model_config = ConfigDict(frozen=True)

    told_by: str
    kin: str


class Bare(BaseModel):
    """Version 3 does without that."""

    model_config = ConfigDict(frozen=True)

    told_by: str


def _noted(event: Opened) -> Note:
    return Note(told_by=event.told_by, relation=event.relation)


def _summed_up(note: Note) -> Summary:
    return Summary(told_by=note.told_by, kin=note.relation)


def _bared(summary: Summary) -> Bare:
    return Bare(told_by=summary.told_by)


def _version(number: int, data: type[Any], begin: Callable[[Opened], Any], *migrations: Migration[Any, Any]) -> Any:
    def insure(data: Any) -> Insure:
        return Insure(number=1, name="somebody")

    def release(data: Any) -> Release:
        return Release(policy="none", who="somebody")

    return Saga(
        name="notes",
        version=number,
        data=data,
        starts_on=Start(Opened, begin, key=lambda event: event.case),
        steps=(Step("first", insure, compensation=release), Step("second", insure, compensation=release)),
        migrations=migrations,
    )


def _moved_twice() -> tuple[Recording, list[Saga[Any]]]:
    """Started under version 1, with one answer there, one under version 2, and its end under version 3."""
    first = _version(1, Note, _noted)
    second = _version(2, Summary, lambda event: _summed_up(_noted(event)), Migration(first, _summed_up))
    third = _version(3, Bare, lambda event: Bare(told_by=event.told_by), Migration(second, _bared))
    play = Recording(first, OPENED.case)
    play.event(OPENED)
    for old, new in ((first, second), (second, third)):
        play.saga = new
        play.take(PersonActed(play.now, Action.MIGRATE, "bea", "on", from_version=old.version, to_version=new.version))
        play.answer({2: "first", 3: "second"}[new.version], Insured(policy="POL-77-ab"))
    assert play.status == "completed"
    return play, [first, second, third]


def test_what_only_the_first_of_three_versions_marked_is_redacted_in_all() -> None:
    """Each transition by the version that decided it; a value that one has marked is known again in the others."""
    play, sagas = _moved_twice()
    before = as_text(_bundle(play.recorded))
    assert [before.count(each) for each in ("Anne Isabella Milbanke", "a godmother of hers")] == [5, 3]
    bundle = redacted(_bundle(play.recorded), sagas[-1], SECRET)
    assert [] == [each for each in ("Milbanke", "godmother") if each in as_text(bundle)]
    (started, *_), (moved, *_) = (json.loads(bundle.recorded.transitions[place].facts) for place in (0, 1))
    assert list(started["data"]) == ["told_by", "relation"]
    assert (started["data"]["told_by"], started["data"]["relation"]) == (moved["data"]["told_by"], moved["data"]["kin"])
    known = Catalog(sagas)
    assert replay(play.recorded, known).difference is None
    assert replay(bundle.recorded, known).difference is None


def test_an_instance_of_a_version_that_nobody_knows_here_is_not_redacted() -> None:
    """The newest one leads to the others by its migrations; where it does not, they have to be given."""
    play, sagas = _moved_twice()
    alone = _version(3, Bare, lambda event: Bare(told_by=event.told_by))
    with pytest.raises(CannotRedact, match=r"was an instance of notes v1 and v2, which is not loaded here"):
        redacted(_bundle(play.recorded), alone, SECRET)
    made = redacted(_bundle(play.recorded), alone, SECRET, sagas[:2])
    assert "Milbanke" not in as_text(made)


def test_an_instance_with_a_revoked_deadline_is_redacted_and_replays() -> None:
    """What few instances have lies behind what all have, and stays."""
    play = _admitted()
    play.take(PersonActed(play.now, Action.RESCHEDULE, "bea", "she is away", "insurance", due=None))
    bundle = _redacted(play)
    assert json.loads(bundle.recorded.progress)["steps"]["insurance"][6:] == [True, None]
    assert "lovelace" not in as_text(bundle)
    assert replay(play.recorded, Catalog([SAGA])).difference is None
    assert replay(bundle.recorded, Catalog([SAGA])).difference is None


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ('[{"fact":"step_succeeded","step":"first","note":"typhus"}]', "its fact step_succeeded says note"),
        ('[{"fact":"step_succeeded","step":"first","data":{}}]', "its fact step_succeeded says data"),
        ('[{"fact":"dreamed","step":"first"}]', "it holds a fact dreamed"),
    ],
)
def test_a_fact_that_says_what_is_not_known_here_stops_it(facts: str, said: str) -> None:
    """A newer version of Amends has written it: nobody can say what in it is sensitive."""
    play = _admitted()
    recorded = replace(play.recorded, transitions=(replace(play.lines[0], facts=facts),))
    with pytest.raises(CannotRedact, match=rf"{said}.*: nobody can say what in it is sensitive"):
        redacted(_bundle(recorded), SAGA, SECRET)


def test_of_every_kind_of_fact_it_is_known_what_it_says() -> None:
    """Whoever adds a kind or a field has to say here whether it holds what is somebody's."""
    kinds: tuple[Any, ...] = get_args(f.Fact)
    due = datetime(2026, 1, 2, tzinfo=UTC)
    empty: Any = [
        kind(**{field.name: due if field.name == "due" else 0 for field in fields(kind) if field.init})
        for kind in kinds
    ]
    written = {each.pop("fact"): set(each) for each in json.loads(dump_facts(empty))}
    assert written == {kind: set(said) for kind, said in FACTS.items()}


@pytest.mark.parametrize("path", golden(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_golden_histories_are_redacted_and_replay(path: Path) -> None:
    """Of real orders and trips nobody can tell whose they are, and they replay all the same."""
    recorded, known = read(path), catalog()
    saga = known.get(recorded.name, recorded.version)
    assert saga is not None
    before = as_text(_bundle(recorded))
    bundle = redacted(_bundle(recorded), saga, SECRET)
    whose = re.findall(r'"(?:customer_id|traveler)": "(.*?)"', before)
    assert whose
    assert [] == [each for each in whose if each in as_text(bundle)]
    assert replay(bundle.recorded, known).difference is None


# -- generated histories -------------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=6, max_size=30).map(str.strip)
STRUCTURE = (
    "redacted-@example.com Rome aunt front desk was refused timed out skipped retry abandoned in doubt and never "
    "answered treatment insurance consent visit completed started stuck resumed deadline person clinic.left "
    + as_text(_bundle(_compensated().recorded, _parked(Agreed(email="nobody"), UUID(int=1))))
)
"""What is in every bundle: a value that is part of it can be there without having survived."""
long_words = words.filter(lambda text: len(text) >= 6 and text.casefold() not in STRUCTURE.casefold())
emails = st.from_regex(r"[a-z]{5,9}@[a-z]{4,9}\.(com|net)", fullmatch=True)

patients = st.builds(
    Admitted,
    email=emails,
    patient=st.uuids(version=4),
    name=long_words,
    number=st.integers(10_000, 2**53),
    born=st.none() | st.dates(date(1800, 1, 1), date(1940, 1, 1)),
    vip=st.booleans(),
    homes=st.lists(st.builds(Address, street=long_words, city=st.just("Rome")), max_size=2).map(tuple),
    kin=st.dictionaries(long_words, st.just("aunt"), max_size=2),
    ward=st.sampled_from(["a", "closed", "nowhere"]),
)
happenings = st.lists(
    st.sampled_from(["yes", "yes", "no", "deadline", "agree", "leave", "person", "retry"]), max_size=10
)


def _play(patient: Admitted, policy: str, happened: list[str]) -> Recording:
    play = _admitted(patient)
    answers: dict[str, Event] = {"insurance": Insured(policy=policy), "treatment": Treated(), "visit": Treated()}
    for what in happened:
        current = play.current
        if not current.started:
            break
        waiting = current.current[0] if current.current else "insurance"
        if what == "deadline" and current.deadline is not None:
            play.deadline()
        elif what == "agree":
            play.event(Agreed(email=patient.email, signed=patient.name))
        elif what == "leave":
            play.event(Left(email=patient.email))
        elif what == "person":
            play.person(Action.ABANDON)
        elif what == "retry":
            play.person(Action.RETRY)
        elif waiting in answers and play.commands(waiting):
            back = current.steps[waiting].status.value == "compensating"
            refusal = NotInsured(reason=f"{patient.name} ({patient.email}) owes us {patient.number}")
            event = Released() if back else refusal if what == "no" and waiting == "insurance" else answers[waiting]
            play.answer(waiting, event)
    return play


@settings(max_examples=100, derandomize=True, deadline=None)
@given(patient=patients, policy=long_words, happened=happenings, secret=st.binary(min_size=16, max_size=16))
def test_no_sensitive_value_survives_and_it_replays(
    patient: Admitted, policy: str, happened: list[str], secret: bytes
) -> None:
    """Whatever has happened: of no value is there a trace, in no way of writing it, and no difference is found."""
    play = _play(patient, policy, happened)
    bundle = _bundle(play.recorded, _parked(Agreed(email=patient.email, signed=policy), play.id))
    made = redacted(bundle, SAGA, secret)
    text = as_text(made)
    shown = [*_texts(json.loads(text))]
    values = [
        patient.email,
        str(patient.patient),
        patient.patient.hex,
        patient.name,
        policy,
        str(play.id),
        *([patient.born.isoformat()] if patient.born else []),
        *(home.street for home in patient.homes),
        *patient.kin,
    ]
    for value in values:
        for written in {value, repr(value)[1:-1], json.dumps(value)[1:-1]}:
            assert [] == [each for each in shown if written.casefold() in each.casefold()], written
    # Few digits stand now and then among the hexadecimal ones of a token, by chance: there they tell nothing.
    number = re.compile(rf"(?<![0-9a-f]){patient.number}(?![0-9a-f])")
    assert [] == [each for each in shown if number.search(each)]
    replayed = replay(made.recorded, Catalog([SAGA]))
    assert replay(play.recorded, Catalog([SAGA])).difference is None
    assert (replayed.transitions, replayed.difference) == (len(play.lines), None)
    assert made.recorded.status == play.status


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)


@settings(max_examples=30, derandomize=True, deadline=None)
@given(names=st.lists(long_words, min_size=2, max_size=2, unique=True))
def test_different_values_differ(names: list[str]) -> None:
    """Two values never share a token."""
    patient = PATIENT.model_copy(update={"kin": dict.fromkeys(names, "aunt")})
    assert len(_started_with(_redacted(_admitted(patient)))["kin"]) == 2


def _content(model: type[BaseModel], value: dict[str, Any], secret: bytes = SECRET) -> Any:
    hidden = Hidden()
    hidden.content(value, model)
    return Replacing(hidden, secret).content(value, model)


def _check_digit(text: str) -> str:
    if text != "4711-8":
        raise ValueError("the check digit is wrong")
    return text


def _known_country(text: str) -> str:
    return {"Absurdistan": text}[text]


class Member(BaseModel):
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}-[0-9]{4}$"), SENSITIVE] = ""
    account: Annotated[str, AfterValidator(_check_digit), SENSITIVE] = ""
    country: Annotated[str, AfterValidator(_known_country), SENSITIVE] = ""
    balance: Sensitive[Decimal] = Decimal(0)
    share: Sensitive[float] = 0.0
    level: Sensitive[Literal["gold", "silver", "lead"]] = "lead"
    active: Sensitive[bool] = False
    rank: Annotated[int, Field(ge=1, le=3), SENSITIVE] = 1


def test_a_token_fits_where_the_usual_one_would_not() -> None:
    """A pattern is kept by other letters and digits; amounts stay amounts."""
    made = _content(Member, {"code": "AB-1234", "balance": "-12.50", "share": 0.25})
    assert re.fullmatch(r"[A-Z]{2}-[0-9]{4}", made["code"])
    assert made["code"] != "AB-1234"
    assert re.fullmatch(r"-[1-9][0-9]\.[0-9]{2}", made["balance"])
    assert isinstance(made["share"], float)
    assert made["share"] != 0.25


@pytest.mark.parametrize(("field", "value"), [("account", "4711-8"), ("country", "Absurdistan")])
def test_where_no_token_fits_the_field_is_named(field: str, value: str) -> None:
    """And the value is not, whatever the contract's own validator raises."""
    with pytest.raises(CannotRedact, match=rf"valid in the sensitive field Member\.{field}") as caught:
        _content(Member, {field: value})
    assert value not in str(caught.value)


def test_where_few_numbers_are_valid_one_of_them_is_taken() -> None:
    """Another than the one that is hidden."""
    assert _content(Member, {"rank": 2})["rank"] in (1, 3)


def test_of_few_choices_nobody_can_tell_which_it_was() -> None:
    """With one secret or another, each of them stands for each; with one secret, no two for the same."""
    secrets = [bytes([number]) for number in range(60)]
    for field, choices in (("active", [False, True]), ("level", ["gold", "lead", "silver"])):
        for choice in choices:
            shown = {_content(Member, {field: choice}, secret)[field] for secret in secrets}
            assert sorted(shown) == choices
        assert all(
            len({_content(Member, {field: choice}, secret)[field] for choice in choices}) == len(choices)
            for secret in secrets
        )


def test_moments_and_small_numbers_have_tokens_too() -> None:
    """Of a moment the zone stays; one of few numbers becomes one of more when all of so many digits are taken."""
    tokens = Tokens(SECRET, {str(number) for number in range(10)})
    made = tokens.token("2026-01-02T03:04:05.5+02:00", lambda _: True)
    assert datetime.fromisoformat(made).utcoffset() == datetime.fromisoformat("2026-01-02T00:00:00+02:00").utcoffset()
    assert datetime.fromisoformat(made).astimezone(UTC) != datetime.fromisoformat("2026-01-02T03:04:05.5+02:00")
    assert len({tokens.token(str(number), lambda _: True) for number in range(10)} - set("0123456789")) == 10


class Locked(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    patient: UUID
    names: tuple[str, ...] = ()


def test_what_is_redacted_in_strict_data_is_looked_at_too() -> None:
    """It is read from JSON, where a list is a tuple and a text a UUID; taken for unreadable, nobody would look."""
    assert _complaint(Locked, {"patient": "00000000-0000-0000-0000-000000000005", "names": ["ada"]}) is None
    assert _complaint(Locked, {"patient": "token-1", "names": ["ada"]}) is not None
