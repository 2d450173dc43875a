"""The floor: the same shape of saga in hand-written loops, with no validation, no contracts and no recovery.

It shows what the broker, the database and Python cost by themselves. It is no code to build on: it handles no nack, no
return, no lost connection and no crash.
"""
