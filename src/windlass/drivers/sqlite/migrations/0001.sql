-- A job row is written once and changed only when the job becomes available again (seq), is given more tries or takes over
-- what a newer one brings. Where the job stands is told by which one of the five small tables holds its id: ready, blocked,
-- timer, running or done. "{p}" is the prefix of all names.

CREATE TABLE {p}_job (
    id INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    payload TEXT NOT NULL,
    max_attempts INTEGER,
    timeout REAL,
    created_at REAL NOT NULL,
    seq INTEGER NOT NULL,        -- its place in ready, when it is there
    tags TEXT,
    origin TEXT,
    meta TEXT,
    batch_id INTEGER,
    tick REAL,
    idempotency_key TEXT,
    flow TEXT,                   -- its keys and gates, as JSON; NULL: nothing holds it back
    terms TEXT                   -- for workers only
);
CREATE INDEX {p}_job_origin ON {p}_job (origin) WHERE origin IS NOT NULL;

CREATE TABLE {p}_tag (
    tag TEXT NOT NULL,
    job_id INTEGER NOT NULL,
    PRIMARY KEY (tag, job_id)
) WITHOUT ROWID;

-- pending. Queue and task lead, so that the jobs of a task that a worker does not know are never read. One tree and no
-- index by id: every enqueue pays for each tree. The way from a job to its row here leads over job.seq.
CREATE TABLE {p}_ready (
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    rank INTEGER NOT NULL,       -- -priority, so that the tree is read forwards
    seq INTEGER NOT NULL,        -- drawn when the job became available
    id INTEGER NOT NULL,
    run_at REAL NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    PRIMARY KEY (queue, task, rank, seq)
) WITHOUT ROWID;

-- Pending too, but put aside before a shut gate, or in the line of a key that takes turns; comes back to the same place in ready.
CREATE TABLE {p}_blocked (
    id INTEGER PRIMARY KEY,
    gate TEXT NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    run_at REAL NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    crashes INTEGER NOT NULL
);
CREATE INDEX {p}_blocked_order ON {p}_blocked (gate, rank, seq);

-- scheduled and retrying
CREATE TABLE {p}_timer (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    run_at REAL NOT NULL,
    retrying INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    crashes INTEGER NOT NULL
);
CREATE INDEX {p}_timer_due ON {p}_timer (run_at);
CREATE INDEX {p}_timer_retrying ON {p}_timer (id) WHERE retrying = 1;

CREATE TABLE {p}_running (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    lease INTEGER NOT NULL,
    worker TEXT NOT NULL,
    seq INTEGER NOT NULL,
    run_at REAL NOT NULL,
    started_at REAL,             -- NULL: prefetched, its handler has not started
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    deadline REAL,               -- of a claim made by hand
    cancel INTEGER NOT NULL DEFAULT 0,
    slots TEXT                   -- the limits that it has passed, as a JSON list; NULL: none
);
CREATE INDEX {p}_running_deadline ON {p}_running (deadline) WHERE deadline IS NOT NULL;

-- completed, dead and cancelled
CREATE TABLE {p}_done (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    status TEXT NOT NULL,
    run_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    worker TEXT,
    outcome TEXT,                -- of the last attempt, which has no row in attempt
    error TEXT,
    result TEXT
);
CREATE INDEX {p}_done_list ON {p}_done (status, queue, task);
CREATE INDEX {p}_done_age ON {p}_done (status, finished_at);
-- What is dead by the fingerprint at the end of its error.
CREATE INDEX {p}_done_fault ON {p}_done (substr(error, -18, 16))
    WHERE status = 'dead' AND substr(error, -33, 15) = '"fingerprint":"';

-- Attempts that did not end their job. The last attempt of a finished job is in done.
CREATE TABLE {p}_attempt (
    job_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    worker TEXT,
    started_at REAL,
    finished_at REAL,
    outcome TEXT NOT NULL,
    error TEXT,
    PRIMARY KEY (job_id, number)
) WITHOUT ROWID;

-- What handlers tell: number 0 is the newest progress, the others are the lines of the job's log.
CREATE TABLE {p}_note (
    job_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at REAL,
    text TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
) WITHOUT ROWID;

-- Unique keys: at most one job has a key.
CREATE TABLE {p}_hold (
    key TEXT PRIMARY KEY,
    job_id INTEGER NOT NULL,
    until REAL                   -- NULL: as long as the job is in its statuses; else it has left them
) WITHOUT ROWID;

