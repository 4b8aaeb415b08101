-- The functions that write. Each is one round trip and, called by itself, one commit. Their names end in the schema version
-- that brought them: workers of the release before go on calling theirs while a migration runs.
--
-- The functions pin planner settings, and those they call inherit them: the hot tables change size faster than their
-- statistics, and one sequential scan over dead rows is slower than everything else together.
--
-- Locks. Who changes a job first takes its one row in ready, timer, running or done; what else belongs to the job is then
-- free. Who may have to wait for several such rows takes them in the order of the jobs' ids; all others pass over what is
-- locked. After them, and in this order, come what only some jobs have (0001.flow.sql), signals and the one row of meta, for which
-- nobody waits who holds what its holder still needs. A decision about a schedule takes the schedule's name before all of these. So nobody
-- ever waits in a circle, which costs deadlock_timeout, a second, each time.

-- The store's clock.
CREATE FUNCTION {p}_now_v1() RETURNS double precision LANGUAGE sql VOLATILE AS $$
    SELECT extract(epoch FROM clock_timestamp())::double precision + shift FROM {p}_meta
$$;

-- The number of a stream; made if it is new. See the table for why there is no ON CONFLICT.
CREATE FUNCTION {p}_stream_v1(a_queue text, a_task text, a_priority smallint) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_id integer;
BEGIN
    SELECT id INTO v_id FROM {p}_stream
    WHERE queue = a_queue AND task = a_task AND priority = a_priority ORDER BY id LIMIT 1;
    IF v_id IS NULL THEN
        INSERT INTO {p}_stream (queue, task, priority) VALUES (a_queue, a_task, a_priority) RETURNING id INTO v_id;
    END IF;
    RETURN v_id;
END $$;

-- Wakes the listeners. Gated: of those who commit at once only one notifies, as a notification holds a lock of the whole
-- server until the commit is flushed; the others' jobs are seen because every wake is followed by later looks. In a
-- caller's transaction, which may last, a gate would silence everyone: there the notification is plain.
CREATE FUNCTION {p}_ring_v1(a_gated boolean) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT a_gated OR pg_try_advisory_xact_lock(hashtextextended('{c}', 0)) THEN
        PERFORM pg_notify('{c}', '');
    END IF;
END $$;

-- Stores new jobs. a_jobs: a JSON array of objects {q, t, p, y and, where they are not NULL, m, o, d, r, e, g, s, n, b, k, i, f, x}.
-- JSON inside is text here and below: its own escapes, \u0000 above all, must not be undone on the way.
-- a_store: in a caller's transaction the store that is meant, which is checked; else NULL.
-- a_ids: numbers drawn already, NULL for jobs that are not to be stored.
-- Returns the store's time and the ids in order.
CREATE FUNCTION {p}_enqueue_v1(a_jobs json, a_store text, a_ids bigint[], OUT now double precision, OUT ids bigint[])
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_now double precision;
BEGIN
    IF a_store <> (SELECT store FROM {p}_meta) THEN
        RAISE EXCEPTION USING ERRCODE = 'WL001', MESSAGE = 'this connection is of another store';
    END IF;
    -- The transaction gets its number before it draws a place: whoever sees all numbers below some bound ended has seen
    -- all their places.
    PERFORM pg_current_xact_id();
    v_now := {p}_now_v1();
    WITH given AS MATERIALIZED (
        SELECT CASE WHEN a_ids IS NULL THEN nextval('{p}_seq') ELSE a_ids[j.nth] END AS id,
               {p}_stream_v1(j.q, j.t, coalesce(j.p, 0::smallint)) AS stream,
               coalesce(j.r, v_now + coalesce(j.d, 0)) AS run_at, j.*
        FROM ROWS FROM (json_to_recordset(a_jobs) AS (
            q text, t text, p smallint, y text, m integer, o double precision, d double precision, r double precision,
            e smallint, g json, s text, n text, b bigint, k double precision, i text, f text, x text))
            WITH ORDINALITY AS j (q, t, p, y, m, o, d, r, e, g, s, n, b, k, i, f, x, nth)
        WHERE a_ids IS NULL OR a_ids[j.nth] IS NOT NULL
    ), jobs AS (
        INSERT INTO {p}_job (id, created_at, timeout, batch_id, tick, stream, max_attempts, payload, flags, tags, origin, meta,
                             idempotency_key, flow, terms)
        SELECT id, v_now, o, b, k, stream, m, y::json, e, g::text, s, n::json, i, f, x FROM given
    ), pending AS (
        INSERT INTO {p}_ready (seq, id, stream, flags) SELECT id, id, stream, e FROM given WHERE run_at <= v_now
    ), waiting AS (
        INSERT INTO {p}_timer (id, run_at, stream, flags, retrying) SELECT id, run_at, stream, e, false FROM given
        WHERE run_at > v_now
    ), tags AS (
        INSERT INTO {p}_tag (job_id, tag) SELECT DISTINCT id, tag FROM given, json_array_elements_text(g) AS tag
    ), counted AS (
        INSERT INTO {p}_delta (stream, second, scheduled, pending, enqueued)
        SELECT stream, floor(v_now), nullif(count(*) FILTER (WHERE run_at > v_now), 0),
               nullif(count(*) FILTER (WHERE run_at <= v_now), 0), count(*)
        FROM given GROUP BY stream
    )
    SELECT v_now, array_agg(id ORDER BY id) INTO now, ids FROM given;
    PERFORM {p}_ring_v1(a_store IS NULL);
END $$;

-- Draws a_count numbers, and the streams of a bulk insert (COPY). first is NULL unless the numbers follow each other.
CREATE FUNCTION {p}_draw_v1(
    a_count integer, a_streams json, OUT now double precision, OUT first bigint, OUT ids bigint[], OUT streams integer[])
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_current_xact_id();
    SELECT CASE WHEN max(n) - min(n) + 1 = a_count THEN min(n) END,
           CASE WHEN max(n) - min(n) + 1 = a_count THEN NULL ELSE array_agg(n ORDER BY n) END
    INTO first, ids FROM (SELECT nextval('{p}_seq') AS n FROM generate_series(1, a_count)) AS drawn;
    SELECT array_agg({p}_stream_v1(s.q, s.t, s.p)) INTO streams
    FROM json_to_recordset(a_streams) AS s (q text, t text, p smallint);
    now := {p}_now_v1();
END $$;

-- Ends leases of a_worker's whose jobs are completed: the common case, as arrays. The worker is compared too: a standby
-- promoted with the end of the log missing gives numbers out again. a_results is a JSON array, or NULL when there are none; of a_forget,
-- or NULL, nothing is kept.
-- Returns what is to be said and done about some of them. what 0: the lease at position n (from 1) was not live. 1: the move at position n
-- was another, as job id has the key. 2: slots of the limit key are free. 3: n members of the batch id have moved.
CREATE FUNCTION {p}_complete_v1(
    a_worker text, a_ids bigint[], a_leases bigint[], a_finished double precision[], a_results json, a_forget bigint[],
    a_now double precision)
RETURNS TABLE (what integer, n bigint, id bigint, key text, before text, after text) LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_made bigint[];
    v_slots text[];
    v_members bigint[];
    v_holders bigint[];
