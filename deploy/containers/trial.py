"""What is tried on the running stack, step by step; each says in a sentence what was found, or raises."""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import httpx

from deploy.containers import waits
from deploy.containers.customers import Customers, Told, ends
from deploy.containers.stack import SERVICES, Stack

PACE = 20.0
"""Orders a second while something is being done to the services."""
ENDED = 2
"""How many processes end where a service is replaced: the old one, and the one that has worked beside it meanwhile."""
USER = "10001"
OBSERVED_SECONDS = 90.0
"""How long figures and traces may take: Prometheus looks every 15 s, spans leave every 5."""
GRACE_SECONDS = 35.0
"""`stop_grace_period` of the services: who takes longer was killed."""

_WRITES = """
import errno, pathlib
for place in ("/", "/opt/amends", "/opt/amends/lib", "/var/tmp"):
    try:
        pathlib.Path(place, "written").write_text("x")
    except OSError as error:
        print(place, error.errno)
    else:
        print(place, 0)
pathlib.Path("/tmp/written").write_text("x")
"""
_TRESPASS = """
import asyncio, pathlib, asyncpg
own = pathlib.Path("/run/secrets/payment_database_url").read_text()
async def trespass():
    try:
        await asyncpg.connect(own.rpartition("/")[0] + "/order")
    except asyncpg.InsufficientPrivilegeError as error:
        print("refused:", error)
    connection = await asyncpg.connect(own)
    for statement in ("CREATE TABLE mine ()", "ALTER TABLE account ADD COLUMN mine int", "DELETE FROM journal_entry"):
        try:
            await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError as error:
            print("refused:", error)
asyncio.run(trespass())
"""


_REVISION = "SELECT version_num FROM alembic_version_messaging"


class Wrong(Exception):
    """Something that should hold does not; says what."""


