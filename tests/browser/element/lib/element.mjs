// What people do in Element, in their words.
import { picture } from "./stage.mjs";

const composer = (page) => page.locator(".mx_RoomView_body").getByRole("textbox", { name: /^Send (a|an encrypted) (message|reply)/ });
const tile = (page, text) => page.locator(".mx_RoomView_body .mx_EventTile", { hasText: text }).last();
export const room = (page, name) => page.getByRole("treeitem", { name: new RegExp(name) });
export const badge = (page, name) => room(page, name).locator(".mx_NotificationBadge_count");

export async function register(page, username, password) {
    await page.getByLabel("Username").fill(username);
    await page.getByLabel("Password", { exact: true }).fill(password);
    await page.getByLabel("Confirm password").fill(password);
    await picture(page, "registers");
    await page.getByRole("button", { name: "Register" }).click();
    await page.getByText("Skip", { exact: true }).click();
    await page.getByText(/^Welcome to /).first().waitFor();
    await dismissNews(page);
    await picture(page, "registered");
}

export async function logIn(page, username, password) {
    await page.getByLabel("Username").fill(username);
    await page.getByLabel("Password", { exact: true }).fill(password);
    await picture(page, "logs-in");
    await page.getByRole("button", { name: "Sign in" }).click();
}

export async function arrive(page) {
    await page.getByRole("heading", { name: /^Welcome / }).waitFor();
    await dismissNews(page);
    await picture(page, "logged-in");
}

// What there is to know about threads.
const dismissNews = (page) => page.getByRole("button", { name: "OK" }).click();

/** A copy of the keys at the server, under a key that one keeps: gives that key, when the copy is there. */
export async function saveKeys(page) {
    const copied = page.waitForResponse((response) => response.request().method() === "PUT" && response.url().includes("/room_keys/keys"));
    await page.getByText("Set up Secure Backup").waitFor();
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Continue" }).click();
    const key = await page.locator(".mx_CreateSecretStorageDialog_recoveryKey code").innerText();
    await page.getByRole("button", { name: "Copy" }).click();
    await picture(page, "is-given-a-security-key");
    await page.getByRole("dialog").getByRole("button", { name: "Continue" }).click();
    await page.getByText("Secure Backup successful").waitFor();
    await picture(page, "has-saved-the-keys");
    await page.getByRole("button", { name: "Done" }).click();
    await copied;
    return key;
}

export async function logOut(page) {
    await page.getByLabel("User menu").click();
    await page.getByRole("menuitem", { name: "Sign out" }).click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("button", { name: "Sign in" }).waitFor();
    await picture(page, "logged-out");
}

/** On a new device, after the login. */
export async function proveOneself(page, key) {
    await page.getByRole("button", { name: "Verify with Security Key" }).click();
    await page.getByRole("textbox", { name: "Security Key" }).fill(key);
    await picture(page, "proves-who-it-is");
    await page.getByRole("dialog").getByRole("button", { name: "Continue" }).click();
    await page.getByRole("button", { name: "Done" }).click();
}

export async function createRoom(page, { name, topic, alias }) {
    await page.getByLabel("Add room").first().click();
    await page.getByText("New room").click();
    await page.getByLabel("Name", { exact: true }).fill(name);
    await page.getByLabel("Topic (optional)").fill(topic);
    if (alias) {
        await page.getByLabel("Room visibility").click();
        await page.getByRole("option", { name: "Public room" }).click();
        await page.getByLabel("Room address").fill(alias);
    }
    await picture(page, "creates-a-room");
    await page.getByRole("button", { name: "Create room" }).click();
    await page.getByText("This is the start of").waitFor();
    await picture(page, "in-the-room");
}

export async function invite(page, userId) {
    await page.getByText("Invite to this room").click();
    await page.getByTestId("invite-dialog-input").fill(userId);
    await page.getByRole("button", { name: "Invite", exact: true }).click();
    await page.getByText("invited").first().waitFor();
    await picture(page, "invited");
}

