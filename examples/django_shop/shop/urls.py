"""Where what is."""

from django.urls import path

from shop.views import look, order

urlpatterns = [path("order/<str:item>", order), path("jobs/<int:job_id>", look)]
