-- What served before people chose, and what lone model files inherited: a restart comes to the same. `sqlite/0006_served_before.sql` is its twin.

-- In the order in which they served, the last one with the largest place. Written anew with every choice.
CREATE TABLE served_before (
    model TEXT NOT NULL,
    place BIGINT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (model, place)
);

-- Manifests that lone model files took over when they first served, as TOML.
CREATE TABLE inherited (
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest TEXT NOT NULL,
    PRIMARY KEY (model, version)
);
