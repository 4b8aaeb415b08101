"""The application that huey's consumer imports, in the folder it is started in."""

from huey import SqliteHuey

from benchmarks import probe

FILE = "huey.db"
queue = SqliteHuey(filename=FILE, fsync=True, results=False, create_tables=False)  # an import leaves no file behind


@queue.task()  # type: ignore[untyped-decorator]
def send_email(user_id: int, email: str, template: str) -> None:
    """Do nothing with a payload of the usual size."""


@queue.task()  # type: ignore[untyped-decorator]
def note_run() -> None:
    """Note that the job runs."""
    probe.ran()


@queue.task()  # type: ignore[untyped-decorator]
def note_delay(sent: float) -> None:
    """Note how long the job was under way."""
    probe.started(sent)
