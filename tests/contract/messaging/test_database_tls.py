"""TLS to a real PostgreSQL: each end proves who it is, and one that cannot is refused in words."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import psycopg
import pytest
from typer.testing import CliRunner

from deploy.servers import PostgresServer
from messaging.__main__ import app
from messaging.commandline import without_password
from messaging.database import Database, with_async_driver
from tests.certificates import Authority, Pair

BOUND = 30.0


@dataclass(frozen=True)
class Secured:
    """A server that takes nobody without TLS and a certificate of its authority."""

    url: str
    authority: Authority
    stranger: Authority
    own: Pair

    def at(self, **parameters: object) -> str:
        """Its address with these parameters."""
        return f"{self.url}?{'&'.join(f'{name}={value}' for name, value in parameters.items())}"

    def full(self, own: Pair, authority: Authority | None = None) -> str:
        """As one should connect."""
        root = (authority or self.authority).certificate
        return self.at(sslmode="verify-full", sslrootcert=root, sslcert=own.certificate, sslkey=own.key)


@pytest.fixture(scope="module")
def secured(databases: object) -> Iterator[Secured]:
    """A server of its own: with TLS, the one that tests share would be slower for all of them."""
    with TemporaryDirectory(prefix="amends-tls-") as folder, PostgresServer(durable=False) as server:
        directory = Path(folder)
        # PostgreSQL runs as another account where we are root.
        directory.chmod(0o711)
        authority, stranger = Authority(directory, "ours"), Authority(directory, "theirs")
        pair = authority.issue("database", "127.0.0.1", "localhost")
        server.start()
        if os.geteuid() == 0:
            os.chown(pair.key, pwd.getpwnam("postgres").pw_uid, -1)
        rules = asyncio.run(_settings(server, pair, authority))
        rules.write_text("hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n")
        os.kill(server.pid, signal.SIGHUP)
        asyncio.run(_until_refused(server.url))
        yield Secured(server.url, authority, stranger, authority.issue("amends"))


async def _settings(server: PostgresServer, pair: Pair, authority: Authority) -> Path:
    connection = await asyncpg.connect(server.url)
    rules = Path(await connection.fetchval("SHOW hba_file"))
    for name, value in (
        ("ssl", "on"),
        ("ssl_cert_file", pair.certificate),
        ("ssl_key_file", pair.key),
        ("ssl_ca_file", authority.certificate),
    ):
        await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    await connection.close()
    return rules


async def _until_refused(url: str) -> None:
    """The server has taken its new rules up: it lets nobody in without a certificate."""
    give_up = asyncio.get_running_loop().time() + BOUND
    while True:
        try:
            await (await asyncpg.connect(url)).close()
        except asyncpg.InvalidAuthorizationSpecificationError:
            return
        assert asyncio.get_running_loop().time() < give_up
        await asyncio.sleep(0.05)


async def _ping(url: str) -> None:
    database = Database(url)
    try:
        await database.ping()
    finally:
        await database.close()


async def test_both_ends_prove_who_they_are(secured: Secured) -> None:
    """The URL is libpq's own: psycopg connects with it too."""
    await _ping(secured.full(secured.own))
    with psycopg.connect(secured.full(secured.own)) as connection:
        row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row == (True,)


def _migrated(url: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, ["migrate"], env={"DATABASE_URL": url})
    return ended.exit_code, ended.stderr


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no TLS", "it wants TLS: add ?sslmode=verify-full&sslrootcert=FILE to DATABASE_URL"),
        ("no certificate", "name ours in DATABASE_URL (sslcert and sslkey)"),
        ("expired", "it may not take our certificate (sslcert in DATABASE_URL), expired or of another CA"),
        ("of a stranger", "it may not take our certificate (sslcert in DATABASE_URL), expired or of another CA"),
        ("to a stranger", "name its CA in DATABASE_URL (sslrootcert), and the host as its certificate does"),
    ],
)
async def test_who_cannot_prove_who_it_is_gets_no_connection(secured: Secured, kind: str, words: str) -> None:
    """A command ends with 69 and one line that says what to mend, without the password."""
    authority, stranger = secured.authority, secured.stranger
    url = {
        "no TLS": secured.at(sslmode="disable"),
        "no certificate": secured.at(sslmode="verify-full", sslrootcert=authority.certificate),
        "expired": secured.full(authority.issue("amends", expired=True)),
        "of a stranger": secured.full(stranger.issue("amends")),
        "to a stranger": secured.full(secured.own, stranger),
    }[kind]
    # A process of its own, as people run it: a loop that ends with it leaves a half-closed transport.
    ended = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-m", "messaging", "migrate"),
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    said = ended.stderr

    assert (ended.returncode, len(said.strip().splitlines())) == (69, 1), said
    assert words in said
    assert str(with_async_driver(secured.url).password) not in said


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmod=require", "there is no parameter 'sslmod'; did you mean 'sslmode'?"),
        ("sslmode=very", "sslmode=very is none of disable, allow, prefer, require, verify-ca, verify-full"),
        ("sslmode=verify-full&sslrootcert=/none.pem", "sslrootcert /none.pem is not there; mount it there"),
        (
            "sslmode=verify-full&sslrootcert=system",
            "sslrootcert=system is nothing that the driver knows; name the file",
        ),
        ("sslmode=verify-full&sslrootcert={key}", "holds no certificates of a CA: no certificate or crl found"),
        ("sslcert={certificate}&sslkey={other}", "are no certificate and its key: key values mismatch"),
    ],
)
def test_an_url_that_cannot_be_meant_is_refused(query: str, words: str, tmp_path: Path) -> None:
    """Before anything is connected, with exit code 78."""
    authority = Authority(tmp_path, "ours")
    one, other = authority.issue("one"), authority.issue("another")
    url = f"postgresql://h/d?{query.format(key=one.key, certificate=one.certificate, other=other.key)}"
    code, said = _migrated(url)

    assert (code, len(said.strip().splitlines())) == (78, 1), said
    assert words in said


def test_without_an_authority_nothing_can_be_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libpq's own place, in the home directory, counts."""
    monkeypatch.setenv("HOME", str(tmp_path))
    url = "postgresql://h/d?sslmode=verify-full"
    with pytest.raises(ValueError, match="needs to know whom to trust: add sslrootcert=FILE"):
        with_async_driver(url)
    (tmp_path / ".postgresql").mkdir()
    Authority(tmp_path, "ours").certificate.rename(tmp_path / ".postgresql" / "root.crt")
    with_async_driver(url)


def test_the_password_of_a_key_is_not_shown() -> None:
    """Where settings are printed; the rest of the URL is."""
    shown = without_password("postgresql://u:secret@h/d?sslkey=/k&sslpassword=hidden")
    assert "secret" not in shown
    assert "hidden" not in shown
    assert "sslkey=" in shown
    assert "hidden" not in repr(Database("postgresql://u:secret@h/d?sslpassword=hidden"))
