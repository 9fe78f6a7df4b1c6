// Two people with two devices each, verified, in an encrypted room; and a server that dies in the middle.
import { ask, expect, play, seen } from "../lib/play.mjs";
import { compareEmoji, encryptedRoom, heardByAll, household, trusts, within } from "../lib/crypto.mjs";

const ROUNDS = 3;
const BURST = 8;

await play(async () => {
    const [alice, bob] = [await household("alice"), await household("bob")];
    const everybody = [alice.phone, alice.laptop, bob.phone, bob.laptop];
    seen("two people with two devices each, cross-signed by comparing emoji");

    const roomId = await encryptedRoom(alice.phone, alice.laptop, bob.phone, bob.laptop);
    await compareEmoji(alice.phone, bob.phone, () => alice.phone.client.getCrypto().requestVerificationDM(bob.phone.userId, roomId));
    for (const device of [alice.phone, alice.laptop]) {
        await device.until("Bob's laptop trusted, through Bob", () => trusts(device, bob.laptop));
        await device.until("Bob verified", async () => (await device.client.getCrypto().getUserVerificationStatus(bob.phone.userId)).isVerified());
    }
    seen("one person verified by the other in the room");

    for (const device of everybody) await heardByAll(device, everybody, roomId, `from ${device.name}`);
    seen("messages from each device to each");

    for (let round = 0; round < ROUNDS; round++) await killedInTheMiddle(everybody, roomId, round);
    seen("nothing lost, doubled or unreadable while the server was killed");

    for (const device of everybody) await device.closeGap(roomId);
    const expected = everybody[0].texts(roomId);
    for (const device of everybody) expect(expected, device.texts(roomId), `what ${device.name} sees`);
});

// The session is thrown away first, so that room keys for every device are on their way when the server dies.
async function killedInTheMiddle(everybody, roomId, round) {
    const speakers = [everybody[0], everybody[3]];
    const pending = [];
    for (const speaker of speakers) await speaker.client.getCrypto().forceDiscardSession(roomId);
    const said = speakers.flatMap((speaker) => Array.from({ length: BURST }, (_, number) => ({ speaker, text: `round ${round}, ${speaker.name}, ${number}` })));
    for (const { speaker, text } of said) pending.push(speaker.says(roomId, text).catch(() => null));
    await ask("kill", { after: round * 25 });
    await ask("start");
    for (const device of everybody) device.client.retryImmediately();
    await within("the first attempts to be over", Promise.all(pending), 90);
    for (const speaker of speakers) await sendAgain(speaker, roomId);
    for (const { text } of said) for (const device of everybody) await device.reads(roomId, text);
    for (const device of everybody) {
        await device.closeGap(roomId);
        const texts = device.texts(roomId).filter((text) => text?.startsWith(`round ${round},`));
        expect(said.map(({ text }) => text).sort(), texts.sort(), `what ${device.name} sees of round ${round}`);
    }
}

// What failed is sent again as a person does it, with the transaction id it had.
async function sendAgain(speaker, roomId) {
    const room = speaker.room(roomId);
    for (let tries = 0; tries < 10; tries++) {
        const failed = room.getPendingEvents().filter((event) => event.status === "not_sent");
        if (!failed.length) return;
        for (const event of failed) await speaker.client.resendEvent(event, room).catch(() => {});
    }
    throw new Error(`${speaker.name} cannot send: ${room.getPendingEvents().map((event) => event.error)}`);
}
