-- depends: 0098-folded-names 0151-remote-people
-- People are found by parts of their names: of each name all runs of one, two and three characters, so that a search looks at those
-- who have the runs of the word alone. Kept by the database: nobody writes to it.
CREATE FUNCTION people_grams(text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(DISTINCT substr(t, i, n)), '{}')
    FROM (SELECT left($1, 256) AS t) x, generate_series(1, 3) n, generate_series(1, length(t) - n + 1) i
$$;
-- What of a word is asked for: its runs of three characters, or the whole of a shorter one.
CREATE FUNCTION people_grams_of_word(text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN length($1) <= 3 THEN ARRAY[$1]
                ELSE (SELECT array_agg(DISTINCT substr($1, i, 3)) FROM generate_series(1, least(length($1), 64) - 2) i) END
$$;
CREATE INDEX profiles_grams ON profiles USING gin (people_grams(folded_name));
CREATE INDEX remote_people_grams ON remote_people USING gin (people_grams(folded_name));
CREATE INDEX users_grams ON users USING gin (people_grams(split_part(lower(user_id COLLATE "C"), ':', 1)));
CREATE INDEX users_lower ON users (lower(user_id COLLATE "C"));
