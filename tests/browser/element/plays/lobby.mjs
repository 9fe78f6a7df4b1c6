// A public room without encryption: found in the directory, with names, mentions, replies, and a past to page back through.
import * as element from "../lib/element.mjs";
import { open, picture, play, seen } from "../lib/stage.mjs";

const { BOB, BOB_PASSWORD, ALICE, ALICE_PASSWORD } = process.env;
const NAME = `Lobby ${ALICE}`;

await play(async () => {
    const alice = await open("alice", "register");
    await element.register(alice, ALICE, ALICE_PASSWORD);
    await element.createRoom(alice, { name: NAME, topic: "come in", alias: `lobby-${ALICE}` });
    const bob = await open("bob", "login");
    await element.logIn(bob, BOB, BOB_PASSWORD);
    await element.arrive(bob);
    await element.findAndJoin(bob, NAME, "come in");
    seen("a public room created, found in the directory, joined");

    await element.takeName(alice, "Alice Liddell");
    await element.noticed(bob, "their display name to Alice Liddell");
    await element.write(alice, "Who are you?");
    await element.readFrom(bob, "Alice Liddell", "Who are you?");
    await element.takeName(bob, "Bob Dodgson");
    await element.noticed(alice, "their display name to Bob Dodgson");
    await element.write(bob, "Nobody");
    await element.readFrom(alice, "Bob Dodgson", "Nobody");
    await picture(alice, "reads-names");
    seen("names");

    await element.goHome(bob);
    await element.mention(alice, "Bob Dodgson", "have you seen the rabbit?");
    await element.badge(bob, NAME).getByText("1").waitFor();
    await picture(bob, "is-mentioned");
    await element.enter(bob, NAME);
    await element.read(bob, "have you seen the rabbit?");
    await element.startTyping(bob, "Late");
    await element.readTyping(alice, "Bob Dodgson");
    await picture(alice, "sees-that-bob-is-typing");
    await element.reply(bob, "rabbit", "Late as always");
    await element.readReply(alice, "rabbit", "Late as always");
    await picture(alice, "reads-the-reply");
    seen("a mention, typing, a reply");

    await element.prattle(alice, Array.from({ length: 100 }, (_, n) => `Oh dear, number ${n + 1}`));
    await element.read(bob, "number 100");
    await element.correct(bob, "Late, as always");
    await element.remember(bob);
    await bob.reload();
    await element.read(bob, "number 100");
    await element.scrollUpTo(bob, "Late, as always");
    await picture(bob, "has-paged-back");
    seen("paged back through a hundred messages");

    await element.leave(bob, NAME);
    await element.noticed(alice, "Bob Dodgson left the room");
    await element.countsPeople(alice, 1);
    await picture(alice, "alone-again");
    seen("the room left");
});
