-- depends: 0041-e2ee
-- What somebody has signed of others is looked up by the signer.
CREATE INDEX key_signatures_by ON key_signatures (signer_nid) WHERE target_nid <> signer_nid;
