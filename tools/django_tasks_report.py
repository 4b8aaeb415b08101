"""Print what Django's own tests of task backends expect, by the names they have there, and how our backend does.

`python tools/django_tasks_report.py` runs tests/contrib/django_backend, where each behaviour that applies is written anew, and
ends with 1 if one of them fails.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "tests" / "contrib" / "django_backend"
DOES_NOT_APPLY = {
    "test_cannot_get_result": "results can be got: see test_get_result",
    "test_cannot_refresh_result": "results can be refreshed: see test_refresh_result",
    "test_cannot_pass_run_after": "tasks can be deferred: see test_using_run_after",
    "test_throws_keyboard_interrupt": "Ctrl-C is for the worker, which stops in peace; a handler's own is a failure",
    "test_result_async": "a result is there when a worker has run the task, not when it is enqueued",
    "test_doesnt_wait_until_transaction_commit_by_default": "in atomic a job is part of the transaction, which is better",
    "test_wait_until_transaction_commit": "the same",
    "test_refresh_result_async": "the dummy backend's own list; see test_refresh_result",
    "test_pickle_task": "of Django 6.1's Task, which the backport does not have",
    "test_unpickle_arbitrary_string": "the same",
    "test_unpickle_non_task_object": "the same",
    "test_pickle_task_result": "the same",
    "test_run_after_in_decorator": "the same",
    "test_task_result_comparability_in_priority_queue": "of Django 6.1's TaskResult, which the backport does not have",
    "test_task_result_equality": "the same",
    "test_task_result_equality_not_implemented": "the same",
    "test_task_result_hash_equal_objects": "the same",
    "test_task_result_hash_usable_in_set": "the same",
    "test_task_result_hash_usable_as_dict_key": "the same",
    "test_task_result_lt_not_implemented": "the same",
    "test_task_result_lt_stability": "the same",
}


def main() -> int:
    """Run, print, and return the exit code."""
    command = [sys.executable, "manage.py", "test", "tests", "-v", "2"]
    done = subprocess.run(  # noqa: S603 - our own tests
        command, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    ran = set(re.findall(r"^(test_\w+) \(", done.stderr, re.MULTILINE))
    failed = set(re.findall(r"^(?:FAIL|ERROR): (test_\w+) \(", done.stderr, re.MULTILINE))
    for name in sorted({*ran, *DOES_NOT_APPLY}):
        reason = DOES_NOT_APPLY.get(name)
        print(f"{name:56} {'FAIL' if name in failed else f'not for us: {reason}' if reason else 'pass'}")
    print(f"\n{len(ran - failed)} pass, {len(failed)} fail, {len(DOES_NOT_APPLY)} are not for us")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
