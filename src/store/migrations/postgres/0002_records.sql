-- What was kept in files of its own before: outcomes and the predictions that wait for them, promoted versions; and by
-- which pepper customers are hashed. `sqlite/0002_records.sql` is its twin. `_s` is whole seconds since 1970 in UTC.

-- Erasures in their order: replicas follow it.
ALTER TABLE tombstones ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;

CREATE INDEX tombstones_by_seq ON tombstones (seq);

-- Peppers that something is kept under, by what tells them apart and says nothing about them.
CREATE TABLE peppers (
    id TEXT PRIMARY KEY NOT NULL
);

-- Versions that people promoted. The counter `promotion` grows with every change: replicas follow it.
CREATE TABLE promotions (
    model TEXT PRIMARY KEY NOT NULL,
    version TEXT NOT NULL
);

-- Predictions that wait for their outcome. `customer` is the keyed hash, `prediction` is JSON, made and read by whoever
-- judges outcomes.
CREATE TABLE predictions (
    customer BYTEA NOT NULL,
    model TEXT NOT NULL,
    scored_s BIGINT NOT NULL,
    matures_s BIGINT NOT NULL,
    prediction TEXT NOT NULL,
    PRIMARY KEY (customer, model, scored_s)
);

CREATE INDEX predictions_by_maturity ON predictions (matures_s);

-- The newest outcomes, in the order they were told. `mature` is 1 when the horizon was over.
CREATE TABLE outcomes (
    seq BIGINT PRIMARY KEY NOT NULL,
    customer BYTEA NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    scored_s BIGINT NOT NULL,
    mature BIGINT NOT NULL,
    spend_usd DOUBLE PRECISION NOT NULL,
    observed_ms BIGINT NOT NULL,
    prediction TEXT NOT NULL
);

-- An outcome that is told again counts once. A part of a spend does not stand in the way of the whole.
CREATE UNIQUE INDEX outcomes_once ON outcomes (customer, model, version, scored_s, mature);
