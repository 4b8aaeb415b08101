-- Keys, gates, batches and notes: what only jobs need that have them. See the table job for the bits of flags.
--
-- Locks. After a job's place come, in this order: holds by key, gates by key, batches by id. Holds are waited for, as a unique
-- index makes two who want the same wait. A claim, which holds places already, passes over gates that somebody else has.

-- The bit of a status in the mask of a hold.
CREATE FUNCTION {p}_bit_v1(a_status text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT 1 << (array_position(ARRAY['scheduled', 'pending', 'running', 'retrying', 'completed', 'dead', 'cancelled'],
                                a_status) - 1)
$$;

-- Takes the keys of new jobs, all of a job or none; a_ids has their numbers. Returns what became of each that has keys: found is
-- the job that holds one of them, or NULL when the job has them all. A strict hold that is taken ends it: refused.
CREATE FUNCTION {p}_reserve_v1(
    a_jobs json, a_ids bigint[], a_now double precision, OUT founds bigint[], OUT refused bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_keys text[];
    v_taken text[];
    h record;
    v_rival bigint;
    v_strict bigint;
BEGIN
    SELECT array_agg(DISTINCT x.value ->> 0) INTO v_keys
    FROM json_to_recordset(a_jobs) AS j (f text), json_array_elements(j.f::json -> 0) AS x;
    founds := array_fill(NULL::bigint, ARRAY[cardinality(a_ids)]);
    IF v_keys IS NULL THEN
        RETURN;
    END IF;
    -- Windows that have ended.
    DELETE FROM {p}_hold WHERE key IN (
        SELECT o.key FROM {p}_hold o WHERE o.key = ANY (v_keys) AND o.until <= a_now ORDER BY o.key FOR UPDATE);
    WITH mine AS (
        INSERT INTO {p}_hold (key, job_id)
        SELECT key, a_ids[n] FROM (
            SELECT x.value ->> 0 AS key, min(j.n) AS n
            FROM ROWS FROM (json_to_recordset(a_jobs) AS (f text)) WITH ORDINALITY AS j (f, n),
                 json_array_elements(j.f::json -> 0) AS x
            GROUP BY 1) AS wanted
        ORDER BY key COLLATE "C"
        ON CONFLICT DO NOTHING RETURNING key
    )
    SELECT array_agg(key) INTO v_taken FROM mine;
    IF cardinality(v_taken) = (
        SELECT count(*) FROM json_to_recordset(a_jobs) AS j (f text), json_array_elements(j.f::json -> 0) AS x
    ) THEN
        RETURN;
    END IF;
    -- Somebody has one of them, or two of these jobs want the same. What we have is nobody's (0) until a job gets it, in
    -- the order of the jobs.
    UPDATE {p}_hold SET job_id = 0 WHERE key = ANY (v_taken);
    FOR h IN
        SELECT j.n, array_agg(x.value ->> 0) AS keys,
               coalesce(array_agg(x.value ->> 0) FILTER (WHERE (x.value ->> 3)::boolean), '{}') AS stricts
        FROM ROWS FROM (json_to_recordset(a_jobs) AS (f text)) WITH ORDINALITY AS j (f, n),
             json_array_elements(j.f::json -> 0) AS x
        GROUP BY j.n ORDER BY j.n
    LOOP
        LOOP
            SELECT min(o.job_id), min(o.job_id) FILTER (WHERE o.key = ANY (h.stricts)) INTO v_rival, v_strict
            FROM {p}_hold o WHERE o.key = ANY (h.keys) AND o.job_id <> 0;
            IF v_strict IS NOT NULL THEN
                DELETE FROM {p}_hold WHERE key = ANY (v_keys) AND (job_id = 0 OR job_id = ANY (a_ids));
                refused := v_strict;
                RETURN;
            END IF;
            EXIT WHEN v_rival IS NOT NULL;
            INSERT INTO {p}_hold (key, job_id) SELECT k, 0 FROM unnest(h.keys) AS k ORDER BY k COLLATE "C"
            ON CONFLICT DO NOTHING;  -- whose job has ended meanwhile
            UPDATE {p}_hold SET job_id = a_ids[h.n] WHERE key = ANY (h.keys) AND job_id = 0;
            EXIT WHEN (SELECT count(DISTINCT k) FROM unnest(h.keys) AS k) = (
                SELECT count(*) FROM {p}_hold o WHERE o.key = ANY (h.keys) AND o.job_id = a_ids[h.n]);
            UPDATE {p}_hold SET job_id = 0 WHERE key = ANY (h.keys) AND job_id = a_ids[h.n];
        END LOOP;
        founds[h.n] := v_rival;
    END LOOP;
    DELETE FROM {p}_hold WHERE key = ANY (v_keys) AND job_id = 0;
END $$;

-- Takes what new jobs need beside their rows: keys, and places in batches. a_ids: their numbers, drawn already.
-- stored: the numbers of those to be stored, NULL for the others; ids has who holds the key of those, others their positions.
-- refused: who holds a key that must not be held; broken: a batch that takes no members, missing if there is none. Of these
-- two, nothing was taken.
CREATE FUNCTION {p}_tie_v1(
    a_jobs json, a_ids bigint[], a_check boolean, a_now double precision, OUT stored bigint[], OUT ids bigint[],
    OUT others integer[], OUT refused bigint, OUT broken bigint, OUT missing boolean)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_founds bigint[];
BEGIN
    SELECT r.founds, r.refused INTO v_founds, refused FROM {p}_reserve_v1(a_jobs, a_ids, a_now) AS r;
    IF refused IS NOT NULL THEN
        ids := a_ids;
        RETURN;
    END IF;
    SELECT array_agg(coalesce(v_founds[n], a_ids[n]) ORDER BY n),
           array_agg(CASE WHEN v_founds[n] IS NULL THEN a_ids[n] END ORDER BY n),
           coalesce(array_agg(n::integer) FILTER (WHERE v_founds[n] IS NOT NULL), '{}')
    INTO ids, stored, others FROM generate_subscripts(a_ids, 1) AS n;
    SELECT b.id, b.gone INTO broken, missing FROM {p}_join_v1(a_jobs, stored, a_check) AS b;
    IF broken IS NOT NULL THEN
        DELETE FROM {p}_hold WHERE job_id = ANY (stored) AND key IN (
            SELECT x.value ->> 0 FROM json_to_recordset(a_jobs) AS j (f text), json_array_elements(j.f::json -> 0) AS x);
    END IF;
END $$;

-- Stores new jobs some of which have keys or are members of a batch: as enqueue does, and in its place. Returns what tie does.
CREATE FUNCTION {p}_enqueue_tied_v1(
    a_jobs json, a_store text, a_check boolean, OUT now double precision, OUT ids bigint[], OUT others integer[],
    OUT refused bigint, OUT broken bigint, OUT missing boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_stored bigint[];
BEGIN
    IF a_store <> (SELECT store FROM {p}_meta) THEN
        RAISE EXCEPTION USING ERRCODE = 'WL001', MESSAGE = 'this connection is of another store';
    END IF;
    PERFORM pg_current_xact_id();
    now := {p}_now_v1();
    SELECT array_agg(nextval('{p}_seq')) INTO ids FROM generate_series(1, json_array_length(a_jobs));
    SELECT t.stored, t.ids, t.others, t.refused, t.broken, t.missing INTO v_stored, ids, others, refused, broken, missing
    FROM {p}_tie_v1(a_jobs, ids, a_check, now) AS t;
    IF refused IS NULL AND broken IS NULL AND cardinality(others) < cardinality(ids) THEN
        SELECT e.now INTO now FROM {p}_enqueue_v1(a_jobs, a_store, v_stored) AS e;
    END IF;
END $$;

-- Adds new members to their batches; returns one that takes none. Members that are not stored (NULL in a_ids) do not count. The
-- share lock keeps a batch from finishing, and nobody from counting an end.
CREATE FUNCTION {p}_join_v1(a_jobs json, a_ids bigint[], a_check boolean, OUT id bigint, OUT gone boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
    v_totals integer[];
BEGIN
    SELECT array_agg(b ORDER BY b), array_agg(total ORDER BY b) INTO v_ids, v_totals FROM (
        SELECT j.b, count(a_ids[j.n])::integer AS total
        FROM ROWS FROM (json_to_recordset(a_jobs) AS (b bigint)) WITH ORDINALITY AS j (b, n)
        WHERE j.b IS NOT NULL GROUP BY j.b) AS members;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;
    PERFORM FROM {p}_batch t WHERE t.id = ANY (v_ids) ORDER BY t.id FOR KEY SHARE;
    IF a_check THEN
        SELECT w.id, t.id IS NULL INTO id, gone FROM unnest(v_ids) AS w (id) LEFT JOIN {p}_batch t ON t.id = w.id
        WHERE t.id IS NULL OR t.finished_at IS NOT NULL ORDER BY w.id LIMIT 1;
        IF id IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    INSERT INTO {p}_batch_add (batch_id, total)
    SELECT w.id, w.total FROM unnest(v_ids, v_totals) AS w (id, total)
    WHERE w.total > 0 AND EXISTS (SELECT FROM {p}_batch t WHERE t.id = w.id);
END $$;

-- Takes the keys that a job enters when it moves; returns who has one, having left the rest to release.
CREATE FUNCTION {p}_take_v1(a_id bigint, a_was text, a_status text, a_now double precision) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_key text;
    v_rival bigint;
BEGIN
    FOR v_key IN
        SELECT x.value ->> 0 FROM {p}_job j, json_array_elements(j.flow::json -> 0) AS x
        WHERE j.id = a_id AND (x.value ->> 1)::integer & {p}_bit_v1(a_status) <> 0
          AND (x.value ->> 1)::integer & {p}_bit_v1(a_was) = 0
        ORDER BY (x.value ->> 0) COLLATE "C"
    LOOP
        LOOP
            INSERT INTO {p}_hold (key, job_id) VALUES (v_key, a_id) ON CONFLICT DO NOTHING;
            EXIT WHEN FOUND;
            UPDATE {p}_hold SET job_id = a_id, until = NULL
            WHERE key = v_key AND (job_id = a_id OR until <= a_now);
            EXIT WHEN FOUND;
            SELECT job_id INTO v_rival FROM {p}_hold WHERE key = v_key AND (until IS NULL OR until > a_now);
            IF FOUND THEN
                RETURN v_rival;
            END IF;
        END LOOP;
    END LOOP;
    RETURN NULL;
END $$;

-- Gives up the keys that jobs have not in a_status, at the end of their windows; all at once if a_status is NULL: they go.
CREATE FUNCTION {p}_release_v1(a_ids bigint[], a_status text, a_now double precision) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    WITH held AS MATERIALIZED (
        SELECT x.value ->> 0 AS key, j.id, j.created_at + coalesce((x.value ->> 2)::double precision, 0) AS until
        FROM {p}_job j, json_array_elements(j.flow::json -> 0) AS x
        WHERE j.id = ANY (a_ids) AND (a_status IS NULL OR (x.value ->> 1)::integer & {p}_bit_v1(a_status) = 0)
    ), later AS (
        UPDATE {p}_hold o SET until = h.until FROM held h
        WHERE a_status IS NOT NULL AND o.key = h.key AND o.job_id = h.id AND o.until IS NULL AND h.until > a_now
    )
    DELETE FROM {p}_hold o USING held h
    WHERE o.key = h.key AND o.job_id = h.id AND (a_status IS NULL OR o.until IS NULL AND h.until <= a_now);
END $$;

-- Deletes jobs that have left their place, with all that is theirs.
CREATE FUNCTION {p}_forget_v1(a_ids bigint[], a_now double precision) RETURNS void LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    IF EXISTS (SELECT FROM {p}_job j WHERE j.id = ANY (a_ids) AND j.flags & 1 <> 0) THEN
        PERFORM {p}_release_v1(a_ids, NULL, a_now);
    END IF;
    DELETE FROM {p}_attempt WHERE job_id = ANY (a_ids);
    DELETE FROM {p}_note WHERE job_id = ANY (a_ids);
    DELETE FROM {p}_tag t USING {p}_job j, json_array_elements_text(j.tags::json) AS name
    WHERE j.id = ANY (a_ids) AND t.tag = name AND t.job_id = j.id;
    DELETE FROM {p}_job WHERE id = ANY (a_ids);
END $$;

-- ------------------------------------------------------------------ gates

-- Gives slots back; tells whether somebody may wait for one.
CREATE FUNCTION {p}_free_v1(a_keys text[], a_now double precision) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_waits boolean;
BEGIN
    PERFORM FROM {p}_gate g WHERE g.key = ANY (a_keys) ORDER BY g.key FOR UPDATE;
    SELECT coalesce(bool_or(g.starved), false) INTO v_waits FROM {p}_gate g WHERE g.key = ANY (a_keys);
    UPDATE {p}_gate g SET used = greatest(0, g.used - f.number), starved = false
    FROM (SELECT k, count(*)::integer AS number FROM unnest(a_keys) AS k GROUP BY k) AS f WHERE g.key = f.k;
    INSERT INTO {p}_look (at, key)
    SELECT a_now, k FROM (SELECT DISTINCT k FROM unnest(a_keys) AS k) AS f
    WHERE EXISTS (SELECT FROM {p}_blocked b WHERE b.key = k)
      AND NOT EXISTS (SELECT FROM {p}_look l WHERE l.key = k AND l.at <= a_now);
    RETURN FOUND OR v_waits;
END $$;

-- Whether somebody could pass one of these gates, who waits: other workers are woken then.
CREATE FUNCTION {p}_waits_v1(a_keys text[], a_now double precision) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT EXISTS (SELECT FROM {p}_look l WHERE l.key = ANY (a_keys) AND l.at <= a_now)
        OR EXISTS (SELECT FROM {p}_gate g WHERE g.key = ANY (a_keys) AND g.wide AND g.used < g.most)
$$;

-- When a rate lets the next start, or NULL for a limit; a_weight is of the next.
CREATE FUNCTION {p}_free_at_v1(a_gate {p}_gate, a_weight double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN a_gate.per > 0 THEN a_gate.arrival + (a_weight - a_gate.burst) * a_gate.per / a_gate.most END
$$;

-- The streams among a_streams that no gate of their whole queue or task has shut; such gates are locked from here on. One that
-- somebody else has is shut: due then says to come back at once.
CREATE FUNCTION {p}_open_v1(a_streams integer[], a_now double precision, OUT streams integer[], OUT due double precision)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_shut text[];
BEGIN
    WITH wanted AS MATERIALIZED (
        SELECT DISTINCT k.key FROM {p}_stream s CROSS JOIN LATERAL {p}_wide_keys_v1(s.queue, s.task) AS k (key)
        WHERE s.id = ANY (a_streams)
    ), there AS MATERIALIZED (
        SELECT g.key FROM {p}_gate g JOIN wanted w ON w.key = g.key WHERE g.wide
    ), mine AS MATERIALIZED (
        SELECT g.*, {p}_free_at_v1(g, g.weight) AS free_at FROM {p}_gate g
        WHERE g.key IN (SELECT key FROM there) ORDER BY g.key FOR UPDATE SKIP LOCKED
    ), shut AS (
        SELECT t.key, CASE WHEN m.key IS NULL THEN a_now + 0.003 ELSE m.free_at END AS at
        FROM there t LEFT JOIN mine m ON m.key = t.key
        WHERE m.key IS NULL OR CASE WHEN m.per > 0 THEN m.free_at > a_now + 1e-6 ELSE m.used >= m.most END
    )
    SELECT array_agg(key), min(at) INTO v_shut, due FROM shut;
    IF v_shut IS NULL THEN
        streams := a_streams;
        RETURN;
    END IF;
    UPDATE {p}_gate SET starved = true WHERE per = 0 AND NOT starved AND key IN (
        SELECT g.key FROM {p}_gate g WHERE g.key = ANY (v_shut) FOR UPDATE SKIP LOCKED);
    SELECT array_agg(s.id ORDER BY w.n) INTO streams
    FROM unnest(a_streams) WITH ORDINALITY AS w (id, n) JOIN {p}_stream s ON s.id = w.id
    WHERE NOT EXISTS (SELECT FROM {p}_wide_keys_v1(s.queue, s.task) AS k (key) WHERE k.key = ANY (v_shut));
END $$;

CREATE FUNCTION {p}_wide_keys_v1(a_queue text, a_task text) RETURNS SETOF text LANGUAGE sql IMMUTABLE AS $$
    SELECT unnest(ARRAY['limit:queue:' || a_queue, 'rate:queue:' || a_queue, 'limit:task:' || a_task, 'rate:task:' || a_task])
$$;

-- The jobs put aside that may start now, best first, a_limit at most: of those streams, before gates that may have room by now.
-- These gates are locked, and their looks are taken; whoever goes on says when to look next. due: to come back at once, as somebody
-- else has such a gate.
CREATE FUNCTION {p}_back_v1(
    a_limit integer, a_streams integer[], a_ranks integer[], a_now double precision,
    OUT places tid[], OUT ranks integer[], OUT seqs bigint[], OUT keys text[], OUT due double precision)
LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    WITH looks AS MATERIALIZED (
        SELECT l.key, min(l.at) AS at FROM (
            SELECT o.key, o.at FROM {p}_look o WHERE o.at <= a_now ORDER BY o.at LIMIT 500) AS l
        GROUP BY l.key
    ), ours AS MATERIALIZED (
        SELECT l.key FROM looks l
        WHERE EXISTS (SELECT FROM unnest(a_streams) AS s (id) JOIN {p}_blocked b ON b.key = l.key AND b.stream = s.id)
           OR NOT EXISTS (SELECT FROM {p}_blocked b WHERE b.key = l.key)
        ORDER BY l.at LIMIT 100
    ), locked AS MATERIALIZED (
        SELECT g.key FROM {p}_gate g WHERE g.key IN (SELECT key FROM ours) ORDER BY g.key FOR UPDATE SKIP LOCKED
    )
    -- The rows of a gate that has been forgotten are nobody's to lock: whoever takes the look makes the gate anew.
    SELECT array_agg(o.key) FILTER (WHERE o.mine), CASE WHEN bool_or(NOT o.mine) THEN a_now + 0.003 END INTO keys, due FROM (
        SELECT u.key, u.key IN (SELECT key FROM locked) OR NOT EXISTS (SELECT FROM {p}_gate g WHERE g.key = u.key) AS mine
        FROM ours u) AS o;
    -- What nobody has wanted for a second goes to the end, out of the way.
    UPDATE {p}_look SET at = a_now + 1 WHERE ctid = ANY (ARRAY(
        SELECT l.ctid FROM {p}_look l WHERE l.at <= a_now - 1 AND NOT l.key = ANY (coalesce(keys, '{}'))
        ORDER BY l.at LIMIT 500 FOR UPDATE SKIP LOCKED));
    IF keys IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM {p}_look WHERE ctid = ANY (ARRAY(
        SELECT l.ctid FROM {p}_look l WHERE l.key = ANY (keys) AND l.at <= a_now FOR UPDATE SKIP LOCKED));
    SELECT array_agg(place), array_agg(rank), array_agg(seq) INTO places, ranks, seqs FROM (
        SELECT b.place, w.rank, b.seq
        FROM unnest(keys) AS k (key) LEFT JOIN {p}_gate g ON g.key = k.key
             CROSS JOIN unnest(a_streams, a_ranks) AS w (stream, rank)
             CROSS JOIN LATERAL (
                SELECT o.ctid AS place, o.seq FROM {p}_blocked o WHERE o.key = k.key AND o.stream = w.stream
                ORDER BY o.seq LIMIT least(a_limit, CASE
                    WHEN g.key IS NULL THEN a_limit
                    WHEN g.per > 0 THEN greatest(0, floor(
                        (a_now - {p}_free_at_v1(g, g.weight) + 1e-6) / (g.weight * g.per / g.most) + 1))
                    ELSE greatest(0, g.most - g.used) END)::integer
             ) AS b
        ORDER BY w.rank, b.seq LIMIT a_limit) AS best;
END $$;

-- Lets those through that pass all their gates, a_limit at most, and puts the others aside. a_places: of ready, locked; a_backs: of blocked; a_keys:
-- the gates whose looks were taken. Returns the places in ready of those that may start, those of blocked among them (backs
-- has their ids), and the limits that each has passed; aside: how many were put aside; skipped: how many wait for a gate of
-- their whole queue or task; streams and marks: the last place of each stream that somebody was put aside from; lined: whether somebody
-- of ready takes turns, and was put in line; due: when the next may start.
CREATE FUNCTION {p}_sieve_v1(
    a_places tid[], a_backs tid[], a_limit integer, a_keys text[], a_wide boolean, a_now double precision,
    OUT places tid[], OUT backs bigint[], OUT slots jsonb, OUT aside integer, OUT skipped integer,
    OUT streams integer[], OUT marks bigint[], OUT lined boolean, OUT due double precision)
LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    c record;
    w record;
    v_line_ids bigint[] := '{}';
    v_turned integer := 0;
    v_keys text[];
    v_gates {p}_gate[];
    v_touched boolean[];
    v_mine integer[];
    v_ids bigint[] := '{}';
    v_passed jsonb[] := '{}';
    v_backs tid[] := '{}';
    v_aside tid[] := '{}';
    v_aside_keys text[] := '{}';
    v_moved tid[] := '{}';
    v_moved_keys text[] := '{}';
    v_looks text[] := coalesce(a_keys, '{}');
    v_shut text;
    v_alike text;
    v_alike_key text;
    v_wide boolean;
    v_n integer;
    v_gate {p}_gate;
BEGIN
    places := '{}';
    aside := 0;
    skipped := 0;
    lined := false;
    SELECT l.keys, l.gates INTO v_keys, v_gates FROM {p}_load_v1(a_places, a_backs, a_keys, a_wide) AS l;
    v_touched := array_fill(false, ARRAY[coalesce(cardinality(v_keys), 0)]);
    FOR c IN
        SELECT r.ctid AS place, NULL::tid AS back, r.id, r.seq, s.priority, s.queue, s.task, NULL AS key,
               CASE WHEN r.flags & 2 <> 0 THEN (SELECT j.flow::json -> 1 FROM {p}_job j WHERE j.id = r.id) END AS gates,
               CASE WHEN r.flags & 16 <> 0 THEN (SELECT {p}_fair_key_v1(j.flow) FROM {p}_job j WHERE j.id = r.id) END AS turn
        FROM {p}_ready r JOIN {p}_stream s ON s.id = r.stream WHERE r.ctid = ANY (a_places)
        UNION ALL
        SELECT NULL, b.ctid, b.id, b.seq, s.priority, s.queue, s.task, b.key,
               (SELECT j.flow::json -> 1 FROM {p}_job j WHERE j.id = b.id), NULL
        FROM {p}_blocked b JOIN {p}_stream s ON s.id = b.stream WHERE b.ctid = ANY (a_backs)
        ORDER BY priority DESC, seq
    LOOP
        EXIT WHEN cardinality(places) + cardinality(v_backs) >= a_limit;
        v_shut := NULL;
        v_wide := false;
        v_mine := '{}';
        IF c.turn IS NOT NULL THEN  -- until it is called
            v_aside := v_aside || c.place;
            v_aside_keys := v_aside_keys || c.turn;
            v_line_ids := v_line_ids || c.id;
            CONTINUE;
        END IF;
        FOR w IN
            SELECT k.key, NULL::double precision AS most, NULL::double precision AS per, NULL::double precision AS burst,
                   NULL::double precision AS weight
            FROM {p}_wide_keys_v1(c.queue, c.task) AS k (key) WHERE a_wide
            UNION ALL
            SELECT g.value ->> 0, (g.value ->> 1)::double precision, (g.value ->> 2)::double precision,
                   (g.value ->> 3)::double precision, (g.value ->> 4)::double precision
            FROM json_array_elements(c.gates) AS g WHERE g.value ->> 0 NOT LIKE 'fair:%'
        LOOP
            v_n := array_position(v_keys, w.key);
            IF v_n IS NULL THEN
                CONTINUE WHEN w.most IS NULL;
                v_shut := w.key;  -- somebody else has it
                IF NOT w.key = ANY (v_looks) THEN
                    v_looks := v_looks || w.key;
                END IF;
                EXIT;
            END IF;
            v_gate := v_gates[v_n];
            IF w.most IS NOT NULL AND NOT v_gate.pinned THEN
                v_gate.most := w.most;
                v_gate.per := w.per;
                v_gate.burst := w.burst;
                v_gate.weight := w.weight;
                v_gates[v_n] := v_gate;
                v_touched[v_n] := true;
            END IF;
            IF (v_gate.per = 0 AND v_gate.used >= v_gate.most)
               OR (v_gate.per > 0 AND {p}_free_at_v1(v_gate, v_gate.weight) > a_now + 1e-6) THEN
                v_shut := w.key;
                v_wide := v_gate.wide;
                IF v_gate.per > 0 AND NOT v_wide AND NOT w.key = ANY (v_looks) THEN
                    v_looks := v_looks || w.key;
                END IF;
                EXIT;
            END IF;
            v_mine := v_mine || v_n;
        END LOOP;
        IF v_shut IS NULL THEN
            FOREACH v_n IN ARRAY v_mine LOOP
                v_gate := v_gates[v_n];
                IF v_gate.per > 0 THEN
                    v_gate.arrival := greatest(v_gate.arrival, a_now) + v_gate.weight * v_gate.per / v_gate.most;
                ELSE
                    v_gate.used := v_gate.used + 1;
                END IF;
                v_gates[v_n] := v_gate;
                v_touched[v_n] := true;
            END LOOP;
            IF v_mine <> '{}' THEN
                v_ids := v_ids || c.id;
                v_passed := v_passed || (
                    SELECT jsonb_agg(v_keys[n]) FILTER (WHERE v_gates[n].per = 0) FROM unnest(v_mine) AS n);
            END IF;
            IF c.place IS NULL THEN
                v_backs := v_backs || c.back;
            ELSE
                places := places || c.place;
            END IF;
        ELSIF v_wide THEN
            skipped := skipped + 1;
        ELSIF c.place IS NOT NULL THEN
            v_aside := v_aside || c.place;
            v_aside_keys := v_aside_keys || v_shut;
            v_alike := c.gates::text;
            v_alike_key := v_shut;
        ELSIF c.key <> v_shut THEN
            IF c.key LIKE 'fair:%' THEN
                v_turned := v_turned + 1;
            END IF;
            v_moved := v_moved || c.back;
            v_moved_keys := v_moved_keys || v_shut;
        END IF;
    END LOOP;
    UPDATE {p}_gate g SET most = n.most, per = n.per, burst = n.burst, weight = n.weight, arrival = n.arrival, used = n.used
    FROM unnest(v_gates, v_touched) AS n (key, most, per, burst, weight, arrival, used, wide, pinned, starved, touched)
    WHERE n.touched AND g.key = n.key;
    IF v_aside <> '{}' THEN
        WITH gone AS (
            DELETE FROM {p}_ready r USING unnest(v_aside, v_aside_keys) AS a (place, key) WHERE r.ctid = a.place
            RETURNING r.seq, r.id, r.run_at, r.stream, r.attempt, r.failures, r.crashes, r.flags, a.key
        ), put AS (
            INSERT INTO {p}_blocked (seq, id, run_at, stream, attempt, failures, crashes, flags, key) SELECT * FROM gone
        )
        SELECT array_agg(g.stream), array_agg(g.mark) INTO streams, marks
        FROM (SELECT stream, max(seq) AS mark FROM gone GROUP BY stream) AS g;
        IF v_line_ids <> '{}' THEN
            lined := true;
            PERFORM {p}_join_round_v1(array_agg(b.stream ORDER BY b.seq), array_agg(b.key ORDER BY b.seq))
            FROM unnest(streams) AS s (id) JOIN {p}_blocked b ON b.stream = s.id AND b.id = ANY (v_line_ids);
        END IF;
        aside := cardinality(v_aside);
        -- They seldom come alone: those behind them with the same one gate need not be tried one by one.
        IF places = '{}' AND v_alike IS NOT NULL THEN
            FOR v_n IN 1..cardinality(streams) LOOP
                SELECT b.number, b.mark INTO c FROM {p}_behind_v1(streams[v_n], marks[v_n], v_alike, v_alike_key) AS b;
                aside := aside + c.number;
                marks[v_n] := greatest(marks[v_n], c.mark);
            END LOOP;
        END IF;
    END IF;
    aside := aside + v_turned;
    IF v_moved <> '{}' THEN
        UPDATE {p}_blocked b SET key = m.key FROM unnest(v_moved, v_moved_keys) AS m (place, key) WHERE b.ctid = m.place;
    END IF;
    IF v_backs <> '{}' THEN
        WITH gone AS (
            DELETE FROM {p}_blocked b WHERE b.ctid = ANY (v_backs)
            RETURNING b.seq, b.id, b.run_at, b.stream, b.attempt, b.failures, b.crashes, b.flags
        ), put AS (
            INSERT INTO {p}_ready AS r (seq, id, run_at, stream, attempt, failures, crashes, flags) SELECT * FROM gone
            RETURNING r.ctid AS place, r.id
        )
        SELECT places || array_agg(p.place), array_agg(p.id) INTO places, backs FROM put p;
    END IF;
    IF v_ids <> '{}' THEN
        SELECT jsonb_object_agg(n.id::text, n.passed) INTO slots
        FROM unnest(v_ids, v_passed) AS n (id, passed) WHERE n.passed IS NOT NULL;
    END IF;
    IF v_looks <> '{}' THEN
        due := {p}_look_v1(v_looks, v_keys, a_now);
    END IF;
END $$;

-- Puts those aside that stand behind a place and bring exactly these gates, one of which is shut: of the next few hundred of the stream.
-- mark: up to where the stream has nothing else.
CREATE FUNCTION {p}_behind_v1(
    a_stream integer, a_seq bigint, a_gates text, a_key text, OUT number integer, OUT mark bigint)
LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    WITH behind AS MATERIALIZED (
        SELECT r.ctid AS place, r.seq, r.flags & 2 <> 0 AND coalesce((
                   SELECT (j.flow::json -> 1)::text = a_gates FROM {p}_job j WHERE j.id = r.id), false) AS alike
        FROM {p}_ready r WHERE r.stream = a_stream AND r.seq > a_seq ORDER BY r.seq LIMIT 300
    ), locked AS MATERIALIZED (
        SELECT r.ctid AS place FROM {p}_ready r
        WHERE r.ctid = ANY (ARRAY(SELECT b.place FROM behind b WHERE b.alike)) FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM {p}_ready r WHERE r.ctid = ANY (ARRAY(SELECT l.place FROM locked l))
        RETURNING r.seq, r.id, r.run_at, r.stream, r.attempt, r.failures, r.crashes, r.flags
    ), put AS (
        INSERT INTO {p}_blocked (seq, id, run_at, stream, attempt, failures, crashes, flags, key)
        SELECT seq, id, run_at, stream, attempt, failures, crashes, flags, a_key FROM gone
    )
    SELECT count(*), max(g.seq) FILTER (WHERE g.seq < coalesce((SELECT min(b.seq) FROM behind b WHERE NOT b.alike), g.seq + 1))
    INTO number, mark FROM gone g;
END $$;

-- ------------------------------------------------------------------ turns

-- The key by which a job takes turns.
CREATE FUNCTION {p}_fair_key_v1(a_flow text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT g.value ->> 0 FROM json_array_elements(a_flow::json -> 1) AS g WHERE g.value ->> 0 LIKE 'fair:%' LIMIT 1
$$;

-- Notes that jobs stand in line, in the order of their places. Always appended: whoever forgets a key at this moment, as he sees nobody in
-- its line, does not see this either.
CREATE FUNCTION {p}_join_round_v1(a_streams integer[], a_keys text[]) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO {p}_turn (stream, place, key)
    SELECT n.stream, coalesce((SELECT t.place FROM {p}_turn t WHERE t.stream = n.stream ORDER BY t.place DESC LIMIT 1), 0)
                     + row_number() OVER (PARTITION BY n.stream ORDER BY n.nth), n.key
    FROM (SELECT w.stream, w.key, min(w.nth) AS nth FROM unnest(a_streams, a_keys) WITH ORDINALITY AS w (stream, key, nth)
          GROUP BY w.stream, w.key) AS n
$$;

-- Puts those in line who have come to streams whose jobs take turns, so that a new key is known before the next is called; some of each
-- stream. Returns the last place of each stream that somebody has left.
CREATE FUNCTION {p}_line_up_v1(a_streams integer[], a_marks bigint[], OUT streams integer[], OUT marks bigint[])
LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_streams integer[];
    v_keys text[];
    v_seqs bigint[];
BEGIN
    WITH early AS MATERIALIZED (
        SELECT r.place FROM unnest(a_streams, a_marks) AS w (stream, mark)
             CROSS JOIN LATERAL (
                SELECT o.ctid AS place, o.flags FROM {p}_ready o WHERE o.stream = w.stream AND o.seq > w.mark
                ORDER BY o.seq LIMIT 1000
             ) AS r
        WHERE r.flags & 16 <> 0 AND EXISTS (SELECT FROM {p}_turn t WHERE t.stream = w.stream)
    ), locked AS MATERIALIZED (
        SELECT r.ctid AS place FROM {p}_ready r WHERE r.ctid = ANY (ARRAY(SELECT e.place FROM early e))
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM {p}_ready r WHERE r.ctid = ANY (ARRAY(SELECT l.place FROM locked l))
        RETURNING r.seq, r.id, r.run_at, r.stream, r.attempt, r.failures, r.crashes, r.flags
    ), named AS MATERIALIZED (
        SELECT g.*, {p}_fair_key_v1(j.flow) AS key FROM gone g JOIN {p}_job j ON j.id = g.id
    ), put AS (
        INSERT INTO {p}_blocked (seq, id, run_at, stream, attempt, failures, crashes, flags, key) SELECT * FROM named
    )
    SELECT array_agg(n.stream ORDER BY n.seq), array_agg(n.key ORDER BY n.seq), array_agg(n.seq ORDER BY n.seq)
    INTO v_streams, v_keys, v_seqs FROM named n;
    IF v_streams IS NOT NULL THEN
        PERFORM {p}_join_round_v1(v_streams, v_keys);
        SELECT array_agg(s.stream), array_agg(s.mark) INTO streams, marks FROM (
            SELECT w.stream, max(w.seq) AS mark FROM unnest(v_streams, v_seqs) AS w (stream, seq) GROUP BY w.stream) AS s;
    END IF;
END $$;

-- Those whose turn it is, locked: the first of each key in turn, and again, a_limit of each stream at most. seqs: places that are in
-- the order of the turns, to be compared with those of other jobs.
CREATE FUNCTION {p}_call_v1(
    a_limit integer, a_streams integer[], a_ranks integer[],
    OUT places tid[], OUT ranks integer[], OUT seqs bigint[], OUT streams integer[], OUT keys text[], OUT ids bigint[])
LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    s record;
    c record;
    v_keys text[];
    v_left integer;
    v_each integer;
    v_top bigint;
    v_round text[];
    v_spent text[];
BEGIN
    FOR s IN
        SELECT w.stream, w.rank FROM unnest(a_streams, a_ranks) AS w (stream, rank)
        WHERE EXISTS (SELECT FROM {p}_turn t WHERE t.stream = w.stream)
    LOOP
        v_left := a_limit;
        v_top := 0;
        v_spent := '{}';  -- lines of which nobody is left, or which others have locked
        LOOP
            SELECT array_agg(k.key ORDER BY k.place) INTO v_keys FROM (
                SELECT t.key, min(t.place) AS place FROM (
                    SELECT o.key, o.place FROM {p}_turn o 
                    WHERE o.stream = s.stream AND NOT o.key = ANY (v_spent) ORDER BY o.place LIMIT 2 * v_left + 10) AS t
                GROUP BY t.key ORDER BY 2 LIMIT v_left) AS k;
            EXIT WHEN v_keys IS NULL;
            v_round := '{}';
            v_each := (v_left + cardinality(v_keys) - 1) / cardinality(v_keys);
            FOR c IN
                SELECT l.place, l.seq, l.id, k.key
                FROM unnest(v_keys) WITH ORDINALITY AS k (key, n)
                     CROSS JOIN LATERAL (
                        SELECT f.place, f.seq, f.id, row_number() OVER (ORDER BY f.seq) AS nth FROM (
                            SELECT b.ctid AS place, b.seq, b.id FROM {p}_blocked b
                            WHERE b.key = k.key AND b.stream = s.stream AND NOT b.ctid = ANY (coalesce(places, '{}'))
                            ORDER BY b.seq LIMIT v_each FOR UPDATE SKIP LOCKED) AS f
                     ) AS l
                ORDER BY l.nth, k.n LIMIT v_left
            LOOP
                v_top := greatest(v_top, c.seq);
                places := places || c.place;
                ranks := ranks || s.rank;
                seqs := seqs || v_top;
                streams := streams || s.stream;
                keys := keys || c.key;
                ids := ids || c.id;
                v_round := v_round || c.key;
                v_left := v_left - 1;
            END LOOP;
            -- Keys whose jobs have left by another door. One statement: see join_round.
            DELETE FROM {p}_turn WHERE ctid = ANY (ARRAY(
                SELECT t.ctid FROM {p}_turn t
                WHERE t.stream = s.stream AND t.key = ANY (v_keys)
                  AND NOT EXISTS (SELECT FROM {p}_blocked b WHERE b.key = t.key AND b.stream = t.stream)
                FOR UPDATE SKIP LOCKED));
            EXIT WHEN v_left <= 0 OR cardinality(v_spent) >= 1000;
            v_spent := v_spent || ARRAY(
                SELECT k FROM unnest(v_keys) AS k
                WHERE (SELECT count(*) FROM unnest(v_round) AS r WHERE r = k) < v_each);
        END LOOP;
    END LOOP;
END $$;

-- Ends the turns of keys whose called jobs have left their lines.
CREATE FUNCTION {p}_end_turns_v1(a_streams integer[], a_keys text[], a_ids bigint[]) RETURNS void LANGUAGE sql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    WITH had AS MATERIALIZED (
        SELECT w.stream, w.key, max(w.n) AS n FROM unnest(a_streams, a_keys, a_ids) WITH ORDINALITY AS w (stream, key, id, n)
        WHERE NOT EXISTS (SELECT FROM {p}_blocked b WHERE b.stream = w.stream AND b.id = w.id AND b.key = w.key)
        GROUP BY w.stream, w.key
    ), gone AS (
        DELETE FROM {p}_turn WHERE ctid = ANY (ARRAY(
            SELECT t.ctid FROM {p}_turn t JOIN had h ON h.stream = t.stream AND h.key = t.key FOR UPDATE OF t SKIP LOCKED))
    )
    INSERT INTO {p}_turn (stream, place, key)
    SELECT h.stream, coalesce((SELECT t.place FROM {p}_turn t WHERE t.stream = h.stream ORDER BY t.place DESC LIMIT 1), 0) + h.n, h.key
    FROM had h WHERE EXISTS (SELECT FROM {p}_blocked b WHERE b.key = h.key AND b.stream = h.stream)
$$;

-- Says when to look again at gates before which jobs wait: at once where there is room, at its next token where a rate is shut, soon
-- where somebody else has the gate (it is not in a_mine), and not at all where a limit is full: who gives a slot back says so.
CREATE FUNCTION {p}_look_v1(a_keys text[], a_mine text[], a_now double precision) RETURNS double precision
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_due double precision;
BEGIN
    WITH next AS MATERIALIZED (
        SELECT k.key, CASE WHEN g.key IS NULL OR NOT k.key = ANY (coalesce(a_mine, '{}')) THEN a_now + 0.003
                           WHEN g.per > 0 THEN greatest(a_now, {p}_free_at_v1(g, g.weight))
                           WHEN g.used < g.most THEN a_now END AS at
        FROM unnest(a_keys) AS k (key) LEFT JOIN {p}_gate g ON g.key = k.key
        WHERE EXISTS (SELECT FROM {p}_blocked b WHERE b.key = k.key)
    ), put AS (
        INSERT INTO {p}_look (at, key) SELECT n.at, n.key FROM next n
        WHERE n.at IS NOT NULL AND NOT EXISTS (SELECT FROM {p}_look l WHERE l.key = n.key AND l.at <= n.at)
    )
    SELECT min(n.at) FILTER (WHERE n.at > a_now) INTO v_due FROM next n;
    RETURN v_due;
END $$;

-- Locks the gates that these candidates have to pass, if nobody else has them; makes those that are new. Of two who would make the
-- same, or one that looks alike, one passes it over: nobody waits here.
CREATE FUNCTION {p}_load_v1(
    a_places tid[], a_backs tid[], a_keys text[], a_wide boolean, OUT keys text[], OUT gates {p}_gate[])
LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    WITH jobs AS MATERIALIZED (
        SELECT r.id, r.seq FROM {p}_ready r WHERE r.ctid = ANY (a_places) AND r.flags & 2 <> 0
        UNION ALL SELECT b.id, b.seq FROM {p}_blocked b WHERE b.ctid = ANY (a_backs)
    ), wanted AS MATERIALIZED (
        SELECT DISTINCT ON (x.value ->> 0) x.value ->> 0 AS key, x.value AS gate
        FROM jobs w JOIN {p}_job j ON j.id = w.id, json_array_elements(j.flow::json -> 1) AS x
        WHERE x.value ->> 0 NOT LIKE 'fair:%' ORDER BY 1, w.seq DESC
    ), missing AS MATERIALIZED (
        SELECT * FROM wanted w WHERE NOT EXISTS (SELECT FROM {p}_gate g WHERE g.key = w.key)
    ), made AS (
        INSERT INTO {p}_gate (key, most, per, burst, weight, arrival, used, wide, pinned, starved)
        SELECT key, (gate ->> 1)::double precision, (gate ->> 2)::double precision, (gate ->> 3)::double precision,
               (gate ->> 4)::double precision, 0, 0, false, false, false
        FROM missing WHERE pg_try_advisory_xact_lock(hashtext('{c} gate'), hashtext(key) & 255)
        ORDER BY key COLLATE "C" ON CONFLICT DO NOTHING
    )
    SELECT array_agg(w.key) INTO keys FROM wanted w;
    SELECT array_agg(g.key), array_agg(ROW(g.*)::{p}_gate) INTO keys, gates FROM (
        SELECT * FROM {p}_gate o
        WHERE o.key = ANY (keys || a_keys) OR a_wide AND o.wide AND o.key IN (
            SELECT k.key FROM {p}_stream s CROSS JOIN LATERAL {p}_wide_keys_v1(s.queue, s.task) AS k (key)
            WHERE s.id IN (SELECT r.stream FROM {p}_ready r WHERE r.ctid = ANY (a_places)
                           UNION SELECT b.stream FROM {p}_blocked b WHERE b.ctid = ANY (a_backs)))
        ORDER BY o.key FOR UPDATE SKIP LOCKED) AS g;
END $$;

-- Makes or changes a gate; the running jobs that a new one of a whole queue or task concerns have passed it.
CREATE FUNCTION {p}_set_gate_v1(
    a_key text, a_most double precision, a_per double precision, a_burst double precision, a_weight double precision,
    a_wide boolean, a_pinned boolean)
RETURNS void LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_now double precision := {p}_now_v1();
    v_ids bigint[];
BEGIN
    INSERT INTO {p}_gate (key, most, per, burst, weight, arrival, used, wide, pinned, starved)
    VALUES (a_key, a_most, a_per, a_burst, a_weight, 0, 0, a_wide, a_pinned, false) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        UPDATE {p}_gate SET most = a_most, per = a_per, burst = a_burst, weight = a_weight, pinned = a_pinned
        WHERE key = a_key AND (a_pinned OR NOT pinned);
    ELSIF a_wide AND a_per = 0 THEN
        SELECT array_agg(id) INTO v_ids FROM (
            SELECT u.id FROM {p}_running u WHERE u.stream IN (
                SELECT s.id FROM {p}_stream s WHERE a_key IN (SELECT {p}_wide_keys_v1(s.queue, s.task)))
            ORDER BY u.id FOR UPDATE) AS locked;
        UPDATE {p}_running SET slots = coalesce(slots, '[]') || to_jsonb(a_key)
        WHERE id = ANY (v_ids) AND NOT coalesce(slots ? a_key, false);
        UPDATE {p}_gate SET used = coalesce(cardinality(v_ids), 0) WHERE key = a_key;
    END IF;
    INSERT INTO {p}_look (at, key) SELECT v_now, a_key WHERE EXISTS (SELECT FROM {p}_blocked b WHERE b.key = a_key);
    PERFORM {p}_ring_v1(true);
END $$;

-- Forgets what was set; false: there is no such gate.
CREATE FUNCTION {p}_drop_gate_v1(a_key text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now double precision := {p}_now_v1();
BEGIN
    DELETE FROM {p}_gate WHERE key = a_key AND wide;
    IF NOT FOUND THEN
        UPDATE {p}_gate SET pinned = false WHERE key = a_key;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
        INSERT INTO {p}_look (at, key) SELECT v_now, a_key WHERE EXISTS (SELECT FROM {p}_blocked b WHERE b.key = a_key);
    END IF;
    PERFORM {p}_ring_v1(true);
    RETURN true;
END $$;

-- ------------------------------------------------------------------ batches

-- Counts members that have moved, a_numbers of each kind; the batches are locked in order. What has ended stays counted when it is
-- deleted.
CREATE FUNCTION {p}_count_v1(a_batches bigint[], a_befores text[], a_afters text[], a_numbers integer[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM {p}_batch b WHERE b.id = ANY (a_batches) ORDER BY b.id FOR NO KEY UPDATE;
    WITH moved AS (
        SELECT m.id, m.before, m.after, m.number
        FROM unnest(a_batches, a_befores, a_afters, a_numbers) AS m (id, before, after, number)
        WHERE m.after IS NOT NULL OR m.before NOT IN ('completed', 'dead', 'cancelled')
    ), added AS (
        DELETE FROM {p}_batch_add WHERE batch_id = ANY (a_batches) RETURNING batch_id, total
    ), sums AS MATERIALIZED (
        SELECT m.id,
               coalesce(-sum(number) FILTER (WHERE after IS NULL), 0)
               + coalesce((SELECT sum(a.total) FROM added a WHERE a.batch_id = m.id), 0) AS total,
               coalesce(sum(number) FILTER (WHERE after = 'completed'), 0)
               - coalesce(sum(number) FILTER (WHERE before = 'completed'), 0) AS completed,
               coalesce(sum(number) FILTER (WHERE after = 'dead'), 0)
               - coalesce(sum(number) FILTER (WHERE before = 'dead'), 0) AS dead,
               coalesce(sum(number) FILTER (WHERE after = 'cancelled'), 0)
               - coalesce(sum(number) FILTER (WHERE before = 'cancelled'), 0) AS cancelled,
               bool_or(after = 'dead') AS died
        FROM moved m GROUP BY m.id
    )
    UPDATE {p}_batch b SET total = b.total + s.total, completed = b.completed + s.completed, dead = b.dead + s.dead,
        cancelled = b.cancelled + s.cancelled,
        ripe = CASE WHEN s.died OR b.total + s.total
                    <= b.completed + s.completed + b.dead + s.dead + b.cancelled + s.cancelled THEN true ELSE b.ripe END
    FROM sums s WHERE b.id = s.id;
END $$;

-- ------------------------------------------------------------------ what handlers tell

-- Keeps what running handlers tell, a JSON array of {id, lease, p, lines: [[at, text], …]}; the last a_most lines of a job. Returns the
-- positions (from 1) of those whose lease is not live.
CREATE FUNCTION {p}_note_v1(a_notes json, a_most integer) RETURNS SETOF integer LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now double precision := {p}_now_v1();
    v_last integer;
    m record;
BEGIN
    PERFORM FROM {p}_running u WHERE u.id IN (SELECT n.id FROM json_to_recordset(a_notes) AS n (id bigint))
    ORDER BY u.id FOR KEY SHARE;
    FOR m IN
        SELECT n.id, n.lease, n.p, n.lines, n.n::integer
        FROM ROWS FROM (json_to_recordset(a_notes) AS (id bigint, lease bigint, p text, lines json))
             WITH ORDINALITY AS n (id, lease, p, lines, n)
    LOOP
        IF NOT EXISTS (SELECT FROM {p}_running u WHERE u.id = m.id AND u.lease = m.lease) THEN
            RETURN NEXT m.n;
            CONTINUE;
        END IF;
        IF m.p IS NOT NULL THEN
            INSERT INTO {p}_note (job_id, at, number, text) VALUES (m.id, v_now, 0, m.p)
            ON CONFLICT (job_id, number) DO UPDATE SET at = excluded.at, text = excluded.text;
        END IF;
        CONTINUE WHEN m.lines IS NULL;
        SELECT max(number) INTO v_last FROM {p}_note WHERE job_id = m.id;
        INSERT INTO {p}_note (job_id, at, number, text)
        SELECT m.id, (l.value ->> 0)::double precision, coalesce(v_last, 0) + l.n, l.value ->> 1
        FROM json_array_elements(m.lines) WITH ORDINALITY AS l (value, n);
        DELETE FROM {p}_note WHERE job_id = m.id AND number > 0
            AND number <= coalesce(v_last, 0) + json_array_length(m.lines) - a_most;
    END LOOP;
END $$;
