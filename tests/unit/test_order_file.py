"""Orders out of a CSV file."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.money import Money
from services.order.order_file import FileOrder, OrderFile, UnusableFile, WrongRow, minor_units


def written(tmp_path: Path, text: str | bytes) -> Path:
    """A file with this content."""
    path = tmp_path / "orders.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def dollars(cents: int) -> Money:
    """So many cents of US money."""
    return Money(amount=cents, currency="USD")


@pytest.mark.parametrize(
    ("text", "currency", "expected"),
    [
        ("29.33", "USD", 2933),
        ("0", "USD", 0),
        ("0.00", "USD", 0),
        ("29.330", "USD", 2933),
        ("0.29", "USD", 29),
        ("90071992547409.93", "USD", 9007199254740993),
        ("1200", "JPY", 1200),
        ("1.234", "KWD", 1234),
    ],
)
def test_amounts_are_exact(text: str, currency: str, expected: int) -> None:
    """Decimal text becomes minor units without a float in between, by the currency's own decimals."""
    assert minor_units(text, currency) == expected


@pytest.mark.parametrize(
    ("text", "currency", "complaint"),
    [
        ("29.333", "USD", "more decimals than USD has"),
        ("1.5", "JPY", "more decimals than JPY has"),
        ("-1.00", "USD", "negative"),
        ("1,000.00", "USD", "plain decimal"),
        ("1e5", "USD", "plain decimal"),
        ("NaN", "USD", "plain decimal"),
        ("٣", "USD", "plain decimal"),
        ("$5", "USD", "plain decimal"),
    ],
)
def test_what_is_no_amount_is_refused(text: str, currency: str, complaint: str) -> None:
    """Nothing is rounded and nothing is guessed."""
    with pytest.raises(ValueError, match=complaint):
        minor_units(text, currency)


def test_columns_are_recognized_by_their_names(tmp_path: Path) -> None:
    """Upper or lower case, spaces and other columns do not matter, nor do a BOM and CRLF."""
    path = written(
        tmp_path,
        "\ufeffOrder Ref,Customer-ID,date,QTY,amount_usd\r\nCD-1,00004,1997-01-01,2,29.33\r\n",
    )
    assert list(OrderFile(path)) == [FileOrder(2, "CD-1", "00004", "CD", 2, dollars(2933))]


def test_columns_can_be_named_by_hand(tmp_path: Path) -> None:
    """What is named by hand wins over what is recognized."""
    path = written(tmp_path, "nr;amount;who;n;price\n7;1;anna;1;5.00\n")
    columns = {"order_ref": "nr", "customer_id": "who", "quantity": "n", "amount": "price"}
    orders = OrderFile(path, columns=columns, sku="LP", currency="EUR")
    assert list(orders) == [FileOrder(2, "7", "anna", "LP", 1, Money(amount=500, currency="EUR"))]


def test_the_file_may_say_sku_and_currency(tmp_path: Path) -> None:
    """A column wins over the option, and the amount's column may name the currency."""
    path = written(tmp_path, "ref,customer,qty,total_eur,sku,currency\n1,a,1,5,LP,JPY\n")
    assert list(OrderFile(path)) == [FileOrder(2, "1", "a", "LP", 1, Money(amount=5, currency="JPY"))]
    path = written(tmp_path, "ref,customer,qty,total_eur\n1,a,1,5\n")
    assert list(OrderFile(path)) == [FileOrder(2, "1", "a", "CD", 1, Money(amount=500, currency="EUR"))]


def test_a_wrong_row_spoils_no_other(tmp_path: Path) -> None:
    """Each wrong row has its line and its reason; the rows around it are orders."""
    path = written(
        tmp_path,
        b"order_ref,customer_id,quantity,amount\n"
        b"A,c,1,1.00\n"
        b",c,1,1.00\n"
        b"B,c,1.5,1.00\n"
        b"C,c,0,1.00\n"
        b"D,c,1,x\n"
        b"E,c,1\n"
        b"\n"
        b"F,M\xfcller,1,1.00\n"
        b"G,c,1,2.00\n",
    )
    orders = OrderFile(path)
    assert list(orders) == [
        FileOrder(2, "A", "c", "CD", 1, dollars(100)),
        WrongRow(3, "order_ref is empty"),
        WrongRow(4, "quantity '1.5' is not a whole number of at least 1"),
        WrongRow(5, "quantity '0' is not a whole number of at least 1"),
        WrongRow(6, "amount 'x' is not a plain decimal number, like 29.33"),
        WrongRow(7, "3 fields, but the header names 4 columns"),
        WrongRow(9, "customer_id is not UTF-8; save the file as UTF-8"),
        FileOrder(10, "G", "c", "CD", 1, dollars(200)),
    ]
    assert len(orders) == 8


