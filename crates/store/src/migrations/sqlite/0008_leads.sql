-- Scores of leads, and one outbox for every target. `postgres/0008_leads.sql` is its twin.

-- What a subject (customer or lead, by number) should say in a target, and what it is known to say (`applied`, as of
-- `applied_ms`, known since `written_ms`). `seq` numbers the wishes of one subject. States: pending; unknown, a write may have
-- arrived, so it is read first; applied; absent, the target has no such subject; dead. At most one write is in the air per
-- row, under a lease. A claim takes no more than `most` rows beside a row: what was refused in a batch is tried in halves.
CREATE TABLE wishes (
    target TEXT NOT NULL,
    subject INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    says TEXT NOT NULL,
    calculated_ms INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'unknown', 'applied', 'absent', 'dead')),
    urgency INTEGER NOT NULL,
    most INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    next_ms INTEGER NOT NULL,
    last_error TEXT,
    applied TEXT,
    applied_ms INTEGER,
    written_ms INTEGER,
    inflight_seq INTEGER,
    lease_holder TEXT,
    lease_until_ms INTEGER,
    PRIMARY KEY (target, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX wishes_waiting ON wishes (target, most DESC, urgency, next_ms) WHERE state IN ('pending', 'unknown', 'absent');
CREATE INDEX wishes_due ON wishes (target, next_ms) WHERE state IN ('pending', 'unknown', 'absent');
CREATE INDEX wishes_age ON wishes (target, calculated_ms) WHERE says <> '0';
CREATE INDEX wishes_failed ON wishes (target, attempts) WHERE last_error IS NOT NULL;

INSERT INTO wishes (target, subject, seq, says, calculated_ms, state, urgency, most, attempts, next_ms, last_error,
                    applied, applied_ms, written_ms, inflight_seq, lease_holder, lease_until_ms)
SELECT target, customer, seq,
       value_usd || ' ' || tier || ' ' || COALESCE(confidence || '', '-') || ' ' || COALESCE(risk || '', '-'),
       calculated_ms,
       CASE WHEN state = 'pending' AND (attempts > 0 OR inflight_seq IS NOT NULL) THEN 'unknown' ELSE state END,
       1, 1000000, attempts, next_ms, last_error,
       applied_value_usd || ' ' || applied_tier || ' ' || COALESCE(applied_confidence || '', '-') || ' '
           || COALESCE(applied_risk || '', '-'),
       CASE WHEN applied_tier IS NULL THEN NULL ELSE calculated_ms END,
       CASE WHEN applied_tier IS NULL THEN NULL ELSE calculated_ms END,
       inflight_seq, lease_holder, lease_until_ms
FROM profiles;

DROP TABLE profiles;

-- Latest score of a lead. `num` comes from the counter of customers: a number names one subject. `sealed` is the lead's
-- identifier; `sequence` decides between facts of the same time; `logged` counts the entries of the lead's log.
CREATE TABLE leads (
    num INTEGER PRIMARY KEY NOT NULL,
    key BLOB NOT NULL UNIQUE,
    sealed BLOB,
    score INTEGER NOT NULL CHECK (score BETWEEN 1 AND 100),
    probability REAL,
    reason TEXT NOT NULL,
    calculated_ms INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    source TEXT NOT NULL,
    version TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    logged INTEGER NOT NULL
) STRICT;

CREATE INDEX leads_best ON leads (score, calculated_ms);
CREATE INDEX leads_age ON leads (calculated_ms);

-- The newest entries of each lead, in a ring of slots: facts that came (`target` is empty) and what a target said before it
-- was written.
CREATE TABLE lead_log (
    subject INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    target TEXT NOT NULL,
    previous TEXT NOT NULL,
    says TEXT NOT NULL,
    says_ms INTEGER NOT NULL,
    cause TEXT NOT NULL,
    PRIMARY KEY (subject, slot)
) STRICT, WITHOUT ROWID;

-- Events that were judged, so that one which comes again is answered as before. `id` is a digest.
CREATE TABLE events_seen (
    id BLOB PRIMARY KEY NOT NULL,
    verdict TEXT NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX events_seen_until ON events_seen (until_ms);

-- A target's own job that turns old scores to nothing, from before it is asked for until what it did is taken over. `job` is
-- empty while its name is not known.
CREATE TABLE sweeps (
    target TEXT PRIMARY KEY NOT NULL,
    started_ms INTEGER NOT NULL,
    cutoff_ms INTEGER NOT NULL,
    job TEXT NOT NULL
) STRICT, WITHOUT ROWID;
