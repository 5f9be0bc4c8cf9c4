-- Which peppers customers' keys are made with, and which keys are still those of the pepper before. `postgres/` has its twin.

-- In the order they came: each hashes what the one before it gave. `id` tells a pepper apart and says nothing about it.
-- `sealed` is a pepper that only the newest one opens; of the newest itself nothing is here.
CREATE TABLE pepper_layers (
    layer INTEGER PRIMARY KEY NOT NULL,
    id TEXT NOT NULL,
    sealed BLOB
) STRICT;

-- Keys that the newest pepper has still to hash. What is told meanwhile has its key already.
CREATE TABLE rekeying (
    key BLOB PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;
