-- What lone model files inherited: a restart comes to the same. `sqlite/0007_inherited.sql` is its twin.

-- Manifests that they took over when they first served, as TOML.
CREATE TABLE inherited (
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest TEXT NOT NULL,
    PRIMARY KEY (model, version)
);
