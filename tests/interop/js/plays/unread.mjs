// Bob's phone shows what he has not read, as the server counts it, while he reads at his desk: before and after receipts.
import { expect, play, seen } from "../lib/play.mjs";
import { logIn, register } from "../lib/people.mjs";
import { MsgType, NotificationCountType, Preset } from "matrix-js-sdk";

const { Total, Highlight } = NotificationCountType;

await play(async () => {
    const alice = await (await logIn(await register("alice"))).start();
    const bob = await register("bob");
    const desk = await (await logIn(bob, "desk")).start();
    const phone = await (await logIn(bob, "phone")).start();

    const { room_id: roomId } = await alice.client.createRoom({ name: "Office", preset: Preset.PublicChat });
    await desk.client.joinRoom(roomId);
    await phone.membership(roomId, "join");
    const counts = () => [Total, Highlight].map((kind) => phone.room(roomId).getRoomUnreadNotificationCount(kind));
    const shows = async (expected, what) => {
        await phone.until(() => `${what}: ${expected}, not ${counts()}`, () => String(counts()) === String(expected));
        seen(what);
    };

    const first = await alice.says(roomId, "the coffee is ready");
    await alice.says(roomId, "it is getting cold");
    await shows([2, 0], "two messages unread");
    const mention = { msgtype: MsgType.Text, body: "Bob!", "m.mentions": { user_ids: [bob.userId] } };
    await alice.client.sendMessage(roomId, mention);
    await shows([3, 1], "a mention highlights");

    await desk.reads(roomId, "Bob!");
    await desk.client.sendReadReceipt(desk.room(roomId).findEventById(first));
    await shows([2, 1], "a receipt in the middle");
    const last = desk.room(roomId).getLastLiveEvent();
    await desk.client.sendReadReceipt(last);
    await shows([0, 0], "all read elsewhere");

    const rootId = await alice.says(roomId, "where shall we go?");
    await shows([1, 0], "one message unread");
    await alice.client.sendMessage(roomId, rootId, { ...mention, body: "Bob, by bike?" });
    const inThread = () => [Total, Highlight].map((kind) => phone.room(roomId).getThreadUnreadNotificationCount(rootId, kind));
    await phone.until(() => `the thread's own count: 1,1, not ${inThread()}`, () => String(inThread()) === "1,1");
    expect([1, 0], counts(), "the main timeline beside a thread");
    seen("a thread counted apart");

    await desk.says(roomId, "to the lake");
    await shows([0, 0], "answered at the desk");
    expect([1, 1], inThread(), "the thread, which he has not looked at");

    const fresh = await (await logIn(bob, "tablet")).start();
    expect([1, 1], [Total, Highlight].map((kind) => fresh.room(roomId).getThreadUnreadNotificationCount(rootId, kind)), "a new device");
    seen("a new device counts the same");
    for (const device of [alice, desk, phone, fresh]) device.stop();
});