BEGIN
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest(a_ids, a_leases, a_finished) WITH ORDINALITY AS g (id, lease, finished_at, n)
    ), results AS MATERIALIZED (
        SELECT value, n FROM json_array_elements(coalesce(a_results, '[]')) WITH ORDINALITY AS r (value, n)
    ), gone AS (
        DELETE FROM {p}_running r USING given g WHERE r.id = g.id AND r.lease = g.lease AND r.worker = a_worker
        RETURNING r.id, r.run_at, r.started_at, r.stream, r.attempt, r.failures, r.crashes, r.worker, r.flags, r.slots,
                  g.finished_at, g.n, r.id = ANY (a_forget) AS goes
    ), put AS (
        INSERT INTO {p}_done (id, finished_at, run_at, started_at, stream, attempt, failures, crashes, status, outcome,
                              worker, result)
        SELECT id, finished_at, run_at, started_at, stream, attempt, failures, crashes, 'completed', 'completed', worker,
               CASE WHEN a_results IS NOT NULL THEN (
                   SELECT value FROM results WHERE results.n = gone.n AND json_typeof(value) <> 'null') END
        FROM gone WHERE goes IS NOT TRUE
    ), counted AS (
        INSERT INTO {p}_delta (stream, second, running, completed, processed)
        SELECT stream, floor(a_now), -count(*), nullif(count(*) FILTER (WHERE goes IS NOT TRUE), 0), count(*)
        FROM gone GROUP BY stream
    )
    SELECT array_agg(e.n), array_agg(e.id) FILTER (WHERE e.flags & 4 <> 0), array_agg(e.id) FILTER (WHERE e.flags & 1 <> 0),
           array_agg(e.slots::text) FILTER (WHERE e.slots IS NOT NULL)
    INTO v_made, v_members, v_holders, v_slots FROM gone e;
    IF coalesce(cardinality(v_made), 0) < cardinality(a_ids) THEN
        RETURN QUERY SELECT 0, p::bigint, NULL::bigint, NULL, NULL, NULL FROM generate_subscripts(a_ids, 1) AS p
                     WHERE NOT p = ANY (coalesce(v_made, '{}'));
    END IF;
    IF v_slots IS NOT NULL THEN
        RETURN QUERY SELECT 2, NULL::bigint, NULL::bigint, k, NULL, NULL
                     FROM unnest(v_slots) AS t, jsonb_array_elements_text(t::jsonb) AS k;
    END IF;
    IF v_members IS NOT NULL THEN
        RETURN QUERY SELECT 3, count(*), j.batch_id, NULL, 'running', 'completed'
                     FROM {p}_job j WHERE j.id = ANY (v_members) GROUP BY j.batch_id;
    END IF;
    IF v_holders IS NOT NULL THEN
        PERFORM {p}_release_v1(v_holders, 'completed', a_now);
    END IF;
    IF a_forget IS NOT NULL THEN
        PERFORM {p}_forget_v1(ARRAY(
            SELECT f FROM unnest(a_forget) AS f WHERE f IN (SELECT a_ids[m] FROM unnest(v_made) AS m)), a_now);
    END IF;
END $$;

-- Moves jobs from one place to another, each if it is still where and as the caller saw it. a_moves: a JSON array of
-- {id, was, lease, worker, attempt, failures, crashes: what the caller saw; now (NULL deletes), attempt2, failures2, crashes2, at,
-- keep, outcome, error, result, tries, request, finished, forget, yields, update, totals: what becomes of it}.
-- A job that would have to take a key that another has is cancelled if it yields, or if its lease has ended; else WL002 is raised,
-- with the other's id and, as the detail, its own.
-- Returns rows as complete does.
CREATE FUNCTION {p}_move_v1(a_moves json, a_now double precision, a_gated boolean)
RETURNS TABLE (what integer, n bigint, id bigint, key text, before text, after text) LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $$
#variable_conflict use_column
DECLARE
    m record;
    r record;
    v_stream integer;
    v_made bigint[] := '{}';
    v_streams integer[] := '{}';
    v_superseded bigint[] := '{}';
    v_flags smallint;
    v_rival bigint;
    v_ring boolean := false;
    v_rewind boolean := false;
    v_floor double precision;
