"""The payment service: credit accounts, authorizations, and a journal of every movement of money."""
