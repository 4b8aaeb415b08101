"""The least that a project needs; the store of jobs is the project's own database."""

import os
from pathlib import Path

SECRET_KEY = "not a secret: an example"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
USE_TZ = True
ROOT_URLCONF = "shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["windlass.contrib.django", "shop"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", str(Path(__file__).parent.parent / "shop.db")),
        "TEST": {"NAME": str(Path(__file__).parent.parent / "test.db")},  # in memory nothing else could share it
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
WINDLASS = {"DATABASE": "default", "POLL": 0.1, "BACKOFF": 1, "LOST_AFTER": 3, "BEAT": 1}
TASKS = {"default": {"BACKEND": "windlass.contrib.django.backend.WindlassBackend", "QUEUES": ["default", "mail"]}}
