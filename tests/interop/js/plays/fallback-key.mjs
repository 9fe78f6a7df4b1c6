// Somebody is away for so long that others use up all one-time keys: the fallback key serves, and new ones are there on return.
import { expect, play, seen } from "../lib/play.mjs";
import { logIn, register } from "../lib/people.mjs";
import { bootstrap, encryptedRoom, reopen, secureDevice } from "../lib/crypto.mjs";
import { Method } from "matrix-js-sdk";

const MOST = 400; // more one-time keys than any client keeps on the server

await play(async () => {
    const bobby = await register("bob");
    const bob = await secureDevice(bobby, "device");
    await bootstrap(bob);
    const alice = await secureDevice(await register("alice"), "device");
    const roomId = await encryptedRoom(alice, bob);
    const stranger = await logIn(await register("mallory"));
    const { one_time_key_counts: counts } = await bob.client.http.authedRequest(Method.Post, "/keys/upload", undefined, {});
    expect(["signed_curve25519"], await unusedFallbackKeys(bob, 1), "unused fallback keys before");
    bob.stop();

    const keys = [];
    let fallback = null;
    while (!fallback && keys.length < MOST) {
        const key = await claim(stranger, bob);
        if (key.fallback) fallback = key;
        else keys.push(key.key);
    }
    expect(keys.length, new Set(keys).size, "the number of different one-time keys");
    expect(counts.signed_curve25519, keys.length, "the number of one-time keys given out");
    const again = await claim(stranger, bob);
    expect(fallback, again, "the fallback key, claimed again");
    expect([], await unusedFallbackKeys(bob, 2), "unused fallback keys after");
    seen("each one-time key given out once, then the fallback key");

    await alice.says(roomId, "can you still read me?");
    await reopen(bob);
    await bob.reads(roomId, "can you still read me?");
    seen("a message read whose session began with the fallback key");

    const fresh = await bob.until("new one-time keys uploaded", async () => {
        const key = await claim(stranger, bob);
        return !key.fallback && key;
    });
    expect(false, keys.includes(fresh.key), "a new one-time key was seen before");
    seen("new one-time keys on return");
});

// What /sync tells the device, asked without moving the device's own position. The limit differs each time: a server may
// give the same answer to the same first sync for a while.
async function unusedFallbackKeys(device, limit) {
    const filter = JSON.stringify({ room: { timeline: { limit } } });
    const sync = await device.client.http.authedRequest(Method.Get, "/sync", { timeout: "0", set_presence: "offline", filter });
    return sync.device_unused_fallback_key_types;
}

async function claim(stranger, { userId, id }) {
    const { one_time_keys: keys } = await stranger.client.claimOneTimeKeys([[userId, id]], "signed_curve25519");
    const [[name, { key, fallback = false }]] = Object.entries(keys[userId][id]);
    return { name, key, fallback };
}
