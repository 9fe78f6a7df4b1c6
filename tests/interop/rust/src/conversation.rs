//! What people do with messages: answers, corrections, reactions, threads, pictures; and what each sees of the other meanwhile.

use anyhow::{Context, Result, ensure};
use matrix_sdk::media::{MediaFormat, MediaRequestParameters};
use matrix_sdk::room::edit::EditedContent;
use matrix_sdk::ruma::OwnedEventId;
use matrix_sdk::ruma::api::client::receipt::create_receipt::v3::ReceiptType;
use matrix_sdk::ruma::events::room::message::{MessageType, RoomMessageEventContent, RoomMessageEventContentWithoutRelation};
use matrix_sdk::{Room, RoomState};
use matrix_sdk_ui::timeline::{
    AttachmentConfig, AttachmentSource, EventTimelineItem, RoomExt, Timeline, TimelineEventFocusThreadMode, TimelineFocus,
};

use crate::person::{Device, Person, texts};
use crate::stage::{differs, seen, until};

/// The item with a text, as the server has it.
async fn item(timeline: &Timeline, text: &str) -> Option<EventTimelineItem> {
    let items = timeline.items().await;
    let found = items
        .iter()
        .rev()
        .filter_map(|item| item.as_event())
        .find(|event| event.is_remote_event() && event.content().as_message().is_some_and(|message| message.body() == text));
    found.cloned()
}

/// Waits for an item of which something is so.
async fn until_item(timeline: &Timeline, text: &str, is_so: impl Fn(&EventTimelineItem) -> bool) -> Result<EventTimelineItem> {
    until(&format!("{text:?} as it shall be"), async || {
        let so = item(timeline, text).await.is_some_and(|event| is_so(&event));
        Ok((!so).then_some(format!("{:?}", texts(timeline).await)))
    })
    .await?;
    item(timeline, text).await.context("gone again")
}

fn id(event: &EventTimelineItem) -> OwnedEventId {
    event.event_id().expect("of the server").to_owned()
}

async fn focused(room: &Room, focus: TimelineFocus) -> Result<Timeline> {
    Ok(room.timeline_builder().with_focus(focus).build().await?)
}

pub async fn play() -> Result<()> {
    let (alice, bob) = (Person::register("alice").await?, Person::register("bob").await?);
    let (mut hers, mut his) = (alice.log_in().await?, bob.log_in().await?);
    hers.start().await?;
    his.start().await?;
    let room = hers.create_room("Talk", true, &[]).await?;
    his.client.join_room_by_id(room.room_id()).await?;
    his.has(room.room_id(), RoomState::Joined).await?;
    let (a, b) = (hers.open(room.room_id()).await?, his.open(room.room_id()).await?);

    a.send(RoomMessageEventContent::text_plain("question").into()).await?;
    let question = until_item(&b, "question", |_| true).await?;
    b.send_reply(RoomMessageEventContentWithoutRelation::text_plain("anwser"), id(&question)).await?;
    let answer = until_item(&a, "anwser", |event| event.content().in_reply_to().is_some_and(|to| to.event_id == id(&question))).await?;
    let wrong = until_item(&b, "anwser", |_| true).await?;
    b.edit(&wrong.identifier(), EditedContent::RoomMessage(RoomMessageEventContentWithoutRelation::text_plain("answer"))).await?;
    until_item(&a, "answer", |event| id(event) == id(&answer) && event.content().as_message().is_some_and(|message| message.is_edited())).await?;
    seen("an answer, corrected");

    ensure!(a.toggle_reaction(&answer.identifier(), "👍").await?, "not added");
    let from_alice =
        |event: &EventTimelineItem| event.content().reactions().and_then(|all| all.get("👍")).is_some_and(|by| by.contains_key(&alice.user_id));
    until_item(&b, "answer", from_alice).await?;
    let answer = until_item(&a, "answer", |event| from_alice(event)).await?;
    until("the reaction sent", async || {
        Ok(if a.toggle_reaction(&answer.identifier(), "👍").await? { Some("added again".to_owned()) } else { None })
    })
    .await?;
    until_item(&b, "answer", |event| !from_alice(event)).await?;
    seen("a reaction, taken back");

    a.send(RoomMessageEventContent::text_plain("slip").into()).await?;
    until_item(&b, "slip", |_| true).await?;
    let slip = until_item(&a, "slip", |_| true).await?;
    a.redact(&slip.identifier(), Some("a slip")).await?;
    until("the slip gone", async || Ok(item(&b, "slip").await.map(|_| "it is there".to_owned()))).await?;
    seen("a message removed");

    let (guard, mut typing) = room.subscribe_to_typing_notifications();
    his.room(room.room_id())?.typing_notice(true).await?;
    let told = tokio::time::timeout(std::time::Duration::from_secs(20), typing.recv()).await??;
    ensure!(told == vec![bob.user_id.clone()], "typing: {told:?}");
    drop(guard);
    b.mark_as_read(ReceiptType::Read).await?;
    until_item(&a, "answer", |event| event.read_receipts().contains_key(&bob.user_id)).await?;
    seen("that the other writes, and has read");

    pins_and_links(&hers, &his, &a, &room).await?;
    threads(&alice, &room, &his, &a).await?;
    picture(&his, &a, &b).await?;
    flags(&alice, &room).await?;

    his.client.account().set_display_name(Some("Bob the Builder")).await?;
    until("Bob's new name", async || {
        let sees = room.get_member(&bob.user_id).await?.and_then(|member| member.display_name().map(str::to_owned));
        Ok(differs(sees, &Some("Bob the Builder".to_owned())))
    })
    .await?;
    seen("the other's new name");
    Ok(())
}

