"""A task for the process lane whose child opens the store itself: that of ``WINDLASS_URL``, read at import."""

from windlass import Context, Windlass

app = Windlass(backoff=0, poll=0.05)


@app.task(lane="process", max_attempts=1)
def transact(ctx: Context, fail: bool) -> None:
    """Tell before, inside of and after a transaction, which ends the attempt in the child."""
    for number in range(20):
        ctx.log(f"before {number}")
    with ctx.transaction() as tx:
        ctx.log("inside")
        tx.result("done")
        if fail:
            raise ValueError("no")
    ctx.log("after")
