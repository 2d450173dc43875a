"""The participants of the example saga: an order and a payment service, strangers to each other."""
