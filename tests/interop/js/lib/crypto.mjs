// End-to-end encryption as people meet it: a device with keys of its own, cross-signing, comparing emoji.
import { expect } from "./play.mjs";
import { logIn, register, unique } from "./people.mjs";
import { EventType, Preset } from "matrix-js-sdk";
import { VerificationPhase, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";

/** Logs in on a new device with encryption, syncing. */
export async function secureDevice(person, name) {
    const device = await logIn(person, name);
    device.keyStore = unique(name);
    await openWithKeys(device);
    const { client, userId, id } = device;
    await device.until("its own keys on the server", async () => (await client.downloadKeysForUsers([userId])).device_keys[userId]?.[id]);
    return device;
}

/** Starts a device with the keys it has from before, if any. */
export async function openWithKeys(device) {
    await device.client.initRustCrypto({ cryptoDatabasePrefix: device.keyStore });
    await device.start();
}

/** Closes a device and opens it again, as when a page is loaded anew. */
export async function reopen(device) {
    device.stop();
    device.open();
    await openWithKeys(device);
}

/** Sets up what Element sets up at the first login: cross-signing keys, secret storage and a key backup. Answers the recovery key. */
export async function bootstrap(device) {
    const crypto = device.client.getCrypto();
    await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: withPassword(device) });
    const recoveryKey = await crypto.createRecoveryKeyFromPassphrase();
    await crypto.bootstrapSecretStorage({ createSecretStorageKey: async () => recoveryKey, setupNewKeyBackup: true });
    expect(true, await crypto.isCrossSigningReady(), "cross-signing is ready");
    await device.until("secret storage", () => crypto.isSecretStorageReady());
    await device.until("a key backup in use", () => crypto.getActiveSessionBackupVersion());
    return recoveryKey.privateKey;
}

/** Gives a new device the recovery key: it fetches the cross-signing keys from secret storage and signs itself. */
export async function recover(device, recoveryKey) {
    const crypto = device.client.getCrypto();
    const [keyId] = await device.client.secretStorage.getKey();
    device.secrets.set(keyId, recoveryKey);
    expect(true, await crypto.userHasCrossSigningKeys(device.userId, true), "the person's cross-signing keys are known");
    await crypto.bootstrapCrossSigning({});
}

/** User-interactive authentication by password: tries without, answers the challenge if there is one. */
export function withPassword({ person, userId }) {
    return async (request) => {
        try {
            return await request(null);
        } catch (error) {
            if (error.httpStatus !== 401) throw error;
            const { session } = error.data;
            return request({ type: "m.login.password", identifier: { type: "m.id.user", user: userId }, password: person.password, session });
        }
    };
}

/** Creates an encrypted room with these devices' people in it. */
export async function encryptedRoom(host, ...guests) {
    const encryption = { type: EventType.RoomEncryption, state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
    const invite = [...new Set(guests.map((guest) => guest.userId))].filter((userId) => userId !== host.userId);
    const { room_id: roomId } = await host.client.createRoom({ name: "Vault", preset: Preset.PrivateChat, initial_state: [encryption], invite });
    for (const userId of invite) {
        const guest = guests.find((each) => each.userId === userId);
        await guest.membership(roomId, "invite");
        await guest.client.joinRoom(roomId);
    }
    for (const device of [host, ...guests]) {
        await device.membership(roomId, "join");
        await device.until("everybody in the room", () => invite.every((userId) => device.room(roomId).getMember(userId)?.membership === "join"));
        await device.until("an encrypted room", () => device.client.getCrypto().isEncryptionEnabledInRoom(roomId));
    }
    return roomId;
}

/** One device asks for a verification, another accepts, both compare the emoji, both are done. */
export async function compareEmoji(asking, answering, request) {
    const incoming = new Promise((resolve) => answering.client.once(CryptoEvent.VerificationRequestReceived, resolve));
    const asked = await request();
    const answer = await within("a verification request", incoming);
    await answer.accept();
    await within("the acceptance", phase(asked, VerificationPhase.Ready));
    const verifier = await asked.startVerification("m.sas.v1");
    await within("the start", phase(answer, VerificationPhase.Started));
    const [left, right] = [shown(verifier), shown(answer.verifier)];
    const verified = Promise.all([verifier.verify(), answer.verifier.verify()]);
    verified.catch(() => {}); // it is awaited below; until then a failure shall not end the process
    const both = await within("the emoji", Promise.all([left, right]));
    expect(both[0].sas.emoji, both[1].sas.emoji, "the emoji on both devices");
    expect(7, both[0].sas.emoji.length, "the number of emoji");
    for (const each of both) await each.confirm();
    await within("the verification", verified);
    await within("both being done", Promise.all([phase(asked, VerificationPhase.Done), phase(answer, VerificationPhase.Done)]));
}

const shown = (verifier) => new Promise((resolve) => verifier.once(VerifierEvent.ShowSas, resolve));

function phase(request, wanted) {
    return new Promise((resolve, reject) => {
        const look = () => {
            if (request.phase === wanted) resolve();
            else if (request.phase === VerificationPhase.Cancelled) reject(new Error(`verification cancelled: ${request.cancellationCode}`));
        };
        request.on("change", look);
        look();
    });
}

/** A promise with a bound on how long it may take. */
export async function within(what, promise, seconds = 60) {
    let timer;
    const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`waited ${seconds} s for ${what}`)), seconds * 1000); });
    try {
        return await Promise.race([promise, late]);
    } finally {
        clearTimeout(timer);
    }
}

/** Whether another device, as `device` knows it, is signed by its owner. */
export async function signed(device, other) {
    const status = await device.client.getCrypto().getDeviceVerificationStatus(other.userId, other.id);
    return status?.signedByOwner ?? false;
}

/** Whether `device` holds another one for verified by its owner's cross-signing. */
export async function trusts(device, other) {
    const status = await device.client.getCrypto().getDeviceVerificationStatus(other.userId, other.id);
    return status?.crossSigningVerified ?? false;
}

/** A person with two devices that trust each other, at another server than the first if it is told so. */
export async function household(name, url) {
    const person = await register(name, url);
    const phone = await secureDevice(person, "phone");
    const recoveryKey = await bootstrap(phone);
    const laptop = await secureDevice(person, "laptop");
    expect(false, await trusts(phone, laptop), "a new device is trusted");
    await compareEmoji(laptop, phone, () => laptop.client.getCrypto().requestOwnUserVerification());
    await phone.until("the laptop trusted", () => trusts(phone, laptop));
    await laptop.until("the secrets of the other device", async () => {
        const { privateKeysCachedLocally: cached } = await laptop.client.getCrypto().getCrossSigningStatus();
        return cached.masterKey && cached.selfSigningKey && cached.userSigningKey && (await laptop.client.getCrypto().getSessionBackupPrivateKey());
    });
    return { person, phone, laptop, recoveryKey };
}

/** One device says something, encrypted, and all read it. */
export async function heardByAll(speaker, everybody, roomId, text) {
    const eventId = await speaker.says(roomId, text);
    for (const device of everybody) {
        const event = await device.reads(roomId, text);
        expect([eventId, "m.room.encrypted", true], [event.getId(), event.getWireType(), event.isEncrypted()], `"${text}" on ${device.name}`);
    }
}
