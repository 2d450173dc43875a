"""The testing kit for users."""
