// A Matrix client as small as one can be that still holds calls: matrix-js-sdk, and Element Call in an iframe, which speaks to
// the homeserver through us by the widget API. What a play may do stands in `window.host`.
import { ClientEvent, EventType, Preset, RoomStateEvent, createClient } from "matrix-js-sdk";
import { RoomStickyEventsEvent } from "matrix-js-sdk/lib/models/room-sticky-events.js";
import { MatrixEventEvent } from "matrix-js-sdk/lib/models/event.js";
import { ClientWidgetApi, OpenIDRequestState, Widget, WidgetDriver } from "matrix-widget-api";

/** What the widget may ask for is done with our client; every capability is granted. */
class Driver extends WidgetDriver {
    constructor(client, roomId) {
        super();
        Object.assign(this, { client, roomId });
    }

    async validateCapabilities(requested) { return requested; }

    async sendEvent(type, content, stateKey = null, roomId = this.roomId) {
        const sent = stateKey === null ? await this.client.sendEvent(roomId, type, content) : await this.client.sendStateEvent(roomId, type, content, stateKey);
        return { roomId, eventId: sent.event_id };
    }

    async sendStickyEvent(duration, type, content, roomId = this.roomId) {
        const sent = await this.client._unstable_sendStickyEvent(roomId, duration, null, type, content);
        return { roomId, eventId: sent.event_id };
    }

    async sendDelayedEvent(delay, type, content, stateKey = null, roomId = this.roomId) {
        const sent = stateKey === null
            ? await this.client._unstable_sendDelayedEvent(roomId, { delay }, null, type, content)
            : await this.client._unstable_sendDelayedStateEvent(roomId, { delay }, type, content, stateKey);
        return { roomId, delayId: sent.delay_id };
    }

    async sendDelayedStickyEvent(delay, duration, type, content, roomId = this.roomId) {
        const sent = await this.client._unstable_sendStickyDelayedEvent(roomId, duration, { delay }, null, type, content);
        return { roomId, delayId: sent.delay_id };
    }

    async cancelScheduledDelayedEvent(delayId) { await this.client._unstable_cancelScheduledDelayedEvent(delayId); }
    async restartScheduledDelayedEvent(delayId) { await this.client._unstable_restartScheduledDelayedEvent(delayId); }
    async sendScheduledDelayedEvent(delayId) { await this.client._unstable_sendScheduledDelayedEvent(delayId); }

    async sendToDevice(type, encrypted, contentMap) {
        const messages = Object.entries(contentMap).flatMap(([userId, devices]) => Object.entries(devices).map(([deviceId, payload]) => ({ userId, deviceId, payload })));
        if (!encrypted) {
            await this.client.queueToDevice({ eventType: type, batch: messages });
            return;
        }
        for (const { payload, ...device } of messages) await this.client.encryptAndSendToDevice(type, [device], payload);
    }

    async readRoomTimeline(roomId, type, _msgtype, stateKey, limit) {
        const events = this.client.getRoom(roomId).getLiveTimeline().getEvents().filter((event) => event.getType() === type && (stateKey === undefined || event.getStateKey() === stateKey));
        return events.slice(limit ? -limit : 0).map((event) => event.getEffectiveEvent());
    }

    async readRoomState(roomId, type, stateKey) {
        const state = this.client.getRoom(roomId).currentState;
        const found = stateKey === undefined ? state.getStateEvents(type) : [state.getStateEvents(type, stateKey)];
        return found.filter(Boolean).map((event) => event.getEffectiveEvent());
    }

    /** Not before the state has been told: a widget that hears of events first takes itself for synced, and does not find the room. */
    async readStickyEvents(roomId) {
        await new Promise((wake) => setTimeout(wake));
        await this.api.flushRoomStateTask;
        return [...this.client.getRoom(roomId)._unstable_getStickyEvents()].map(clear);
    }

    async askOpenID(observer) { observer.update({ state: OpenIDRequestState.Allowed, token: await this.client.getOpenIdToken() }); }

    async getRtcTransports() { return { rtc_transports: await this.client._unstable_getRTCTransports() }; }

    getKnownRooms() { return this.client.getRooms().map((room) => room.roomId); }

    processError(error) {
        if (!error?.httpStatus) return undefined;
        return { matrix_api_error: { http_status: error.httpStatus, http_headers: {}, url: error.url ?? "", response: error.data } };
    }
}

const clear = (event) => ({ ...event.getEffectiveEvent(), msc4354_sticky: event.event.msc4354_sticky });

async function until(what, check, seconds = 60) {
    for (const end = Date.now() + seconds * 1000; Date.now() < end; await new Promise((wake) => setTimeout(wake, 100))) {
        const found = await check();
        if (found) return found;
    }
    throw new Error(`waited ${seconds} s for ${what}`);
}

