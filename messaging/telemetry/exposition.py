"""Figures in the text that Prometheus reads; the only module that knows its library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from messaging.telemetry.families import Family, Histogram

SERVICE = "service_name"
"""The label that says which service a figure is of, whatever whoever collects it calls it."""


class Page:
    """The figures of one service as a page, of a registry of its own."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def write(self, families: Iterable[Family], accept: str) -> tuple[bytes, str]:
        """The page, and its content type, in the form that the reader accepts best."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Given([*_alike(families)], self._service))
        registry.register(self._process)
        encode, kind = choose_encoder(accept)
        return encode(registry), kind


class _Given(Collector):
    def __init__(self, families: Iterable[Family], service: str) -> None:
        self._families = families
        self._service = service

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            yield _metric(family, self._service)


def _alike(families: Iterable[Family]) -> Iterable[Family]:
    """Each name once: what several meters say under one name belongs together."""
    merged: dict[str, Family] = {}
    for each in families:
        known = merged.get(each.name)
        if known is None:
            merged[each.name] = each
        else:
            values = {**known.values, **each.values}
            merged[each.name] = Family(each.name, each.help, each.kind, each.labels, values)
    return merged.values()


def _metric(family: Family, service: str) -> Metric:
    labels = (SERVICE, *family.labels)
    metric: Metric
    match family.kind:
        case "counter":
            metric = counter = CounterMetricFamily(family.name, family.help, labels=labels)
            for values, value in family.values.items():
                counter.add_metric((service, *values), _number(value))
        case "gauge":
            metric = gauge = GaugeMetricFamily(family.name, family.help, labels=labels)
            for values, value in family.values.items():
                gauge.add_metric((service, *values), _number(value))
        case "histogram":
            metric = histogram = HistogramMetricFamily(family.name, family.help, labels=labels)
            for values, value in family.values.items():
                buckets, total = _buckets(value)
                histogram.add_metric((service, *values), buckets, total)
        case "snapshot":
            metric = snapshot = GaugeHistogramMetricFamily(family.name, family.help, labels=labels)
            for values, value in family.values.items():
                buckets, total = _buckets(value)
                snapshot.add_metric((service, *values), buckets, total)
    return metric


def _number(value: float | Histogram) -> float:
    if isinstance(value, Histogram):
        raise TypeError("a histogram is not one number")
    return float(value)


def _buckets(value: float | Histogram) -> tuple[list[tuple[str, float]], float]:
    if not isinstance(value, Histogram):
        raise TypeError(f"{value} is not a histogram")
    bounds = [*(f"{bound:g}" if bound % 1 else f"{bound:.1f}" for bound in value.bounds), "+Inf"]
    return [(bound, float(count)) for bound, count in zip(bounds, accumulate(value.counts), strict=True)], value.total
