"""The saga as a Restate service, served by Hypercorn as Restate's documentation does."""

from __future__ import annotations

import restate

from benchmarks.peers.work import OutOfStock, move, saga

service = restate.Service("FulfillOrder")


@service.handler()
async def run(context: restate.Context, number: int) -> dict[str, int | str]:
    """The saga; each step's result is in Restate's journal before the next begins."""

    async def carry_out(step: str, order: int) -> int:
        def work() -> int:
            try:
                return move(step, order)
            except OutOfStock as error:
                # Any other error would be tried again for ever.
                raise restate.TerminalError(str(error)) from error

        moved: int = await context.run_typed(step, work)
        return moved

    return await saga(carry_out, number, (restate.TerminalError,))


app = restate.app([service])
