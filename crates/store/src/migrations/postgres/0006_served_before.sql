-- What served before people chose: a rollback leads there after a restart too. `sqlite/0006_served_before.sql` is its twin.

-- In the order in which they served, the last one with the largest place. Written anew with every choice.
CREATE TABLE served_before (
    model TEXT NOT NULL,
    place BIGINT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (model, place)
);
