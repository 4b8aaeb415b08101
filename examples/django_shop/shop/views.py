"""Buying."""

from django.db import transaction
from django.http import HttpRequest, JsonResponse

from shop.models import Letter, Order
from shop.tasks import confirm
from windlass.contrib.django import app


def order(request: HttpRequest, item: str) -> JsonResponse:
    """Store an order, and with it the job that confirms it: both, or neither."""
    try:
        with transaction.atomic():
            made = Order.objects.create(item=item)
            job = confirm.enqueue(made.id, seconds=float(request.GET.get("seconds", "0")))
            if item == "nothing":
                raise ValueError("nothing cannot be bought")
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    return JsonResponse({"order": made.id, "job": job.id})


async def look(_request: HttpRequest, job_id: int) -> JsonResponse:
    """Say how it stands."""
    job = await app.aget(job_id)
    return JsonResponse({"status": job.status, "letters": await Letter.objects.acount()})
