"""What every service needs to publish and consume reliably; knows no saga and no domain.

Each name is loaded when it is first asked for: a program sees to its Ctrl-C (`messaging.interrupts`) before it loads
what takes time.
"""

TYPE_CHECKING = False  # typing takes as long to load as the interpreter to start

if TYPE_CHECKING:
    from messaging.outbox import collect, emit
    from messaging.participant import Participant, RetryLater
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from messaging import outbox, participant

        return getattr(outbox if name in ("collect", "emit") else participant, name)


__all__ = ["Participant", "RetryLater", "collect", "emit"]