async fn pins_and_links(hers: &Device, his: &Device, a: &Timeline, room: &Room) -> Result<()> {
    let question = until_item(a, "question", |_| true).await?;
    hers.room(room.room_id())?.pin_event(&id(&question)).await?;
    let his_room = his.room(room.room_id())?;
    until("the pin", async || Ok(differs(his_room.pinned_event_ids(), &Some(vec![id(&question)])))).await?;
    let pinned = focused(&his_room, TimelineFocus::PinnedEvents).await?;
    until("the pinned message", async || Ok(differs(texts(&pinned).await, &vec!["question".to_owned()]))).await?;
    let linked = focused(
        &his_room,
        TimelineFocus::Event {
            target: id(&question),
            num_context_events: 4,
            thread_mode: TimelineEventFocusThreadMode::Automatic { hide_threaded_events: false },
        },
    )
    .await?;
    until("the message and what is around it", async || Ok(differs(texts(&linked).await, &vec!["question".to_owned(), "answer".to_owned()]))).await?;
    seen("pinned messages, and a message by its link");
    Ok(())
}

async fn threads(alice: &Person, room: &Room, his: &Device, a: &Timeline) -> Result<()> {
    let root = id(&until_item(a, "question", |_| true).await?);
    let his_room = his.room(room.room_id())?;
    let his_thread = focused(&his_room, TimelineFocus::Thread { root_event_id: root.clone() }).await?;
    let her_thread = focused(room, TimelineFocus::Thread { root_event_id: root.clone() }).await?;
    for number in 0..3 {
        his_thread.send(RoomMessageEventContent::text_plain(format!("aside {number}")).into()).await?;
        until_item(&her_thread, &format!("aside {number}"), |_| true).await?;
    }
    until_item(a, "question", |event| event.content().thread_summary().is_some_and(|summary| summary.num_replies == 3)).await?;
    room.subscribe_thread(root.clone(), None).await?;
    let subscription = room.fetch_thread_subscription(root.clone()).await?;
    ensure!(subscription.is_some_and(|found| !found.automatic), "no subscription");
    // a device that has not seen it pages back to its root
    let mut tablet = alice.log_in().await?;
    tablet.start().await?;
    let there = tablet.has(room.room_id(), RoomState::Joined).await?;
    let again = focused(&there, TimelineFocus::Thread { root_event_id: root }).await?;
    while !again.paginate_backwards(2).await? {}
    let expected: Vec<String> = ["question", "aside 0", "aside 1", "aside 2"].map(str::to_owned).to_vec();
    until("the whole thread", async || Ok(differs(texts(&again).await, &expected))).await?;
    tablet.stop().await;
    seen("a thread, its summary and the subscription to it");
    Ok(())
}

async fn picture(his: &Device, a: &Timeline, b: &Timeline) -> Result<()> {
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let source = AttachmentSource::Data { bytes: bytes.clone(), filename: "picture.png".to_owned() };
    a.send_attachment(source, mime::IMAGE_PNG, AttachmentConfig::default()).await?;
    let event = until_item(b, "picture.png", |_| true).await?;
    let message = event.content().as_message().context("a message")?;
    let MessageType::Image(image) = message.msgtype() else { anyhow::bail!("no picture: {:?}", message.msgtype()) };
    let request = MediaRequestParameters { source: image.source.clone(), format: MediaFormat::File };
    ensure!(his.client.media().get_media_content(&request, false).await? == bytes, "other bytes");
    seen("a picture, with the same bytes");
    Ok(())
}

/// Marks of one's own, on another device.
async fn flags(alice: &Person, room: &Room) -> Result<()> {
    let mut tablet = alice.log_in().await?;
    tablet.start().await?;
    let there = tablet.has(room.room_id(), RoomState::Joined).await?;
    for on in [true, false] {
        room.set_is_favourite(on, None).await?;
        room.set_unread_flag(on).await?;
        until("the marks on another device", async || Ok(differs((there.is_favourite(), there.is_marked_unread()), &(on, on)))).await?;
    }
    tablet.stop().await;
    seen("a favourite, and marked as unread, on another device");
    Ok(())
}
