-- The tier that each customer was in last. `sqlite/0013_last_tiers.sql` is its twin.

-- `customer` is the keyed hash. `answered_ms` is milliseconds since 1970 in UTC. `seq` grows with every change: replicas follow it.
CREATE TABLE last_tiers (
    customer BYTEA NOT NULL,
    model TEXT NOT NULL,
    tier TEXT NOT NULL,
    answered_ms BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (customer, model)
);

CREATE UNIQUE INDEX last_tiers_by_seq ON last_tiers (seq);
CREATE INDEX last_tiers_age ON last_tiers (answered_ms);
