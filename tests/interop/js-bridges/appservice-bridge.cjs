// A bridge made with matrix-appservice-bridge: it writes its own registration, keeps users and rooms in its stores, and follows upgrades.
// Usage: node appservice-bridge.cjs register REGISTRATION.yaml URL | node appservice-bridge.cjs run REGISTRATION.yaml HOMESERVER_URL FOLDER
const { obey, tell } = require("./lib/driver.cjs");
const path = require("node:path");
const { AppServiceRegistration, Bridge, BridgeInfoStateSyncer, Logger, MatrixRoom, MatrixUser, MembershipQueue, RemoteRoom, RemoteUser } = require("matrix-appservice-bridge");

const [what, file, where, folder] = process.argv.slice(2);
Logger.configure({ console: "off" });

if (what === "register") {
    const registration = new AppServiceRegistration(where);
    registration.setId("relay");
    registration.setHomeserverToken(AppServiceRegistration.generateToken());
    registration.setAppServiceToken(AppServiceRegistration.generateToken());
    registration.setSenderLocalpart("relaybot");
    registration.setProtocols(["relay"]);
    registration.setRateLimited(false);
    registration.pushEphemeral = true;
    registration.addRegexPattern("users", "@_relay_.*:localhost", true);
    registration.addRegexPattern("aliases", "#_relay_.*:localhost", true);
    registration.outputAsYaml(file);
    process.exit();
}

const ghostId = (nick) => `@_relay_${nick}:localhost`;

/** Somebody from the other side, with an account, a name, and a place in the store of users. */
async function ghost(nick) {
    const user = new MatrixUser(ghostId(nick));
    const remote = new RemoteUser(nick);
    remote.set("displayName", nick);
    if (!(await bridge.getUserStore().getRemoteUser(nick))) await bridge.provisionUser(user, { name: `${nick} (relay)`, remote });
    return bridge.getIntent(user.getId());
}

// What people ask of it, said in a room that the bot is in.
const commands = {
    async link(roomId, rest) {
        await bridge.getRoomStore().linkRooms(new MatrixRoom(roomId), new RemoteRoom(rest), { from: "a command" });
        await bridge.getIntent().sendText(roomId, `linked to ${rest}`);
    },
    async hear(_, rest) { // as if it had been said on the other side
        const [channel, nick, ...words] = rest.split(" ");
        const who = await ghost(nick);
        for (const room of await bridge.getRoomStore().getLinkedMatrixRooms(channel)) await who.sendText(room.getId(), words.join(" "));
    },
    async ping(roomId) {
        const took = await bridge.pingAppserviceRoute(roomId, 20_000);
        await bridge.getIntent().sendText(roomId, took >= 0 ? "pinged" : "no ping");
    },
    async settle(roomId) {
        const bot = bridge.getIntent();
        await bot.setRoomName(roomId, "Relayed");
        await bot.setRoomTopic(roomId, "from afar");
        await bot.setPowerLevel(roomId, ghostId("bert"), 50);
        await bot.createAlias("#_relay_kitchen:localhost", roomId);
        await bot.setRoomDirectoryVisibilityAppService(roomId, "relaynet", "public");
        await bot.sendReadReceipt(roomId, (await bot.sendText(roomId, "settled")).event_id);
    },
    async write(roomId) {
        await bridge.getIntent(ghostId("bert")).sendTyping(roomId, true);
    },
    async name(roomId, rest) { // of one room alone
        await bridge.getIntent(ghostId("bert")).setRoomUserProfile(roomId, { displayname: rest });
    },
    async kick(roomId) {
        await bridge.getIntent().kick(roomId, ghostId("bert"), "enough");
    },
    async queue(roomId) {
        const queue = new MembershipQueue(bridge, { joinAttempts: 2, joinRetryMs: 100 });
        await Promise.all(["one", "two", "three"].map((nick) => queue.join(roomId, ghostId(nick), bridge.getRequestFactory().newRequest({ data: {} }))));
    },
    async state(roomId) {
        const intent = bridge.getIntent();
        const name = await intent.getStateEvent(roomId, "m.room.name");
        const none = await intent.getStateEvent(roomId, "m.room.nothing", "", true);
        const profile = await intent.getProfileInfo(ghostId("bert"));
        const members = Object.keys(await bridge.getBot().getJoinedMembers(roomId)).length;
        await intent.sendText(roomId, `${name.name}, ${none}, ${profile.displayname}, ${members} members, ${(await intent.roomState(roomId)).length > 5}`);
    },
    async info(roomId) {
        const map = async () => ({ protocol: { id: "relay", displayname: "Relay" }, channel: { id: "#kitchen", displayname: "The kitchen" } });
        await new BridgeInfoStateSyncer(bridge, { bridgeName: "relay", getMapping: map }).initialSync({ [roomId]: [{ channel: "#kitchen" }] });
    },
};

