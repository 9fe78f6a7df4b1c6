-- depends: 0061-chain-cover
-- Numbers of outliers: events whose state is not known. Far below those of backfilled events, which tell an order, and above those
-- of states made by resolution.

CREATE SEQUENCE outlier_nids INCREMENT BY -1 MAXVALUE -2305843009213693952 MINVALUE -4611686018427387903
    START WITH -2305843009213693952;
