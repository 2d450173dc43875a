"""The history of the table of subjects' keys."""
