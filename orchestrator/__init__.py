"""Amends: what a team imports to write a saga.

Each name is loaded when it is first asked for: pytest loads the testing kit's plugin, and with it this package, in
every project of an environment that Amends is installed in.
"""

TYPE_CHECKING = False  # typing takes as long to load as the interpreter to start

if TYPE_CHECKING:
    from orchestrator.saga.definition import Saga
    from orchestrator.saga.migration import Migration
    from orchestrator.saga.steps import (
        COMPENSATE,
        CONTINUE,
        PIVOT,
        RETRIABLE,
        Cancel,
        Delay,
        InvalidSaga,
        Parallel,
        Retry,
        Start,
        Step,
        Wait,
        days,
        hours,
        minutes,
        seconds,
    )
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from orchestrator.saga import definition, migration, steps

        return getattr({"Saga": definition, "Migration": migration}.get(name, steps), name)


__all__ = [
    "COMPENSATE",
    "CONTINUE",
    "PIVOT",
    "RETRIABLE",
    "Cancel",
    "Delay",
    "InvalidSaga",
    "Migration",
    "Parallel",
    "Retry",
    "Saga",
    "Start",
    "Step",
    "Wait",
    "days",
    "hours",
    "minutes",
    "seconds",
]
