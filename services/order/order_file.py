"""Orders out of a CSV file: which column means what, and each row as an order or as what is wrong with it.

Money is read as decimal text and never becomes a float. A wrong row spoils no other: a row is one line of the
file, so that a quote nobody closes cannot take the rows after it along.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO

from contracts.money import Money

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "order_ref": ("order_ref", "order_id", "order_no", "order_number", "order", "reference", "ref"),
    "customer_id": ("customer_id", "customer_no", "customer_ref", "customer"),
    "quantity": ("quantity", "qty", "items", "units"),
    "amount": ("amount", "total"),
    "sku": ("sku", "product_id", "product"),
    "currency": ("currency",),
}
"""What a column may be called, best name first; upper or lower case, with spaces, dashes or underscores."""

REQUIRED = ("order_ref", "customer_id", "quantity", "amount")
_WITH_CURRENCY = re.compile(r"^(?:amount|total)_([a-z]{3})$")
_CURRENCY = re.compile(r"^[A-Z]{3}$")
_NUMBER = re.compile(r"^-?\d{1,18}(\.\d{1,18})?$", re.ASCII)

_DECIMALS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
"""ISO 4217: how many decimals a currency has, where it is not two."""


_IN_WORDS = {"unexpected end of data": "a quote is opened and not closed on this line; a row is one line"}
"""What the CSV reader says of one line, where people would not understand it."""


class UnusableFile(Exception):
    """The whole file cannot be used: it is missing, or a column is; says which, and how to mend it."""


@dataclass(frozen=True, slots=True)
class FileOrder:
    """One row that is an order."""

    line: int
    order_ref: str
    customer_id: str
    sku: str
    quantity: int
    amount: Money


@dataclass(frozen=True, slots=True)
class WrongRow:
    """One row that is none, with its line in the file and the reason."""

    line: int
    reason: str


class OrderFile:
    """A CSV file whose columns are known. Raises UnusableFile where it cannot be read or a column is missing.

    `columns` names columns by hand (field to column name); the others are recognized by their names. `sku`
    and `currency` stand in where the file has no such column; without a `currency`, the name of the
    amount's column (`amount_eur`) says it, and else it is USD.
    """

    def __init__(
        self,
        path: Path,
        *,
        columns: Mapping[str, str] | None = None,
        sku: str = "CD",
        currency: str | None = None,
    ) -> None:
        self.path = path
        self._sku = sku
        with closing(_open(path)) as file:
            header_line = file.readline().rstrip("\r\n")
        self._delimiter = max(",;\t|", key=header_line.count)
        self._header = next(csv.reader([header_line], delimiter=self._delimiter), [])
        if not header_line.strip():
            raise UnusableFile(f"{path} is empty; its first line must name the columns")
        self._at = _locate(path, self._header, columns or {})
        named = _WITH_CURRENCY.match(_plain(self._header[self._at["amount"]]))
        self._currency = currency or (named[1].upper() if named else "USD")
        if not _CURRENCY.match(self._currency):
            raise UnusableFile(f"{self._currency!r} is no currency; write three capital letters, like USD")

    def __len__(self) -> int:
        """How many rows there are, wrong ones included."""
        return sum(1 for _ in self._records())

    def __iter__(self) -> Iterator[FileOrder | WrongRow]:
        for line, record in self._records():
            yield record if isinstance(record, WrongRow) else self._read(line, record)

    def _records(self) -> Iterator[tuple[int, list[str] | WrongRow]]:
        with closing(_open(self.path)) as file:
            next(file)
            for line, text in enumerate(file, start=2):
                try:
                    record = next(csv.reader([text], delimiter=self._delimiter, strict=True))
                except csv.Error as error:
                    yield line, WrongRow(line, f"not CSV: {_IN_WORDS.get(str(error), error)}")
                    continue
                if record:
                    yield line, record

    def _read(self, line: int, record: list[str]) -> FileOrder | WrongRow:
        if len(record) != len(self._header):
            return WrongRow(line, f"{len(record)} fields, but the header names {len(self._header)} columns")
        try:
            return self._order(line, {field: record[at].strip() for field, at in self._at.items()})
        except ValueError as wrong:
            return WrongRow(line, str(wrong))

    def _order(self, line: int, row: Mapping[str, str]) -> FileOrder:
        for field, value in row.items():
            if not value:
                raise ValueError(f"{field} is empty")
            if any("\udc80" <= character <= "\udcff" for character in value):
                raise ValueError(f"{field} is not UTF-8; save the file as UTF-8")
        currency = row.get("currency", self._currency)
        if not _CURRENCY.match(currency):
            raise ValueError(f"currency {currency!r} is not three capital letters, like USD")
        if not re.fullmatch(r"\d{1,9}", row["quantity"], re.ASCII) or int(row["quantity"]) < 1:
            raise ValueError(f"quantity {row['quantity']!r} is not a whole number of at least 1")
        return FileOrder(
            line,
            row["order_ref"],
            row["customer_id"],
            row.get("sku", self._sku),
            int(row["quantity"]),
            Money(amount=minor_units(row["amount"], currency), currency=currency),
        )


def minor_units(text: str, currency: str) -> int:
    """A decimal amount ("29.33") in the currency's smallest unit (2933), exactly.

    Raises ValueError for anything else than a plain number of zero or more with no more decimals than the
    currency has.
    """
    if not _NUMBER.match(text):
        raise ValueError(f"amount {text!r} is not a plain decimal number, like 29.33")
    decimals = _DECIMALS.get(currency, 2)
    scaled = Decimal(text).scaleb(decimals)
    if scaled < 0:
        raise ValueError(f"amount {text!r} is negative; an order costs nothing or more")
    if scaled != scaled.to_integral_value():
        raise ValueError(f"amount {text!r} has more decimals than {currency} has ({decimals})")
    return int(scaled)


def _open(path: Path) -> IO[str]:
    try:
        # Bytes that are no UTF-8 come through as surrogates, so that only their own row is wrong.
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise UnusableFile(f"{path} cannot be read: {error.strerror}") from error


def _locate(path: Path, header: list[str], by_hand: Mapping[str, str]) -> dict[str, int]:
    plain = [_plain(name) for name in header]
    found: dict[str, int] = {}
    for field, names in COLUMN_NAMES.items():
        if field in by_hand:
            if by_hand[field] not in header:
                raise UnusableFile(f"{path} has no column {by_hand[field]!r} for {field}; it has {_names(header)}")
            found[field] = header.index(by_hand[field])
            continue
        candidates = [plain.index(name) for name in names if name in plain]
        if field == "amount":
            candidates += [index for index, name in enumerate(plain) if _WITH_CURRENCY.match(name)]
        if candidates:
            found[field] = candidates[0]
    missing = [field for field in REQUIRED if field not in found]
    if missing:
        hint = " ".join(f"--map {field}=COLUMN" for field in missing)
        raise UnusableFile(
            f"{path} has no column for {', '.join(missing)}; it has {_names(header)}. Say which it is: {hint}"
        )
    return found


def _names(header: list[str]) -> str:
    """The file's columns for a terminal, which must obey nothing that stands in the file."""
    return ", ".join(name if name.isprintable() else repr(name) for name in header)


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())
