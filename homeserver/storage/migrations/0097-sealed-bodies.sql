-- depends: 0071-ui-auth-bodies 0075-one-time-packs
-- Boxes have a nonce in front from here on. What lies here is minutes old: who authenticates at this moment is asked again.
DELETE FROM uia_sessions;
