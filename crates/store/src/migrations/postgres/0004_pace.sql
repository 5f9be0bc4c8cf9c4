-- What was asked of the platform with each token, so that all who use one keep to its limit together.
-- `sqlite/0004_pace.sql` is its twin.

-- `bucket` is a digest of the address and the client that the platform counts by.
CREATE TABLE pace (
    bucket TEXT PRIMARY KEY NOT NULL,
    kept TEXT NOT NULL
);

-- It stood among the positions, one row for each machine. What those said cannot be read any more, and that counts as if
-- everything that is allowed had just been asked.
INSERT INTO pace (bucket, kept)
SELECT DISTINCT substr(source, 6, 32), '' FROM positions WHERE source LIKE 'pace:%';
DELETE FROM positions WHERE source LIKE 'pace:%';
