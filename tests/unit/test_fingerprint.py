"""When two definitions count as the same saga, and what is said of two that do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from orchestrator import COMPENSATE, CONTINUE, Cancel, Parallel, Retry, Saga, Start, minutes, seconds
from orchestrator.saga.fingerprint import describe, differences, fingerprint
from orchestrator.saga.meaning import meaning_of, source_of
from orchestrator.sagas.fulfill_order import FULFILL_ORDER
from tests.unit.work import (
    Begun,
    Do,
    Withdrawn,
    Work,
    approval,
    begin,
    finished,
    must_do,
    pause,
    pivot,
    retriable,
    step,
    undoing,
    work_saga,
)

ROOT = Path(__file__).parents[2]
LIMIT = 100
LIMITS = {"low": (1, 2), "high": LIMIT}


def small(data: Work) -> bool:
    """Say whether it is small."""
    # This comment means nothing.
    return data.id < 100


# fmt: off
def little(data: Begun)   ->   object:
    """Say the same, in other words."""
    return (
        data.id
        < 100
    )
# fmt: on


def large(data: Work) -> bool:
    """Say nearly the same."""
    return data.id < 101


def limited(data: Work) -> bool:
    """Mention a constant."""
    return data.id < LIMIT


def calling(data: Work) -> bool:
    """Mention a function."""
    return small(data)


def calling_another(data: Work) -> bool:
    """Mention another function."""
    return large(data)


def recursive(data: Work) -> bool:
    """Mention itself."""
    return data.id == 0 or recursive(data)


def unassigned() -> Callable[[Work], bool]:
    """Make a function that mentions a variable that has no value yet."""

    def function(data: Work) -> bool:
        return data.id < later

    meaning_of(function)
    later = 1
    return function


def same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two functions mean the same."""
    return meaning_of(one) == meaning_of(other)


# -- functions -----------------------------------------------------------------------------------------------


def test_layout_comments_docstrings_annotations_and_names_mean_nothing() -> None:
    """Only the code counts."""
    assert same(small, little)


def test_another_body_is_another_meaning() -> None:
    """One digit is enough."""
    assert not same(small, large)
    assert not same(calling, calling_another)


