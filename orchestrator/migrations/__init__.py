"""The history of the tables in `orchestrator.schema`."""
