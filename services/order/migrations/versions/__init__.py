"""The history of the tables in `services.order.store`."""
