"""The tables of docs/performance.md are written from figures, and each place on the page has one."""

from __future__ import annotations

import re

import pytest

from benchmarks.documenting import TABLES, written
from tests.acceptance.pages import ROOT

PAGE = """Before.

<!-- figures: scale -->
old
<!-- end -->

<!-- figures: peers -->
old too
<!-- end -->
After.
"""
AT_SCALE = {
    "program": "at_scale",
    "sagas_per_second": {"empty": [900.0, 1000.0, 1100.0], "full": [950.0]},
    "cpu_ms_per_saga": {
        "empty": {"orchestrator": 0.5, "PostgreSQL": 0.25},
        "full": {"orchestrator": 0.5, "PostgreSQL": 0.3},
    },
}


def test_a_table_is_written_anew_and_what_nobody_measured_stays() -> None:
    """Between its marks alone; the page says afterwards what was measured, and who asks learns what was not."""
    text, missing = written(PAGE, {"at_scale": AT_SCALE})
    assert missing == ["peers"]
    assert text == PAGE.replace(
        "old\n",
        "| sagas/s | least | median | most | orchestrator, CPU ms a saga | PostgreSQL |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| empty | 900 | 1,000 | 1,100 | 0.50 | 0.25 |\n"
        "| full | 950 | 950 | 950 | 0.50 | 0.30 |\n",
    )


def test_a_place_without_a_table_is_refused() -> None:
    """A name that was misspelled would otherwise keep old figures for ever."""
    with pytest.raises(ValueError, match="nobody makes the table 'sclae'"):
        written(PAGE.replace("scale", "sclae"), {})


def test_every_table_has_its_place_and_every_picture_is_there() -> None:
    """The page asks for each table once, and shows pictures that are in the repository."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"<!-- figures: ([a-z-]+) -->", page)) == sorted(TABLES)
    pictures = re.findall(r"!\[[^\]]+\]\((performance/[a-z-]+\.svg)\)", page)
    assert len(pictures) == 4
    for picture in pictures:
        assert (ROOT / "docs" / picture).is_file(), picture
