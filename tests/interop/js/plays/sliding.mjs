// Bob opens his client in 200 rooms by sliding sync: a first window, all of them, and then what changes, of eleven kinds.
import { baseUrl, expect, play, seen } from "../lib/play.mjs";
import { logIn, register } from "../lib/people.mjs";
import { MsgType, NotificationCountType, Preset } from "matrix-js-sdk";
import { SlidingSync, SlidingSyncEvent, SlidingSyncState } from "matrix-js-sdk/lib/sliding-sync.js";

const ROOMS = 200;
const STATE = [["m.room.create", ""], ["m.room.name", ""], ["m.room.topic", ""], ["m.room.avatar", ""], ["m.room.encryption", ""], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"]];

/** Runs jobs eight at a time. */
async function each(items, job) {
    const waiting = [...items];
    await Promise.all(Array.from({ length: 8 }, async () => { while (waiting.length) await job(waiting.shift()); }));
}

await play(async () => {
    const alice = await (await logIn(await register("alice"))).start({ initialSyncLimit: 1 });
    const person = await register("bob");
    const bob = await logIn(person);
    const rooms = [];
    await each(Array.from({ length: ROOMS }, (_, n) => n), async (n) => {
        const { room_id: roomId } = await alice.client.createRoom({ name: `Room ${n}`, preset: Preset.PublicChat });
        await bob.client.joinRoom(roomId);
        rooms.push(roomId);
    });
    seen("200 rooms");

    const list = { ranges: [[0, 19]], timeline_limit: 5, required_state: STATE };
    const sliding = new SlidingSync(baseUrl, new Map([["all", list]]), { timeline_limit: 20, required_state: STATE }, bob.client, 5_000);
    let first;
    const told = new Map();
    sliding.on(SlidingSyncEvent.RoomData, (roomId, data) => told.set(roomId, (told.get(roomId) ?? 0) + (data.initial ? 1 : 0)));
    sliding.on(SlidingSyncEvent.Lifecycle, (state, answer) => { if (state === SlidingSyncState.Complete) first ??= Object.keys(answer.rooms).length; });
    await bob.start({ slidingSync: sliding });
    await bob.until("the first window", () => first);
    expect(20, first, "rooms in the first window");
    expect(ROOMS, sliding.getListData("all").joinedCount, "rooms in the list");
    seen("the first window");

    sliding.setListRanges("all", [[0, ROOMS - 1]]);
    await bob.until(() => `all rooms, not ${told.size}`, () => told.size === ROOMS);
    expect([], [...told].filter(([, times]) => times !== 1), "rooms told whole more than once");
    expect(rooms.toSorted(), [...told.keys()].toSorted(), "the rooms");
    seen("all rooms");

    const shows = async (what, check) => { await bob.until(what, check); seen(what); };
    const said = await alice.says(rooms[7], "hello");
    await shows("a message", () => bob.room(rooms[7]).findEventById(said)?.getContent().body === "hello");
    await shows("it is unread", () => bob.room(rooms[7]).getUnreadNotificationCount(NotificationCountType.Total) === 1);
    await alice.client.sendTyping(rooms[7], true, 20_000);
    await shows("somebody typing", () => bob.room(rooms[7]).getMember(alice.userId)?.typing);
    await bob.client.sendReadReceipt(bob.room(rooms[7]).findEventById(said));
    await shows("it is read", () => bob.room(rooms[7]).getUnreadNotificationCount(NotificationCountType.Total) === 0);
    await alice.client.redactEvent(rooms[7], said);
    await shows("a redaction", () => bob.room(rooms[7]).findEventById(said).isRedacted());
    await alice.client.setRoomName(rooms[150], "Another name");
    await shows("a name", () => bob.room(rooms[150]).name === "Another name");
    await alice.client.setRoomTopic(rooms[151], "About");
    await shows("state", () => bob.room(rooms[151]).currentState.getStateEvents("m.room.topic", "")?.getContent().topic === "About");
    await bob.client.setRoomTag(rooms[3], "m.favourite", { order: 0.5 });
    await shows("a tag", () => bob.room(rooms[3]).tags["m.favourite"]);
    const { room_id: direct } = await alice.client.createRoom({ preset: Preset.TrustedPrivateChat, invite: [person.userId], is_direct: true });
    await shows("an invite", () => bob.room(direct)?.getMyMembership() === "invite");
    await bob.client.joinRoom(direct);
    const joined = await alice.says(direct, "you came");
    await shows("a room joined", () => bob.room(direct).getMyMembership() === "join" && bob.room(direct).findEventById(joined));
    const carol = await logIn(await register("carol"));
    await carol.client.joinRoom(rooms[9]);
    await carol.client.sendMessage(rooms[9], { msgtype: MsgType.Text, body: "I am new" });
    await shows("a member come lately", () => bob.room(rooms[9]).getMember(carol.userId)?.membership === "join" && bob.room(rooms[9]).getJoinedMemberCount() === 3);
    await alice.client.kick(rooms[10], person.userId, "no");
    await shows("being removed", () => bob.room(rooms[10]).currentState.getMember(person.userId)?.membership === "leave");

    sliding.modifyRoomSubscriptions(new Set([rooms[50]]));
    for (let n = 0; n < 30; n++) await alice.says(rooms[50], `${n}`);
    await shows("thirty messages in a row", () => bob.room(rooms[50]).getLiveTimeline().getEvents().filter((event) => event.getType() === "m.room.message").length === 30);
    expect(Array.from({ length: 30 }, (_, n) => `${n}`), bob.room(rooms[50]).getLiveTimeline().getEvents().filter((event) => event.getType() === "m.room.message").map((event) => event.getContent().body), "in order, each once");
    seen("in order, each once");
    sliding.stop();
    for (const device of [alice, bob]) device.stop();
});
