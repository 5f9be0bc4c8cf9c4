-- Profiles that somebody else changes. `postgres/0008_edited.sql` is its twin.

-- The time in what the profile is known to say, and when it was last seen to say something else.
ALTER TABLE profiles ADD COLUMN applied_calculated_ms INTEGER;
ALTER TABLE profiles ADD COLUMN edited_ms INTEGER;
