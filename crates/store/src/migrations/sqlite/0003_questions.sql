-- Questions that are answered later. `postgres/0003_questions.sql` is its twin. `_ms` is milliseconds since 1970 in UTC.

-- `customer` is the keyed hash, empty for nobody. `request` is JSON without an identifier, made and read by whoever answers,
-- and empty once that is done; so is `answer`. Stages: waiting for an answer, telling a callback, over. `next_ms` is when
-- the stage goes on: answered, told, or forgotten.
CREATE TABLE questions (
    id TEXT PRIMARY KEY NOT NULL,
    customer BLOB NOT NULL,
    request TEXT NOT NULL,
    callback TEXT NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('waiting', 'telling', 'over')),
    next_ms INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    finished_ms INTEGER,
    refused INTEGER NOT NULL,
    answer TEXT NOT NULL,
    told INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    last_error TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX questions_by_stage ON questions (stage, next_ms);
CREATE INDEX questions_by_customer ON questions (customer);
