"""What every service needs to publish and consume reliably; knows no saga and no domain."""

from messaging.outbox import collect, emit
from messaging.participant import Participant, RetryLater

__all__ = ["Participant", "RetryLater", "collect", "emit"]
