-- The last answer of each conversation that is going on, for the agent's page. `postgres/0009_conversations.sql` is its twin.

-- `conversation` and `customer` are keyed hashes; `customer` is empty for nobody. `answer` is JSON without an identifier, made and
-- read by whoever shows it. `answered_ms` is milliseconds since 1970 in UTC.
CREATE TABLE conversations (
    conversation BLOB PRIMARY KEY NOT NULL,
    customer BLOB NOT NULL,
    answer TEXT NOT NULL,
    answered_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX conversations_by_customer ON conversations (customer);
CREATE INDEX conversations_age ON conversations (answered_ms);
