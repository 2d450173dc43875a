"""Marking what is nobody's business: fields of contracts and of saga data that are sealed, and redacted in exports.

    class OrderCreated(Event, type="order.created"):
        email: Sensitive[str]
        phone: Annotated[str | None, Field(max_length=20), SENSITIVE] = None

The JSON Schema and a saga's fingerprint stay as they are. What is inside a marked field is marked too:
`Sensitive[Address]`, `list[Sensitive[str]]`, `dict[Sensitive[str], int]`.

In a contract that names its subject, marked fields are sealed by services that have keys (`contracts.places`). So a
field that is marked takes what is withheld in the place of a value (`contracts.withheld`), everywhere. `Personal[str]`
is the same to all but type checkers, which see that the value may be withheld:

    class OrderCreated(Event, type="order.created", key="order_id", subject="customer_id"):
        order_id: UUID
        customer_id: str
        email: Personal[str]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from contracts.withheld import Withheld, read

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SensitiveMark:
    """Says of the type it is an annotation of that its values are sensitive."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler(source)
        if self._is_followed(handler):
            # Whatever comes after the mark would be asked of what is withheld, too: such a field takes values only.
            return inner
        return core_schema.no_info_wrap_validator_function(
            _validated,
            inner,
            serialization=core_schema.wrap_serializer_function_ser_schema(_serialized, schema=inner),
        )

    def _is_followed(self, handler: GetCoreSchemaHandler) -> bool:
        """Whether the field that is being built has more annotations after the mark: `Sensitive[str] = Field(...)`."""
        # pydantic says which field, but of which model only to itself. Where it keeps that elsewhere one day, the
        # schemas of such fields change, which a test tells.
        building = getattr(getattr(handler, "_generate_schema", None), "model_type_stack", None)
        model = None if building is None else building.get()
        field = getattr(model, "__pydantic_fields__", {}).get(handler.field_name)
        later = () if field is None or self not in field.metadata else field.metadata[field.metadata.index(self) :]
        return any(not isinstance(each, (SensitiveMark, Carried)) for each in later)


def _validated(value: Any, inner: Callable[[Any], Any]) -> Any:
    if type(value) is str:  # as nearly all are
        return inner(value)
    found = read(value)
    return inner(value) if found is None else found


def _serialized(value: Any, inner: Callable[[Any], Any]) -> Any:
    return value.token if isinstance(value, Withheld) else inner(value)


@dataclass(frozen=True, slots=True)
class Carried:
    """Says of a field that what was sealed for that field of that message may be passed on to it, and opens there.

    `field` is a place in the JSON: names of fields with dots between, `*` for what lies in a list or a mapping.
    """

    type: str
    field: str


SENSITIVE = SensitiveMark()
Sensitive: TypeAlias = Annotated[T, SENSITIVE]
if TYPE_CHECKING:
    Personal: TypeAlias = T | Withheld
else:
    Personal = Sensitive
