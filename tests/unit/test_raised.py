"""The exception that made a saga stuck, out of its traceback."""

from __future__ import annotations

from orchestrator.diagnosis.findings import Raised
from orchestrator.diagnosis.raised import raised

_MACHINE = """Traceback (most recent call last):
  File "/app/.venv/lib/python3.11/site-packages/orchestrator/engine.py", line 240, in _apply
    transition = decide(instance.saga, instance.id, instance.state, given)
                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/app/.venv/lib/python3.11/site-packages/orchestrator/saga/deciding.py", line 139, in _answer
    self._data(step.on_success(self.state.data, event))
               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
"""


def test_the_last_line_of_the_teams_own_code() -> None:
    """Below the machine, above the standard library and other packages, also where a helper of the team raised."""
    story = _MACHINE + (
        '  File "/app/shop/sagas/checkout.py", line 42, in authorized\n'
        "    return data.priced(total_of(event))\n"
        "                       ^^^^^^^^^^^^^^^\n"
        '  File "/app/shop/prices.py", line 7, in total_of\n'
        "    return Decimal(event.total)\n"
        '  File "/usr/lib/python3.11/decimal.py", line 3, in helper\n'
        "    raise\n"
        '  File "/app/.venv/lib/python3.11/site-packages/pydantic/main.py", line 9, in validate\n'
        "    raise\n"
        "decimal.InvalidOperation: [<class 'decimal.ConversionSyntax'>]\n"
    )
    assert raised(story) == Raised(
        "decimal.InvalidOperation: [<class 'decimal.ConversionSyntax'>]", "/app/shop/prices.py", 7, "total_of"
    )


def test_a_team_whose_sagas_are_an_installed_package() -> None:
    """Its own package counts as its own code; other packages do not."""
    story = _MACHINE + (
        '  File "/app/.venv/lib/python3.11/site-packages/shop/sagas.py", line 4, in authorized\n'
        "    return Paid.model_validate({})\n"
        '  File "/app/.venv/lib/python3.11/site-packages/pydantic/main.py", line 9, in model_validate\n'
        "    raise\n"
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for Paid\n"
        "amount\n"
        "  Field required [type=missing, input_value={}, input_type=dict]\n"
    )
    assert raised(story) == Raised(
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for Paid amount Field required "
        "[type=missing, input_value={}, input_type=dict]",
        "/app/.venv/lib/python3.11/site-packages/shop/sagas.py",
        4,
        "authorized",
    )


def test_what_the_machine_itself_refuses_has_no_line_of_the_team() -> None:
    """A function that returned the wrong thing is named by the error."""
    assert raised(
        _MACHINE + "TypeError: a function of Saga('work', version=1) returned None instead of Work"
    ) == Raised("TypeError: a function of Saga('work', version=1) returned None instead of Work")


def test_the_last_of_several_tracebacks() -> None:
    """Of an exception raised while handling another, what came out in the end."""
    first = 'Traceback (most recent call last):\n  File "/app/shop/a.py", line 1, in one\n    x\nKeyError: 1\n\n'
    between = "During handling of the above exception, another exception occurred:\n\n"
    second = _MACHINE + '  File "/app/shop/b.py", line 2, in two\n    y\nValueError: no such order\n'
    assert raised(first + between + second) == Raised("ValueError: no such order", "/app/shop/b.py", 2, "two")


def test_a_traceback_that_lost_its_beginning() -> None:
    """A long one is stored without it; the error is still told."""
    cut = 'ging.py", line 1, in x\n  File "/app/shop/b.py", line 2, in two\n    y\nRecursionError: too deep\n'
    assert raised(cut) == Raised("RecursionError: too deep", "/app/shop/b.py", 2, "two")


def test_a_reason_that_is_no_traceback() -> None:
    """It is told as it is."""
    assert raised("its row was mended by hand") == Raised("its row was mended by hand")
    assert raised("") == Raised("an exception")
