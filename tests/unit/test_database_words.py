"""What is said of a database that is not to be had: what is in the way, and what helps."""

from __future__ import annotations

import sqlite3

import pytest

from messaging.database import does_not_answer, no_database

URL = "sqlite:////srv/shop.db"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "database is locked",
            "another process has held it for 30 s: let that end, or end it, or set DATABASE_URL",
        ),
        ("database or disk is full", "make room on its disk, or set DATABASE_URL"),
        ("unable to open database file", "let us read and write there, or set DATABASE_URL"),
    ],
)
def test_what_helps_is_said(said: str, words: str) -> None:
    """Of each thing that can be in the way of a file."""
    error = sqlite3.OperationalError(said)
    assert does_not_answer(URL, error) == f"sqlite:////srv/shop.db cannot be used: {said}; {words}"
    assert no_database(URL, error) is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("file is not a database", "sqlite:////srv/shop.db is no SQLite database; set DATABASE_URL to one"),
        (
            "database disk image is malformed",
            "sqlite:////srv/shop.db is damaged (database disk image is malformed); restore it from a backup",
        ),
    ],
)
def test_what_is_no_database_is_called_so(said: str, words: str) -> None:
    """By whoever looks, migrates, or starts: none of them waits for it."""
    assert no_database(URL, sqlite3.DatabaseError(said)) == words
