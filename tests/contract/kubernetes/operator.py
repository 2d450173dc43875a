"""The Messaging Topology Operator's part, done by hand: what its resources say, on a real broker."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Sequence

import aio_pika
import yarl

from tests.contract.kubernetes.manifests import Resource, of_kind


async def make(url: str, resources: Sequence[Resource]) -> None:
    """Exchanges, queues and bindings, in the vhost of this address."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        for each in (one["spec"] for one in of_kind(resources, "Exchange")):
            await channel.declare_exchange(each["name"], each["type"], durable=each["durable"])
        queues = {}
        for each in (one["spec"] for one in of_kind(resources, "Queue")):
            arguments = {"x-queue-type": each["type"], **each["arguments"]}
            queues[each["name"]] = await channel.declare_queue(
                each["name"], durable=each["durable"], arguments=arguments
            )
        for each in (one["spec"] for one in of_kind(resources, "Binding")):
            assert each["destinationType"] == "queue"
            await queues[each["destination"]].bind(each["source"], each["routingKey"])


_ADD_USER = """
ok = rabbit_auth_backend_internal:add_user({user}, {password}, <<"tests">>),
ok = rabbit_auth_backend_internal:set_permissions({user}, {vhost}, {configure}, {write}, {read}, <<"tests">>).
"""
_ADD_TOPIC = """
ok = rabbit_auth_backend_internal:set_topic_permissions({user}, {vhost}, {exchange}, {write}, {read}, <<"tests">>).
"""


def allow(url: str, resources: Sequence[Resource], control: str | None) -> str:
    """The address of a user with the permissions that these resources give; the same one where the broker is not ours.

    Users are the whole broker's, so this one has another name than the resources say.
    """
    if control is None:
        return url
    address = yarl.URL(url)
    (granted,) = [each["spec"] for each in of_kind(resources, "Permission")]
    user, password = f"{granted['user']}-{secrets.token_hex(4)}", secrets.token_hex(16)
    words = {"user": user, "password": password, "vhost": address.path.removeprefix("/")}
    script = _ADD_USER.format(**{key: _erlang(value) for key, value in (words | granted["permissions"]).items()})
    for each in (one["spec"] for one in of_kind(resources, "TopicPermission")):
        script += _ADD_TOPIC.format(**{key: _erlang(value) for key, value in (words | each["permissions"]).items()})
    subprocess.run([control, "eval", script.replace(".\n\nok", ",\nok")], check=True, capture_output=True, timeout=60)
    return str(address.with_user(user).with_password(password))


def _erlang(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'<<"{escaped}">>'