BEGIN
    PERFORM pg_current_xact_id();
    v_floor := {p}_now_v1();  -- a timer must not appear below the mark of those that are past
    FOR m IN
        SELECT * FROM ROWS FROM (json_to_recordset(a_moves) AS (
            id bigint, was text, lease bigint, worker text, attempt integer, failures integer, crashes integer, now text,
            attempt2 integer, failures2 integer, crashes2 integer, at double precision, keep boolean, outcome text,
            error text, result text, tries integer, request boolean, finished double precision, forget boolean,
            yields boolean, update json))
        WITH ORDINALITY AS moves (
            id, was, lease, worker, attempt, failures, crashes, now, attempt2, failures2, crashes2, at, keep, outcome, error,
            result, tries, request, finished, forget, yields, update, n)
    LOOP
        v_stream := NULL;
        v_flags := NULL;
        IF m.was = 'running' THEN
            IF m.request THEN
                UPDATE {p}_running u SET cancel = true WHERE u.id = m.id AND u.lease = m.lease AND u.worker = m.worker
                RETURNING u.worker, u.stream INTO r;
                IF FOUND THEN
                    INSERT INTO {p}_signal VALUES (r.worker, m.id, m.lease, true) ON CONFLICT DO NOTHING;
                    v_ring := true;
                ELSE
                    RETURN QUERY SELECT 0, m.n, NULL::bigint, NULL, NULL, NULL;
                END IF;
                CONTINUE;
            END IF;
            DELETE FROM {p}_running u WHERE u.id = m.id AND u.lease = m.lease AND u.worker = m.worker
            RETURNING u.stream, u.seq, u.run_at, u.started_at, u.worker, u.flags, u.slots INTO r;
            v_stream := r.stream;
            v_flags := r.flags;
            IF r.slots IS NOT NULL THEN
                RETURN QUERY SELECT 2, NULL::bigint, NULL::bigint, k, NULL, NULL FROM jsonb_array_elements_text(r.slots) AS k;
            END IF;
            IF v_stream IS NOT NULL AND m.finished IS NULL THEN  -- by hand: whoever holds the lease is told
                INSERT INTO {p}_signal VALUES (r.worker, m.id, m.lease, false) ON CONFLICT DO NOTHING;
                v_ring := true;
            END IF;
        ELSIF m.was = 'pending' THEN
            DELETE FROM {p}_ready o
            WHERE o.stream = (SELECT j.stream FROM {p}_job j WHERE j.id = m.id) AND o.seq = m.id
              AND coalesce(o.attempt, 0) = m.attempt AND coalesce(o.failures, 0) = m.failures
            RETURNING o.stream, o.seq, o.run_at, NULL::double precision AS started_at, NULL AS worker, o.flags INTO r;
            IF NOT FOUND THEN
                DELETE FROM {p}_ready o
                WHERE o.stream = (SELECT j.stream FROM {p}_job j WHERE j.id = m.id) AND o.id = m.id AND o.seq <> o.id
                  AND coalesce(o.attempt, 0) = m.attempt AND coalesce(o.failures, 0) = m.failures
                RETURNING o.stream, o.seq, o.run_at, NULL::double precision AS started_at, NULL AS worker, o.flags INTO r;
            END IF;
            IF NOT FOUND THEN
                DELETE FROM {p}_blocked o
                WHERE o.stream = (SELECT j.stream FROM {p}_job j WHERE j.id = m.id) AND o.id = m.id
                  AND coalesce(o.attempt, 0) = m.attempt AND coalesce(o.failures, 0) = m.failures
                RETURNING o.stream, o.seq, o.run_at, NULL::double precision AS started_at, NULL AS worker, o.flags INTO r;
            END IF;
            v_stream := r.stream;
            v_flags := r.flags;
        ELSIF m.was IN ('scheduled', 'retrying') THEN
            DELETE FROM {p}_timer o
            WHERE o.stream = (SELECT j.stream FROM {p}_job j WHERE j.id = m.id) AND o.retrying = (m.was = 'retrying')
              AND o.id = m.id AND coalesce(o.attempt, 0) = m.attempt AND coalesce(o.failures, 0) = m.failures
            RETURNING o.stream, NULL::bigint AS seq, o.run_at, NULL::double precision AS started_at, NULL AS worker, o.flags
            INTO r;
            v_stream := r.stream;
            v_flags := r.flags;
        ELSE
            DELETE FROM {p}_done o
            WHERE o.stream = (SELECT j.stream FROM {p}_job j WHERE j.id = m.id) AND o.status = m.was AND o.id = m.id
              AND o.attempt = m.attempt AND coalesce(o.failures, 0) = m.failures
            RETURNING o.stream, NULL::bigint AS seq, o.run_at, o.started_at, o.worker, o.finished_at, o.attempt, o.outcome,
                      o.error, (SELECT j.flags FROM {p}_job j WHERE j.id = m.id) AS flags INTO r;
            v_stream := r.stream;
            v_flags := r.flags;
            IF FOUND AND m.now IS NOT NULL AND r.outcome IS NOT NULL THEN
                INSERT INTO {p}_attempt (job_id, number, worker, started_at, finished_at, outcome, error)
                VALUES (m.id, r.attempt, r.worker, r.started_at, r.finished_at, r.outcome, r.error);
            END IF;
        END IF;
        IF v_stream IS NULL THEN
            RETURN QUERY SELECT 0, m.n, NULL::bigint, NULL, NULL, NULL;
            CONTINUE;
        END IF;
        v_made := v_made || m.n;
        v_streams := v_streams || v_stream;
        IF v_flags & 1 <> 0 AND m.now IS NOT NULL THEN
            v_rival := {p}_take_v1(m.id, m.was, m.now, a_now);
            IF v_rival IS NOT NULL AND m.finished IS NULL AND m.yields IS NOT TRUE THEN
                RAISE EXCEPTION USING ERRCODE = 'WL002', MESSAGE = v_rival, DETAIL = m.id;
            ELSIF v_rival IS NOT NULL THEN
                m.now := 'cancelled';
                m.error := {p}_superseded_v1(v_rival);
                v_superseded := v_superseded || m.n;
                RETURN QUERY SELECT 1, m.n, v_rival, NULL, NULL, NULL;
            END IF;
            PERFORM {p}_release_v1(ARRAY[m.id], m.now, a_now);
        END IF;
        IF v_flags & 4 <> 0 AND m.was IS DISTINCT FROM m.now THEN
            RETURN QUERY SELECT 3, 1::bigint, j.batch_id, NULL, m.was, m.now FROM {p}_job j WHERE j.id = m.id;
        END IF;
        IF m.now IS NULL OR m.forget THEN
            PERFORM {p}_forget_v1(ARRAY[m.id], a_now);
            CONTINUE;
        END IF;
        IF m.update IS NOT NULL THEN
            UPDATE {p}_job j SET payload = (m.update ->> 'payload')::json,
                max_attempts = (m.update ->> 'max_attempts')::integer,
                timeout = (m.update ->> 'timeout')::double precision, meta = (m.update ->> 'meta')::json,
                terms = m.update ->> 'terms'
            WHERE j.id = m.id;
        END IF;
        IF m.tries IS NOT NULL THEN
            UPDATE {p}_job j SET max_attempts = m.tries WHERE j.id = m.id;
        END IF;
        IF m.now IN ('completed', 'dead', 'cancelled') THEN
            INSERT INTO {p}_done (id, finished_at, run_at, started_at, stream, attempt, failures, crashes, status,
                                  outcome, worker, error, result)
            VALUES (m.id, coalesce(m.finished, a_now),
                    coalesce(r.run_at, (SELECT j.created_at FROM {p}_job j WHERE j.id = m.id)), r.started_at, v_stream,
                    m.attempt2, nullif(m.failures2, 0), nullif(m.crashes2, 0), m.now,
                    CASE WHEN m.was = 'running' THEN m.outcome END, r.worker, m.error::json,
                    m.result::json);
            CONTINUE;
        END IF;
        IF m.was = 'running' AND m.outcome IS NOT NULL THEN
            INSERT INTO {p}_attempt (job_id, number, worker, started_at, finished_at, outcome, error)
            VALUES (m.id, m.attempt, r.worker, r.started_at, coalesce(m.finished, a_now), m.outcome, m.error::json);
        END IF;
        v_ring := true;
        IF m.now = 'pending' THEN
            IF m.keep AND r.seq IS NOT NULL THEN
                INSERT INTO {p}_ready (seq, id, run_at, stream, attempt, failures, crashes, flags)
                VALUES (r.seq, m.id, r.run_at, v_stream, nullif(m.attempt2, 0), nullif(m.failures2, 0),
                        nullif(m.crashes2, 0), v_flags);
                v_rewind := true;
            ELSE
                INSERT INTO {p}_ready (seq, id, run_at, stream, attempt, failures, crashes, flags)
                VALUES (nextval('{p}_seq'), m.id, a_now, v_stream, nullif(m.attempt2, 0), nullif(m.failures2, 0),
                        nullif(m.crashes2, 0), v_flags);
            END IF;
        ELSE
            INSERT INTO {p}_timer (id, run_at, stream, attempt, failures, crashes, flags, retrying)
            VALUES (m.id, greatest(m.at, v_floor), v_stream, nullif(m.attempt2, 0), nullif(m.failures2, 0),
                    nullif(m.crashes2, 0), v_flags, m.now = 'retrying');
        END IF;
    END LOOP;
    IF v_made <> '{}' THEN
        INSERT INTO {p}_delta (stream, second, scheduled, pending, running, retrying, completed, dead, cancelled,
                               processed, failed, retried, total_dead, total_cancelled, snoozed, released, lost)
        SELECT made.stream, floor(a_now),
               sum((now = 'scheduled')::int) - sum((was = 'scheduled')::int),
               sum((now = 'pending')::int) - sum((was = 'pending')::int),
               sum((now = 'running')::int) - sum((was = 'running')::int),
               sum((now = 'retrying')::int) - sum((was = 'retrying')::int),
               sum((now = 'completed')::int) - sum((was = 'completed')::int),
               sum((now = 'dead')::int) - sum((was = 'dead')::int),
               sum((now = 'cancelled')::int) - sum((was = 'cancelled')::int),
               sum(('processed' = ANY (totals))::int), sum(('failed' = ANY (totals))::int),
               sum(('retried' = ANY (totals))::int), sum(('dead' = ANY (totals))::int),
               sum(('cancelled' = ANY (totals))::int), sum(('snoozed' = ANY (totals))::int),
               sum(('released' = ANY (totals))::int), sum(('lost' = ANY (totals))::int)
        FROM ROWS FROM (json_to_recordset(a_moves) AS (was text, now text, forget boolean, totals text[]))
             WITH ORDINALITY AS moves (was, now0, forget, totals0, n),
             LATERAL (
                SELECT CASE WHEN forget THEN '' WHEN moves.n = ANY (v_superseded) THEN 'cancelled' ELSE coalesce(now0, '') END
                           AS now,
                       CASE WHEN moves.n = ANY (v_superseded)
                            THEN array_remove(array_remove(totals0, 'retried'), 'dead') || ARRAY['cancelled']
                            ELSE totals0 END AS totals
             ) AS known,
             unnest(v_made, v_streams) AS made (n, stream)
        WHERE made.n = moves.n GROUP BY made.stream;
    END IF;
    IF v_rewind THEN
        UPDATE {p}_meta SET rewind = rewind + 1;
    END IF;
    IF v_ring THEN
        PERFORM {p}_ring_v1(a_gated);
    END IF;
