"""What stands between a driver and PostgreSQL in the simulation knows what is sent there, whatever name it has."""

from __future__ import annotations

from types import SimpleNamespace

from messaging.line import Line, executed, message
from tests.simulation.frames import READY, Request, request

SYNC = b"S\0\0\0\4"
PREPARED = message(b"P", b"__asyncpg_stmt_1__\0SELECT 1\0\0\0")
SELECT = executed(b"__asyncpg_stmt_1__")


async def test_begin_and_commit_are_known_by_their_names() -> None:
    """The first time they are parsed, and later only bound by a name."""
    line = Line(SimpleNamespace(_protocol=None, _stmt_cache=None, _config=SimpleNamespace(command_timeout=None)))
    known: dict[bytes, bytes] = {}
    request(PREPARED, known, logging_in=False)
    for parses in (1, 0):
        begin, begun = line.beside("BEGIN")
        commit, committed = line.beside("COMMIT")
        both = begin + SELECT + SYNC, SELECT + commit + SYNC
        assert [said.count(b"P\0\0\0") for said in both] == [parses, parses]
        assert [request(said, known, logging_in=False) for said in both] == [
            Request((READY,), begins=True, executes=True),
            Request((READY,), executes=True, commits=True),
        ]
        begun()
        committed()


def test_a_query_of_its_own_is_known() -> None:
    """As the driver sends what it begins and ends by itself."""
    sent = [request(message(b"Q", words + b"\0"), {}, logging_in=False) for words in (b"BEGIN;", b"COMMIT;", b"COMMIT")]
    assert sent == [Request((READY,), begins=True), Request((READY,), commits=True), Request((READY,), commits=True)]
