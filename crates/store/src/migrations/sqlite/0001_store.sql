-- The logical schema of the store. `postgres/0001_store.sql` is its twin: same tables, columns and keys.
-- Times are milliseconds since 1970 in UTC, days are days since 1970-01-01. Nothing here is readable as a person.

-- Numbers handed out in order: customers, labels, marks of change, fences.
CREATE TABLE counters (
    name TEXT PRIMARY KEY NOT NULL,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Queues and topics.
CREATE TABLE labels (
    num INTEGER PRIMARY KEY NOT NULL,
    text TEXT NOT NULL UNIQUE
) STRICT;

-- `key` is the keyed hash of the identifier, `contact` the platform's identifier, sealed.
CREATE TABLE customers (
    num INTEGER PRIMARY KEY NOT NULL,
    key BLOB NOT NULL UNIQUE,
    contact BLOB
) STRICT;

-- Customers whose features do not tell everything yet. `mark` grows with every change.
CREATE TABLE dirty (
    customer INTEGER PRIMARY KEY NOT NULL,
    mark INTEGER NOT NULL
) STRICT;

-- In the order they are folded in. `sentiment_end` and `topics_end` are the end of the version they came with, where that
-- is not `end_ms`. Sentiment in millionths, topics as label numbers of four bytes, little-endian, rising.
CREATE TABLE interactions (
    customer INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    id BLOB NOT NULL,
    end_ms INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    handle_ms INTEGER,
    queue INTEGER,
    sentiment INTEGER,
    sentiment_end INTEGER,
    topics BLOB,
    topics_end INTEGER,
    PRIMARY KEY (customer, start_ms, id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX interactions_by_id ON interactions (id);

-- What the mean sentiment of a queue in a window is read from, alone.
CREATE INDEX interactions_scored ON interactions (end_ms, queue, sentiment, start_ms)
    WHERE sentiment IS NOT NULL AND queue IS NOT NULL;

CREATE TABLE purchases (
    customer INTEGER NOT NULL,
    id BLOB NOT NULL,
    day INTEGER NOT NULL,
    amount_usd REAL NOT NULL,
    items REAL NOT NULL,
    PRIMARY KEY (customer, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE positions (
    source TEXT PRIMARY KEY NOT NULL,
    position TEXT NOT NULL,
    saved_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who may do a job. A new holder has a higher fence.
CREATE TABLE leases (
    job TEXT PRIMARY KEY NOT NULL,
    holder TEXT NOT NULL,
    fence INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Latest feature vector of a customer. `vector` is made and read by whoever computes it. `seq` grows with every change:
-- replicas follow it.
CREATE TABLE features (
    customer INTEGER PRIMARY KEY NOT NULL,
    seq INTEGER NOT NULL,
    as_of_ms INTEGER NOT NULL,
    vector BLOB NOT NULL,
    next_change_ms INTEGER,
    fills_from_queue INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX features_by_seq ON features (seq);
CREATE INDEX features_due ON features (next_change_ms) WHERE next_change_ms IS NOT NULL;
CREATE INDEX features_filled ON features (customer) WHERE fills_from_queue = 1;

-- Customers who were erased, for whoever keeps them by number.
CREATE TABLE forgotten (
    seq INTEGER PRIMARY KEY NOT NULL,
    customer INTEGER NOT NULL
) STRICT;

-- Digests of the keys of erased customers: nothing about them is kept again, by any replica.
CREATE TABLE tombstones (
    digest BLOB PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;

-- Latest score of a customer.
CREATE TABLE scores (
    customer INTEGER PRIMARY KEY NOT NULL,
    value_usd REAL NOT NULL,
    low_usd REAL,
    high_usd REAL,
    risk REAL,
    confidence REAL,
    tier TEXT NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    features_as_of_ms INTEGER NOT NULL,
    scored_ms INTEGER NOT NULL
) STRICT;

-- What a customer's profile should say in a target, and what it is known to say (`applied_*`). `seq` numbers the wishes of
-- one customer. States: pending, applied, dead. At most one write is in the air per row, under a lease.
CREATE TABLE profiles (
    target TEXT NOT NULL,
    customer INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    value_usd REAL NOT NULL,
    tier TEXT NOT NULL,
    confidence REAL,
    risk REAL,
    calculated_ms INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'applied', 'dead')),
    applied_seq INTEGER NOT NULL,
    applied_value_usd REAL,
    applied_tier TEXT,
    applied_confidence REAL,
    applied_risk REAL,
    attempts INTEGER NOT NULL,
    next_ms INTEGER NOT NULL,
    last_error TEXT,
    inflight_seq INTEGER,
    lease_holder TEXT,
    lease_until_ms INTEGER,
    PRIMARY KEY (target, customer)
) STRICT, WITHOUT ROWID;

CREATE INDEX profiles_waiting ON profiles (target, next_ms) WHERE state = 'pending';
CREATE INDEX profiles_dead ON profiles (target, customer) WHERE state = 'dead';
