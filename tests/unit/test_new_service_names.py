"""What a new service may be called, and what is said where it may not."""

from __future__ import annotations

import pytest

from orchestrator.scaffolding.naming import BadName, Naming


def test_a_name_has_a_form_for_every_place() -> None:
    """Python, resources in a cluster, variables, classes and people each have theirs."""
    naming = Naming("stock_keeping")
    assert (naming.dashed, naming.upper, naming.title, naming.words) == (
        "stock-keeping",
        "STOCK_KEEPING",
        "StockKeeping",
        "stock keeping",
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stock-keeping", "like stock_keeping"),
        ("StockKeeping", "like stock_keeping"),
        ("2nd", "like nd"),
        ("", "like stock_keeping"),
        ("stock__keeping", "like stock_keeping"),
        ("_stock", "like stock"),
        ("lager/../..", "like lager"),
        ("größe", "lower case letters"),
        ("class", "a word of Python's"),
        ("match", "a word of Python's"),
        ("queue", "a module that is installed here"),
        ("contracts", "a module that is installed here"),
        ("sqlalchemy", "a module that is installed here"),
        ("payment", "Amends' own payment service"),
        ("operator", "the user that owns the broker"),
        ("a" * 31, "has 31 characters; 30 are the most"),
    ],
)
def test_a_bad_name_is_explained(name: str, said: str) -> None:
    """It says why, and which name would do where that is plain."""
    with pytest.raises(BadName, match=said):
        Naming(name)
