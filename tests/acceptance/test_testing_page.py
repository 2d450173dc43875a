"""docs/testing.md as a reader takes it: its files in a directory of their own, and pytest on them."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from orchestrator.testing import ExpectationFailed, Harness, Scenario
from tests.acceptance.pages import ROOT, blocks
from tests.acceptance.programs import finished

PAGE = ROOT / "docs" / "testing.md"


async def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    """Every block is a file, and all of their tests pass, with warnings as errors."""
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    program = blocks(PAGE, "python")
    assert [block.file for block in program] == [
        "tests/test_fulfillment.py",
        "tests/test_trip.py",
        "tests/test_booking.py",
    ]
    for block in program:
        assert block.file is not None
        path = tmp_path / block.file
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    ended = await asyncio.to_thread(finished, command, tmp_path, PYTHONPATH=str(ROOT))
    assert ended.returncode == 0, ended.stdout
    assert "10 passed" in ended.stdout


def test_the_error_of_the_page_is_what_the_kit_says() -> None:
    """To the letter."""
    (first, *_) = blocks(PAGE, "python")
    wrong = first.text.replace(
        'CancelOrder(order_id=ORDER, reason="card_declined")', 'CancelOrder(order_id=ORDER, reason="no_money")'
    )
    assert wrong != first.text
    namespace: dict[str, object] = {}
    exec(compile(wrong, str(PAGE), "exec"), namespace)
    test = namespace["test_a_declined_card_cancels_the_order"]
    assert callable(test)
    with pytest.raises(ExpectationFailed) as failed:
        test()
    (shown,) = [block.text for block in blocks(PAGE, "text")]
    assert shown.strip() == str(failed.value)


def test_the_test_of_the_page_is_five_lines() -> None:
    """As it says."""
    (first, *_) = blocks(PAGE, "python")
    assert len(first.text.partition("def test_")[2].strip().splitlines()) == 5


def test_the_tables_name_what_there_is() -> None:
    """No public method or property of the kit is left out."""
    content = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`\.?(?:await )?([a-z_]+)", content)) | set(re.findall(r"`\.([a-z_]+)", content))
    for kind in (Scenario, Harness):
        missing = {name for name in vars(kind) if not name.startswith("_")} - named
        assert missing == set()
