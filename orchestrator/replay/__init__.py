"""Replaying: folding recorded histories through the definitions of this checkout. Sends nothing, ever."""
