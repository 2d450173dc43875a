"""A broker and a database of one's own, with throw-away data, for as long as they are needed.

    with RabbitServer() as rabbit, PostgresServer() as postgres:
        rabbit.start()
        postgres.start()

Loopback only, on free ports, sharing nothing with servers the machine may already have, and with the
durability both have by default: what they confirm is on disk. They are gone when the block ends, and also
when this process is killed with -9.

    python -m deploy.servers -- COMMAND

does the same for the time a command runs; with --no-fsync before the `--`, on a PostgreSQL that is not durable.
"""

from deploy.servers.postgresql import PostgresServer
from deploy.servers.process import ServerUnavailable, free_ports
from deploy.servers.rabbitmq import RabbitServer

__all__ = ["PostgresServer", "RabbitServer", "ServerUnavailable", "free_ports"]
