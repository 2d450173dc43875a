"""A saga whose contracts mark nothing."""

from tests.unit.work import step, work_saga

SAGA = work_saga(step("stock"))
