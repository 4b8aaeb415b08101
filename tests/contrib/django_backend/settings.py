"""A project that has nothing but tasks."""

SECRET_KEY = "tests"
USE_TZ = True
INSTALLED_APPS = ["windlass.contrib.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
WINDLASS = {"URL": "memory://", "MAX_ATTEMPTS": 1}
BACKEND = "windlass.contrib.django.backend.WindlassBackend"
TASKS = {
    "default": {"BACKEND": BACKEND, "QUEUES": ["default", "queue_1"]},
    "any": {"BACKEND": BACKEND, "QUEUES": []},
    "missing": {"BACKEND": "does.not.exist"},
}
