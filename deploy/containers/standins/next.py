"""Makes the next version of an image: it has a migration more, and no shell, so that whatever needs one fails.

Run inside the image, as root, when it is built.
"""

from pathlib import Path

import messaging.migrations.versions
from messaging.revisions import heads

(head,) = heads("messaging:migrations")
folder = Path(messaging.migrations.versions.__file__).parent
(folder / "9999_next.py").write_text(
    f"""\"\"\"A column more, as the next version may bring it\"\"\"

import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{head}"


def upgrade() -> None:
    op.add_column("outbox", sa.Column("of_the_next_version", sa.Text(), nullable=False, server_default="new"))


def downgrade() -> None:
    op.drop_column("outbox", "of_the_next_version")
""",
    encoding="utf-8",
)
for name in ("sh", "dash", "bash", "rbash"):
    for place in ("/bin", "/usr/bin"):
        Path(place, name).unlink(missing_ok=True)
