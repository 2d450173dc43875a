"""Ids that follow from others."""

from __future__ import annotations

from uuid import UUID

import pytest

from contracts.derived import derived_id


@pytest.mark.parametrize(
    ("space", "name", "expected"),
    [
        # RFC 9562, A.4
        ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.example.com", "2ed6657d-e927-568b-95e1-2665a8aea6a2"),
        ("00000000-0000-0000-0000-000000000000", "", "e129f27c-5103-5c5c-844b-cdf0a15e160d"),
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", "größer", "789351c3-6432-5067-8440-9f173b296e0d"),
    ],
)
def test_a_derived_id_is_a_uuid_of_version_5(space: str, name: str, expected: str) -> None:
    """What RFC 9562 says, in every part that a UUID is compared, hashed and written by."""
    found = derived_id(UUID(space), name)

    assert (found, str(found), hash(found)) == (UUID(expected), expected, hash(UUID(expected)))
    assert found.version == 5