class Trial:
    """The steps, on one stack that is up."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._crowds = 0
        self._since = ""
        """When the last crowd came."""
        self.orders: Counter[str] = Counter()

    def orders_end(self) -> str:
        """Orders can be placed, and each ends: paid, or undone where the customer has spent too much."""
        with self._customers(at_least=40) as told:
            pass
        return f"{len(told.placed)} orders placed, {self._in_words()}; the longest took {self._slowest():.1f} s"

    def guarded(self) -> str:
        """No service is root, may become it, may write anywhere but to /tmp, or open another's database."""
        for service in SERVICES:
            status = self._stack.status_of(service)
            found = {name: status[name] for name in ("Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}
            wanted = {
                "Uid": " ".join([USER] * 4),
                "CapEff": "0" * 16,
                "CapBnd": "0" * 16,
                "NoNewPrivs": "1",
                "Seccomp": "2",
            }
            _same(f"what the kernel says of {service}", found, wanted)
            written = self._stack.python(service, _WRITES)
            _same(
                f"what {service} may write",
                dict(line.rsplit(" ", 1) for line in written.stdout.splitlines()),
                dict.fromkeys(("/", "/opt/amends", "/opt/amends/lib", "/var/tmp"), str(errno.EROFS)),  # noqa: S108
            )
            _same(f"how the attempts of {service} ended", written.returncode, 0)
            self._look_at(service)
        trespass = self._stack.python("payment", _TRESPASS)
        if trespass.stdout.count("refused:") != 4:
            raise Wrong(f"payment could do what it must not: {trespass.stdout}{trespass.stderr}")
        return (
            f"uid {USER}, no capabilities, no new privileges, system calls filtered; the root file system is "
            "read-only; ports lead in from 127.0.0.1 only; no secret in the environment; payment may neither "
            "open the database of order nor change tables or history in its own"
        )

    def drained(self) -> str:
        """SIGTERM ends each service within its grace with exit code 0, and nothing is lost."""
        took = {}
        with self._customers() as told:
            for service in SERVICES:
                seconds, code = self._stack.stop(service)
                if code != 0 or seconds > GRACE_SECONDS:
                    raise Wrong(f"{service} ended with exit code {code} after {seconds:.1f} s")
                took[service] = seconds
                self._stack.start(service)
        for service in SERVICES:
            if "drain_cut_short" in self._stack.logs(service):
                raise Wrong(f"{service} had to leave something unfinished")
        return f"exit code 0 from each ({_each(took)}) under load; {self._told(told)}"

    def killed(self) -> str:
        """Each service is killed with -9, Docker starts it again, and nothing is lost."""
        with self._customers() as told:
            for service in SERVICES:
                before = self._stack.restarts(service)
                self._stack.kill(service)
                self._stack.restarted(service, before)
        return f"each killed with SIGKILL and started again by Docker; {self._told(told)}"

    def servers_restarted(self) -> str:
        """The broker is stopped and started, the database killed with -9, and nothing is lost."""
        with self._customers() as told:
            self._stack.stop("rabbitmq")
            self._stack.start("rabbitmq")
            before = self._stack.restarts("postgres")
            self._stack.kill("postgres")
            self._stack.restarted("postgres", before)
            for service in SERVICES:
                self._stack.healthy(service)
        return f"RabbitMQ stopped and started, PostgreSQL killed with SIGKILL; {self._told(told)}"

    def migrated(self, tag: str) -> str:
        """The next version's migrations run while orders flow; the version before goes on, and comes up again."""
        with self._customers() as told:
            self._stack.migrate(tag)
            for service in SERVICES:
                _same(f"the revision of {service}", self._stack.sql(service, _REVISION), "next")
                self._stack.healthy(service)
                probe = self._stack.python(service, "import messaging.probe as p; raise SystemExit(p.main([]))")
                _same(f"{service} of the version before on the new tables: {probe.stderr}", probe.returncode, 0)
            # The version before also comes up on them, as it would where its machine is restarted meanwhile.
            self._stack.stop("payment")
            self._stack.start("payment")
        return f"the version before went on with the new tables, and came up on them; {self._told(told)}"

    def replaced(self, tag: str) -> str:
        """Each service gets another version, one after the other, and what waits for one that ends another handles.

        What comes meanwhile waits for nobody to start either.
        """
        with self._customers(at_least=200):
            # What a container costs that starts, on this machine as busy as it is, and takes nothing from any queue.
            for service in SERVICES:
                self._stack.prune(service, "--older-than", "365d", "--dry-run")
        usual = max(each.seconds for found in waits.since(self._stack, self._since).values() for each in found)
        endings: dict[str, list[waits.Ending]] = {}
        with self._customers() as told:
            for service in SERVICES:
                began = time.time()
                self._stack.replace(service, tag)
                endings[service] = [waits.Ending(*each) for each in self._stack.endings(service, began)]
                _same(f"how many processes of {service} have ended", len(endings[service]), ENDED)
        found = waits.since(self._stack, self._since)
        met = 0
        for service, ended in endings.items():
            if alone := [wait.seconds for wait in waits.unattended(found[service], usual)]:
                raise Wrong(
                    f"{len(alone)} messages waited for {service} as if nobody worked there, {max(alone):.2f} s at "
                    f"most; {usual:.2f} s while other containers started"
                )
            met += sum(each.met(wait) for each in ended for wait in found[service])
            for each in ended:
                if held := [wait.seconds for wait in found[service] if each.held(wait)]:
                    raise Wrong(
                        f"{len(held)} messages waited for {service} until a process of it had ended, "
                        f"{max(held):.2f} s at most"
                    )
        longest = ", ".join(f"{max(each.seconds for each in found[name]):.2f} s for {name}" for name in SERVICES)
        return (
            f"{self._told(told)}; {met} messages waited when a process was told to end, and none when it had; one "
            f"waited at most {longest}, and {usual:.2f} s while other containers started; the slowest saga took "
            f"{self._slowest():.2f} s; placing an order took {told.longest:.1f} s at most, while the order service was "
            "replaced"
        )

    def pruned(self) -> str:
        """What is old goes by the role for pruning, which may delete history; the service's own role may not."""
        found = [self._stack.prune(service, "--older-than", "0h", "--yes") for service in SERVICES]
        if not found[0].startswith("removed ") or " 0 sagas" in found[0]:
            raise Wrong(f"nothing was pruned: {found}")
        return "; ".join(f"{service}: {said}" for service, said in zip(SERVICES, found, strict=True))

    def observed(self, *, grafana: bool) -> str:
        """Prometheus reads all services and loads the alerts, and all services send traces to the collector."""
        self._stack.observe(grafana=grafana)
        with httpx.Client(base_url=self._stack.url("prometheus"), timeout=10, trust_env=False) as http:
            for service in SERVICES:
                query = f'up{{job="amends-{service}"}} == 1'
                self._eventually(partial(_answers, http, query), f"Prometheus knows no {query}")
            # Counting begins with the first look, so the orders come behind it.
            with self._customers(at_least=20):
                pass
            query = "sum(amends_sagas_started_total) >= 1"
            self._eventually(partial(_answers, http, query), f"Prometheus knows no {query}")
            rules = http.get("/api/v1/rules").raise_for_status().json()["data"]["groups"]
            firing = [each["labels"]["alertname"] for each in http.get("/api/v1/alerts").json()["data"]["alerts"]]
        if not rules:
            raise Wrong("Prometheus has loaded no alert rules")
        for service in SERVICES:
            self._eventually(partial(self._traced, service), f"no trace came from {service}")
        count = sum(len(group["rules"]) for group in rules)
        return (
            f"Prometheus reads all three and has {count} rules ({', '.join(firing) or 'none'} pending or firing); the "
            f"collector gets traces from all three; {'Grafana is up' if grafana else 'Grafana could not be had here'}"
        )

    def audited(self) -> str:
        """Every order, its saga, its payment and the stock tell the same story."""
        found = self._stack.once("migrate", "-m", "deploy.audit", "--wait", "60")
        if found.returncode != 0:
            raise Wrong(f"the audit found something:\n{found.stdout}{found.stderr}")
        return "; ".join(line for line in found.stdout.splitlines() if not line.startswith("history"))

    @contextmanager
    def _customers(self, at_least: int = 0) -> Iterator[Told]:
        """Customers meanwhile; then all their orders must end, and as they should."""
        self._crowds += 1
        self._since = waits.now(self._stack)
        customers = Customers(self._stack.url("order"), PACE, f"crowd{self._crowds}")
        customers.arrive()
        try:
            while len(customers.told.placed) < at_least and customers.there:
                customers.wait(0.1)
            yield customers.told
        finally:
            told = customers.leave()
        self.orders = ends(self._stack.url("order"), set(told.placed))
        unknown = self.orders.keys() - {"completed", "card_declined", "payment_timeout"}
        if unknown or not self.orders["completed"]:
            raise Wrong(f"orders ended in an unexpected way: {dict(self.orders)}")

    def _traced(self, service: str) -> bool:
        return service in self._stack.logs("collector")

    def _eventually(self, holds: Callable[[], bool], otherwise: str) -> None:
        give_up = time.monotonic() + OBSERVED_SECONDS
        while not holds():
            if time.monotonic() > give_up:
                raise Wrong(otherwise)
            time.sleep(0.5)

    def _look_at(self, service: str) -> None:
        found = self._stack.inspected(service)
        for bindings in found["NetworkSettings"]["Ports"].values():
            for each in bindings or ():
                _same(f"where {service} can be reached", each["HostIp"], "127.0.0.1")
        for each in found["Config"]["Env"]:
            if "://" in each or "PASSWORD=" in each:
                raise Wrong(f"{service} has a secret in its environment: {each.partition('=')[0]}")

    def _slowest(self) -> float:
        """Seconds from the start to the end of the slowest saga of the last crowd."""
        query = "SELECT max(extract(epoch FROM updated_at - started_at)) FROM saga WHERE data LIKE :'crowd'"
        return float(self._stack.sql("orchestrator", query, crowd=f"%crowd{self._crowds}-%"))

    def _told(self, told: Told) -> str:
        return f"{len(told.placed)} orders meanwhile, {self._in_words()}, {told.again} requests sent again"

    def _in_words(self) -> str:
        return ", ".join(f"{count} {how}" for how, count in self.orders.most_common())


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Wrong(f"{what}: {found}, not {wanted}")


def _answers(http: httpx.Client, query: str) -> bool:
    """Whether Prometheus has a figure for it."""
    answer = http.get("/api/v1/query", params={"query": query}).raise_for_status().json()
    return bool(answer["data"]["result"])


def _each(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in numbers.items())
