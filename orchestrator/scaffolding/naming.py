"""What a new service is called: in Python, on the wire, in a cluster, to people. One name, checked once."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST = 30
"""With what stands around it, the name of a job in Kubernetes stays below the 63 characters of a label."""
_RESERVED = {
    "amends": "Amends itself",
    "monitor": "a user of the broker that looks at figures",
    "operator": "the user that owns the broker",
    "order": "Amends' own order service",
    "payment": "Amends' own payment service",
    "shop": "the other participant in the tests that come with it",
    "test": "what Python's own tests are called",
    "tests": "the tests that come with it",
}


class BadName(ValueError):
    """A name that cannot be a service's; says why, and which one would do where that is plain."""


@dataclass(frozen=True, slots=True)
class Naming:
    """A service's name in all its forms. Raises BadName."""

    name: str
    """The Python package, the participant, its queues, its database and its users: `stock_keeping`."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadName(
                f"{self.name!r} is no name for a service: lower case letters and digits, beginning with a letter, "
                f"with single underscores between words{_instead_of(self.name)}"
            )
        if len(self.name) > _LONGEST:
            raise BadName(f"{self.name!r} has {len(self.name)} characters; {_LONGEST} are the most")
        if keyword.iskeyword(self.name) or keyword.issoftkeyword(self.name):
            raise BadName(f"{self.name!r} is a word of Python's, and no package can be called so")
        if self.name in _RESERVED:
            raise BadName(f"{self.name!r} is {_RESERVED[self.name]}; choose another name")
        if self.name in sys.stdlib_module_names or importlib.util.find_spec(self.name) is not None:
            raise BadName(
                f"{self.name!r} is a module that is installed here, which yours would hide; choose another name"
            )

    @property
    def dashed(self) -> str:
        """Where there are no underscores: images, resources in a cluster, the distribution: `stock-keeping`."""
        return self.name.replace("_", "-")

    @property
    def upper(self) -> str:
        """What its variables begin with: `STOCK_KEEPING`."""
        return self.name.upper()

    @property
    def title(self) -> str:
        """What its classes begin with: `StockKeeping`."""
        return "".join(word.capitalize() for word in self.name.split("_"))

    @property
    def words(self) -> str:
        """As people say it: `stock keeping`."""
        return self.name.replace("_", " ")


def _instead_of(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    other = re.sub(r"[^a-z0-9]+", "_", spaced).strip("_").lstrip("0123456789_")
    return f", like {other}" if _NAME.fullmatch(other) else ", like stock_keeping"
