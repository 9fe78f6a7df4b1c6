// A bot whose device is signed by its owner: one who gives keys to no other devices talks with it in secret.
import { expect, play, seen } from "../lib/play.mjs";
import { register } from "../lib/people.mjs";
import { bootstrap, secureDevice } from "../lib/crypto.mjs";
import { EventType, Preset } from "matrix-js-sdk";
import { OnlySignedDevicesIsolationMode } from "matrix-js-sdk/lib/crypto-api/index.js";

const { BOT } = process.env;

await play(async () => {
    const alice = await secureDevice(await register("alice"), "device");
    await bootstrap(alice);
    const crypto = alice.client.getCrypto();
    crypto.setDeviceIsolationMode(new OnlySignedDevicesIsolationMode());
    const encryption = { type: EventType.RoomEncryption, state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
    const { room_id: roomId } = await alice.client.createRoom({ preset: Preset.PrivateChat, initial_state: [encryption], invite: [BOT] });
    await alice.until("the bot in the room", () => alice.room(roomId)?.getMember(BOT)?.membership === "join");

    const status = await alice.until("a signed device", async () => {
        const devices = (await crypto.getUserDeviceInfo([BOT], true)).get(BOT);
        const found = await Promise.all([...(devices?.keys() ?? [])].map((id) => crypto.getDeviceVerificationStatus(BOT, id)));
        return found.find((each) => each?.signedByOwner);
    });
    expect(false, status.crossSigningVerified, "the bot taken for verified, which nobody has done");
    seen("the bot's device signed by its owner");

    await alice.says(roomId, "!count 1");
    const answer = await alice.reads(roomId, "done 1 as 1");
    expect(true, answer.isEncrypted(), "the answer is encrypted");
    seen("asked and answered in secret");
});
