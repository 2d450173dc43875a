"""Whether a resource is valid: built-in kinds by Kubernetes' own schemas, operators' by ours, which are closed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator

# It reads a file of a megabyte anew for each resource.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)

OLDEST = "1.32"
"""The Kubernetes that docs/kubernetes.md asks for at least."""
_SCHEMAS = Path(__file__).parent / "schemas"


def problems(resource: dict[str, Any]) -> list[str]:
    """What is wrong with it, a line each; a kind that nobody has a schema for is wrong, too."""
    group, _, version = resource["apiVersion"].rpartition("/")
    if (_SCHEMAS / f"{group}.yaml").exists():
        found = _schemas(group).get(version, {}).get(resource["kind"])
        if found is None:
            return [f"no schema for {resource['apiVersion']} {resource['kind']}"]
        return [f"{error.json_path}: {error.message}" for error in found.iter_errors(resource)]
    return [*_built_in(resource, OLDEST), *_built_in(resource, kubernetes_validate.latest_version())]


def _built_in(resource: dict[str, Any], version: str) -> list[str]:
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    except kubernetes_validate.ValidationError as error:
        return [f"{error.json_path}: {error.message}"]
    return []


@cache
def _schemas(group: str) -> dict[str, dict[str, Draft202012Validator]]:
    loaded = yaml.safe_load((_SCHEMAS / f"{group}.yaml").read_text(encoding="utf-8"))
    shared = loaded.pop("$defs")
    return {
        version: {kind: _validator(group, version, kind, spec, shared) for kind, spec in kinds.items()}
        for version, kinds in loaded.items()
    }


def _validator(group: str, version: str, kind: str, spec: Any, shared: Any) -> Draft202012Validator:
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    metadata = {"name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]*[a-z0-9]$"}, "namespace": {"type": "string"}}
    schema = {
        "$defs": shared,
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": f"{group}/{version}"},
            "kind": {"const": kind},
            "metadata": {
                "type": "object",
                "required": ["name"],
                "properties": metadata | {"labels": texts, "annotations": texts},
            },
            "spec": spec,
        },
    }
    _close(schema)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _close(schema: Any) -> None:
    """Whatever names its properties has no others."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for each in schema.values():
            _close(each)
    elif isinstance(schema, list):
        for each in schema:
            _close(each)
