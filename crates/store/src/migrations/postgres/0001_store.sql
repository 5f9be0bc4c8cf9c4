-- The logical schema of the store. `sqlite/0001_store.sql` is its twin: same tables, columns and keys.
-- Times are milliseconds since 1970 in UTC, days are days since 1970-01-01. Nothing here is readable as a person.

-- Numbers handed out in order: customers, labels, marks of change, fences.
CREATE TABLE counters (
    name TEXT PRIMARY KEY NOT NULL,
    value BIGINT NOT NULL
);

-- Queues and topics.
CREATE TABLE labels (
    num BIGINT PRIMARY KEY NOT NULL,
    text TEXT NOT NULL UNIQUE
);

-- `key` is the keyed hash of the identifier, `contact` the platform's identifier, sealed.
CREATE TABLE customers (
    num BIGINT PRIMARY KEY NOT NULL,
    key BYTEA NOT NULL UNIQUE,
    contact BYTEA
);

-- Customers whose features do not tell everything yet. `mark` grows with every change.
CREATE TABLE dirty (
    customer BIGINT PRIMARY KEY NOT NULL,
    mark BIGINT NOT NULL
);

-- In the order they are folded in. `sentiment_end` and `topics_end` are the end of the version they came with, where that
-- is not `end_ms`. Sentiment in millionths, topics as label numbers of four bytes, little-endian, rising.
CREATE TABLE interactions (
    customer BIGINT NOT NULL,
    start_ms BIGINT NOT NULL,
    id BYTEA NOT NULL,
    end_ms BIGINT NOT NULL,
    channel BIGINT NOT NULL,
    handle_ms BIGINT,
    queue BIGINT,
    sentiment BIGINT,
    sentiment_end BIGINT,
    topics BYTEA,
    topics_end BIGINT,
    PRIMARY KEY (customer, start_ms, id)
);

CREATE UNIQUE INDEX interactions_by_id ON interactions (id);

-- What the mean sentiment of a queue in a window is read from, alone.
CREATE INDEX interactions_scored ON interactions (end_ms, queue, sentiment, start_ms)
    WHERE sentiment IS NOT NULL AND queue IS NOT NULL;

CREATE TABLE purchases (
    customer BIGINT NOT NULL,
    id BYTEA NOT NULL,
    day BIGINT NOT NULL,
    amount_usd DOUBLE PRECISION NOT NULL,
    items DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (customer, id)
);

CREATE TABLE positions (
    source TEXT PRIMARY KEY NOT NULL,
    position TEXT NOT NULL,
    saved_ms BIGINT NOT NULL
);

-- Who may do a job. A new holder has a higher fence.
CREATE TABLE leases (
    job TEXT PRIMARY KEY NOT NULL,
    holder TEXT NOT NULL,
    fence BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);

-- Latest feature vector of a customer. `vector` is made and read by whoever computes it. `seq` grows with every change:
-- replicas follow it.
CREATE TABLE features (
    customer BIGINT PRIMARY KEY NOT NULL,
    seq BIGINT NOT NULL,
    as_of_ms BIGINT NOT NULL,
    vector BYTEA NOT NULL,
    next_change_ms BIGINT,
    fills_from_queue BIGINT NOT NULL
);

CREATE UNIQUE INDEX features_by_seq ON features (seq);
CREATE INDEX features_due ON features (next_change_ms) WHERE next_change_ms IS NOT NULL;
CREATE INDEX features_filled ON features (customer) WHERE fills_from_queue = 1;

-- Customers who were erased, for whoever keeps them by number.
CREATE TABLE forgotten (
    seq BIGINT PRIMARY KEY NOT NULL,
    customer BIGINT NOT NULL
);

-- Digests of the keys of erased customers: nothing about them is kept again, by any replica.
CREATE TABLE tombstones (
    digest BYTEA PRIMARY KEY NOT NULL
);

-- Latest score of a customer.
CREATE TABLE scores (
    customer BIGINT PRIMARY KEY NOT NULL,
    value_usd DOUBLE PRECISION NOT NULL,
    low_usd DOUBLE PRECISION,
    high_usd DOUBLE PRECISION,
    risk DOUBLE PRECISION,
    confidence DOUBLE PRECISION,
    tier TEXT NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    features_as_of_ms BIGINT NOT NULL,
    scored_ms BIGINT NOT NULL
);

-- What a customer's profile should say in a target, and what it is known to say (`applied_*`). `seq` numbers the wishes of
-- one customer. States: pending, applied, dead. At most one write is in the air per row, under a lease.
CREATE TABLE profiles (
    target TEXT NOT NULL,
    customer BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    value_usd DOUBLE PRECISION NOT NULL,
    tier TEXT NOT NULL,
    confidence DOUBLE PRECISION,
    risk DOUBLE PRECISION,
    calculated_ms BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'applied', 'dead')),
    applied_seq BIGINT NOT NULL,
    applied_value_usd DOUBLE PRECISION,
    applied_tier TEXT,
    applied_confidence DOUBLE PRECISION,
    applied_risk DOUBLE PRECISION,
    attempts BIGINT NOT NULL,
    next_ms BIGINT NOT NULL,
    last_error TEXT,
    inflight_seq BIGINT,
    lease_holder TEXT,
    lease_until_ms BIGINT,
    PRIMARY KEY (target, customer)
);

CREATE INDEX profiles_waiting ON profiles (target, next_ms) WHERE state = 'pending';
CREATE INDEX profiles_dead ON profiles (target, customer) WHERE state = 'dead';
