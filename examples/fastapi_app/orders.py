"""A shop under FastAPI whose orders and jobs are committed together. README.md beside it says how to start it."""

import os
import time

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateTable

from windlass import Context, Windlass
from windlass.contrib.fastapi import lifespan

URL = os.environ.get("WINDLASS_URL", "sqlite:///orders.db")  # orders and jobs live in one database
STOCK = 100

app = Windlass(URL)
engine = create_engine(URL.replace("postgresql:", "postgresql+psycopg:"))


class Base(DeclarativeBase):
    """The tables of the shop."""


class Order(Base):
    """What somebody wants, and how often it was packed: once, it is hoped."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    pieces: Mapped[int]
    packed: Mapped[int] = mapped_column(default=0)


with engine.begin() as start:  # web server and worker may start at the same time
    start.execute(CreateTable(Base.metadata.tables["orders"], if_not_exists=True))


@app.task
def pack(ctx: Context, order: int) -> None:
    """Pack an order, a tenth of a second for each piece; killed before the end, it has packed nothing."""
    with Session(engine) as session:
        pieces = session.get_one(Order, order).pieces
    time.sleep(0.1 * pieces)
    with Session(engine) as session, ctx.transaction(connection=session):
        session.get_one(Order, order).packed += 1


web = FastAPI(lifespan=lifespan(app, worker=os.environ.get("WORKER") == "inside"))


class Wish(BaseModel):
    """What a customer sends."""

    item: str
    pieces: int = 1


@web.post("/orders", status_code=201)
def place(wish: Wish) -> dict[str, int]:
    """Take an order and enqueue its packing, in one transaction."""
    with Session(engine) as session, session.begin():
        order = Order(item=wish.item, pieces=wish.pieces)
        session.add(order)
        session.flush()
        job = pack.using(connection=session).enqueue(order.id)
        if wish.pieces > STOCK:
            raise HTTPException(409, f"there are only {STOCK}")  # neither the order nor the job has ever been there
        return {"order": order.id, "job": job.id}


@web.get("/orders/{order}")
def look(order: int) -> dict[str, int]:
    """Say how often it was packed."""
    with Session(engine) as session:
        found = session.get(Order, order)
        if found is None:
            raise HTTPException(404, "no such order")
        return {"packed": found.packed}
