"""``batches``: look at batches, cancel or delete one."""

from typing import Annotated, Any

import msgspec
import typer

from windlass.app import Windlass
from windlass.cli import output
from windlass.cli.command import command
from windlass.cli.options import Json
from windlass.client.batch import Batch
from windlass.errors import ConfigurationError


def add(cli: typer.Typer) -> None:
    """Add the command."""
    command(cli, "batches", panel="Look")(batches)


def batches(
    app: Windlass,
    *,
    batch_id: Annotated[int | None, typer.Argument(metavar="[ID]", help="This batch only.", show_default=False)] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel its members that have not ended.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Forget it; its members stay.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, the newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List batches with the counts of their members, or show, cancel or delete one."""
    if batch_id is None:
        if cancel or delete:
            raise ConfigurationError("say which batch to cancel or delete")
        _show(app.batches(limit=limit), as_json=as_json)
        return
    batch = app.get_batch(batch_id)
    if cancel:
        number = app.cancel_batch(batch_id)
        output.json({"id": batch_id, "cancelled": number}) if as_json else output.line(f"{number} jobs cancelled")
    elif delete:
        app.delete_batch(batch_id)
        output.json({"id": batch_id, "deleted": True}) if as_json else output.line(f"batch {batch_id} is deleted")
    elif as_json:
        output.json(batch_as_json(batch))
    else:
        output.fields([(name, _text(value)) for name, value in batch_as_json(batch).items()])


def batch_as_json(batch: Batch) -> dict[str, Any]:
    """Return what there is to say about a batch, as JSON types."""
    progress = batch.progress()
    return {
        "id": batch.id,
        "name": batch.name,
        "origin": batch.origin,
        "parent_id": batch.parent_id,
        "created_at": batch.created_at,
        "open": batch.open,
        **msgspec.structs.asdict(progress),
        "share": progress.share,
        "fired": list(batch.fired),
    }


def _show(found: list[Batch], *, as_json: bool) -> None:
    rows = [batch_as_json(batch) for batch in found]
    if as_json:
        output.json(rows)
        return
    names = ("id", "name", "total", "left", "completed", "dead", "cancelled", "nested")
    output.table(
        (*(name if name == "name" else f">{name}" for name in names), ">ended", "state"),
        [(*(row[name] for name in names), f"{row['share']:.0%}", _state(row)) for row in rows],
    )


def _state(row: dict[str, Any]) -> str:
    if row["open"]:
        return "open"
    return "finished" if row["finished_at"] is not None else "running"


def _text(value: Any) -> Any:
    if hasattr(value, "astimezone"):
        return output.time(value)
    return ", ".join(value) if isinstance(value, list) else value
