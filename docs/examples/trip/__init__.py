"""A trip: a saga of another shape, with everything a team of its own would write around it.

contracts.py     what is said
saga.py          in which order            AMENDS_SAGAS=docs.examples.trip.saga
store.py         what the travel service keeps
participant.py   what it answers           python -m messaging serve docs.examples.trip.participant:travel
desk.py          its domain code, which emits
__main__.py      the desk at the terminal  python -m docs.examples.trip --help
"""
