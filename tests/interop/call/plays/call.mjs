// Two people call each other by Element Call, and one of them is gone.
import { ask, open, play, seen, until } from "../lib/stage.mjs";

const { HOMESERVER_URL, BOBS_HOMESERVER_URL, ALICE, ALICE_PASSWORD, BOB, BOB_PASSWORD, ENCRYPTED, RTC_MODE, DELEGATED, END } = process.env;
const encrypted = ENCRYPTED === "yes";
const DELAY = { delay_ms: 18_000, restart_ms: 4_000 };

const config = { matrix_rtc_mode: RTC_MODE, matrix_rtc_session: { wait_for_key_rotation_ms: 5000, delayed_leave: DELAY } };

/** Whoever has sound and picture in any of the LiveKit servers. */
const publishing = async () => (await ask("participants")).participants.filter(({ tracks }) => tracks.length > 0);

async function start(alice, bob) {
    const [aliceId, bobId] = [await alice.host("logIn", HOMESERVER_URL, ALICE, ALICE_PASSWORD), await bob.host("logIn", BOBS_HOMESERVER_URL, BOB, BOB_PASSWORD)];
    const roomId = await alice.host("createRoom", bobId, encrypted);
    await bob.host("join", roomId);
    await Promise.all([alice.host("sees", roomId, bobId), bob.host("sees", roomId, aliceId)]);
    seen("both in the room");
    for (const each of [alice, bob]) await each.enter(roomId, { perParticipantE2EE: String(encrypted) });
    seen("both in the call");
    return { roomId, aliceId, bobId };
}

await play(async () => {
    const [alice, bob] = [await open("alice", config), await open("bob", config)];
    for (const each of DELEGATED === "yes" ? [] : [alice, bob]) await each.context.route("**/delegate_delayed_leave", (route) => route.abort());
    const { roomId, aliceId, bobId } = await start(alice, bob);

    const [ofBob, ofAlice] = await Promise.all([alice.seesAndHears(), bob.seesAndHears()]);
    await Promise.all([alice.picture("sees-bob"), bob.picture("sees-alice")]);
    seen(`each sees and hears the other: ${JSON.stringify({ ofBob, ofAlice })}`);
    const participants = await publishing();
    const right = participants.length === 2 && participants.every(({ tracks }) => tracks.length === 2 && tracks.every(({ encryption }) => (encryption !== "NONE") === encrypted));
    if (!right) throw new Error(`LiveKit has ${JSON.stringify(participants)}`);
    seen(`LiveKit has both, ${encrypted ? "encrypted" : "in the clear"}`);
    const members = () => bob.host("memberships", roomId);
    await until(async () => `both memberships: ${await members()}`, async () => [aliceId, bobId].every((each, _, all) => all.includes(each)) && (await members()).length === 2);

    if (END === "restarted") {
        await ask("restart");
        await until("both to go on after the server was killed", async () => (await members().catch(() => [])).length === 2);
        await new Promise((wake) => setTimeout(wake, DELAY.delay_ms + 5_000)); // longer than the delayed leaves last by themselves
        const [ofBob, ofAlice] = await Promise.all([alice.seesAndHears(), bob.seesAndHears()]);
        if ((await members()).length !== 2) throw new Error(`memberships: ${await members()}`);
        seen(`and go on when the homeserver was killed and started: ${JSON.stringify({ ofBob, ofAlice })}`);
    }
    if (END === "killed") await alice.kill();
    if (END === "cut-off") await alice.context.route("**/_matrix/client/**", (route) => route.abort());
    if (END !== "killed") await alice.frame.getByTestId("incall_leave").click();
    const left = await until(async () => `Alice's membership to end: ${await members()}`, async () => !(await members()).includes(aliceId), 120);
    if ((await members()).join() !== bobId) throw new Error(`memberships: ${await members()}`);
    seen(`Alice's membership ended ${left.after} s after she was gone (${END})`);
    await until("Bob alone in the call", async () => (await bob.tiles()) === 1);
    await until("LiveKit to have Bob alone", async () => (await publishing()).length === 1);
    await bob.picture("alone");
    seen("Bob is alone in the call");
    await bob.frame.getByTestId("incall_leave").click();
    await until("nobody in the call", async () => (await members()).length === 0);
    seen("nobody is in the call");
});
