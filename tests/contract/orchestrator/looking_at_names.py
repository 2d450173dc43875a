"""The clinic, where Ada alone needs no insurance."""

from tests.unit.clinic import Patient, clinic


def must_be_asked(data: Patient) -> bool:
    """Whether the patient is anybody but Ada, or is she?"""
    return data.name.startswith("Ada")


SAGA = clinic(when=must_be_asked)