END $$;

-- The error of a job that gives way to another, as windlass.lifecycle.SUPERSEDED spells it.
CREATE FUNCTION {p}_superseded_v1(a_rival bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT format('{"type":"Superseded","message":"superseded by #%s","kind":"discard"}', a_rival)
$$;

-- Moves jobs, and does all that follows from it.
CREATE FUNCTION {p}_change_v1(a_moves json, a_now double precision, a_gated boolean)
RETURNS TABLE (what integer, n bigint, id bigint) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    e record;
    v_slots text[] := '{}';
    v_batches bigint[] := '{}';
    v_befores text[] := '{}';
    v_afters text[] := '{}';
BEGIN
    FOR e IN SELECT * FROM {p}_move_v1(a_moves, a_now, a_gated) LOOP
        IF e.what = 2 THEN
            v_slots := v_slots || e.key;
        ELSIF e.what = 3 THEN
            v_batches := v_batches || e.id;
            v_befores := v_befores || e.before;
            v_afters := v_afters || e.after;
        ELSE
            RETURN QUERY SELECT e.what, e.n, e.id;
        END IF;
    END LOOP;
    IF v_slots <> '{}' THEN
        IF {p}_free_v1(v_slots, a_now) THEN
            PERFORM {p}_ring_v1(a_gated);
        END IF;
    END IF;
    IF v_batches <> '{}' THEN
        PERFORM {p}_count_v1(v_batches, v_befores, v_afters, array_fill(1, ARRAY[cardinality(v_batches)]));
    END IF;
END $$;

-- Finds and locks jobs to claim: a_limit at most, above the marks of the streams given, which come in the order of their
-- priority. A row that somebody else has locked is passed over, and nothing is locked that is not taken: it would look
-- taken to others. Over several streams the best are looked up first, and locked; where others were quicker (a_again), each
-- stream in turn gives what it has. a_rivals and a_seqs, or NULL: the ranks and places of others that want to be among the best.
-- gated: whether one of them brings gates.
CREATE FUNCTION {p}_lock_v1(
    a_limit integer, a_streams integer[], a_marks bigint[], a_ranks integer[], a_again boolean, a_rivals integer[],
    a_seqs bigint[], OUT places tid[], OUT gated boolean)
LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_places tid[];
    v_gated boolean;
BEGIN
    IF a_rivals IS NOT NULL OR cardinality(a_streams) > 1 AND NOT a_again THEN
        WITH best AS MATERIALIZED (
            SELECT r.stream, r.seq, w.rank
            FROM unnest(a_streams, a_marks, a_ranks) AS w (stream, mark, rank)
                 CROSS JOIN LATERAL (
                    SELECT r.stream, r.seq FROM {p}_ready r WHERE r.stream = w.stream AND r.seq > w.mark
                    ORDER BY r.seq LIMIT a_limit
                 ) AS r
            UNION ALL SELECT NULL, seq, rank FROM unnest(a_rivals, a_seqs) AS o (rank, seq)
            ORDER BY rank, seq LIMIT a_limit
        ), locked AS (
            SELECT r.ctid AS place, r.flags FROM best b JOIN {p}_ready r ON r.stream = b.stream AND r.seq = b.seq
            FOR UPDATE OF r SKIP LOCKED
        )
        SELECT array_agg(place), bool_or(flags & 2 <> 0) INTO places, gated FROM locked;
        RETURN;
    END IF;
    places := '{}';
    FOR v_n IN 1..cardinality(a_streams) LOOP
        SELECT array_agg(place), bool_or(flags & 2 <> 0) INTO v_places, v_gated FROM (
            SELECT r.ctid AS place, r.flags FROM {p}_ready r WHERE r.stream = a_streams[v_n] AND r.seq > a_marks[v_n]
            ORDER BY r.seq LIMIT a_limit - cardinality(places) FOR UPDATE SKIP LOCKED
        ) AS locked;
        places := places || v_places;
        gated := gated OR v_gated;
        EXIT WHEN cardinality(places) >= a_limit;
    END LOOP;
END $$;

-- Leases the jobs at places of ready that this transaction has locked; best first, the first a_start of them started. a_slots: an
-- object of the limits that each has passed, by id; NULL: none.
CREATE FUNCTION {p}_lease_v1(
    a_places tid[], a_worker text, a_start integer, a_cautious integer, a_deadline double precision, a_slots jsonb,
    a_now double precision)
RETURNS {p}_running[] LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_claims {p}_running[];
    v_giving bigint[];
BEGIN
    WITH taken AS (
        DELETE FROM {p}_ready r WHERE r.ctid = ANY (a_places)
        RETURNING r.seq, r.id, r.run_at, r.stream, r.attempt, r.failures, r.crashes, r.flags
    ), sorted AS MATERIALIZED (
        SELECT t.*, row_number() OVER best <= a_start AND coalesce(t.crashes, 0) < a_cautious AS starts
        FROM taken t JOIN {p}_stream s ON s.id = t.stream
        WINDOW best AS (ORDER BY s.priority DESC, t.seq) ORDER BY s.priority DESC, t.seq
    ), counted AS (
        INSERT INTO {p}_delta (stream, second, pending, running)
        SELECT stream, floor(a_now), -count(*), count(*) FROM taken GROUP BY stream
    ), leased AS (
        INSERT INTO {p}_running AS u (id, lease, seq, run_at, started_at, deadline, stream, attempt, failures, crashes,
                                      flags, worker, slots)
        SELECT s.id, nextval('{p}_lease_seq'), s.seq,
               coalesce(s.run_at, (SELECT j.created_at FROM {p}_job j WHERE j.id = s.id)),
               CASE WHEN s.starts THEN a_now END, a_deadline, s.stream, coalesce(s.attempt, 0) + s.starts::integer,
               s.failures, s.crashes, s.flags, a_worker, a_slots -> s.id::text
        FROM sorted s
        RETURNING u AS claim, CASE WHEN u.flags & 8 <> 0 THEN u.id END AS giving
    )
    SELECT array_agg(claim), array_agg(giving) FILTER (WHERE giving IS NOT NULL) INTO v_claims, v_giving FROM leased;
    IF v_giving IS NOT NULL THEN
        PERFORM {p}_release_v1(v_giving, 'running', a_now);
    END IF;
    RETURN v_claims;
END $$;

-- Makes due jobs available, a thousand at most so that a turn stays short; returns how many. One that has to take a key that
-- another has by now is cancelled; batches: those of which such jobs are members, befores: what these were.
CREATE FUNCTION {p}_promote_v1(
    a_now double precision, a_above double precision, OUT number integer, OUT batches bigint[], OUT befores text[])
LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
    v_befores text[];
    v_rival bigint;
    r record;
BEGIN
    PERFORM pg_current_xact_id();
    WITH due AS MATERIALIZED (
        SELECT t.ctid AS place FROM {p}_timer t WHERE t.run_at > a_above AND t.run_at <= a_now
        ORDER BY t.run_at, t.id LIMIT 1000 FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM {p}_timer t USING due d WHERE t.ctid = d.place
        RETURNING t.id, t.run_at, t.stream, t.attempt, t.failures, t.crashes, t.flags, t.retrying
    ), sorted AS MATERIALIZED (
        SELECT * FROM gone ORDER BY run_at, id
    ), available AS (
        INSERT INTO {p}_ready (seq, id, run_at, stream, attempt, failures, crashes, flags)
        SELECT nextval('{p}_seq'), id, run_at, stream, attempt, failures, crashes, flags FROM sorted
    ), counted AS (
        INSERT INTO {p}_delta (stream, second, pending, scheduled, retrying)
        SELECT stream, floor(a_now), count(*), nullif(-count(*) FILTER (WHERE NOT retrying), 0),
               nullif(-count(*) FILTER (WHERE retrying), 0)
        FROM gone GROUP BY stream
    )
    SELECT count(*), array_agg(id) FILTER (WHERE flags & 8 <> 0),
           array_agg(CASE WHEN retrying THEN 'retrying' ELSE 'scheduled' END) FILTER (WHERE flags & 8 <> 0)
    INTO number, v_ids, v_befores FROM gone;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;
    FOR v_n IN 1..cardinality(v_ids) LOOP
        v_rival := {p}_take_v1(v_ids[v_n], v_befores[v_n], 'pending', a_now);
        PERFORM {p}_release_v1(ARRAY[v_ids[v_n]], CASE WHEN v_rival IS NULL THEN 'pending' ELSE 'cancelled' END, a_now);
        CONTINUE WHEN v_rival IS NULL;
        DELETE FROM {p}_ready o USING {p}_job j WHERE j.id = v_ids[v_n] AND o.stream = j.stream AND o.id = j.id AND o.seq <> o.id
        RETURNING o.stream, o.run_at, o.attempt, o.failures, o.crashes, o.flags, j.batch_id INTO r;
        INSERT INTO {p}_done (id, finished_at, run_at, stream, attempt, failures, crashes, status, error)
        VALUES (v_ids[v_n], a_now, r.run_at, r.stream, coalesce(r.attempt, 0), r.failures, r.crashes, 'cancelled',
                {p}_superseded_v1(v_rival)::json);
        INSERT INTO {p}_delta (stream, second, pending, cancelled, total_cancelled)
        VALUES (r.stream, floor(a_now), -1, 1, 1);
        IF r.batch_id IS NOT NULL THEN
            batches := batches || r.batch_id;
            befores := befores || v_befores[v_n];
        END IF;
    END LOOP;
END $$;

-- The first job that was created at or after an instant, found by halving: ids grow with the time, within the seconds that
-- callers allow for.
CREATE FUNCTION {p}_since_v1(a_at double precision) RETURNS bigint LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
DECLARE
    v_low bigint := 0;
    v_high bigint;
    v_id bigint;
    v_at double precision;
BEGIN
    SELECT id + 1 INTO v_high FROM {p}_job ORDER BY id DESC LIMIT 1;
    WHILE v_low < v_high LOOP
        SELECT id, created_at INTO v_id, v_at FROM {p}_job WHERE id >= (v_low + v_high) / 2 ORDER BY id LIMIT 1;
        IF v_at < a_at THEN
            v_low := v_id + 1;
        ELSE
            v_high := (v_low + v_high) / 2;
        END IF;
    END LOOP;
    RETURN coalesce(v_high, 0);
END $$;

-- One turn of a worker's pump: settles, marks starts, promotes what is due, claims, and brings signals. Each of these sees
-- what the one before has done. A turn with nothing to do writes nothing.
--
-- a_parts: NULL, or a JSON array of {q, l}: take so many at most of these queues (null: of all), in this order. a_then: NULL, or what is
-- enqueued with settlements that are applied: a JSON array of {m: whether it is among the moves, n: its position, jobs}.
--
-- Rows by kind: 0 = the head, always last: run_at now, created_at the next due time, id the rewind count, lease the oldest
-- transaction in progress and seq the next one (as this turn began and ended), attempt 0 if the worker was declared lost, failures 1
-- if somebody listens, crashes another number when schedules have changed.
-- 1 = a claim. 2 = a refused (id, lease). 3 = a signal (id, lease, attempt 1 to cancel). 4 = stream has nothing for claims up to
-- seq. 5 = the batch id is ripe.
CREATE FUNCTION {p}_exchange_v1(
    a_worker text, a_ids bigint[], a_leases bigint[], a_finished double precision[], a_results json, a_forget bigint[],
    a_moves json, a_then json, a_starting bigint[], a_starting_leases bigint[], a_limit integer, a_start integer,
    a_cautious integer, a_deadline double precision, a_queues text[], a_parts json, a_tasks text[],
    a_streams integer[], a_marks bigint[], a_safes bigint[], a_rewind bigint, a_due_mark double precision)
RETURNS TABLE (
    kind integer, id bigint, lease bigint, seq bigint, stream integer, attempt integer, failures integer,
    crashes integer, run_at double precision, started_at double precision, created_at double precision,
    queue text, task text, priority smallint, max_attempts integer, timeout double precision, payload bytea,
    error bytea, tags text, origin text, meta bytea, batch_id bigint, tick double precision, idempotency_key text,
    flow text, terms text)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_oldest bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    v_now double precision;
    v_rewind bigint;
    v_stamp integer;
    v_known boolean := true;
    v_promoted integer := 0;
    v_due double precision;
    v_look double precision;
    v_soon double precision;
    v_wide boolean;
    v_waits boolean := false;
    v_limit integer;
    v_queues text[];
    v_streams integer[];
    v_marks bigint[];
    v_safes bigint[];
    v_ranks integer[];
    v_places tid[];
    v_gated boolean;
    v_open integer[];
    v_all integer[] := '{}';
    v_backs tid[];
    v_rivals integer[];
    v_seqs bigint[];
    v_keys text[];
    v_back_ids bigint[];
    v_passed jsonb;
    v_fair boolean;
    v_lined boolean := false;
    v_line_streams integer[];
    v_line_marks bigint[];
    v_called tid[];
    v_called_ranks integer[];
    v_called_seqs bigint[];
    v_called_streams integer[];
    v_called_keys text[];
    v_called_ids bigint[];
    v_aside integer := 0;
    v_more boolean;
    v_put_streams integer[];
    v_put_marks bigint[];
    v_claims {p}_running[];
    v_got integer := 0;
    e record;
    v_refused bigint[] := '{}';
    v_unmoved bigint[] := '{}';
    v_slots text[] := '{}';
    v_batches bigint[] := '{}';
    v_befores text[] := '{}';
    v_afters text[] := '{}';
    v_numbers integer[] := '{}';
    v_then text;
BEGIN
    SELECT extract(epoch FROM clock_timestamp())::double precision + shift, rewind, stamp INTO v_now, v_rewind, v_stamp FROM {p}_meta;
    -- Completions alone come in the order of ids; moves come in their own, and starts after both. See "Locks".
    IF a_moves IS NOT NULL OR cardinality(a_starting) > 0 THEN
        PERFORM FROM {p}_running u
        WHERE u.id = ANY (a_ids || a_starting || ARRAY(SELECT m.id FROM json_to_recordset(a_moves) AS m (id bigint)))
        ORDER BY u.id FOR UPDATE;
    END IF;
    IF cardinality(a_ids) > 0 THEN
        FOR e IN SELECT * FROM {p}_complete_v1(a_worker, a_ids, a_leases, a_finished, a_results, a_forget, v_now) LOOP
            IF e.what = 0 THEN
                v_refused := v_refused || e.n;
            ELSIF e.what = 2 THEN
                v_slots := v_slots || e.key;
            ELSE
                v_batches := v_batches || e.id;
                v_befores := v_befores || e.before;
                v_afters := v_afters || e.after;
                v_numbers := v_numbers || e.n::integer;
            END IF;
        END LOOP;
        IF v_refused <> '{}' THEN
            RETURN QUERY
            SELECT 2, a_ids[c], a_leases[c], NULL::bigint, NULL::integer, NULL::integer, NULL::integer, NULL::integer,
                   NULL::double precision, NULL::double precision, NULL::double precision, NULL, NULL, NULL::smallint,
                   NULL::integer, NULL::double precision, NULL::bytea, NULL::bytea, NULL, NULL, NULL::bytea, NULL::bigint,
                   NULL::double precision, NULL, NULL, NULL
            FROM unnest(v_refused) AS c;
        END IF;
    END IF;
    IF a_moves IS NOT NULL THEN
        FOR e IN SELECT * FROM {p}_move_v1(a_moves, v_now, true) LOOP
            IF e.what = 0 THEN
                v_unmoved := v_unmoved || e.n;
            ELSIF e.what = 2 THEN
                v_slots := v_slots || e.key;
            ELSIF e.what = 3 THEN
                v_batches := v_batches || e.id;
                v_befores := v_befores || e.before;
                v_afters := v_afters || e.after;
                v_numbers := v_numbers || 1;
            END IF;
        END LOOP;
        IF v_unmoved <> '{}' THEN
            RETURN QUERY
            SELECT 2, (a_moves -> (c::integer - 1) ->> 'id')::bigint, (a_moves -> (c::integer - 1) ->> 'lease')::bigint,
                   NULL::bigint, NULL::integer, NULL::integer, NULL::integer, NULL::integer, NULL::double precision,
                   NULL::double precision, NULL::double precision, NULL, NULL, NULL::smallint, NULL::integer,
                   NULL::double precision, NULL::bytea, NULL::bytea, NULL, NULL, NULL::bytea, NULL::bigint,
                   NULL::double precision, NULL, NULL, NULL
            FROM unnest(v_unmoved) AS c;
        END IF;
        SELECT rewind INTO v_rewind FROM {p}_meta;
    END IF;
    IF a_then IS NOT NULL THEN
        SELECT '[' || string_agg(j.value::text, ',') || ']' INTO v_then
        FROM json_to_recordset(a_then) AS t (m boolean, n bigint, jobs json), json_array_elements(t.jobs) AS j
        WHERE NOT t.n = ANY (CASE WHEN t.m THEN v_unmoved ELSE v_refused END);
        IF v_then IS NOT NULL THEN
            PERFORM {p}_enqueue_tied_v1(v_then::json, NULL, false);
        END IF;
    END IF;
    IF cardinality(a_starting) > 0 THEN
        UPDATE {p}_running u SET started_at = v_now, attempt = u.attempt + 1
        FROM unnest(a_starting, a_starting_leases) AS s (id, lease)
        WHERE u.id = s.id AND u.lease = s.lease AND u.started_at IS NULL;
        RETURN QUERY
        SELECT 2, s.id, s.lease, NULL::bigint, NULL::integer, NULL::integer, NULL::integer, NULL::integer,
               NULL::double precision, NULL::double precision, NULL::double precision, NULL, NULL, NULL::smallint,
               NULL::integer, NULL::double precision, NULL::bytea, NULL::bytea, NULL, NULL, NULL::bytea, NULL::bigint,
               NULL::double precision, NULL, NULL, NULL
        FROM unnest(a_starting, a_starting_leases) AS s (id, lease)
        WHERE NOT EXISTS (SELECT FROM {p}_running u WHERE u.id = s.id AND u.lease = s.lease);
    END IF;

    SELECT run_at INTO v_due FROM {p}_timer WHERE run_at > a_due_mark ORDER BY run_at LIMIT 1;
    IF v_due <= v_now THEN
        SELECT p.number, v_batches || p.batches, v_befores || p.befores,
               v_afters || array_fill('cancelled'::text, ARRAY[coalesce(cardinality(p.batches), 0)]),
               v_numbers || array_fill(1, ARRAY[coalesce(cardinality(p.batches), 0)])
        INTO v_promoted, v_batches, v_befores, v_afters, v_numbers FROM {p}_promote_v1(v_now, a_due_mark) AS p;
        SELECT run_at INTO v_due FROM {p}_timer WHERE run_at > a_due_mark ORDER BY run_at LIMIT 1;
    END IF;
    IF v_slots <> '{}' THEN
        v_waits := {p}_free_v1(v_slots, v_now);
    END IF;

    SELECT coalesce((SELECT w.status <> 'lost' FROM {p}_worker w WHERE w.id = a_worker), true),
           EXISTS (SELECT FROM {p}_gate g WHERE g.wide), (SELECT l.at FROM {p}_look l ORDER BY l.at LIMIT 1),
           EXISTS (SELECT FROM {p}_turn)
    INTO v_known, v_wide, v_look, v_fair;
    IF v_known AND a_limit > 0 AND cardinality(a_tasks) > 0 THEN
        FOR v_part IN 1..coalesce(json_array_length(a_parts), 1) LOOP
            v_limit := a_limit;
            v_queues := a_queues;
            IF a_parts IS NOT NULL THEN
                v_limit := least(a_limit, v_got + (a_parts -> (v_part - 1) ->> 'l')::integer);
                v_queues := CASE WHEN json_typeof(a_parts -> (v_part - 1) -> 'q') = 'array' THEN
                    ARRAY(SELECT json_array_elements_text(a_parts -> (v_part - 1) -> 'q')) END;
            END IF;
            CONTINUE WHEN v_got >= v_limit;
            SELECT array_agg(s.id ORDER BY s.priority DESC, s.id),
                   array_agg(CASE WHEN v_rewind = a_rewind THEN coalesce(k.mark, 0) ELSE 0 END
                             ORDER BY s.priority DESC, s.id),
                   array_agg(CASE WHEN v_rewind = a_rewind THEN coalesce(k.safe, 0) ELSE 0 END
                             ORDER BY s.priority DESC, s.id),
                   array_agg(-s.priority::integer ORDER BY s.priority DESC, s.id)
            INTO v_streams, v_marks, v_safes, v_ranks
            FROM {p}_stream s
                 LEFT JOIN unnest(a_streams, a_marks, a_safes) AS k (stream, mark, safe) ON k.stream = s.id
            WHERE s.task = ANY (a_tasks) AND (v_queues IS NULL OR s.queue = ANY (v_queues))
              AND NOT EXISTS (SELECT FROM {p}_pause p WHERE p.kind = 'queue' AND p.name = s.queue)
              AND NOT EXISTS (SELECT FROM {p}_pause p WHERE p.kind = 'task' AND p.name = s.task);
            v_all := v_all || v_streams;
            -- Above the marks first; then, if others were quicker at the same jobs, whatever can be locked; then what a
            -- transaction that ended late has left between the safe marks and the marks.
            FOR v_pass IN 1..3 LOOP
                EXIT WHEN v_streams IS NULL OR v_got >= v_limit;
                CONTINUE WHEN v_pass = 2 AND cardinality(v_streams) = 1 AND v_rivals IS NULL;
                CONTINUE WHEN v_pass = 3 AND v_safes = v_marks;
                LOOP
                    IF v_wide THEN
                        SELECT o.streams, least(v_soon, o.due) INTO v_open, v_soon FROM {p}_open_v1(v_streams, v_now) AS o;
                        SELECT array_agg(w.id ORDER BY w.n), array_agg(w.mark ORDER BY w.n), array_agg(w.safe ORDER BY w.n),
                               array_agg(w.rank ORDER BY w.n)
                        INTO v_streams, v_marks, v_safes, v_ranks
                        FROM unnest(v_streams, v_marks, v_safes, v_ranks) WITH ORDINALITY AS w (id, mark, safe, rank, n)
                        WHERE w.id = ANY (v_open);
                        EXIT WHEN v_streams IS NULL;
                    END IF;
                    v_backs := NULL;
                    v_rivals := NULL;
                    v_seqs := NULL;
                    v_keys := NULL;
                    v_back_ids := NULL;
                    v_passed := NULL;
                    v_called := NULL;
                    v_line_streams := NULL;
                    v_line_marks := NULL;
                    v_put_streams := NULL;
                    v_put_marks := NULL;
                    v_more := false;
                    IF v_look <= v_now AND v_pass = 1 THEN
                        SELECT b.places, b.ranks, b.seqs, b.keys, least(v_soon, b.due)
                        INTO v_backs, v_rivals, v_seqs, v_keys, v_soon
                        FROM {p}_back_v1(v_limit - v_got, v_streams, v_ranks, v_now) AS b;
                    END IF;
                    IF v_fair THEN
                        SELECT l.streams, l.marks INTO v_line_streams, v_line_marks FROM {p}_line_up_v1(v_streams, v_marks) AS l;
                        v_lined := v_lined OR v_line_streams IS NOT NULL;
                        SELECT c.places, c.ranks, c.seqs, c.streams, c.keys, c.ids
                        INTO v_called, v_called_ranks, v_called_seqs, v_called_streams, v_called_keys, v_called_ids
                        FROM {p}_call_v1(v_limit - v_got, v_streams, v_ranks) AS c;
                        v_backs := v_backs || v_called;
                        v_rivals := v_rivals || v_called_ranks;
                        v_seqs := v_seqs || v_called_seqs;
                    END IF;
                    SELECT l.places, l.gated INTO v_places, v_gated FROM {p}_lock_v1(
                        v_limit - v_got, v_streams, CASE WHEN v_pass = 3 THEN v_safes ELSE v_marks END, v_ranks, v_pass > 1,
                        v_rivals, v_seqs) AS l;
                    IF v_gated OR v_keys IS NOT NULL OR v_wide OR v_called IS NOT NULL THEN
                        SELECT s.places, s.backs, s.slots, v_aside + s.aside, s.streams, s.marks, least(v_soon, s.due),
                               s.aside + s.skipped > 0, v_fair OR s.lined, v_lined OR s.lined
                        INTO v_places, v_back_ids, v_passed, v_aside, v_put_streams, v_put_marks, v_soon, v_more, v_fair, v_lined
                        FROM {p}_sieve_v1(v_places, v_backs, v_limit - v_got, v_keys, v_wide, v_now) AS s;
                        IF v_put_streams IS NOT NULL THEN
                            v_look := coalesce(v_look, v_now + 1);
                        END IF;
                    END IF;
                    IF v_line_streams IS NOT NULL OR v_put_streams IS NOT NULL THEN
                        RETURN QUERY
                        SELECT 4, NULL::bigint, NULL::bigint, w.mark, w.stream, NULL::integer, NULL::integer,
                               NULL::integer, NULL::double precision, NULL::double precision, NULL::double precision, NULL,
                               NULL, NULL::smallint, NULL::integer, NULL::double precision, NULL::bytea, NULL::bytea, NULL,
                               NULL, NULL::bytea, NULL::bigint, NULL::double precision, NULL, NULL, NULL
                        FROM unnest(v_line_streams || v_put_streams, v_line_marks || v_put_marks) AS w (stream, mark);
                    END IF;
                    IF cardinality(v_places) > 0 THEN
                        v_claims := {p}_lease_v1(
                            v_places, a_worker, a_start - v_got, a_cautious, v_now + a_deadline, v_passed, v_now);
                        -- In a statement of its own: one snapshot for both might see less than the claim did, and hide what
                        -- it took.
                        RETURN QUERY
                        SELECT 1, c.id, c.lease, CASE WHEN c.id = ANY (v_back_ids) THEN NULL ELSE c.seq END, c.stream,
                               c.attempt, coalesce(c.failures, 0), coalesce(c.crashes, 0), c.run_at,
                               c.started_at, j.created_at, s.queue, s.task, s.priority, j.max_attempts, j.timeout,
                               convert_to(j.payload::text, 'UTF8'),
                               CASE WHEN c.attempt > 1 OR c.started_at IS NULL AND c.attempt > 0 THEN (
                                   SELECT convert_to(a.error::text, 'UTF8') FROM {p}_attempt a
                                   WHERE a.job_id = c.id AND a.error IS NOT NULL ORDER BY a.number DESC LIMIT 1) END,
                               j.tags, j.origin, convert_to(j.meta::text, 'UTF8'), j.batch_id, j.tick, j.idempotency_key,
                               j.flow, j.terms
                        FROM unnest(v_claims) AS c JOIN {p}_job j ON j.id = c.id JOIN {p}_stream s ON s.id = c.stream
                        ORDER BY c.lease;
                        v_got := v_got + cardinality(v_places);
                    END IF;
                    IF v_called IS NOT NULL THEN
                        PERFORM {p}_end_turns_v1(v_called_streams, v_called_keys, v_called_ids);
                    END IF;
                    -- Others may start in the place of those that were put aside.
                    EXIT WHEN NOT v_more OR v_got >= v_limit;
                    IF v_aside >= 1000 THEN
                        v_soon := v_now;
                        EXIT;
                    END IF;
                END LOOP;
            END LOOP;
        END LOOP;
        IF v_look IS NOT NULL AND v_got < a_limit THEN
            SELECT least(v_soon, min(l.at)) INTO v_soon FROM (
                SELECT o.at FROM {p}_look o WHERE o.at > v_now AND EXISTS (
                    SELECT FROM unnest(v_all) AS s (id) JOIN {p}_blocked b ON b.key = o.key AND b.stream = s.id)
                ORDER BY o.at LIMIT 1) AS l;
        END IF;
        v_due := least(v_due, v_soon);
    END IF;
    IF v_promoted > v_got OR v_waits AND {p}_waits_v1(v_slots, v_now)
       OR v_lined AND EXISTS (SELECT FROM {p}_turn t WHERE t.stream = ANY (v_all)) THEN
        PERFORM {p}_ring_v1(true);
    END IF;

    IF EXISTS (SELECT FROM {p}_signal WHERE worker = a_worker) THEN
        RETURN QUERY
        WITH told AS (DELETE FROM {p}_signal g WHERE g.worker = a_worker RETURNING g.job_id, g.lease, g.cancel)
        SELECT 3, t.job_id, t.lease, NULL::bigint, NULL::integer, t.cancel::integer, NULL::integer, NULL::integer,
               NULL::double precision, NULL::double precision, NULL::double precision, NULL, NULL, NULL::smallint,
               NULL::integer, NULL::double precision, NULL::bytea, NULL::bytea, NULL, NULL, NULL::bytea, NULL::bigint,
               NULL::double precision, NULL, NULL, NULL
        FROM told t;
    END IF;

    IF v_batches <> '{}' THEN
        PERFORM {p}_count_v1(v_batches, v_befores, v_afters, v_numbers);
    END IF;
    IF EXISTS (SELECT FROM {p}_batch b WHERE b.ripe) THEN
        RETURN QUERY
        SELECT 5, b.id, NULL::bigint, NULL::bigint, NULL::integer, NULL::integer, NULL::integer, NULL::integer,
               NULL::double precision, NULL::double precision, NULL::double precision, NULL, NULL, NULL::smallint,
               NULL::integer, NULL::double precision, NULL::bytea, NULL::bytea, NULL, NULL, NULL::bytea, NULL::bigint,
               NULL::double precision, NULL, NULL, NULL
        FROM {p}_batch b WHERE b.ripe ORDER BY b.id LIMIT 100;
    END IF;

    RETURN QUERY
    SELECT 0, v_rewind, v_oldest, pg_snapshot_xmax(pg_current_snapshot())::text::bigint, NULL::integer,
           v_known::integer, (EXISTS (SELECT FROM {p}_ear r WHERE r.until > v_now))::integer, v_stamp, v_now,
           NULL::double precision, v_due, NULL, NULL, NULL::smallint, NULL::integer, NULL::double precision, NULL::bytea,
           NULL::bytea, NULL, NULL, NULL::bytea, NULL::bigint, NULL::double precision, NULL, NULL, NULL;
END $$;

-- Folds the counters' changes into one row for each stream, and the ends of each second and queue into the pulse. One folder
-- at a time; returns how many changes there were, or -1 when somebody else is at it.
CREATE FUNCTION {p}_fold_v1() RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_count integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('{c} fold', 0)) THEN
        RETURN -1;
    END IF;
    WITH gone AS MATERIALIZED (
        DELETE FROM {p}_delta RETURNING *
    ), sums AS (
        INSERT INTO {p}_counter AS c
        SELECT stream, coalesce(sum(scheduled), 0), coalesce(sum(pending), 0), coalesce(sum(running), 0),
               coalesce(sum(retrying), 0), coalesce(sum(completed), 0), coalesce(sum(dead), 0),
               coalesce(sum(cancelled), 0), coalesce(sum(enqueued), 0), coalesce(sum(processed), 0),
               coalesce(sum(failed), 0), coalesce(sum(retried), 0), coalesce(sum(total_dead), 0),
               coalesce(sum(total_cancelled), 0), coalesce(sum(snoozed), 0), coalesce(sum(released), 0),
               coalesce(sum(lost), 0)
        FROM gone GROUP BY stream
        ON CONFLICT (stream) DO UPDATE SET
            scheduled = c.scheduled + excluded.scheduled, pending = c.pending + excluded.pending,
            running = c.running + excluded.running, retrying = c.retrying + excluded.retrying,
            completed = c.completed + excluded.completed, dead = c.dead + excluded.dead,
            cancelled = c.cancelled + excluded.cancelled, enqueued = c.enqueued + excluded.enqueued,
            processed = c.processed + excluded.processed, failed = c.failed + excluded.failed,
            retried = c.retried + excluded.retried, total_dead = c.total_dead + excluded.total_dead,
            total_cancelled = c.total_cancelled + excluded.total_cancelled, snoozed = c.snoozed + excluded.snoozed,
            released = c.released + excluded.released, lost = c.lost + excluded.lost
    ), pulses AS (
        INSERT INTO {p}_pulse AS p (second, processed, failed, queue)
        SELECT g.second, coalesce(sum(g.processed), 0), coalesce(sum(g.failed), 0), s.queue
        FROM gone g JOIN {p}_stream s ON s.id = g.stream WHERE g.processed > 0 OR g.failed > 0
        GROUP BY g.second, s.queue
        ON CONFLICT (second, queue) DO UPDATE SET
            processed = p.processed + excluded.processed, failed = p.failed + excluded.failed
    )
    SELECT count(*) INTO v_count FROM gone;
    RETURN v_count;
