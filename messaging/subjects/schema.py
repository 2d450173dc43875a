"""The table of subjects' keys: subject_key, alone in a database of its own.

No row is ever deleted: that a person was erased must be remembered, or somebody would make a new key.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, MetaData, String, Table, Text

from messaging.privileges import ERASED
from messaging.schema import NAMING, UTCDateTime

metadata = MetaData(naming_convention=NAMING)

subject_key = Table(
    "subject_key",
    metadata,
    # What a token names. Random: it says nothing of the subject.
    Column("id", String(22), primary_key=True),
    Column("subject", Text, nullable=False),
    # The key as `messaging.subjects.master` wraps it, and which master key did; nothing once it is erased.
    Column("wrapped", Text),
    Column("master", String(100)),
    # Nothing for a person who was erased before anybody had made a key.
    Column("made_at", UTCDateTime()),
    Column("erased_at", UTCDateTime()),
    Column("erased_by", Text),
    Column("erased_why", Text),
    CheckConstraint("(wrapped IS NULL) = (erased_at IS NOT NULL)", name="erased"),
    CheckConstraint("(wrapped IS NULL) = (master IS NULL)", name="master"),
    # "is there a key of this person?", and one of two who make it at once
    Index("uq_subject_key_subject", "subject", unique=True),
    # "which master keys are in use?", and what is to be wrapped anew
    Index("ix_subject_key_master_id", "master", "id"),
    info=ERASED,
)
