"""The history of the tables in `messaging.schema`."""
