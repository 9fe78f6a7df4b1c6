// Two people of two servers with several devices each in an encrypted room, while devices come and go.
import { otherUrl, play, seen } from "../lib/play.mjs";
import { compareEmoji, encryptedRoom, heardByAll, household, recover, secureDevice, signed, trusts, withPassword } from "../lib/crypto.mjs";

await play(async () => {
    const [alice, bob] = [await household("alice"), await household("bob", otherUrl)];
    const roomId = await encryptedRoom(alice.phone, alice.laptop, bob.phone, bob.laptop);
    const here = [alice.phone, alice.laptop, bob.phone, bob.laptop];
    for (const device of here) await heardByAll(device, here, roomId, `from ${device.name}`);
    seen("messages from each device to each");

    await verify(alice, bob, roomId);
    seen("each verified by the other in the room");

    for (const [who, other] of [[alice, bob], [bob, alice]]) {
        who.tablet = await secureDevice(who.person, "tablet");
        await who.tablet.membership(roomId, "join");
        await recover(who.tablet, who.recoveryKey);
        for (const device of [other.phone, other.laptop]) await device.until("the new device signed by its owner", () => signed(device, who.tablet));
        await trusted(other.phone, who.tablet);
        await heardByAll(other.phone, [who.phone, who.laptop, who.tablet, other.laptop], roomId, `${who.person.name} has a tablet`);
        await heardByAll(who.tablet, [who.phone, other.phone, other.laptop], roomId, `from ${who.tablet.name}`);
    }
    seen("new devices are heard and hear on both sides");

    for (const who of [alice, bob]) {
        const crypto = who.tablet.client.getCrypto();
        await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        await crypto.checkKeyBackupAndEnable();
        await crypto.restoreKeyBackup();
        while (who.tablet.room(roomId).getLiveTimeline().getPaginationToken("b")) await who.tablet.client.scrollback(who.tablet.room(roomId), 30);
        const [here, there] = [who.tablet, who.phone].map((device) => () => JSON.stringify(device.texts(roomId)));
        let restoring;
        await who.tablet.until(() => `the whole history: ${here()} is not ${there()}`, async () => {
            // the other devices may still be writing keys into the backup
            restoring ??= crypto.restoreKeyBackup().finally(() => { restoring = undefined; });
            await restoring;
            return here() === there();
        });
    }
    seen("the history of both servers read from the backups");

    for (const [who, other] of [[alice, bob], [bob, alice]]) {
        const gone = who.laptop.id;
        await who.laptop.client.logout(true);
        await other.phone.until("the device gone", async () => !(await devices(other.phone, who)).has(gone));
        await heardByAll(other.phone, [who.phone, who.tablet, other.tablet], roomId, `${who.person.name}'s laptop is gone`);
    }
    seen("devices that have logged out are no longer written to");

    // they have read the first verification from the backup, take it for one that goes on, and would cancel both that one and a second
    for (const who of [alice, bob]) who.tablet.stop();
    for (const [who, other] of [[alice, bob], [bob, alice]]) {
        await who.phone.client.getCrypto().bootstrapCrossSigning({ setupNewCrossSigning: true, authUploadDeviceSigningKeys: withPassword(who.phone) });
        await other.phone.until("another identity", async () => {
            const status = await other.phone.client.getCrypto().getUserVerificationStatus(who.phone.userId);
            return !status.isVerified() && status.wasCrossSigningVerified();
        });
        await other.phone.client.getCrypto().withdrawVerificationRequirement(who.phone.userId);
        await verify(other, who, roomId);
        await heardByAll(who.phone, [other.phone], roomId, `${who.person.name} is somebody else`);
    }
    seen("other cross-signing keys are seen, and verified anew");
});

/** The people compare emoji in the room, on their phones; both hold the other for verified afterwards. */
async function verify(asking, answering, roomId) {
    await compareEmoji(asking.phone, answering.phone, () => asking.phone.client.getCrypto().requestVerificationDM(answering.phone.userId, roomId));
    for (const [who, whom] of [[asking, answering], [answering, asking]]) {
        await who.phone.until("the other verified", async () => (await who.phone.client.getCrypto().getUserVerificationStatus(whom.phone.userId)).isVerified());
    }
}

/** A device of somebody who is verified is trusted once its owner has signed it. */
async function trusted(device, other) {
    await device.until("the new device trusted, through its owner", () => trusts(device, other));
}

/** The ids of somebody's devices, as another device knows them. */
async function devices(device, who) {
    const known = await device.client.getCrypto().getUserDeviceInfo([who.phone.userId]);
    return known.get(who.phone.userId) ?? new Map();
}
