"""PURE: the sagas that ship with Amends, one file each. A team's own live in its own packages (AMENDS_SAGAS)."""
