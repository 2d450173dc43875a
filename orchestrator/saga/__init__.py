"""PURE: what a saga is and how it moves. Knows no database, no broker, no clock."""
