"""Environment variables: files that NAME_FILE names, what a value looks like there, and names that are misspelled."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

_LIKE = 0.8
"""How alike two names are (difflib's ratio) when one is taken for a misspelling of the other."""
_OURS = ("AMENDS", "ORDER", "PAYMENT")
"""What variables begin with that nobody else gives a meaning to."""


def from_file(name: str, *, secret: bool = True) -> str | None:
    """What the file says that NAME_FILE names; None where there is no such variable. Raises ValueError.

    That of a `secret`, such as an address with a password, may not be empty: it has not come yet, and the default is
    another database, or another broker.
    """
    path = os.environ.get(f"{name}_FILE")
    if path is None:
        return None
    try:
        content = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(
            f"{name}_FILE={path} cannot be read: {error.strerror}; mount the secret there or set {name} instead"
        ) from error
    if secret and not content:
        raise ValueError(f"{name}_FILE={path} is empty; write the secret into it, or unset {name}_FILE")
    return content


class FromFiles(PydanticBaseSettingsSource):
    """`DATABASE_URL_FILE=/run/secrets/db` stands for the content of that file."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        for name in _environment_names(field, field_name):
            content = from_file(name, secret=_is_secret(field))
            if content is not None:
                return content, field_name, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                values[key] = value
        return values


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *get_args(field.annotation))


def _environment_names(field: FieldInfo, field_name: str) -> tuple[str, ...]:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices if str(choice).isupper())
    return (alias if isinstance(alias, str) else field_name.upper(),)


def as_written(value: object) -> str:
    """A setting's value as an environment variable may say it; nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case timedelta():
            return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".")
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)


def misspelled(settings: type[BaseSettings], names: Iterable[str]) -> dict[str, str]:
    """Of these variables those that nobody reads, each with the setting that it was meant to be, most likely."""
    known = {
        name for key, field in settings.model_fields.items() for name in _environment_names(field, key) if "_" in name
    }
    known |= {f"{name}_FILE" for name in known}
    found = {}
    for name in sorted(set(names) - known):
        prefix, _, rest = name.partition("_")
        # Compared without what all of them begin with, which would make any two alike.
        meant = {each.partition("_")[2]: each for each in known if each.startswith(f"{prefix}_")}
        nearest = difflib.get_close_matches(rest, meant, n=1, cutoff=_LIKE)
        if nearest and prefix in _OURS:
            found[name] = meant[nearest[0]]
    return found