-- Limits and rates.
CREATE TABLE {p}_gate (
    key TEXT PRIMARY KEY,
    most REAL NOT NULL,
    per REAL NOT NULL,           -- 0: a limit
    burst REAL NOT NULL,
    weight REAL NOT NULL,
    wide INTEGER NOT NULL,       -- passed by every job of a queue or task
    pinned INTEGER NOT NULL,     -- set by hand
    used INTEGER NOT NULL,       -- how many rows slot has
    blocked INTEGER NOT NULL,    -- how many rows blocked has
    arrival REAL NOT NULL,       -- a rate's theoretical arrival time
    starved INTEGER NOT NULL,    -- a stream was passed over because of it
    look_at REAL                 -- when somebody may be let back; NULL: when a slot is given back
) WITHOUT ROWID;
CREATE INDEX {p}_gate_look ON {p}_gate (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX {p}_gate_wide ON {p}_gate (wide) WHERE wide = 1;

-- Whose turn it is: the keys of each stream and priority whose jobs stand in line in blocked, in order.
CREATE TABLE {p}_turn (
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    rank INTEGER NOT NULL,
    place INTEGER NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (queue, task, rank, place)
) WITHOUT ROWID;
CREATE UNIQUE INDEX {p}_turn_key ON {p}_turn (queue, task, rank, key);

-- Who runs behind which limit.
CREATE TABLE {p}_slot (
    gate TEXT NOT NULL,
    job_id INTEGER NOT NULL,
    PRIMARY KEY (gate, job_id)
) WITHOUT ROWID;

CREATE TABLE {p}_batch (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    origin TEXT,
    meta TEXT,
    parent INTEGER,
    callbacks TEXT,
    created_at REAL NOT NULL,
    open INTEGER NOT NULL DEFAULT 1,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    children INTEGER NOT NULL DEFAULT 0,
    fired TEXT NOT NULL DEFAULT '[]',
    finished_at REAL,
    ripe INTEGER NOT NULL DEFAULT 0    -- something is to be decided about it
);
CREATE INDEX {p}_batch_ripe ON {p}_batch (id) WHERE ripe = 1;

CREATE TABLE {p}_schedule (
    name TEXT PRIMARY KEY,
    definition TEXT NOT NULL,
    revision INTEGER NOT NULL,   -- raised when it is declared anew, paused or resumed
    watermark REAL NOT NULL,     -- its ticks up to here have been considered
    created_at REAL NOT NULL,
    paused_at REAL,
    fired INTEGER NOT NULL,
    last_row INTEGER NOT NULL,   -- of its history
    jobs TEXT NOT NULL           -- the last of each queue, as JSON
) WITHOUT ROWID;

-- What became of the ticks of each schedule, the newest.
CREATE TABLE {p}_tick (
    schedule TEXT NOT NULL,
    number INTEGER NOT NULL,
    tick REAL NOT NULL,
    at REAL NOT NULL,
    outcome TEXT NOT NULL,
    queue TEXT NOT NULL,
    job_id INTEGER,
    other INTEGER,
    count INTEGER,
    first REAL,
    PRIMARY KEY (schedule, number)
) WITHOUT ROWID;

-- Counters, so that nothing ever counts rows. What the store as a whole has given out is in the row without queue and
-- task: on the same page as the others, so that an enqueue writes one page less.
CREATE TABLE {p}_counter (
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    scheduled INTEGER NOT NULL DEFAULT 0,
    pending INTEGER NOT NULL DEFAULT 0,
    running INTEGER NOT NULL DEFAULT 0,
    retrying INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    total_enqueued INTEGER NOT NULL DEFAULT 0,
    total_processed INTEGER NOT NULL DEFAULT 0,
    total_failed INTEGER NOT NULL DEFAULT 0,
    total_retried INTEGER NOT NULL DEFAULT 0,
    total_dead INTEGER NOT NULL DEFAULT 0,
    total_cancelled INTEGER NOT NULL DEFAULT 0,
    total_snoozed INTEGER NOT NULL DEFAULT 0,
    total_released INTEGER NOT NULL DEFAULT 0,
    total_lost INTEGER NOT NULL DEFAULT 0,
    version INTEGER,             -- of the schema
    job INTEGER,                 -- the last id given out; ids are never used again, so not AUTOINCREMENT's max(rowid)
    lease INTEGER,               -- the last lease number given out
    seq INTEGER,                 -- the last place in the order of availability
    batch INTEGER,               -- the last id given to a batch
    stamp INTEGER,               -- raised when workers must look at the schedules anew
    shift REAL,                  -- what tests have added to the clock
    PRIMARY KEY (queue, task)
) WITHOUT ROWID;
INSERT INTO {p}_counter (queue, task, version, job, lease, seq, batch, stamp, shift)
VALUES ('', '', 1, 0, 0, 0, 0, 0, 0);

CREATE TABLE {p}_pulse (
    second INTEGER NOT NULL,
    queue TEXT NOT NULL,
    processed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    PRIMARY KEY (second, queue)
) WITHOUT ROWID;

CREATE TABLE {p}_pause (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

CREATE TABLE {p}_worker (
    id TEXT PRIMARY KEY,
    beat_at REAL NOT NULL,
    lost_after REAL NOT NULL,
    status TEXT NOT NULL,
    bell TEXT NOT NULL,
    card TEXT NOT NULL           -- everything else, as JSON
) WITHOUT ROWID;

-- Messages to the worker that holds, or held, a lease.
CREATE TABLE {p}_signal (
    worker TEXT NOT NULL,
    job_id INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    cancel INTEGER NOT NULL,
    PRIMARY KEY (worker, job_id, lease, cancel)
) WITHOUT ROWID;

-- Who listens to what is published.
CREATE TABLE {p}_ear (
    address TEXT PRIMARY KEY,
    until REAL NOT NULL          -- renewed while it listens
) WITHOUT ROWID;

-- Logs that keep their newest entries: who did what, and how things stood each minute and hour.
CREATE TABLE {p}_journal (
    journal TEXT NOT NULL,
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (journal, number)
) WITHOUT ROWID;

-- Sums that never fall: how long jobs have waited and run.
CREATE TABLE {p}_sum (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