def test_a_constant_counts_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit kept beside the function is part of what it means."""
    before = meaning_of(limited)
    monkeypatch.setattr(sys.modules[__name__], "LIMIT", 101)
    assert before != meaning_of(limited)
    assert source_of(limited) == "def limited(data):\n    return data.id < LIMIT\nwhere LIMIT is 101"


def test_what_a_function_closes_over_counts() -> None:
    """Two functions of one factory differ by what the factory was given."""
    assert not same(undoing("stock"), undoing("money"))
    assert same(undoing("stock"), undoing("stock"))
    assert "where name is 'stock'" in source_of(undoing("stock"))


def test_recursion_and_unassigned_variables_end() -> None:
    """A function that mentions itself, or nothing yet, has a meaning too."""
    assert "itself" in meaning_of(recursive)
    assert "where later is 1" in source_of(unassigned())


def test_lambdas_in_one_line_are_told_apart() -> None:
    """Each lambda inside a call is its own, also when it is inside another."""
    nested: Any
    one, two, nested = (lambda data: data.id), (lambda data: data.log), (lambda data: lambda more: more + data)
    assert ("lambda data: data.id", "lambda data: data.log") == (source_of(one), source_of(two))
    assert "lambda data: lambda more: more + data" == source_of(nested)
    assert "lambda more: more + data\nwhere data is 7" == source_of(nested(7))
    assert not same(one, two)


def test_a_lambda_over_several_lines_is_itself() -> None:
    """Where it begins and how it is broken means nothing."""
    # fmt: off
    broken = {"key": lambda event:
        event
        .id}["key"]
    # fmt: on
    assert same(broken, lambda event: event.id)


def test_the_compared_text_is_fixed() -> None:
    """It is kept in databases and compared by later Pythons: it never changes by itself."""
    expected = [
        [
            "Lambda",
            ["args", ["arguments", ["args", [["arg", ["arg", "data"]]]]]],
            [
                "body",
                [
                    "Compare",
                    ["left", ["Attribute", ["value", ["Name", ["id", "data"]]], ["attr", "id"]]],
                    ["ops", [["Lt"]]],
                    ["comparators", [["Constant", "int", "100"]]],
                ],
            ],
        ],
        [],
    ]
    assert expected == json.loads(meaning_of(lambda data: data.id < 100))


def test_a_function_without_source_is_told_by_its_constants() -> None:
    """What was made at run time still differs by what it says."""
    codes = ("lambda data: data.id < 100", "lambda data: data.id < 101", "lambda data: data.key < 100")
    made = [eval(code) for code in codes]
    again = eval("lambda data: data.id < 100")
    assert same(made[0], again)
    assert not same(made[0], made[1])
    assert not same(made[0], made[2])


def test_a_class_or_builtin_is_told_by_its_name() -> None:
    """There is no code of ours to look at."""
    assert "builtins.str" == meaning_of(str) == source_of(str)
    assert "tests.unit.work.Work" == meaning_of(Work)


def test_a_method_is_told_by_its_function() -> None:
    """Bound or not, its code is what it means."""
    assert "def told(self, what):" in source_of(Work(id=7).told)


# -- sagas ---------------------------------------------------------------------------------------------------


def saga(*stages: Any, **options: Any) -> Saga[Work]:
    """A saga with every kind of stage."""
    return work_saga(
        *(
            stages
            or (
                step("stock", when=small),
                Parallel(step("flight"), step("hotel")),
                approval(),
                pause("cool_off", minutes(5)),
                pivot("ship"),
                retriable("mail"),
            )
        ),
        **options,
    )


def with_stock(**options: Any) -> Saga[Work]:
    """A saga of one step with these options."""
    return saga(step("stock", **options))


def with_wait(**options: Any) -> Saga[Work]:
    """A saga of one wait with these options."""
    return saga(approval(**options))


class Fuller(BaseModel):
    """Work that knows more."""

    model_config = ConfigDict(frozen=True)

    id: int
    log: tuple[str, ...] = ()
    more: int = 0


class Documented(BaseModel):
    """Work with words about it."""

    model_config = ConfigDict(frozen=True)

    id: int = Field(description="Which.", title="Identity", examples=[7])
    title: str = ""


class Undocumented(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: int
    title: str = ""


class Counting(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: int

    def next(self) -> int:
        return self.id + 1

    @property
    def last(self) -> int:
        return self.id - 1


def of(data: type[BaseModel], **options: Any) -> Saga[Any]:
    """A saga with this data."""
    start: Any = Start(Begun, begin, key=lambda event: event.id)
    return Saga(name="work", version=1, data=data, starts_on=start, steps=(pause("cool_off", minutes(5)),), **options)


def test_the_same_definition_made_twice_has_one_fingerprint() -> None:
    """It depends on nothing but the definition."""
    assert fingerprint(saga()) == fingerprint(saga())
    assert describe(saga()) == describe(saga())
    assert 64 == len(fingerprint(saga()))
    assert set(fingerprint(saga())) <= set("0123456789abcdef")


def test_every_process_finds_the_same_fingerprint() -> None:
    """Neither hash seeds nor the order of imports nor compiled files get into it."""
    program = (
        "from orchestrator.saga.fingerprint import fingerprint\n"
        "from orchestrator.sagas.fulfill_order import FULFILL_ORDER\n"
        "print(fingerprint(FULFILL_ORDER))"
    )
    found = set()
    for seed in ("0", "1", "4711"):
        done = subprocess.run(
            [sys.executable, "-X", "no_debug_ranges" if seed == "1" else "utf8", "-c", program],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=180,
            check=True,
        )
        found.add(done.stdout.strip())
    assert {fingerprint(FULFILL_ORDER)} == found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (with_stock(), with_stock(timeout=seconds(31))),
        (with_stock(), with_stock(retry=Retry(attempts=4))),
        (with_stock(), with_stock(retry=Retry(backoff=seconds(3)))),
        (with_stock(), with_stock(retry=Retry(cap=seconds(3)))),
        (with_stock(), with_stock(compensation_retry=Retry(attempts=4))),
        (with_stock(), with_stock(compensation=None)),
        (with_stock(), with_stock(on_success=None)),
        (with_stock(), with_stock(on_failure=None)),
        (with_stock(), with_stock(on_in_doubt=None)),
        (with_stock(), with_stock(when=small)),
        (with_stock(when=small), with_stock(when=large)),
        (with_stock(on_in_doubt=lambda data: data.told("a")), with_stock(on_in_doubt=lambda data: data.told("b"))),
        (saga(step("stock")), saga(step("money"))),
        (saga(step("stock"), step("money")), saga(step("money"), step("stock"))),
        (saga(step("stock"), step("money")), saga(Parallel(step("stock"), step("money")))),
        (saga(step("stock")), saga(pivot("stock"))),
        (saga(), saga(version=2)),
        (saga(), saga(name="play")),
        (saga(), saga(cancel_on=Cancel(Withdrawn, key=lambda event: event.id))),
        (
            saga(cancel_on=Cancel(Withdrawn, key=lambda event: event.id)),
            saga(cancel_on=Cancel(Withdrawn, key=lambda event: -event.id)),
        ),
        (with_wait(), with_wait(timeout=None)),
        (with_wait(), with_wait(timeout=minutes(61))),
        (with_wait(on_timeout=COMPENSATE), with_wait(on_timeout=CONTINUE)),
        (with_wait(), with_wait(on_event=None)),
        (with_wait(), with_wait(when=small)),
        (saga(pause("cool_off", minutes(5))), saga(pause("cool_off", minutes(6)))),
        (saga(pause("cool_off", lambda _: minutes(5))), saga(pause("cool_off", lambda _: minutes(6)))),
        (of(Work), of(Fuller)),
        (of(Undocumented), of(Counting)),
        (of(Work), of(Work, on_completed=finished)),
        (of(Work, on_completed=finished), of(Work, on_compensated=finished)),
    ],
)
def test_whatever_an_instance_can_notice_changes_the_fingerprint(before: Saga[Any], after: Saga[Any]) -> None:
    """Structure, times, kinds, data and code: each alone makes another saga, and the difference is told."""
    assert fingerprint(before) != fingerprint(after)
    assert [] != differences(describe(before), describe(after))


def test_words_about_the_data_mean_nothing() -> None:
    """Descriptions, titles and examples are for people; a field that is called title is a field."""
    assert fingerprint(of(Documented)) == fingerprint(of(Undocumented))
    assert {"id", "title"} == set(describe(of(Documented))["data"]["schema"]["properties"])


def test_methods_of_the_data_count() -> None:
    """What the saga's functions call on their own data is theirs."""
    assert {
        "last": "@property\ndef last(self):\n    return self.id - 1",
        "next": "def next(self):\n    return self.id + 1",
    } == describe(of(Counting))["data"]["methods"]


