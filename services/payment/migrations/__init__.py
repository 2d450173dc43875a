"""The history of the payment tables."""
