"""What a command reads from its environment that looks after the keys of persons."""

from __future__ import annotations

from typing import ClassVar

from messaging.settings import ServiceSettings

HISTORY = "messaging.subjects:migrations"


class SubjectsSettings(ServiceSettings):
    """A service's settings, of which only those count here that are about these keys."""

    service: ClassVar[str] = "subjects"
    database_variable: ClassVar[str] = "AMENDS_SUBJECT_KEYS"

    @property
    def database(self) -> str:
        """Where the keys are; nothing where nobody says it."""
        return "" if self.subject_keys is None else self.subject_keys.get_secret_value()
