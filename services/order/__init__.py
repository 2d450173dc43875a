"""The order service: takes orders, keeps the stock, and answers `order.confirm` and `order.cancel`."""