export async function accept(page, name) {
    await room(page, name).click();
    await page.getByRole("button", { name: "Accept" }).waitFor();
    await picture(page, "is-invited");
    await page.getByRole("button", { name: "Accept" }).click();
    await composer(page).waitFor();
    await picture(page, "joined");
}

export async function write(page, text) {
    await composer(page).fill(text);
    await composer(page).press("Enter");
}

export async function read(page, text) {
    await page.locator(".mx_RoomView_body .mx_EventTile_body", { hasText: text }).last().waitFor();
}

/** As what somebody of this name says, who has not just said something else. */
export async function readFrom(page, name, text) {
    await tile(page, text).locator(".mx_DisambiguatedProfile", { hasText: name }).waitFor();
}

/** The arrow up takes one's last message for correction, as in any chat program. */
export async function correct(page, text) {
    await composer(page).press("ArrowUp");
    const box = page.getByRole("textbox", { name: "Edit message" });
    await box.fill(text);
    await box.press("Enter");
}

export async function react(page, text, emoji) {
    await tile(page, text).hover();
    await tile(page, text).getByRole("button", { name: "React" }).click();
    await page.locator(".mx_EmojiPicker_footer").getByText(emoji).click();
}

export async function readReaction(page, text, emoji) {
    await tile(page, text).locator(".mx_ReactionsRowButton", { hasText: emoji }).waitFor();
}

const thread = (page) => page.locator(".mx_ThreadView");

export async function replyInThread(page, text, reply) {
    await tile(page, text).hover();
    await tile(page, text).getByRole("button", { name: "Reply in thread" }).click();
    const box = thread(page).getByRole("textbox");
    await box.fill(reply);
    await box.press("Enter");
    await thread(page).locator(".mx_EventTile_body", { hasText: reply }).waitFor();
}

export async function readThread(page, text, reply) {
    await tile(page, text).locator(".mx_ThreadSummary", { hasText: "1 reply" }).click();
    await thread(page).locator(".mx_EventTile_body", { hasText: reply }).waitFor();
}

export async function closeThread(page) {
    await page.getByTestId("base-card-close-button").click();
    await thread(page).waitFor({ state: "detached" });
}

