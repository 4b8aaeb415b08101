"""Django: the example project's own tests, and the project as people run it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.contrib.test_fastapi import answers
from tests.servers.ports import free_port
from tests.waiting import until
from windlass import Windlass
from windlass.contrib.django.configured import url_of

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "django_shop"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example."""
    ignored = shutil.ignore_patterns("*.db*", "__pycache__")
    return Path(shutil.copytree(EXAMPLE, tmp_path / "django_shop", ignore=ignored))


def manage(project: Path, *words: str) -> str:
    """Run a management command to its end."""
    command = [sys.executable, "manage.py", *words]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_projects_own_tests_pass(project: Path) -> None:
    """The test-case mixin, the transaction, and what django.tasks expects of a backend."""
    said = manage(project, "test", "--noinput")
    assert "Ran 13 tests" in said
    assert "OK" in said


def test_the_backend_does_what_djangos_own_tests_expect() -> None:
    """Under the names that they have there; what is not for us has its reason."""
    tool = EXAMPLE.parents[1] / "tools" / "django_tasks_report.py"
    done = subprocess.run([sys.executable, str(tool)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
    assert "45 pass, 0 fail" in done.stdout


@pytest.fixture
def address(project: Path) -> Iterator[str]:
    """The project, migrated and served by gunicorn."""
    manage(project, "migrate", "-v", "0")
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "--threads", "2", "wsgi"]
    (project / "wsgi.py").write_text(
        'import os\nos.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"\n'
        "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
        encoding="utf-8",
    )
    with subprocess.Popen(command, cwd=project, stderr=subprocess.DEVNULL) as server:
        until(lambda: answers(f"http://127.0.0.1:{port}/jobs/0") or answers(f"http://127.0.0.1:{port}/nothing"))
        yield f"http://127.0.0.1:{port}"
        server.terminate()
        server.wait(20)


@pytest.mark.slow
def test_a_commit_leaves_one_job_a_rollback_none_and_a_killed_worker_loses_nothing(project: Path, address: str) -> None:
    """Over HTTP, with workers as their own processes."""
    assert httpx.get(f"{address}/order/nothing").status_code == 400
    answer = httpx.get(f"{address}/order/rope", params={"seconds": 2}).json()
    with Windlass(f"sqlite:///{project}/shop.db") as app:
        assert [job.id for job in app.jobs()] == [answer["job"]]
        command = [sys.executable, "manage.py", "windlass_worker", "--concurrency", "1"]
        with subprocess.Popen(command, cwd=project) as first:
            until(lambda: app.get(answer["job"]).status == "running")
            first.send_signal(signal.SIGKILL)
        with subprocess.Popen(command, cwd=project) as second:
            until(lambda: app.get(answer["job"]).status == "completed")
            second.send_signal(signal.SIGTERM)
            assert second.wait(30) == 0
        assert [attempt.outcome for attempt in app.get(answer["job"]).history()] == ["lost", "completed"]
    assert httpx.get(f"{address}/jobs/{answer['job']}").json() == {"status": "completed", "letters": 1}
    assert json.loads(manage(project, "windlass", "jobs", "--json"))["jobs"][0]["task"] == "confirm"


SCRIPT = """
    import sys
    from urllib.parse import urlsplit, parse_qs
    import django
    from django.conf import settings

    url = urlsplit(sys.argv[1])
    settings.configure(
        INSTALLED_APPS=["windlass.contrib.django"], USE_TZ=True,
        DATABASES={"default": {
            "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username, "HOST": url.hostname,
            "PORT": url.port,
        }},
    )
    django.setup()
    from django.db import connection, transaction
    from windlass.contrib.django import app

    app.driver
    connection.cursor().execute("CREATE TABLE seen (n integer)")
    with transaction.atomic():
        connection.cursor().execute("INSERT INTO seen VALUES (1)")
        app.enqueue("t", {"n": 1})
        app.enqueue_many([])
    try:
        with transaction.atomic():
            connection.cursor().execute("INSERT INTO seen VALUES (2)")
            app.enqueue("t", {"n": 2})
            1 / 0
    except ZeroDivisionError:
        pass
    with connection.cursor() as cursor:
        cursor.execute("SELECT n FROM seen")
        assert cursor.fetchall() == [(1,)]
    assert [job.payload for job in app.jobs()] == [{"n": 1}]
"""


def test_jobs_are_part_of_the_transaction_on_postgresql_too(postgres_url: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    command = [sys.executable, "script.py", postgres_url]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("database", "url"),
    [
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": "/srv/shop.db"}, "sqlite:////srv/shop.db"),
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}, "sqlite:///shop.db"),
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}, "sqlite://"),
        (
            {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "a b",
                "HOST": "h",
                "PORT": 5,
                "USER": "u",
                "PASSWORD": "p&",
            },
            "postgresql:///a%20b?host=h&port=5&user=u&password=p%26",
        ),
    ],
)
def test_the_store_is_that_of_the_database(database: dict[str, Any], url: str) -> None:
    assert url_of(database) == url


ADMIN = """
    import re, sys
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="s", PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"], USE_TZ=True, ROOT_URLCONF="urls", ALLOWED_HOSTS=["*"], WINDLASS={"URL": "memory://"},
        INSTALLED_APPS=[
            "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
            "django.contrib.messages", "windlass.contrib.django",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]}}],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "django.db"}},
    )
    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client
    from windlass.contrib.django import app

    call_command("migrate", verbosity=0)
    User.objects.create_superuser("root", password="pw")
    User.objects.create_user("ada", password="pw", is_staff=True)
    User.objects.create_user("eve", password="pw")
    job = app.enqueue("t", {"n": 1})

    for name, allowed in ((None, False), ("eve", False), ("ada", True), ("root", True)):
        client = Client(enforce_csrf_checks=True)
        if name:
            assert client.login(username=name, password="pw")
        page = client.get("/admin/jobs/jobs/1")
        if not allowed:
            assert (page.status_code, page.headers["location"]) == (302, "/admin/login/?next=/admin/jobs/jobs/1"), page
            assert client.post("/admin/jobs/jobs/1/cancel").status_code == 302
            continue
        text = page.content.decode()
        assert page.status_code == 200, text
        assert 'href="/admin/jobs/queues"' in text
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        sign = re.search(r'name="csrf" value="(\\w+)"', text)[1]
        assert client.get("/admin/jobs/").status_code == 200
        assert client.get("/admin/jobs/static/windlass.css").headers["content-type"].startswith("text/css")
        assert client.post("/admin/jobs/queues/default/pause").status_code == 403
        assert client.post("/admin/jobs/queues/default/pause", {"csrf": sign}).status_code == 303
        deleted = client.post("/admin/jobs/jobs/1/delete", {"csrf": sign})
        assert deleted.status_code == (303 if name == "root" else 403)
    assert [action.actor for action in app.audit()] == ["root", "root", "ada"]
    assert app.count() == 0
"""


def test_the_dashboard_is_under_the_admins_login(tmp_path: Path) -> None:
    """Staff operate, superusers do everything, others are led to the login."""
    (tmp_path / "script.py").write_text(textwrap.dedent(ADMIN), encoding="utf-8")
    (tmp_path / "urls.py").write_text(
        "from django.contrib import admin\nfrom django.urls import path\n"
        "from windlass.contrib.django.dashboard import dashboard\n"
        'urlpatterns = [path("admin/jobs/", dashboard), path("admin/jobs/<path:path>", dashboard),'
        ' path("admin/", admin.site.urls)]\n',
        encoding="utf-8",
    )
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
