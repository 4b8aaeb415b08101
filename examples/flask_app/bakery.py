"""A bakery under Flask whose orders and jobs are committed together. README.md beside it says how to start it."""

import os
import time

from flask import Flask, abort, current_app, request
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateTable

from windlass import Context, Windlass
from windlass.contrib.flask import WindlassFlask

URL = os.environ.get("WINDLASS_URL", "sqlite:///bakery.db")  # orders and jobs live in one database

app = Windlass(URL)
engine = create_engine(URL.replace("postgresql:", "postgresql+psycopg:"))
web = Flask(__name__)
web.config.update(STOCK=100, SECONDS_A_PIECE=0.1)
WindlassFlask(app, web)


class Base(DeclarativeBase):
    """The tables of the bakery."""


class Order(Base):
    """What somebody wants, and how often it was packed: once, it is hoped."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    pieces: Mapped[int]
    packed: Mapped[int] = mapped_column(default=0)


with engine.begin() as start:  # web server and worker may start at the same time
    start.execute(CreateTable(Base.metadata.tables["orders"], if_not_exists=True))
app.migrate()  # now, and not within a transaction that has locked the file


@app.task
def pack(ctx: Context, order: int) -> None:
    """Pack an order; killed before the end, it has packed nothing."""
    with Session(engine) as session:
        pieces = session.get_one(Order, order).pieces
    time.sleep(current_app.config["SECONDS_A_PIECE"] * pieces)
    with Session(engine) as session, ctx.transaction(connection=session):
        session.get_one(Order, order).packed += 1


@web.post("/orders")
def place() -> tuple[dict[str, int], int]:
    """Take an order and enqueue its packing, in one transaction."""
    wish = request.get_json()
    with Session(engine) as session, session.begin():
        order = Order(item=wish["item"], pieces=wish["pieces"])
        session.add(order)
        session.flush()
        job = pack.using(connection=session).enqueue(order.id)
        if order.pieces > current_app.config["STOCK"]:
            abort(409)  # neither the order nor the job has ever been there
        return {"order": order.id, "job": job.id}, 201


@web.get("/orders/<int:order>")
def look(order: int) -> dict[str, int]:
    """Say how often it was packed."""
    with Session(engine) as session:
        found = session.get(Order, order)
        if found is None:
            abort(404)
        return {"packed": found.packed}
