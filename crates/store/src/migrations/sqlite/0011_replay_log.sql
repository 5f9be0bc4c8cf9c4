-- The newest questions with their answers, to be put to another version. `postgres/0011_replay_log.sql` is its twin.

-- In the order they were kept. `customer` is the keyed hash, empty for nobody. `question` is JSON without an identifier, made and
-- read by whoever replays it. `asked_ms` is milliseconds since 1970 in UTC.
CREATE TABLE replay_log (
    seq INTEGER PRIMARY KEY NOT NULL,
    customer BLOB NOT NULL,
    asked_ms INTEGER NOT NULL,
    question TEXT NOT NULL
) STRICT;

CREATE INDEX replay_log_by_customer ON replay_log (customer);
CREATE INDEX replay_log_age ON replay_log (asked_ms);
