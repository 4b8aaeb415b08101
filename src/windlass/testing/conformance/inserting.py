"""Promises about storing jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from windlass.drivers.base import NewBatch
from windlass.job import Status
from windlass.testing.conformance.bench import EVERYTHING, assert_counted, delete, job, put, stored, take, totals

if TYPE_CHECKING:
    from windlass.drivers.base import Driver


class Inserting:
    """What ``insert`` promises."""

    def test_insert_returns_records_in_order_with_growing_ids(self, driver: Driver) -> None:
        """Ids grow in the order given, within a call and from call to call."""
        names = [f"task-{n}" for n in range(20)]
        records = driver.insert([job(name) for name in names]) + driver.insert([job("last")])
        assert [r.task for r in records] == [*names, "last"]
        ids = [r.id for r in records]
        assert ids == sorted(set(ids))

    def test_ids_are_not_reused_after_deletion(self, driver: Driver) -> None:
        """The id of a deleted job never comes back."""
        first = put(driver)
        delete(driver, first)
        assert put(driver).id > first.id

    def test_insert_of_nothing_does_nothing(self, driver: Driver) -> None:
        """An empty insert is no error."""
        assert driver.insert([]) == []
        assert driver.count(EVERYTHING, most=10) == 0

    def test_a_job_without_delay_is_pending(self, driver: Driver) -> None:
        """Due work waits for a worker at once, and has waited since now."""
        before = driver.now()
        record = put(driver)
        assert record.status is Status.PENDING
        assert before <= record.run_at <= driver.now()
        assert record.run_at == record.created_at

    def test_an_instant_in_the_past_is_pending(self, driver: Driver) -> None:
        """A ``run_at`` that has passed means at once."""
        assert put(driver, run_at=driver.now() - 100).status is Status.PENDING

    def test_delay_counts_from_the_clock_of_the_store(self, driver: Driver) -> None:
        """A delayed job is scheduled, ``delay`` seconds after the store's now."""
        driver.shift(86_400)
        record = put(driver, delay=60)
        assert record.status is Status.SCHEDULED
        assert record.run_at == pytest.approx(record.created_at + 60, abs=1e-3)
        assert record.created_at == pytest.approx(driver.now(), abs=5)

    def test_microseconds_of_instants_are_kept(self, driver: Driver) -> None:
        """Instants are exact to the microsecond."""
        at = float(int(driver.now()) + 5000) + 0.123457
        record = put(driver, run_at=at, tick=at)
        assert stored(driver, record).run_at == pytest.approx(at, abs=1e-6)
        assert stored(driver, record).tick == pytest.approx(at, abs=1e-6)

    def test_every_field_comes_back(self, driver: Driver) -> None:
        """What is stored is what was given, and what insert returned is what is stored."""
        batch_id = driver.open_batch(NewBatch(name="b")).id
        record = put(
            driver,
            "mail",
            "out",
            payload='{"straße": "Ünïcödé 🛠 \\u0000"}'.encode(),
            priority=-32768,
            max_attempts=7,
            timeout=0.0,
            tags=("grün", "b c"),
            origin="the admin's page",
            meta=b'{"trace":"1-2"}',
            batch_id=batch_id,
            tick=1234.5,
            idempotency_key="order/5",
        )
        assert stored(driver, record) == record
        assert (record.task, record.queue, record.priority) == ("mail", "out", -32768)
        assert record.payload == '{"straße": "Ünïcödé 🛠 \\u0000"}'.encode()
        assert (record.max_attempts, record.timeout, record.origin) == (7, 0.0, "the admin's page")
        assert record.tags == '["grün","b c"]'
        assert (record.meta, record.batch_id, record.tick) == (b'{"trace":"1-2"}', batch_id, 1234.5)
        assert record.idempotency_key == "order/5"
        assert (record.attempt, record.failures, record.crashes, record.lease) == (0, 0, 0, 0)
        assert (record.started_at, record.finished_at, record.error, record.result, record.worker) == (None,) * 5

    def test_names_may_be_any_text(self, driver: Driver) -> None:
        """Queues and tasks are told apart whatever characters they are made of."""
        names = ["ü", "a:b", "a", "b:a", "a'b", 'a"b', "a b", "{a}", "A", "%s", "🛠"]
        driver.insert([job(task, queue) for task in names for queue in names])
        claims = take(driver, 1000, tasks=names)
        assert {(r.task, r.queue) for r in claims} == {(task, queue) for task in names for queue in names}
        assert_counted(driver)

    def test_a_payload_of_a_megabyte_comes_back(self, driver: Driver) -> None:
        """The default limit of a payload fits."""
        payload = b'"' + b"x" * (1 << 20) + b'"'
        record = put(driver, payload=payload)
        assert stored(driver, record).payload == payload
        assert take(driver)[0].payload == payload

    def test_an_insert_is_all_or_nothing(self, driver: Driver) -> None:
        """A job that cannot be stored takes the others of its call with it."""
        if not driver.capabilities.atomic_bulk:
            pytest.skip(f"{driver.name} does not insert in bulk atomically")
        with pytest.raises(Exception):  # noqa: B017 - any refusal will do
            driver.insert([job(), job(tags=(object(),)), job()])
        assert driver.count(EVERYTHING, most=10) == 0
        assert take(driver, 10) == []
        assert_counted(driver)

    def test_a_job_is_found_by_its_key(self, driver: Driver) -> None:
        """``by_key`` returns the job, in whatever status, until it is deleted."""
        record = put(driver, idempotency_key="k")
        put(driver, idempotency_key="other")
        assert driver.by_key("k") == record
        assert driver.by_key("unknown") is None
        delete(driver, record)
        assert driver.by_key("k") is None

    def test_inserts_are_counted(self, driver: Driver) -> None:
        """The counters know every job from its first moment."""
        driver.insert([job(), job(), job(delay=60), job("other", "other")])
        assert totals(driver)["enqueued"] == 4
        assert_counted(driver)

    def test_an_unknown_id_is_nothing(self, driver: Driver) -> None:
        """Reading what is not there is no error."""
        assert driver.get(987_654_321) is None
        assert driver.history(987_654_321) == []
