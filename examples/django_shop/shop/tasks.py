"""What happens in the background."""

import time

from django_tasks import task

from shop.models import Letter, Order
from windlass.contrib.django import app


@app.task
def confirm(order_id: int, seconds: float = 0.0) -> int:
    """Write to whoever has ordered."""
    time.sleep(seconds)
    return Letter.objects.create(order=Order.objects.get(id=order_id)).id


@task(queue_name="mail")
def remind(name: str) -> str:
    """Do the same as one of Django's own tasks."""
    return f"dear {name}"
