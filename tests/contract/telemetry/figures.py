"""A page of figures, read back."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

from messaging.telemetry.families import Family, Histogram, Value


def samples(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every value of a page by its name and its labels, but for the one that all have."""
    return {
        (sample.name, frozenset((name, value) for name, value in sample.labels.items() if name != "service_name")): (
            sample.value
        )
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def labeled(**labels: str) -> frozenset[tuple[str, str]]:
    """Labels as `samples` has them."""
    return frozenset(labels.items())


def values(families: Iterable[Family], name: str) -> dict[tuple[str, ...], Value]:
    """The values of one family, those that are not nothing."""
    (found,) = [each for each in families if each.name == name]
    return {labels: value for labels, value in found.values.items() if not _is_nothing(value)}


def _is_nothing(value: Value) -> bool:
    return not any(value.counts) if isinstance(value, Histogram) else value == 0


def total(value: Value) -> tuple[int, float]:
    """How often a histogram has counted, and the sum."""
    assert isinstance(value, Histogram)
    return sum(value.counts), value.total
