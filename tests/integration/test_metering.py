"""The door that counts bytes: what passes is what was sent, in both directions, whoever ends it."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.metering import Meter

HOST = "127.0.0.1"


async def _shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line twice."""
    while line := await reader.readline():
        writer.write(line * 2)
        await writer.drain()
    writer.close()


async def test_everything_passes_and_is_counted() -> None:
    """Over two connections at a time, and what is larger than a chunk as well."""
    long = b"x" * 200_000 + b"\n"
    async with await asyncio.start_server(_shout, HOST, 0, limit=1 << 20) as server:
        async with Meter(HOST, server.sockets[0].getsockname()[1]) as meter:
            reader, writer = await asyncio.open_connection(HOST, meter.port)
            second_reader, second_writer = await asyncio.open_connection(HOST, meter.port)
            writer.write(b"one\n")
            assert await reader.readexactly(8) == b"one\none\n"
            second_writer.write(long)
            assert await second_reader.readexactly(400_002) == long * 2
            assert (meter.sent, meter.received) == (4 + 200_001, 8 + 400_002)

            writer.close()
            second_writer.write_eof()
            assert await second_reader.read() == b""
            second_writer.close()


async def test_a_server_that_is_gone_ends_the_connection() -> None:
    """As it would without the meter."""
    listening = await asyncio.start_server(_shout, HOST, 0)
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    async with Meter(HOST, port) as meter:
        reader, writer = await asyncio.open_connection(HOST, meter.port)
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()
        assert (meter.sent, meter.received) == (0, 0)


def test_a_meter_that_does_not_listen_has_no_port() -> None:
    """A mistake of whoever measures, said at once."""
    with pytest.raises(RuntimeError, match="does not listen"):
        _ = Meter(HOST, 1).port
