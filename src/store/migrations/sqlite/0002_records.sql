-- What was kept in files of its own before: outcomes and the predictions that wait for them, promoted versions; and by
-- which pepper customers are hashed. `postgres/0002_records.sql` is its twin. `_s` is whole seconds since 1970 in UTC.

-- Erasures in their order: replicas follow it.
ALTER TABLE tombstones ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;

CREATE INDEX tombstones_by_seq ON tombstones (seq);

-- Peppers that something is kept under, by what tells them apart and says nothing about them.
CREATE TABLE peppers (
    id TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;

-- Versions that people promoted. The counter `promotion` grows with every change: replicas follow it.
CREATE TABLE promotions (
    model TEXT PRIMARY KEY NOT NULL,
    version TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Predictions that wait for their outcome. `customer` is the keyed hash, `prediction` is JSON, made and read by whoever
-- judges outcomes. In the order they come: by customer, each row would change a page of its own.
CREATE TABLE predictions (
    customer BLOB NOT NULL,
    model TEXT NOT NULL,
    scored_s INTEGER NOT NULL,
    matures_s INTEGER NOT NULL,
    prediction TEXT NOT NULL,
    PRIMARY KEY (customer, model, scored_s)
) STRICT;

CREATE INDEX predictions_by_maturity ON predictions (matures_s);

-- The newest outcomes, in the order they were told. `mature` is 1 when the horizon was over.
CREATE TABLE outcomes (
    seq INTEGER PRIMARY KEY NOT NULL,
    customer BLOB NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    scored_s INTEGER NOT NULL,
    mature INTEGER NOT NULL,
    spend_usd REAL NOT NULL,
    observed_ms INTEGER NOT NULL,
    prediction TEXT NOT NULL
) STRICT;

-- An outcome that is told again counts once. A part of a spend does not stand in the way of the whole.
CREATE UNIQUE INDEX outcomes_once ON outcomes (customer, model, version, scored_s, mature);
