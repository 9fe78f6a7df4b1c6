-- depends: 0001-log
-- What is old enough to be forgotten is found without reading the rest: rows lie in the order of their writing.
CREATE INDEX once_written ON once USING brin (written_ms);
