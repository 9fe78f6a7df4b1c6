// Two people meet on the server and chat: everything that a message can go through, seen by the one and by the other.
import { ask, expect, play, refused, seen } from "../lib/play.mjs";
import { logIn, register } from "../lib/people.mjs";
import { EventType, MsgType, Preset, RelationType } from "matrix-js-sdk";

const PAGED = 500;

await play(async () => {
    const alice = await (await logIn(await register("alice"))).start();
    const bob = await (await logIn(await register("bob"))).start();
    seen("two people registered and logged in");

    const roomId = await meet(alice, bob);
    await chat(alice, bob, roomId);
    await profile(alice, bob, roomId);
    await edit(alice, bob, roomId);
    await react(alice, bob, roomId);
    await thread(alice, bob, roomId);
    await redact(alice, bob, roomId);
    await ephemeral(alice, bob, roomId);
    await pageBack(alice, bob, roomId);
    await restart(alice, bob, roomId);
    await leave(alice, bob, roomId);
    await logOut(alice);
    bob.stop();
});

async function meet(alice, bob) {
    const { room_id: roomId } = await alice.client.createRoom({ name: "Kitchen", topic: "who washes up", preset: Preset.PrivateChat });
    await alice.membership(roomId, "join");
    await alice.client.invite(roomId, bob.userId);
    await bob.membership(roomId, "invite");
    await bob.until("the name of the room he is invited to", () => bob.room(roomId).name === "Kitchen");
    expect(alice.userId, bob.room(roomId).getMember(bob.userId).events.member.getSender(), "who invites");
    await bob.client.joinRoom(roomId);
    await bob.membership(roomId, "join");
    await alice.until("bob as a member", () => alice.room(roomId).getMember(bob.userId)?.membership === "join");
    seen("a room created, invited to, joined");
    return roomId;
}

async function chat(alice, bob, roomId) {
    for (const [from, to, text] of [[alice, bob, "hello Bob"], [bob, alice, "hello Alice"], [alice, bob, "grüß dich 👋"], [bob, alice, "ok\nbye"]]) {
        const eventId = await from.says(roomId, text);
        const event = await to.reads(roomId, text);
        expect(eventId, event.getId(), "the event id both know");
        expect(from.userId, event.getSender(), "the sender");
        await from.until("its own echo to be confirmed", () => from.room(roomId).findEventById(eventId)?.status === null);
    }
    const texts = ["hello Bob", "hello Alice", "grüß dich 👋", "ok\nbye"];
    expect(texts, alice.texts(roomId), "what Alice sees");
    expect(texts, bob.texts(roomId), "what Bob sees");
    seen("a chat both ways");
}

async function profile(alice, bob, roomId) {
    const picture = "mxc://localhost/aliceaspicture";
    await alice.client.setDisplayName("Alice Liddell");
    await alice.client.setAvatarUrl(picture);
    const profile = await bob.client.getProfileInfo(alice.userId);
    expect(["Alice Liddell", picture], [profile.displayname, profile.avatar_url], "the profile");
    await bob.until("the profile in the room", () => {
        const member = bob.room(roomId).getMember(alice.userId);
        return member.rawDisplayName === "Alice Liddell" && member.getMxcAvatarUrl() === picture;
    });
    seen("a profile picture and a name, in the profile and in the room");
}

async function edit(alice, bob, roomId) {
    const eventId = await alice.says(roomId, "the coffe is ready");
    const original = await bob.reads(roomId, "the coffe is ready");
    const corrected = { msgtype: MsgType.Text, body: "the coffee is ready" };
    await alice.client.sendMessage(roomId, {
        ...corrected, body: `* ${corrected.body}`, "m.new_content": corrected, "m.relates_to": { rel_type: RelationType.Replace, event_id: eventId },
    });
    await bob.until("the edit", () => original.getContent().body === corrected.body);
    expect(alice.userId, original.replacingEvent().getSender(), "who edited");
    seen("an edit");
}

async function react(alice, bob, roomId) {
    const eventId = await alice.says(roomId, "cake!");
    await bob.reads(roomId, "cake!");
    const cake = { "m.relates_to": { rel_type: RelationType.Annotation, event_id: eventId, key: "🍰" } };
    await bob.client.sendEvent(roomId, EventType.Reaction, cake);
    const reactions = () => alice.room(roomId).relations.getChildEventsForEvent(eventId, RelationType.Annotation, EventType.Reaction);
    const [[key, events]] = await alice.until("the reaction", () => reactions()?.getSortedAnnotationsByKey());
    expect(["🍰", [bob.userId]], [key, [...events].map((event) => event.getSender())], "the reaction");
    await refused("M_DUPLICATE_ANNOTATION", bob.client.sendEvent(roomId, EventType.Reaction, cake), "the same reaction twice");
    for (const event of bob.room(roomId).getPendingEvents()) bob.client.cancelPendingEvent(event);
    seen("a reaction");
}

