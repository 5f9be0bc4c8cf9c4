-- Where leads stand among those scored before them. `sqlite/0010_lead_places.sql` is its twin.

-- By the digest of a version's bundle: the distribution of its probabilities, the newest leads weighing most.
CREATE TABLE lead_places (
    version BYTEA PRIMARY KEY NOT NULL,
    places BYTEA NOT NULL,
    moved_ms BIGINT NOT NULL
);
