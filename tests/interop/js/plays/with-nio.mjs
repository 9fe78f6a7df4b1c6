// A person at matrix-nio and people at matrix-js-sdk in one encrypted room: two implementations, one server between them.
import { ask, play, seen } from "../lib/play.mjs";
import { register } from "../lib/people.mjs";
import { bootstrap, encryptedRoom, secureDevice } from "../lib/crypto.mjs";

const nio = {
    says: (roomId, text) => ask("says", { roomId, text }),
    reads: (roomId, text) => ask("reads", { roomId, text }),
};

await play(async () => {
    const alice = await secureDevice(await register("alice"), "device");
    const carol = await secureDevice(await register("carol"), "device");
    await bootstrap(alice);
    const roomId = await encryptedRoom(alice, carol);
    const { userId } = await ask("register");
    await alice.client.invite(roomId, userId);
    await ask("join", { roomId });
    for (const device of [alice, carol]) await device.until("nio in the room", () => device.room(roomId).getMember(userId)?.membership === "join");
    seen("three people in an encrypted room");

    await said(alice, [carol], roomId, "hello nio, this is Alice");
    await said(carol, [alice], roomId, "and this is Carol");
    for (const text of ["hello both", "I speak vodozemac"]) {
        await nio.says(roomId, text);
        for (const device of [alice, carol]) await device.reads(roomId, text);
    }
    seen("each read by each");

    await ask("close");
    for (const text of ["said while you were away", "in a new session"]) {
        await alice.client.getCrypto().forceDiscardSession(roomId);
        await alice.says(roomId, text);
        await carol.reads(roomId, text);
    }
    await ask("open");
    for (const text of ["said while you were away", "in a new session"]) await nio.reads(roomId, text);
    await nio.says(roomId, "back again");
    for (const device of [alice, carol]) await device.reads(roomId, "back again");
    seen("nothing missed while away");
});

async function said(speaker, others, roomId, text) {
    await speaker.says(roomId, text);
    await nio.reads(roomId, text);
    for (const device of others) await device.reads(roomId, text);
}
