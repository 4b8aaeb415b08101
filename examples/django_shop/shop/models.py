"""What is sold, and what was written."""

from django.db import models


class Order(models.Model):
    """Something that somebody has bought."""

    item = models.CharField(max_length=100)


class Letter(models.Model):
    """A letter about an order."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE)
