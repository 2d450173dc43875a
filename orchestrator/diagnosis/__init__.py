"""Why an instance is where it is: gathered from the orchestrator's own tables and, where one answers, the broker.

Reads only. What is found are values; the words for people are the command line's.
"""