const bridge = new Bridge({
    homeserverUrl: where, domain: "localhost", registration: file, networkName: "relay",
    userStore: path.join(folder, "users.db"), roomStore: path.join(folder, "rooms.db"), userActivityStore: path.join(folder, "activity.db"), eventStore: path.join(folder, "events.db"),
    roomUpgradeOpts: { migrateGhosts: true, migrateStoreEntries: true, onRoomMigrated: (from, to) => tell("migrated", { from, to }) },
    controller: {
        onLog: (line, isError) => (isError ? console.error(line) : undefined),
        onUserQuery(user) {
            tell("asked for a user", { user: user.getId() });
            return user.localpart.includes("nobody") ? null : { name: `${user.localpart.slice("_relay_".length)} (relay)`, remote: new RemoteUser(user.localpart) };
        },
        onAliasQuery(alias, localpart) {
            tell("asked for a room", { alias });
            if (alias.includes("nowhere")) return null;
            return { creationOpts: { room_alias_name: localpart, name: `Room ${localpart}`, preset: "public_chat" }, remote: new RemoteRoom(localpart) };
        },
        onAliasQueried: (alias, roomId) => tell("made a room", { alias, room: roomId }),
        async onEvent(request, context) {
            const event = request.getData();
            const remotes = (context?.rooms?.remote ? [context.rooms.remote] : (context?.rooms?.remotes ?? [])).map((room) => room.getId());
            tell("event", { type: event.type, room: event.room_id, event: event.event_id, sender: event.sender, body: event.content.body ?? null, remotes });
            const invites = event.type === "m.room.member" && event.content.membership === "invite";
            if (invites) await bridge.getIntent(event.state_key).join(event.room_id);
            await obey(commands, event.room_id, event);
        },
        onEphemeralEvent: (request) => tell("ephemeral", { type: request.getData().type, room: request.getData().room_id ?? null, content: request.getData().content }),
        thirdPartyLookup: {
            protocols: ["relay"],
            getProtocol: () => ({ user_fields: ["nick"], location_fields: ["channel"], icon: "", field_types: {}, instances: [{ network_id: "relaynet", desc: "Relay", fields: {} }] }),
            getUser: (protocol, { nick }) => [{ userid: ghostId(nick), protocol, fields: { nick } }],
            parseUser: (userId) => [{ userid: userId, protocol: "relay", fields: { nick: userId.slice("@_relay_".length).split(":")[0] } }],
            getLocation: (protocol, { channel }) => [{ alias: `#_relay_${channel}:localhost`, protocol, fields: { channel } }],
            parseLocation: (alias) => [{ alias, protocol: "relay", fields: { channel: alias.slice("#_relay_".length).split(":")[0] } }],
        },
    },
});

(async () => {
    await bridge.initialise();
    const port = Number(new URL(bridge.registration.getOutput().url).port);
    await bridge.listen(port, "127.0.0.1");
    await bridge.getIntent().ensureRegistered();
    tell("ready", { bot: bridge.botUserId });
})();
