"""Which commands `amends` has, under which headings, and where each is; only what is wanted is loaded.

All of them together take half a second to load, which a process that runs sagas, or lists them, need not wait for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import typer

from orchestrator.cli.helping import Headed, lay_out_examples

RUN = "Run"
LOOK = "Look (changes nothing)"
REPLAY = "Replay (publishes nothing)"
REPAIR = "Repair (kept, with who and why)"


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or a group of them: its name, its heading, its module in this package and its name there."""

    name: str
    heading: str
    module: str
    attribute: str

    def add_to(self, app: typer.Typer) -> typer.Typer | None:
        """Load it and register it; returns the group where it is one."""
        found = getattr(import_module(f"orchestrator.cli.{self.module}"), self.attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=self.name, rich_help_panel=self.heading)
            return found
        app.command(self.name, rich_help_panel=self.heading)(found)
        return None


COMMANDS = (
    Command("run", RUN, "running", "run"),
    Command("relay", RUN, "running", "relay"),
    Command("start", RUN, "running", "start"),
    Command("migrate", RUN, "running", "migrate"),
    Command("reindex", RUN, "listing", "reindex"),
    Command("prune", RUN, "pruning", "prune"),
    Command("reshard", RUN, "shards", "reshard"),
    Command("config", RUN, "running", "config"),
    Command("broker", RUN, "broker", "app"),
    Command("keys", RUN, "keys", "app"),
    Command("subjects", RUN, "subjects", "app"),
    Command("new", RUN, "beginning", "app"),
    Command("list", LOOK, "listing", "list_sagas"),
    Command("show", LOOK, "looking", "show"),
    Command("why", LOOK, "why", "why"),
    Command("watch", LOOK, "watching", "watch"),
    Command("stats", LOOK, "statistics", "stats"),
    Command("parked", LOOK, "waiting", "parked"),
    Command("outbox", LOOK, "waiting", "outbox"),
    Command("deferred", LOOK, "waiting", "deferred"),
    Command("replay", REPLAY, "replaying", "replay"),
    Command("fork", REPLAY, "forking", "fork"),
    Command("preflight", REPLAY, "preflight", "preflight"),
    Command("export", REPLAY, "exporting", "export"),
    Command("seal", REPLAY, "exporting", "seal"),
    Command("retry", REPAIR, "repairing", "retry"),
    Command("resolve", REPAIR, "repairing", "resolve"),
    Command("skip", REPAIR, "repairing", "skip"),
    Command("compensate", REPAIR, "repairing", "compensate"),
    Command("cancel", REPAIR, "repairing", "cancel"),
    Command("abandon", REPAIR, "repairing", "abandon"),
    Command("reschedule", REPAIR, "repairing", "reschedule"),
    Command("migrate-instances", REPAIR, "repairing", "migrate_instances"),
    Command("dead-letters", REPAIR, "dead_letters", "app"),
)


def wanted(words: Sequence[str]) -> Sequence[Command]:
    """The one that these words name; all where that is not plain (help, a shell's completion, a word misspelled)."""
    if "_AMENDS_COMPLETE" in os.environ:
        return COMMANDS
    return [each for each in COMMANDS if words[:1] == [each.name]] or COMMANDS


def amends(commands: Sequence[Command] = COMMANDS) -> typer.Typer:
    """The program with these commands; loads the modules that they are in."""
    app = typer.Typer(help="Sagas that make amends.", cls=Headed, no_args_is_help=True, rich_markup_mode=None)

    @app.callback()
    def one_is_a_group_too() -> None:
        """Nothing: Typer would take a program with a single command for that command."""

    groups = [each.add_to(app) for each in commands]
    lay_out_examples((app, *(each for each in groups if each is not None)))
    return app