/** Embeds Element Call and hands it what happens in the room. */
function embed(client, roomId, parameters) {
    const url = new URL("call/index.html", window.location.href);
    const asked = { widgetId: "call", parentUrl: window.location.href, userId: client.getUserId(), deviceId: client.getDeviceId(), roomId, baseUrl: client.baseUrl, lang: "en", ...parameters };
    url.hash = `#?${new URLSearchParams(asked)}`;
    const iframe = document.createElement("iframe");
    Object.assign(iframe, { src: url.href, allow: "camera; microphone; autoplay; display-capture" });
    document.body.replaceChildren(iframe);
    const widget = new Widget({ id: "call", creatorUserId: client.getUserId(), type: "m.call", url: url.href, waitForIframeLoad: false });
    const driver = new Driver(client, roomId);
    const api = driver.api = new ClientWidgetApi(widget, iframe, driver);
    api.setViewedRoomId(roomId);
    for (const action of ["io.element.join", "im.vector.hangup", "io.element.close", "io.element.device_mute", "set_always_on_screen"]) {
        api.on(`action:${action}`, (event) => { event.preventDefault(); host.told.push(action); api.transport.reply(event.detail, {}); });
    }
    const fed = new Set(); // sticky events are told as such too, those of the timeline among them
    const feed = (event) => {
        if (event.getRoomId() !== roomId || event.isState() || event.isBeingDecrypted() || event.isDecryptionFailure() || fed.has(event.getId())) return;
        fed.add(event.getId());
        api.feedEvent(clear(event));
    };
    client.on(ClientEvent.Event, feed);
    client.on(MatrixEventEvent.Decrypted, feed);
    client.getRoom(roomId).on(RoomStickyEventsEvent.Update, (added, updated) => [...added, ...updated.map(({ current }) => current)].forEach(feed));
    client.on(RoomStateEvent.Events, (event) => event.getRoomId() === roomId && api.feedStateUpdate(event.getEffectiveEvent()));
    client.on(ClientEvent.ReceivedToDeviceMessage, ({ message, encryptionInfo }) => api.feedToDevice(message, encryptionInfo !== null));
}

const host = window.host = {
    /** What the widget has asked its host to do. */
    told: [],

    async logIn(baseUrl, user, password) {
        const answer = await createClient({ baseUrl }).loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user }, password });
        const client = this.client = createClient({ baseUrl, userId: answer.user_id, deviceId: answer.device_id, accessToken: answer.access_token });
        await client.initRustCrypto({ useIndexedDB: false });
        await client.startClient({ initialSyncLimit: 20 });
        await until("the first sync", () => client.isInitialSyncComplete());
        return answer.user_id;
    },

    /** A room in which everybody may call. */
    async createRoom(guest, encrypted) {
        const encryption = { type: EventType.RoomEncryption, state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
        const { room_id: roomId } = await this.client.createRoom({
            name: encrypted ? "Vault" : "Hall", preset: Preset.PrivateChat, invite: [guest], initial_state: encrypted ? [encryption] : [],
            power_level_content_override: { events: { "org.matrix.msc3401.call.member": 0 } },
        });
        await until("the room", () => this.client.getRoom(roomId)?.getMyMembership() === "join");
        return roomId;
    },

    async join(roomId) {
        await until("the invitation", () => this.client.getRoom(roomId)?.getMyMembership() === "invite");
        await this.client.joinRoom(roomId);
        await until("being in the room", () => this.client.getRoom(roomId)?.getMember(this.client.getUserId())?.membership === "join");
    },

    /** Waits until somebody is seen in the room, with their devices. */
    async sees(roomId, userId) {
        await until("them in the room", () => this.client.getRoom(roomId).getMember(userId)?.membership === "join");
        await until("their keys", async () => (await this.client.getCrypto().getUserDeviceInfo([userId], true)).get(userId)?.size);
    },

    call(roomId, parameters) { embed(this.client, roomId, parameters); },

    /** The memberships of calls that the server has in the room, by state or sticky events: user id to content. */
    async memberships(roomId) {
        const room = this.client.getRoom(roomId);
        const state = await this.client.roomState(roomId);
        const byState = state.filter((event) => event.type === "org.matrix.msc3401.call.member").map((event) => [event.sender, event.content]);
        const bySticky = [...room._unstable_getStickyEvents()].filter((event) => event.getType() === "org.matrix.msc4143.rtc.member").map((event) => [event.getSender(), event.getContent()]);
        return [...byState, ...bySticky].filter(([, content]) => content.application !== undefined).map(([sender]) => sender);
    },
};
