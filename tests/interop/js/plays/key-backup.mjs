// Somebody loses every device: a new one gets the secrets with the recovery key and reads the history from the backup.
import { expect, play, seen } from "../lib/play.mjs";
import { register } from "../lib/people.mjs";
import { bootstrap, encryptedRoom, recover, secureDevice, signed, trusts } from "../lib/crypto.mjs";
import { Method } from "matrix-js-sdk";

const SESSIONS = 5;

await play(async () => {
    const person = await register("alice");
    const first = await secureDevice(person, "first device");
    const bob = await secureDevice(await register("bob"), "device");
    await bootstrap(bob);
    const recoveryKey = await bootstrap(first);
    const roomId = await encryptedRoom(first, bob);
    const texts = await converse(first, bob, roomId);
    await first.until("every session in the backup", async () => (await backedUp(first)) === 2 * SESSIONS);
    seen("every session backed up");
    await first.client.logout(true);

    const second = await secureDevice(person, "second device");
    const crypto = second.client.getCrypto();
    await second.membership(roomId, "join");
    await second.until("a history it cannot read", () => second.texts(roomId).some((text) => text?.startsWith("?")));
    await recover(second, recoveryKey);
    await second.until("the new device signed by its owner", () => trusts(second, second));
    await bob.until("the new device signed by its owner", () => signed(bob, second));
    seen("a new device cross-signed with the recovery key");

    await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
    await crypto.checkKeyBackupAndEnable();
    const { total, imported } = await crypto.restoreKeyBackup();
    expect([2 * SESSIONS, 2 * SESSIONS], [total, imported], "sessions restored");
    while (second.room(roomId).getLiveTimeline().getPaginationToken("b")) await second.client.scrollback(second.room(roomId), 30);
    await second.until("the whole history", () => JSON.stringify(second.texts(roomId)) === JSON.stringify(texts));
    seen("the history read from the backup");

    await bob.says(roomId, "welcome back");
    await second.reads(roomId, "welcome back");
    await second.says(roomId, "good to be back");
    await bob.reads(roomId, "good to be back");
    await second.until("the new sessions in the backup too", async () => (await backedUp(second)) === 2 * SESSIONS + 2);
    seen("the backup going on");
});

async function backedUp(device) {
    return (await device.client.http.authedRequest(Method.Get, "/room_keys/version")).count;
}

async function converse(alice, bob, roomId) {
    const texts = [];
    for (let session = 0; session < SESSIONS; session++) {
        for (const [from, to] of [[alice, bob], [bob, alice]]) {
            await from.client.getCrypto().forceDiscardSession(roomId);
            for (const text of [`${from.name} begins ${session}`, `${from.name} goes on ${session}`]) {
                await from.says(roomId, text);
                await to.reads(roomId, text);
                texts.push(text);
            }
        }
    }
    return texts;
}
