-- Which programs may use the store. `sqlite/0012_oldest_program.sql` is its twin.

-- The newest version of the schema that the oldest of them knows. A migration that only adds leaves it as it is, so that programs
-- from before it go on; one that does more raises it to its own version.
CREATE TABLE oldest_program (
    schema_version BIGINT NOT NULL
);

INSERT INTO oldest_program (schema_version) VALUES (12);
