"""Schedules in words."""

import pytest

from windlass.wording import cron_in_words, interval_in_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 2 * * 1-5", "every weekday at 02:00, Europe/Berlin"),
        ("0 2 * * mon-fri", "every weekday at 02:00, Europe/Berlin"),
        ("@daily", "every day at 00:00, Europe/Berlin"),
        ("0 12 * * SAT,SUN", "every Saturday and Sunday at 12:00, Europe/Berlin"),
        ("0 9,17 * * MON,4", "every Monday and Thursday at 09:00 and 17:00, Europe/Berlin"),
        ("30 4 1,15,22 * *", "on the 1st, 15th and 22nd of every month at 04:30, Europe/Berlin"),
        ("0 0 L * *", "on the last day of every month at 00:00, Europe/Berlin"),
        ("0 0 11 JAN,JUL *", "on the 11th of January and July at 00:00, Europe/Berlin"),
        ("0 7 * 12 *", "every day in December at 07:00, Europe/Berlin"),
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("*/1 * * * *", "every minute"),
        ("*/5 * * * 1-5", "every 5 minutes, every weekday, Europe/Berlin"),
        ("5 * * * *", "every hour at :05"),
        ("0 * * * *", "every hour"),
        ("0 * * * MON", "every hour, every Monday, Europe/Berlin"),
        ("0 */6 * * *", "every 6 hours, Europe/Berlin"),
        ("*/7 * * * *", "every seventh minute of every hour, Europe/Berlin"),
        ("0 8 * * 5L", "at 08:00 on the last Friday of the month, Europe/Berlin"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("* * * * * *", "every second"),
        ("*/7 * * * * *", "every seventh second of every minute, Europe/Berlin"),
    ],
)
def test_an_expression_reads_as_people_say_it(text: str, words: str) -> None:
    assert cron_in_words(text, "Europe/Berlin") == words


def test_days_that_must_fit_both_ways_read_otherwise_than_days_of_which_one_is_enough() -> None:
    assert cron_in_words("0 0 13 * 5") == "at 00:00 on the 13th day of month and on Friday, UTC"
    assert cron_in_words("0 0 13 * 5", and_days=True) == "at 00:00 on the 13th day of month if it's on Friday, UTC"


@pytest.mark.parametrize(
    ("every", "words"),
    [
        (1, "every second"),
        (0.5, "every 0.5 seconds"),
        (60, "every minute"),
        (300, "every 5 minutes"),
        (5400, "every 90 minutes"),
        (86400, "every day"),
        (129600, "every 36 hours"),
    ],
)
def test_an_interval_reads_in_the_largest_unit_that_fits(every: float, words: str) -> None:
    assert interval_in_words(every) == words
    assert interval_in_words(every, "noon") == f"{words}, counted from noon"
