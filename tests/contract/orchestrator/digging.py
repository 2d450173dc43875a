"""A saga as a module that AMENDS_SAGAS can name."""

from tests.unit.work import pivot, step, work_saga

DIGGING = work_saga(step("dig"), pivot("sign"))
