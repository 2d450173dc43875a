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
ok = rabbit_auth_backend_internal:set_permissions({user}, {vhost}, {configure}, {write}, {read}, <<"tests">>)
"""
_ADD_TOPIC = """
ok = rabbit_auth_backend_internal:set_topic_permissions({user}, {vhost}, {exchange}, {write}, {read}, <<"tests">>)
"""


def allow(url: str, resources: Sequence[Resource], name: str, control: str | None) -> str:
    """The address of a user who may do what these resources say of `name`; the given one where the broker is not ours.

    Users are the whole broker's, so this one is called otherwise.
    """
    if control is None:
        return url
    address = yarl.URL(url)
    mine = [each for each in resources if each.get("spec", {}).get("user") == name]
    (granted,) = [each["spec"]["permissions"] for each in of_kind(mine, "Permission")]
    words = {"user": f"{name}-{secrets.token_hex(4)}", "password": secrets.token_hex(16)}
    words["vhost"] = address.path.removeprefix("/")
    topics = [each["spec"]["permissions"] for each in of_kind(mine, "TopicPermission")]
    steps = [_ADD_USER.format(**_erlang(words | granted))]
    steps += [_ADD_TOPIC.format(**_erlang(words | each)) for each in topics]
    subprocess.run([control, "eval", ",".join(steps) + "."], check=True, capture_output=True, timeout=180)
    return str(address.with_user(words["user"]).with_password(words["password"]))


def _erlang(words: dict[str, str]) -> dict[str, str]:
    return {key: '<<"{}">>'.format(text.replace("\\", "\\\\").replace('"', '\\"')) for key, text in words.items()}
