-- Where leads stand among those scored before them. `postgres/0010_lead_places.sql` is its twin.

-- By the digest of a version's bundle: the distribution of its probabilities, the newest leads weighing most.
CREATE TABLE lead_places (
    version BLOB PRIMARY KEY NOT NULL,
    places BLOB NOT NULL,
    moved_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