async function thread(alice, bob, roomId) {
    const rootId = await alice.says(roomId, "where shall we go on Friday?");
    await bob.reads(roomId, "where shall we go on Friday?");
    await bob.client.sendMessage(roomId, rootId, { msgtype: MsgType.Text, body: "to the lake" });
    await alice.client.sendMessage(roomId, rootId, { msgtype: MsgType.Text, body: "by bike" });
    for (const who of [alice, bob]) {
        const found = await who.until("the thread with two answers", () => {
            const thread = who.room(roomId).getThread(rootId);
            return thread?.length === 2 && thread.replyToEvent?.getContent().body === "by bike" && thread;
        });
        await who.until("the answers in the thread's own timeline", () => {
            const texts = found.timeline.map((event) => event.getContent().body);
            return texts.includes("to the lake") && texts.includes("by bike");
        });
        expect(false, who.texts(roomId).includes("by bike"), "an answer in a thread stands in the main timeline");
    }
    seen("a thread");
}

async function redact(alice, bob, roomId) {
    const eventId = await alice.says(roomId, "my password is rabbit");
    const event = await bob.reads(roomId, "my password is rabbit");
    await alice.client.redactEvent(roomId, eventId, undefined, { reason: "oops" });
    await bob.until("the redaction", () => event.isRedacted());
    expect({}, event.getContent(), "what is left of a redacted message");
    const fetched = await bob.client.fetchRoomEvent(roomId, eventId);
    expect({}, fetched.content, "what the server still gives away");
    expect("oops", fetched.unsigned.redacted_because.content.reason, "the reason");
    seen("a redaction");
}

async function ephemeral(alice, bob, roomId) {
    await alice.client.sendTyping(roomId, true, 20000);
    await bob.until("Alice typing", () => bob.room(roomId).getMember(alice.userId).typing);
    const eventId = await alice.says(roomId, "did you read this?");
    await alice.client.sendTyping(roomId, false, 0);
    await bob.until("Alice not typing any more", () => !bob.room(roomId).getMember(alice.userId).typing);
    const event = await bob.reads(roomId, "did you read this?");
    await bob.client.setRoomReadMarkers(roomId, eventId, event);
    await alice.until("Bob's receipt", () => alice.room(roomId).getEventReadUpTo(bob.userId) === eventId);
    await bob.until("nothing unread", () => bob.room(roomId).getUnreadNotificationCount("total") === 0);
    expect(eventId, bob.room(roomId).getAccountData("m.fully_read")?.getContent().event_id ?? eventId, "the read marker");
    seen("typing and receipts");
}

async function pageBack(alice, bob, roomId) {
    const texts = Array.from({ length: PAGED }, (_, number) => `line ${number}`);
    for (const [number, text] of texts.entries()) await (number % 2 ? bob : alice).says(roomId, text);
    await alice.reads(roomId, texts.at(-1));
    const device = await (await logIn(bob.person, "second device")).start();
    let pages = 0;
    while (device.room(roomId).getLiveTimeline().getPaginationToken("b") && pages < 100) {
        await device.client.scrollback(device.room(roomId), 50);
        pages += 1;
    }
    expect("m.room.create", device.timeline(roomId)[0].getType(), "where the history begins");
    const lines = device.texts(roomId).filter((text) => /^line \d+$/.test(text));
    expect(texts, lines, "the lines paged back to");
    const ids = device.timeline(roomId).map((event) => event.getId());
    expect(ids.length, new Set(ids).size, "the number of different events");
    expect("the coffee is ready", device.texts(roomId).find((text) => text.includes("is ready")), "the edited text, read later");
    await device.client.logout(true);
    seen(`${PAGED} messages paged back through`);
}

async function restart(alice, bob, roomId) {
    const { restarted } = await ask("restart");
    if (!restarted) return;
    for (const who of [alice, bob]) who.client.retryImmediately();
    await alice.says(roomId, "are you still there?");
    await bob.reads(roomId, "are you still there?");
    seen("the clients going on after a restart with the tokens they had");
}

async function leave(alice, bob, roomId) {
    await bob.client.leave(roomId);
    await alice.until("Bob gone", () => alice.room(roomId).getMember(bob.userId).membership === "leave");
    await refused("M_FORBIDDEN", bob.says(roomId, "one more thing"), "speaking in a room one has left");
    await bob.client.forget(roomId);
    seen("leaving and forgetting");
}

async function logOut(device) {
    await device.client.logout(true);
    await refused("M_UNKNOWN_TOKEN", device.client.whoami(), "a token after logout");
    seen("logging out");
}