END $$;

-- Deletes finished jobs that ended at or before a_cutoff, a_limit at most, oldest first; returns how many.
CREATE FUNCTION {p}_purge_v1(a_status text, a_cutoff double precision, a_limit integer, a_queue text)
RETURNS integer LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_count integer;
BEGIN
    WITH old AS MATERIALIZED (
        SELECT d.stream, d.id FROM {p}_done d
        WHERE d.status = a_status AND d.finished_at <= a_cutoff
          AND (a_queue IS NULL OR d.stream IN (SELECT s.id FROM {p}_stream s WHERE s.queue = a_queue))
        ORDER BY d.finished_at LIMIT a_limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM {p}_done d USING old o WHERE d.stream = o.stream AND d.status = a_status AND d.id = o.id
        RETURNING d.stream, d.id
    ), attempts AS (
        DELETE FROM {p}_attempt a USING gone g WHERE a.job_id = g.id
    ), notes AS (
        DELETE FROM {p}_note n USING gone g WHERE n.job_id = g.id
    ), jobs AS (
        DELETE FROM {p}_job j USING gone g WHERE j.id = g.id RETURNING j.id, j.tags, j.flow
    ), holds AS (
        DELETE FROM {p}_hold h USING jobs j, json_array_elements(j.flow::json -> 0) AS x
        WHERE h.key = x.value ->> 0 AND h.job_id = j.id
    ), tags AS (
        DELETE FROM {p}_tag t USING jobs j, json_array_elements_text(j.tags::json) AS name
        WHERE t.tag = name AND t.job_id = j.id
    ), counted AS (
        INSERT INTO {p}_delta (stream, second, completed, dead, cancelled)
        SELECT stream, 0, CASE WHEN a_status = 'completed' THEN -count(*) END,
               CASE WHEN a_status = 'dead' THEN -count(*) END, CASE WHEN a_status = 'cancelled' THEN -count(*) END
        FROM gone GROUP BY stream
    )
    SELECT count(*) INTO v_count FROM gone;
    RETURN v_count;
END $$;
