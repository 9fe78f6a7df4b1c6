// An application service made with matrix-bot-sdk: a bot, ghosts with names and words of their own, a network with rooms.
// Usage: node bot-sdk.cjs REGISTRATION.yaml HOMESERVER_URL STORE.json
const { obey, tell } = require("./lib/driver.cjs");
const fs = require("node:fs");
const yaml = require("js-yaml");
const { Appservice, LogLevel, LogService, SimpleFsStorageProvider } = require("matrix-bot-sdk");

const [file, homeserverUrl, store] = process.argv.slice(2);
const registration = yaml.load(fs.readFileSync(file, "utf8"));
const PICTURE = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg==", "base64");
LogService.setLevel(LogLevel.ERROR);
LogService.setLogger(Object.fromEntries(["trace", "debug", "info", "warn", "error"].map((level) => [level, (...parts) => console.error(level, ...parts)])));

const service = new Appservice({
    bindAddress: "127.0.0.1", port: Number(new URL(registration.url).port), homeserverName: "localhost", homeserverUrl, registration, storage: new SimpleFsStorageProvider(store),
});

// What people ask of it, said in a room that the bot is in.
const commands = {
    async ghost(roomId, rest) {
        const [suffix, ...words] = rest.split(" ");
        const ghost = service.getIntentForSuffix(suffix);
        await ghost.ensureRegistered();
        await ghost.underlyingClient.setDisplayName(`${suffix} (afar)`);
        await service.botClient.inviteUser(ghost.userId, roomId).catch(() => {}); // it is there already
        await ghost.ensureJoined(roomId);
        await ghost.sendText(roomId, words.join(" "));
    },
    async past(roomId, rest) {
        const ghost = service.getIntentForSuffix("anna");
        await ghost.unstableApis.sendEventWithTimestamp(roomId, "m.room.message", { msgtype: "m.text", body: rest }, 946684800000);
    },
    async picture(roomId) {
        const url = await service.botClient.uploadContent(PICTURE, "image/png", "dot.png");
        const back = await service.botClient.downloadContent(url);
        await service.botClient.sendMessage(roomId, { msgtype: "m.image", body: back.data.equals(PICTURE) ? "the same" : "another", url, info: { mimetype: "image/png" } });
    },
    async remember(roomId, rest) {
        await service.bridge.setRemoteRoomInfo(roomId, { id: rest });
        await service.bridge.setRemoteUserInfo(service.getIntentForSuffix("anna"), { id: `anna at ${rest}` });
        await service.botIntent.sendText(roomId, "remembered");
    },
    async recall(_, rest) {
        const roomId = await service.bridge.getMatrixRoomIdForRemote(rest);
        const ghost = await service.bridge.getIntentForRemote(`anna at ${rest}`);
        await ghost.sendText(roomId, `recalled ${(await service.bridge.getRemoteRoomInfo(roomId)).id}`);
    },
    async publish(roomId) {
        await service.setRoomDirectoryVisibility("lanternnet", roomId, "public");
        await service.botIntent.sendText(roomId, "published");
    },
    async who(roomId) {
        const profile = await service.botClient.getUserProfile(service.getIntentForSuffix("anna").userId);
        const members = await service.botClient.getJoinedRoomMembers(roomId);
        const levels = await service.botClient.getRoomStateEvent(roomId, "m.room.power_levels", "");
        await service.botIntent.sendText(roomId, `${profile.displayname}, one of ${members.length}, with ${levels.users_default ?? 0}`);
    },
    async type(roomId) {
        await service.getIntentForSuffix("anna").underlyingClient.setTyping(roomId, true, 20000);
    },
    async leave(roomId) {
        await service.getIntentForSuffix("anna").leaveRoom(roomId);
    },
};

service.on("room.invite", async (roomId, event) => {
    tell("invited", { user: event.state_key, room: roomId });
    await service.getIntentForUserId(event.state_key).joinRoom(roomId);
});
service.on("room.message", async (roomId, event) => {
    tell("message", { room: roomId, event: event.event_id, sender: event.sender, body: event.content.body });
    if (!service.isNamespacedUser(event.sender) && event.sender !== service.botUserId) await obey(commands, roomId, event);
});
service.on("room.event", (roomId, event) => event.type === "m.reaction" && tell("reaction", { room: roomId, key: event.content["m.relates_to"].key }));
service.on("ephemeral.event", (event) => tell("ephemeral", { type: event.type, content: event.content, room: event.room_id ?? null }));
service.on("query.user", (userId, create) => {
    tell("asked for a user", { user: userId });
    create(userId.includes("nobody") ? false : { display_name: `Ghost ${service.getSuffixForUserId(userId)}` });
});
service.on("query.room", (alias, create) => {
    tell("asked for a room", { alias });
    create(alias.includes("nowhere") ? false : { name: `The room ${service.getSuffixForAlias(alias)}`, preset: "public_chat", power_level_content_override: { invite: 0 } });
});
service.on("thirdparty.protocol", (protocol, answer) => answer({
    user_fields: ["nick"], location_fields: ["channel"], icon: "mxc://localhost/icon", field_types: { nick: { regexp: ".+", placeholder: "nick" }, channel: { regexp: ".+", placeholder: "#channel" } },
    instances: [{ network_id: "lanternnet", desc: protocol, fields: {} }],
}));
service.on("thirdparty.user.remote", (protocol, fields, answer) => answer([{ userid: service.getUserIdForSuffix(fields.nick), protocol, fields }]));
service.on("thirdparty.location.remote", (protocol, fields, answer) => answer([{ alias: service.getAliasForSuffix(fields.channel), protocol, fields }]));

(async () => {
    await service.begin();
    tell("ready", { bot: service.botUserId });
})();