def test_a_monstrous_field_is_one_wrong_row(tmp_path: Path) -> None:
    """A field beyond the CSV reader's limit does not end the reading."""
    path = written(tmp_path, f"order_ref,customer_id,quantity,amount\nA,{'x' * 140_000},1,1\nB,c,1,1.00\n")
    assert list(OrderFile(path)) == [
        WrongRow(2, "not CSV: field larger than field limit (131072)"),
        FileOrder(3, "B", "c", "CD", 1, dollars(100)),
    ]


def test_a_quote_that_is_not_closed_is_one_wrong_row(tmp_path: Path) -> None:
    """The rows after it are orders, also where a later row has a quote of its own, and all are counted."""
    path = written(
        tmp_path,
        "order_ref,customer_id,quantity,amount\n"
        "A,c,1,1.00\n"
        'B,"c,1,1.00\n'
        'C,"c, d",1,"1.00"\n'
        'D,"c"x,1,1.00\r\n'
        'E,c,1,"1.00\n'
        'F,5" c,1,2.00',
    )
    orders = OrderFile(path)
    assert list(orders) == [
        FileOrder(2, "A", "c", "CD", 1, dollars(100)),
        WrongRow(3, "not CSV: a quote is opened and not closed on this line; a row is one line"),
        FileOrder(4, "C", "c, d", "CD", 1, dollars(100)),
        WrongRow(5, "not CSV: ',' expected after '\"'"),
        WrongRow(6, "not CSV: a quote is opened and not closed on this line; a row is one line"),
        FileOrder(7, "F", '5" c', "CD", 1, dollars(200)),
    ]
    assert len(orders) == 6


def test_a_quote_not_closed_in_the_last_row_is_a_wrong_row(tmp_path: Path) -> None:
    """The end of the file does not close it."""
    path = written(tmp_path, 'order_ref,customer_id,quantity,amount\nA,c,1,"1.00')
    assert list(OrderFile(path)) == [
        WrongRow(2, "not CSV: a quote is opened and not closed on this line; a row is one line")
    ]


@pytest.mark.parametrize(
    ("text", "columns", "complaint"),
    [
        ("", {}, "is empty; its first line must name the columns"),
        (
            "ref,who,qty\n",
            {},
            (
                "has no column for customer_id, amount; it has ref, who, qty. "
                "Say which it is: --map customer_id=COLUMN --map amount=COLUMN"
            ),
        ),
        ("ref,who\n", {"quantity": "n"}, "has no column 'n' for quantity; it has ref, who"),
        ("ref,\x1b[2Jé\n", {"quantity": "n"}, "has no column 'n' for quantity; it has ref, '\\x1b[2Jé'"),
        (
            "\x1b]0;t\x07,customer,qty,amount\n",
            {},
            (
                "has no column for order_ref; it has '\\x1b]0;t\\x07', customer, qty, amount. "
                "Say which it is: --map order_ref=COLUMN"
            ),
        ),
    ],
)
def test_an_unusable_file_says_how_to_mend_it(
    tmp_path: Path, text: str, columns: dict[str, str], complaint: str
) -> None:
    """A missing column is named together with the columns there are."""
    path = written(tmp_path, text)
    with pytest.raises(UnusableFile) as raised:
        OrderFile(path, columns=columns)
    assert str(raised.value) == f"{path} {complaint}"


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """The complaint names the file and the system's reason."""
    with pytest.raises(UnusableFile, match=r"nowhere\.csv cannot be read: No such file or directory"):
        OrderFile(tmp_path / "nowhere.csv")
