"""The saga of `make demo`: fulfill_order, with a second's patience. A demo has no half minute for a silent service."""

from __future__ import annotations

from orchestrator import Retry, seconds
from orchestrator.sagas.fulfill_order import fulfill_order

FULFILL_ORDER = fulfill_order(timeout=seconds(1), retry=Retry(attempts=3, backoff=seconds(0.5)))
