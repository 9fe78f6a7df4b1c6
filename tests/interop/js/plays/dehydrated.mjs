// All devices of somebody are logged out; a dehydrated one on the server receives what a new device reads later (MSC3814).
import { expect, play, seen } from "../lib/play.mjs";
import { register } from "../lib/people.mjs";
import { bootstrap, encryptedRoom, recover, secureDevice, signed } from "../lib/crypto.mjs";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";

const SESSIONS = 30;

await play(async () => {
    const person = await register("alice");
    const first = await secureDevice(person, "first device");
    const bob = await secureDevice(await register("bob"), "device");
    const recoveryKey = await bootstrap(first);
    await bootstrap(bob);
    const crypto = first.client.getCrypto();
    expect(true, await crypto.isDehydrationSupported(), "the server supports dehydrated devices");
    await crypto.startDehydration();
    const roomId = await encryptedRoom(first, bob);
    const dehydrated = await bob.until("Alice's dehydrated device", () => dehydratedDevice(bob, first.userId));
    await bob.until("the dehydrated device signed by its owner", () => signed(bob, dehydrated));
    seen("a dehydrated device that others know, signed by its owner");

    await first.client.logout(true);
    const texts = Array.from({ length: SESSIONS }, (_, number) => `while you were away ${number}`);
    for (const text of texts) {
        await bob.client.getCrypto().forceDiscardSession(roomId);
        await bob.says(roomId, text);
    }
    seen("messages sent while every device was away");

    const second = await secureDevice(person, "second device");
    await recover(second, recoveryKey);
    let keys = 0;
    second.client.on(CryptoEvent.RehydrationProgress, (roomKeys) => { keys = roomKeys; });
    await second.client.getCrypto().startDehydration();
    expect(SESSIONS, keys, "room keys the dehydrated device received");
    await second.membership(roomId, "join");
    while (second.room(roomId).getLiveTimeline().getPaginationToken("b")) await second.client.scrollback(second.room(roomId), 30);
    await second.until("every message", () => JSON.stringify(second.texts(roomId)) === JSON.stringify(texts));
    seen("every message read after rehydration");

    await bob.until("a new dehydrated device instead of the old", async () => {
        const device = await dehydratedDevice(bob, second.userId);
        return device && device.id !== dehydrated.id;
    });
    seen("the dehydrated device replaced");
});

async function dehydratedDevice(viewer, userId) {
    const devices = await viewer.client.getCrypto().getUserDeviceInfo([userId], true);
    const found = [...(devices.get(userId)?.values() ?? [])].filter((device) => device.dehydrated);
    expect(true, found.length <= 1, "at most one dehydrated device");
    return found.length ? { userId, id: found[0].deviceId } : null;
}
