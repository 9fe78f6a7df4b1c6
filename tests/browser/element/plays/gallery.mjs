// Pictures, films, files and voices, an avatar and a link, in the clear and encrypted.
import * as element from "../lib/element.mjs";
import { open, picture, play, seen } from "../lib/stage.mjs";
import { readFileSync } from "node:fs";

const { BOB, BOB_PASSWORD, ALICE, ALICE_PASSWORD, PHOTO, FACE, LINK, LINK_TITLE } = process.env;
const NAME = `Gallery ${ALICE}`;
const NOTES = { name: "notes-é&'.txt", mimeType: "text/plain", buffer: Buffer.from("Two sugars, please. Überraschung!\n") };

function same(expected, actual, what) {
    if (JSON.stringify(expected) !== JSON.stringify(actual)) throw new Error(`${what}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
}

/** One sends each kind of file, the other looks at each. */
async function exchange(alice, bob, where) {
    await element.upload(alice, { name: "photo.jpg", mimeType: "image/jpeg", buffer: readFileSync(PHOTO) });
    const small = await element.seesPicture(bob);
    if (small.width <= small.height) throw new Error(`the picture stands on its side: ${JSON.stringify(small)}`);
    await picture(bob, `sees-the-picture-${where.replaceAll(" ", "-")}`);
    same({ width: 2400, height: 1600 }, await element.opensPicture(bob), "the picture when it is opened");
    seen(`a picture ${where}`);

    const film = await element.film(alice);
    await element.upload(alice, { name: "film.webm", mimeType: "video/webm", buffer: film });
    same({ width: 320, height: 180 }, await element.watches(bob), "the film");
    await picture(bob, `watches-the-film-${where.replaceAll(" ", "-")}`);
    seen(`a film ${where}`);

    await element.upload(alice, NOTES);
    const got = await element.downloads(bob, NOTES.name);
    same(NOTES.buffer.toString(), got.content.toString(), "what is in the file");
    await picture(bob, `downloads-the-file-${where.replaceAll(" ", "-")}`);
    seen(`a file ${where}: ${got.name}`);

    await element.speaks(alice);
    await element.listens(bob);
    await picture(bob, `listens-${where.replaceAll(" ", "-")}`);
    seen(`a voice ${where}`);
}

await play(async () => {
    const alice = await open("alice", "register");
    await element.register(alice, ALICE, ALICE_PASSWORD);
    await element.createRoom(alice, { name: NAME, topic: "look", alias: `gallery-${ALICE}` });
    const bob = await open("bob", "login");
    await element.logIn(bob, BOB, BOB_PASSWORD);
    await element.arrive(bob);
    await element.findAndJoin(bob, NAME, "look");
    await exchange(alice, bob, "in the clear");

    await element.takesAvatar(alice, { name: "face.png", mimeType: "image/png", buffer: readFileSync(FACE) });
    await element.noticed(bob, /(set|changed) .*profile picture/);
    await element.write(alice, "How do I look?");
    await element.read(bob, "How do I look?");
    await element.seesAvatar(bob, "How do I look?");
    await picture(bob, "sees-the-avatar");
    seen("an avatar");

    await element.write(alice, `See ${LINK}`);
    const { text, size } = await element.seesPreview(bob, LINK_TITLE);
    if (!text.includes("What there is to drink")) throw new Error(`the preview says: ${text}`);
    if (!size.width) throw new Error("the preview has no picture");
    await picture(bob, "sees-the-preview");
    seen("a link's preview");

    await element.createRoom(alice, { name: "Vault", topic: "quiet" });
    await element.invite(alice, BOB);
    await element.accept(bob, "Vault");
    await exchange(alice, bob, "encrypted");
});
