// People and their devices: registering and logging in as a client does, and waiting for what a device sees.
import { loggerFor } from "./prelude.mjs";
import { baseUrl, expect, refused } from "./play.mjs";
import { fetchAs } from "./transcript.mjs";
import { ClientEvent, MatrixEventEvent, RoomEvent, RoomMemberEvent, RoomStateEvent, createClient } from "matrix-js-sdk";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { randomBytes } from "node:crypto";

const CHANGES = [
    ClientEvent.Sync, ClientEvent.Event, ClientEvent.AccountData, ClientEvent.ToDeviceEvent, RoomEvent.Timeline, RoomEvent.Receipt, RoomEvent.MyMembership,
    RoomEvent.LocalEchoUpdated, RoomEvent.Redaction, RoomMemberEvent.Typing, RoomStateEvent.Events, MatrixEventEvent.Decrypted, CryptoEvent.KeysChanged,
    CryptoEvent.DevicesUpdated, CryptoEvent.UserTrustStatusChanged, CryptoEvent.KeyBackupStatus, CryptoEvent.KeyBackupSessionsRemaining, CryptoEvent.VerificationRequestReceived,
];

/** A name nobody on the server has. */
export const unique = (name) => `${name}-${randomBytes(5).toString("hex")}`;

/** Registers an account by the flow the server offers, at another than the first if it is told so; answers the user id and the password. */
export async function register(name, url = baseUrl) {
    const username = unique(name);
    const password = `pass of ${username}`;
    const client = createClient({ baseUrl: url, fetchFn: fetchAs(name), logger: loggerFor(name) });
    const request = { username, password, inhibit_login: true };
    const offer = await client.registerRequest(request).then(() => { throw new Error("registered without authentication"); }, (error) => error);
    expect(401, offer.httpStatus, "first answer to /register");
    const dummy = offer.data.flows.some(({ stages }) => stages.length === 1 && stages[0] === "m.login.dummy");
    expect(true, dummy, "m.login.dummy is offered");
    const { user_id: userId } = await client.registerRequest({ ...request, auth: { type: "m.login.dummy", session: offer.data.session } });
    await refused("M_USER_IN_USE", client.registerRequest(request), "registering a name twice");
    return { name, username, userId, password, url };
}

/** Logs a person in on a new device; it does not sync yet. */
export async function logIn(person, device = "device") {
    const name = `${person.name}'s ${device}`;
    const client = createClient({ baseUrl: person.url, fetchFn: fetchAs(name), logger: loggerFor(name) });
    const { flows } = await client.loginFlows();
    expect(true, flows.some(({ type }) => type === "m.login.password"), "password login is offered");
    const answer = await client.loginRequest({
        type: "m.login.password", identifier: { type: "m.id.user", user: person.username }, password: person.password, initial_device_display_name: name,
    });
    expect(person.userId, answer.user_id, "user id at login");
    return new Device(name, person, new Map(), { userId: answer.user_id, deviceId: answer.device_id, accessToken: answer.access_token });
}

/** One logged-in client, with what plays say about it. */
export class Device {
    constructor(name, person, secrets, credentials) {
        Object.assign(this, { name, person, secrets, credentials });
        this.open();
    }

    /** Pages back to where the room began, if a sync left something out: the SDK begins a new, short timeline then. */
    async closeGap(roomId) {
        if (!this.gaps.has(roomId)) return;
        for (let oldest; (oldest = this.timelines(roomId)[0])?.getPaginationToken("b"); ) {
            await this.client.paginateEventTimeline(oldest, { backwards: true, limit: 100 });
        }
        this.gaps.delete(roomId);
    }

    /** A client as after the loading of a page: it knows who it is and finds its keys, nothing else. */
    open() {
        this.client = createClient({
            baseUrl: this.person.url, fetchFn: fetchAs(this.name), logger: loggerFor(this.name), ...this.credentials, timelineSupport: true,
            cryptoCallbacks: {
                getSecretStorageKey: async ({ keys }) => {
                    const id = Object.keys(keys).find((each) => this.secrets.has(each));
                    return id ? [id, this.secrets.get(id)] : null;
                },
                cacheSecretStorageKey: (id, _info, key) => this.secrets.set(id, key),
            },
        });
        this.gaps = new Set(); // rooms of which a sync left something out since the client was opened
        this.client.on(RoomEvent.TimelineReset, (room) => room && this.gaps.add(room.roomId));
    }

    get id() { return this.client.getDeviceId(); }
    get userId() { return this.client.getUserId(); }

    /** Starts syncing, as Element does, and returns after the first sync. */
    async start(options = {}) {
        await this.client.startClient({ initialSyncLimit: 20, lazyLoadMembers: true, threadSupport: true, pendingEventOrdering: "detached", ...options });
        await this.until("first sync", () => this.client.isInitialSyncComplete());
        return this;
    }

    stop() { this.client.stopClient(); }

    /** `what` is what is waited for, or a function that says so in the end. Waits until `check()` gives something true, looking again at whatever the client notices, and gives that. */
    async until(what, check, seconds = 60) {
        let timer;
        let look;
        try {
            return await new Promise((resolve, reject) => {
                look = async () => {
                    try {
                        const result = await check();
                        if (result) resolve(result);
                    } catch (error) {
                        reject(error);
                    }
                };
                const end = Date.now() + seconds * 1000;
                timer = setInterval(() => (Date.now() > end ? reject(new Error(`${this.name} waited ${seconds} s for: ${typeof what === "function" ? what() : what}`)) : look()), 100);
                for (const change of CHANGES) this.client.on(change, look);
                look();
            });
        } finally {
            clearInterval(timer);
            for (const change of CHANGES) this.client.off(change, look);
        }
    }

    room(roomId) { return this.client.getRoom(roomId); }

    /** The live timeline and those joined to it when a gap was closed, oldest first. */
    timelines(roomId) {
        const found = [];
        for (let each = this.room(roomId)?.getLiveTimeline(); each; each = each.getNeighbouringTimeline("b")) found.unshift(each);
        return found;
    }

    /** The events of the room that are here, oldest first. */
    timeline(roomId) { return this.timelines(roomId).flatMap((each) => each.getEvents()); }

    /** The texts of the room that are here, oldest first; what cannot be decrypted reads as the reason why. */
    texts(roomId) {
        const messages = this.timeline(roomId).filter((event) => ["m.room.message", "m.room.encrypted"].includes(event.getType()) && !event.isRedacted());
        return messages.map((event) => (event.isDecryptionFailure() ? `?${event.decryptionFailureReason}` : event.getContent().body));
    }

    /** Waits until the room is there with this membership of ours. */
    membership(roomId, membership) {
        return this.until(`${membership} in ${roomId}`, () => this.room(roomId)?.getMyMembership() === membership);
    }

    /** Sends a text; answers its event id. */
    async says(roomId, text) { return (await this.client.sendTextMessage(roomId, text)).event_id; }

    /** Waits until a text is readable, paging back over a gap as one who scrolls up; answers its event. */
    reads(roomId, text) {
        const here = () => this.timeline(roomId).find((event) => event.getContent().body === text && !event.isBeingDecrypted() && !event.isDecryptionFailure());
        const found = async () => here() ?? (await this.closeGap(roomId), here());
        return this.until(() => `reading "${text}", but sees ${JSON.stringify(this.texts(roomId).slice(-40))}`, found);
    }
}
