"""What a benchmark says on stderr beside its figures; one that cannot go on ends with a line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import typer

from benchmarks.system import NotMeasurable
from deploy.servers import ServerUnavailable
from deploy.up import CannotStart


@contextmanager
def told() -> Iterator[None]:
    """Exit code 1 where work was not ended as it had to be, 69 where no server is to be had; our warnings are shown."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    try:
        yield
    except NotMeasurable as error:
        print(f"amends: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    except (ServerUnavailable, CannotStart) as error:
        print(f"amends: {error}", file=sys.stderr)
        raise typer.Exit(69) from error
