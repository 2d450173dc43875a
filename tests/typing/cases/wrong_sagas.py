"""Sagas whose wiring is wrong: each marked line is refused, and no other."""

from __future__ import annotations

from pydantic import BaseModel

from orchestrator import PIVOT, RETRIABLE, Cancel, Delay, Migration, Parallel, Saga, Start, Step, Wait, seconds
from tests.typing.cases.right import (
    Asked,
    Cake,
    Eaten,
    Invited,
    Recalled,
    Tasted,
    bake,
    baked,
    begin,
    burnt,
    eat,
    eaten,
    served,
    tasted,
    unsure,
)


class Pie(BaseModel):
    apples: int


def eat_pie(data: Pie) -> Eaten:
    raise NotImplementedError


def begin_pie(event: Asked) -> Pie:
    raise NotImplementedError


def pie_ready(data: Pie) -> bool:
    raise NotImplementedError


def pie_time(data: Pie) -> float:
    raise NotImplementedError


def pie_baked(data: Pie, event: Eaten) -> Pie:
    raise NotImplementedError


def pie_of_cake(data: Cake) -> Pie:
    raise NotImplementedError


def cake_of_pie(data: Pie) -> Cake:
    raise NotImplementedError


def announces_nothing(data: Cake) -> None:
    raise NotImplementedError


# The answer on_success takes is that of another command, or the refusal.
Step("base", bake, on_success=eaten)  # expect-error
Step("base", bake, on_success=burnt)  # expect-error
Step("base", bake, on_failure=baked)  # expect-error
Step("oven", bake, kind=PIVOT, on_success=eaten)  # expect-error
Step("party", eat, kind=RETRIABLE, on_success=baked)  # expect-error

# A compensation, and every step after the pivot, cannot be refused.
Step("base", bake, compensation=bake)  # expect-error
Step("order", compensation=bake)  # expect-error
Step("party", bake, kind=RETRIABLE)  # expect-error

# There is no way back from these.
Step("oven", bake, kind=PIVOT, compensation=eat)  # expect-error
Step("party", eat, kind=RETRIABLE, compensation=eat)  # expect-error
Step("oven", bake, kind=PIVOT, on_in_doubt=unsure)  # expect-error
Step("party", eat, kind=RETRIABLE, on_failure=burnt)  # expect-error

# Nothing to do, nothing to answer.
Step("order")  # expect-error
Step("order", compensation=eat, on_success=baked)  # expect-error
Step("base", served)  # expect-error
Step("base", lambda data: 7)  # expect-error
Step("base", bake, timeout=30)  # expect-error

# Functions of another saga's data.
wrong_data: Step[Cake] = Step("base", bake, on_success=pie_baked)  # expect-error
wrong_when: Step[Cake] = Step("base", bake, when=pie_ready)  # expect-error
other: Step[Pie] = Step("base", bake)  # expect-error

# Waits and delays.
wrong_event: Wait[Cake] = Wait(Tasted, key=lambda event: event.id, on_event=eaten)  # expect-error
no_field: Wait[Cake] = Wait(Tasted, key=lambda event: event.cake_id)  # expect-error
no_event: Wait[Cake] = Wait(Cake, key=lambda event: event.id)  # expect-error
wrong_timeout: Wait[Cake] = Wait(Tasted, key=lambda event: event.id, on_timeout=False)  # expect-error
wrong_length: Delay[Cake] = Delay(pie_time, name="cool")  # expect-error
wrong_group: Parallel[Cake] = Parallel(Step("base", bake), no_event)  # expect-error

# The start.
wrong_begin: Start[Cake] = Start(Recalled, begin, key=lambda event: event.id)  # expect-error
wrong_begun: Start[Cake] = Start(Asked, begin_pie, key=lambda event: event.id)  # expect-error
wrong_cancel: Cancel[Cake] = Cancel(Recalled, key=lambda event: event.cake)  # expect-error

right_start: Start[Cake] = Start(Asked, begin, key=lambda event: event.id)
right_step: Step[Cake] = Step("base", bake)
Saga(name="cake", version=1, data=Pie, starts_on=right_start, steps=(right_step,))  # expect-error
Saga(name="cake", version=1, data=Cake, starts_on=right_start, steps=right_step)  # expect-error
Saga(name="cake", version=1, data=Cake, starts_on=right_start, steps=(Delay(seconds(1), name="a"), bake))  # expect-error
Saga(name="cake", version=1, data=Cake, starts_on=right_start, steps=(right_step,), on_completed=eat)  # expect-error
Saga(name="cake", version=1, data=Cake, starts_on=right_start, steps=(right_step,), on_completed=announces_nothing)  # expect-error
Saga(name="cake", version=1, data=Cake, starts_on=right_start, steps=(Wait(Tasted, key=str, on_event=eaten),))  # expect-error

# Migrations: of the old version's data, to the new one's.
old: Saga[Cake] = Saga(name="cake", version=1, data=Cake, starts_on=right_start, steps=(right_step,))
Migration(old, cake_of_pie)  # expect-error
to_pie: Migration[Cake, Pie] = Migration(old, pie_of_cake)
Saga(name="cake", version=2, data=Cake, starts_on=right_start, steps=(right_step,), migrations=(to_pie,))  # expect-error

# What may be sealed is no value: it is passed on, and nothing else.
def shouted(event: Invited) -> str:
    return event.email.upper()  # expect-error


def quoted(event: Invited) -> str:
    return event.email  # expect-error


def measured(event: Invited) -> int:
    return len(event.email)  # expect-error


def asked_for(event: Invited) -> str:
    return event.guest
