"""`python -m services.order place FILE.csv` against the embedded mode."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx

from tests.acceptance.programs import BOUND, finished
from tests.acceptance.test_run import house

ORDERS = """\
order_ref,customer_id,quantity,amount
A-1,ada,1,14.99
A-2,ada,2,29.33
A-3,burt,1,600.00
A-4,ada,zero,10.00
A-5,ada,1,-1.00
A-6,ada,1,0.01
"""
"""Three that are paid, one past burt's limit of 500.00, and two that are no orders."""

WRONG = [
    {"line": 5, "reason": "quantity 'zero' is not a whole number of at least 1"},
    {"line": 6, "reason": "amount '-1.00' is negative; an order costs nothing or more"},
]


def _place(folder: Path, url: str, *options: str) -> tuple[int, str, str]:
    program = (sys.executable, "-m", "services.order", "place", "orders.csv", "--url", url, *options)
    ended = finished(program, folder)
    return ended.returncode, ended.stdout, ended.stderr


def test_placing_a_file_twice_places_every_order_once(tmp_path: Path) -> None:
    """The first run places four orders and names two wrong rows; the second finds all four and captures no more."""
    (tmp_path / "orders.csv").write_text(ORDERS, encoding="utf-8")
    with house(tmp_path) as here:
        code, printed, complained = _place(tmp_path, here.urls["order"], "--output", "json")
        assert code == 1, complained
        first = json.loads(printed)
        code, printed, complained = _place(tmp_path, here.urls["order"], "--output", "json")
        assert code == 1, complained
        second = json.loads(printed)
        audit = httpx.get(f"{here.urls['payment']}/audit", trust_env=False, timeout=BOUND).json()
        page = httpx.get(f"{here.urls['order']}/orders", trust_env=False, timeout=BOUND).json()
    ended = {
        "ok": False,
        "rows": 6,
        "wrong_rows": WRONG,
        "completed": 3,
        "compensated": {"card_declined": 1},
        "stuck": [],
        "captured": {"USD": 4433},
        "completed_total": {"USD": 4433},
    }
    del first["seconds"], second["seconds"]
    assert first == ended | {"placed": 4, "already_there": 0}
    assert second == ended | {"placed": 0, "already_there": 4}
    assert audit["captured"] == {"USD": 4433}
    assert audit["held"] in ({}, {"USD": 0})
    assert audit["findings"] == []
    assert len(page["orders"]) == 4


def test_the_report_for_people_names_the_wrong_rows(tmp_path: Path) -> None:
    """The table says how many rows were wrong, and each of them is named with its line and what is wrong with it."""
    (tmp_path / "orders.csv").write_text(ORDERS, encoding="utf-8")
    with house(tmp_path) as here:
        code, printed, complained = _place(tmp_path, here.urls["order"])
    assert code == 1, complained
    assert "line 5: quantity 'zero' is not a whole number of at least 1" in printed
    assert "line 6: amount '-1.00' is negative; an order costs nothing or more" in printed
    assert "equals the completed orders' sum" in " ".join(printed.split())


def test_without_a_service_the_command_says_what_to_do(tmp_path: Path) -> None:
    """Where nobody listens, a pipe is told what is waited for, and at the end, with exit code 69, the way out."""
    (tmp_path / "orders.csv").write_text(ORDERS, encoding="utf-8")
    code, _, complained = _place(tmp_path, "http://127.0.0.1:9", "--patience", "10")
    assert code == 69
    waiting = "http://127.0.0.1:9 does not answer: All connection attempts failed; trying for 10 s\n"
    assert complained.startswith(waiting), complained
    # After one second, two, four and eight.
    assert complained.count(waiting) <= 4
    assert "--url" in complained