# -- what is said --------------------------------------------------------------------------------------------


def test_a_description_is_plain_json_to_read() -> None:
    """It survives a database, and says what a person would ask."""
    told = describe(FULFILL_ORDER)
    assert told == json.loads(json.dumps(told))
    assert ["place_order", "authorize_payment", "confirm_order", "capture_payment"] == told["order"]
    payment = told["stages"]["authorize_payment"]
    assert ("compensable step", "payment.authorize v1", ["payment.authorized v1", "payment.failed v1"], 30.0) == (
        payment["is"],
        payment["command"],
        payment["answers"],
        payment["timeout"],
    )
    assert (
        "def void(data):\n    return VoidPayment(order_id=data.order_id)\nwhere VoidPayment is payment.void v1"
        == (payment["compensation"])
    )


def test_differences_are_told_one_by_one() -> None:
    """Each says where, what it was and what it is."""
    before = saga(step("stock", timeout=seconds(30), when=small), step("money"))
    after = saga(step("stock", timeout=seconds(60), when=large), step("ship"))
    told_of_when = (
        "stages.stock.when:\n    - def small(data):\n    + def large(data):\n"
        "    -     return data.id < 100\n    +     return data.id < 101"
    )
    assert [
        'order: ["stock", "money"], now ["stock", "ship"]',
        "stages.stock.timeout: 30.0, now 60.0",
        told_of_when,
        "stages.money: compensable step, now nothing",
        "stages.ship: nothing, now compensable step",
    ] == differences(describe(before), describe(after))


def test_equal_definitions_differ_in_nothing() -> None:
    """There is nothing to say."""
    assert [] == differences(describe(saga()), describe(saga()))


def test_callbacks_that_come_and_go_are_told() -> None:
    """No function is nothing to compare with."""
    told = differences(describe(with_stock(when=None)), describe(with_stock(when=lambda data: data.id == 1)))
    assert ["stages.stock.when: null, now lambda data: data.id == 1"] == told
    assert Do is saga().commands["stock"]
    assert "where name is 'mail'" in source_of(must_do("mail"))