export async function remove(page, text) {
    await tile(page, text).hover();
    await tile(page, text).getByRole("button", { name: "Options" }).click();
    await page.getByRole("menuitem", { name: "Remove" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
}

export async function readRemoval(page) {
    await page.locator(".mx_RoomView_body .mx_RedactedBody", { hasText: "Message deleted" }).waitFor();
}

/** To what is shown when no room is. */
export async function goHome(page) {
    await page.evaluate(() => window.mxDispatcher.dispatch({ action: "view_home_page" }));
    await page.getByRole("heading", { name: /^Welcome / }).waitFor();
}

export async function enter(page, name) {
    await room(page, name).click();
    await composer(page).waitFor();
}

/** Who has read up to one's last message: small pictures beside it. */
export async function readBy(page, text, name) {
    await tile(page, text).getByLabel(new RegExp(`Seen by .*${name}|Seen by 1 person`)).waitFor();
}

/**
 * What Element does every five minutes: writes down what it has of the server, and where it is. Loaded anew in a room that it
 * has not written down, this version of it peeks first, and then takes neither edits nor encryption of the room for
 * known, on any server (element-hq/element-web#27103).
 */
export const remember = (page) => page.evaluate(() => window.mxMatrixClientPeg.get().store.save(true));

/** In the directory of public rooms. */
export async function findAndJoin(page, name, topic) {
    await page.getByRole("button", { name: "Explore rooms" }).click();
    await page.getByRole("dialog").getByRole("textbox", { name: "Search" }).fill(name);
    const found = page.locator(".mx_SpotlightDialog_option", { hasText: name }).filter({ hasText: topic });
    await found.waitFor();
    await picture(page, "finds-the-room");
    await found.getByRole("button", { name: "Join" }).click();
    await composer(page).waitFor();
    await picture(page, "joined");
}

/** By a command: the settings do not open in a page that is built from packages. */
export const takeName = (page, name) => write(page, `/nick ${name}`);

/** The small grey lines about what has become of the room. */
export const noticed = (page, text) => page.locator(".mx_RoomView_body .mx_TextualEvent", { hasText: text }).waitFor();

export const countsPeople = (page, count) => page.locator(".mx_RoomHeader .mx_FacePile", { hasText: new RegExp(`\\D${count}$`) }).waitFor();

/** With the name put in by the list that opens on `@`. */
export async function mention(page, name, text) {
    await composer(page).pressSequentially(`@${name.split(" ")[0]}`);
    await page.locator(".mx_Autocomplete").getByText(name, { exact: true }).click();
    await composer(page).pressSequentially(text);
    await composer(page).press("Enter");
}

export async function reply(page, text, answer) {
    await tile(page, text).hover();
    await tile(page, text).getByRole("button", { name: "Reply", exact: true }).click();
    await page.locator(".mx_ReplyPreview").waitFor();
    await write(page, answer);
}

export const readReply = (page, text, answer) => tile(page, answer).locator(".mx_ReplyChain", { hasText: text }).waitFor();

export async function startTyping(page, text) {
    await composer(page).pressSequentially(text);
}

export const readTyping = (page, name) => page.getByText(`${name} is typing`).waitFor();

/** Many lines that nobody wants to watch being written. */
export async function prattle(page, lines) {
    await page.evaluate(async (lines) => {
        const client = window.mxMatrixClientPeg.get();
        const [room] = client.getRooms();
        for (const line of lines) await client.sendTextMessage(room.roomId, line);
    }, lines);
}

export async function scrollUpTo(page, text) {
    const found = page.locator(".mx_RoomView_body .mx_EventTile_body", { hasText: text }).first();
    await page.locator(".mx_RoomView_messagePanel").first().hover();
    for (let tries = 0; tries < 200 && !(await found.isVisible()); tries++) {
        await page.mouse.wheel(0, -1500);
        await page.waitForTimeout(50);
    }
    await found.scrollIntoViewIfNeeded();
}

export async function leave(page, name) {
    await room(page, name).click({ button: "right" });
    await page.getByRole("menuitem", { name: "Leave" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Leave" }).click();
    await room(page, name).waitFor({ state: "detached" });
}

/** Files as if they had been chosen from a disk: `{ name, mimeType, buffer }`. */
export async function upload(page, file) {
    await page.locator(".mx_MessageComposer input[type=file]").setInputFiles(file);
    const dialog = page.getByRole("dialog");
    await dialog.getByText(file.name).first().waitFor();
    await picture(page, `uploads-${file.name}`);
    await dialog.getByRole("button", { name: "Upload", exact: true }).click();
    await dialog.waitFor({ state: "detached" });
}

const inRoom = (page, selector) => page.locator(`.mx_RoomView_body ${selector}`).last();

/** Waits until an image is there in full; gives its size in pixels. */
async function shown(image) {
    await image.waitFor();
    await image.evaluate((img) => new Promise((resolve, reject) => {
        const look = () => img.complete && img.naturalWidth && resolve();
        img.addEventListener("load", look);
        img.addEventListener("error", () => reject(new Error(`no image at ${img.currentSrc}`)));
        look();
    }));
    return image.evaluate((img) => ({ width: img.naturalWidth, height: img.naturalHeight }));
}

/** The small picture in the room, whole: gives its size. */
export const seesPicture = (page) => shown(inRoom(page, ".mx_MImageBody img.mx_MImageBody_thumbnail"));

/** Opens the picture; gives the size of what is shown then. */
export async function opensPicture(page) {
    await inRoom(page, ".mx_MImageBody img.mx_MImageBody_thumbnail").click();
    const size = await shown(page.locator("img.mx_ImageView_image"));
    await picture(page, "opens-the-picture");
    await page.getByRole("button", { name: "Close" }).last().click();
    await page.locator(".mx_ImageView").waitFor({ state: "detached" });
    return size;
}

/** Plays the film until it moves; gives its size and how long it is. */
export async function watches(page) {
    const film = inRoom(page, "video.mx_MVideoBody");
    await film.waitFor();
    // What is encrypted is fetched when somebody presses the button: until then there is nothing that could be played.
    await film.evaluate((video) => { video.muted = true; return video.play().catch(() => {}); });
    await page.waitForFunction((video) => video.currentTime > 0.3 && video.videoWidth, await film.elementHandle());
    await film.evaluate((video) => video.pause());
    return film.evaluate((video) => ({ width: video.videoWidth, height: video.videoHeight }));
}

/** Downloads the last file of the room; gives what is in it. */
export async function downloads(page, name) {
    const download = page.waitForEvent("download");
    await page.locator(".mx_RoomView_body .mx_MFileBody_info", { hasText: name.split(".")[0] }).last().click();
    const file = await download;
    const { readFile } = await import("node:fs/promises");
    return { name: file.suggestedFilename(), content: await readFile(await file.path()) };
}

/** Speaks into the microphone for as long as it takes that a second is heard. */
export async function speaks(page) {
    await page.locator(".mx_MessageComposer").getByRole("button", { name: "More options" }).click();
    await page.getByRole("menuitem", { name: "Voice Message" }).click();
    await page.locator(".mx_VoiceRecordComposerTile_recording .mx_Clock", { hasText: /0:0[2-9]/ }).waitFor();
    await picture(page, "speaks");
    await page.getByRole("button", { name: "Stop recording" }).click();
    await page.getByRole("button", { name: "Send voice message" }).click();
}

/** Plays the last thing that was spoken until its clock moves. */
export async function listens(page) {
    const voice = inRoom(page, ".mx_MVoiceMessageBody");
    await voice.getByRole("button", { name: "Play" }).click();
    await voice.locator(".mx_PlaybackContainer .mx_Clock, .mx_Clock", { hasText: /0:0[1-9]/ }).waitFor();
    await voice.getByRole("button", { name: /Play|Pause/ }).waitFor();
}

/** By a command that asks for a file; the settings are a long way off. */
export async function takesAvatar(page, file) {
    const chooser = page.waitForEvent("filechooser");
    await composer(page).fill("/myavatar ");
    await page.getByRole("button", { name: "Send message" }).click();
    await (await chooser).setFiles(file);
    await page.getByRole("dialog").getByRole("button", { name: "Upload", exact: true }).click();
    // A command that is through empties the box, whatever somebody has written there meanwhile.
    await page.waitForFunction((box) => !box.textContent.trim(), await composer(page).elementHandle());
}

/** The small picture beside what somebody says. */
export async function seesAvatar(page, text) {
    await tile(page, text).scrollIntoViewIfNeeded();
    return shown(tile(page, text).locator(".mx_EventTile_avatar img"));
}

/** What a link leads to: its title, and the size of its picture. */
export async function seesPreview(page, title) {
    const preview = page.locator(".mx_RoomView_body .mx_LinkPreviewWidget", { hasText: title }).last();
    const size = await shown(preview.locator("img"));
    await preview.scrollIntoViewIfNeeded();
    return { text: await preview.innerText(), size };
}

/** A film of a second, drawn and recorded by the browser itself. */
export async function film(page) {
    const base64 = await page.evaluate(async () => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
        const draw = canvas.getContext("2d");
        const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType: "video/webm;codecs=vp8" });
        const parts = [];
        recorder.ondataavailable = ({ data }) => parts.push(data);
        const ended = new Promise((resolve) => { recorder.onstop = resolve; });
        recorder.start(100);
        for (let frame = 0; frame < 40; frame++) {
            draw.fillStyle = "navy";
            draw.fillRect(0, 0, 320, 180);
            draw.fillStyle = "orange";
            draw.fillRect(frame * 7, 60, 60, 60);
            await new Promise((resolve) => setTimeout(resolve, 40));
        }
        recorder.stop();
        await ended;
        const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
        return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
    });
    return Buffer.from(base64, "base64");
}
