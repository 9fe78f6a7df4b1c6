// Alice registers in Element and Bob logs in: a room, an invitation, an encrypted chat, with pictures on the way.
import * as element from "../lib/element.mjs";
import { open, picture, play, seen } from "../lib/stage.mjs";

const { BOB, BOB_PASSWORD, ALICE, ALICE_PASSWORD } = process.env;
const [GREETING, SLIP, CORRECTED, COMING] = ["Good morning, Bob!", "Good morning! Coffee is redy", "Good morning! Coffee is ready", "Coming"];

await play(async () => {
    const alice = await open("alice", "register");
    await element.register(alice, ALICE, ALICE_PASSWORD);
    const bob = await open("bob", "login");
    await element.logIn(bob, BOB, BOB_PASSWORD);
    await element.arrive(bob);
    seen("one registered, the other logged in");

    await element.createRoom(alice, { name: "Kitchen", topic: "who washes up" });
    await element.invite(alice, BOB);
    await element.accept(bob, "Kitchen");
    seen("an encrypted room created, invited to, joined");

    for (const [from, to, text] of [[alice, bob, GREETING], [bob, alice, SLIP], [alice, bob, COMING]]) {
        await element.write(from, text);
        await element.read(to, text);
    }
    await picture(alice, "reads");
    await picture(bob, "reads");
    seen("a chat both ways");

    await element.correct(bob, CORRECTED);
    await element.read(alice, CORRECTED);
    await element.react(bob, COMING, "👍");
    await element.readReaction(alice, COMING, "👍");
    await picture(alice, "sees-edit-and-reaction");
    seen("an edit and a reaction");

    await element.replyInThread(alice, CORRECTED, "With milk?");
    await picture(alice, "replies-in-a-thread");
    await element.closeThread(alice);
    await element.readThread(bob, CORRECTED, "With milk?");
    await picture(bob, "reads-the-thread");
    await element.closeThread(bob);
    seen("a thread");

    await element.remove(alice, COMING);
    await element.readRemoval(bob);
    await picture(bob, "sees-what-is-deleted");
    seen("a message deleted");

    await element.goHome(bob);
    await element.write(alice, "Bob?");
    await element.write(alice, "It is getting cold");
    await element.badge(bob, "Kitchen").getByText("2").waitFor();
    await picture(bob, "has-two-unread");
    await element.enter(bob, "Kitchen");
    await element.read(bob, "It is getting cold");
    await element.badge(bob, "Kitchen").waitFor({ state: "hidden" });
    await element.readBy(alice, "It is getting cold", BOB);
    await picture(alice, "sees-who-has-read");
    seen("what is unread, and who has read");

    await element.remember(bob);
    await bob.reload();
    for (const text of [GREETING, CORRECTED, "It is getting cold"]) await element.read(bob, text);
    await element.readRemoval(bob);
    await element.write(bob, "I am back");
    await element.read(alice, "I am back");
    await picture(bob, "after-loading-the-page-anew");
    seen("the page loaded anew, and the chat going on");

    const key = await element.saveKeys(bob);
    await element.logOut(bob);
    await element.logIn(bob, BOB, BOB_PASSWORD);
    await element.proveOneself(bob, key);
    await element.enter(bob, "Kitchen");
    for (const text of [GREETING, CORRECTED, "I am back"]) await element.read(bob, text);
    await picture(bob, "reads-on-a-new-device");
    await element.write(bob, "Now from here");
    await element.read(alice, "Now from here");
    await picture(alice, "at-the-end");
    seen("logged out, logged in again, and all there to be read");
});
