"""`amends broker`: exchanges, queues, users and permissions for whoever owns the broker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from messaging import needs as needs_of
from messaging.commandline import offline
from messaging.needs import Needs
from messaging.process import EX_CONFIG, load
from messaging.topology import EVENTS, Binding, Topology
from orchestrator.assembly import orchestrator
from orchestrator.broker_needs import of_orchestrator
from orchestrator.cli.opening import catalog_of, fail, warn
from orchestrator.instance import SOURCE
from orchestrator.settings import OrchestratorSettings

app = typer.Typer(
    help="What the broker has to have.\n\nExchanges, queues, users and permissions, for whoever owns it.\n\n"
    "Example: amends broker definitions payment.json",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def needs() -> None:
    """Say what the orchestrator reads and publishes.

    JSON, as the `needs` of every service prints it; `amends broker definitions` knows it without.

    Example: AMENDS_PARTITIONS=4 amends broker needs
    """
    typer.echo(needs_of.as_json(_own()))


@app.command()
def definitions(
    services: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="What `python -m SERVICE needs` has printed, a file each.")
    ],
    *,
    vhost: Annotated[str, typer.Option(help="The virtual host that all of it lies in.")] = "amends",
    passwords: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A file for each user, called like it, with its password.")
    ] = None,
    emitter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=TYPE,...]", help="An application that only emits; TYPE where not called after it."),
    ] = None,
) -> None:
    """Print definitions for RabbitMQ, with a user for each service who may do what it needs and nothing else.

    The orchestrator is among them, as AMENDS_SAGAS, AMENDS_PARTITIONS and AMENDS_SHARDS say; also `operator`, who may
    do everything, and `monitor`, who may look at figures. Without --passwords nobody can log in with one yet. To be
    imported with `rabbitmqctl import_definitions`; services then run with AMENDS_TOPOLOGY_PASSIVE=true.

    Example: amends broker definitions order.json payment.json --passwords /run/secrets/rabbitmq
    """
    from messaging import rabbitmq_definitions as rabbitmq

    found = [_own(), *map(_read, services), *map(_emitting, emitter or ())]
    try:
        known = {} if passwords is None else _passwords(passwords, rabbitmq.users(found))
        made = rabbitmq.definitions(found, vhost, {user: rabbitmq.hashed(each) for user, each in known.items()})
    except ValueError as error:
        _refuse(str(error))
    typer.echo(json.dumps(made, indent=2))
    if told := rabbitmq.senders(found):
        warn(f"events that are not called after their sender: give every service AMENDS_SENDERS={','.join(told)}")


@app.command()
def resources(
    services: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="What `python -m SERVICE needs` has printed, a file each.")
    ],
    *,
    vhost: Annotated[str, typer.Option(help="The virtual host that all of it lies in.")] = "amends",
    cluster: Annotated[str, typer.Option(help="The RabbitmqCluster that it lies on.")] = "rabbitmq",
    only: Annotated[str | None, typer.Option(metavar="NAME", help="Only what is this service's own.")] = None,
) -> None:
    """Print the same for Kubernetes: resources of RabbitMQ's Messaging Topology Operator, as YAML.

    Each user's name and password are read from a secret called like it (payment-broker), by the operator.

    Example: amends broker resources order.json payment.json
    Example: amends broker resources warehouse.json --only warehouse
    """
    from messaging import rabbitmq_definitions as rabbitmq
    from messaging.rabbitmq_resources import as_yaml
    from messaging.rabbitmq_resources import resources as made_of

    found = [_own(), *map(_read, services)]
    if only is not None and only not in {each.service for each in found}:
        fail(f"none of these is called {only!r}: {', '.join(each.service for each in found)}", 1)
    try:
        made = rabbitmq.definitions(found, vhost, {})
    except ValueError as error:
        _refuse(str(error))
    typer.echo(as_yaml(made_of(made, cluster, only)), nl=False)


def _own() -> Needs:
    settings = load(OrchestratorSettings)
    return of_orchestrator(orchestrator(settings, catalog_of(settings), offline(SOURCE)))


def _read(path: Path) -> Needs:
    try:
        return needs_of.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        _refuse(f"{path} cannot be read: {error.strerror}; make it with `python -m SERVICE needs`")
    except ValueError as error:
        _refuse(f"{path} does not say what a service needs ({error}); make it with `python -m SERVICE needs`")


def _emitting(text: str) -> Needs:
    name, _, types = text.partition("=")
    others = [each.strip() for each in types.split(",") if each.strip()]
    says = tuple(Binding(EVENTS, each) for each in (f"{name}.#", *others))
    try:
        return Needs(name, Topology(exchanges=(EVENTS,)), says)
    except ValueError as error:
        _refuse(str(error))


def _passwords(directory: Path, users: tuple[str, ...]) -> dict[str, str]:
    """Raises ValueError where one is missing or empty."""
    found = {}
    for user in users:
        path = directory / user
        try:
            found[user] = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ValueError(
                f"{path} cannot be read: {error.strerror}; put the password of user {user!r} there"
            ) from error
        except UnicodeDecodeError:
            raise ValueError(f"{path} is no UTF-8 text") from None
        if not found[user]:
            raise ValueError(f"{path} is empty; put the password of user {user!r} there")
    return found


def _refuse(words: str) -> NoReturn:
    fail(words, EX_CONFIG)
