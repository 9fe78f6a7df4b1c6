//! The list of rooms with names, order and counts; messages as they arrive, and what was missed; receipts; invitations.

use anyhow::{Result, ensure};
use matrix_sdk::ruma::api::client::receipt::create_receipt::v3::ReceiptType;
use matrix_sdk::{Room, RoomState};

use crate::person::{Device, Person, page_back, say_in, texts};
use crate::stage::{differs, seen, until};

const ROOMS: usize = 50;
const INVITED: usize = 3;

fn counts(room: &Room) -> (u64, u64, u64) {
    (room.num_unread_messages(), room.num_unread_notifications(), room.unread_notification_counts().notification_count)
}

/// Rooms of Bob's that Alice is in, in the order of their making.
async fn make_rooms(alice: &Device, bob: &Device) -> Result<Vec<Room>> {
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        let room = bob.create_room(&format!("Room {number:02}"), true, &[]).await?;
        alice.client.join_room_by_id(room.room_id()).await?;
        rooms.push(room);
    }
    Ok(rooms)
}

pub async fn play() -> Result<()> {
    let (alice, bob) = (Person::register("alice").await?, Person::register("bob").await?);
    let (mut phone, bobs) = (alice.log_in().await?, bob.log_in().await?);
    let rooms = make_rooms(&phone, &bobs).await?;
    for room in &rooms {
        say_in(room, "first").await?;
    }
    phone.start().await?;
    let expected: Vec<String> = (0..ROOMS).rev().map(|number| format!("Room {number:02}")).collect();
    until("all rooms by name, the newest message first", async || Ok(differs(phone.names(), &expected))).await?;
    seen(format!("{ROOMS} rooms by name, the newest message first"));

    // in an order that is not that of their making
    let order: Vec<usize> = (0..ROOMS).map(|number| number * 17 % ROOMS).collect();
    for room in &rooms {
        let room = phone.room(room.room_id())?;
        until("one unread message", async || Ok(differs(counts(&room), &(1, 1, 1)))).await?;
    }
    for &number in &order {
        let room = phone.room(rooms[number].room_id())?;
        for text in 0..=number % 4 {
            say_in(&rooms[number], &format!("{number}: {text}")).await?;
            let count = text as u64 + 2;
            until(&format!("{count} unread in room {number}"), async || Ok(differs(counts(&room), &(count, count, count)))).await?;
        }
    }
    let expected: Vec<String> = order.iter().rev().map(|number| format!("Room {number:02}")).collect();
    until("the order of the newest messages", async || Ok(differs(phone.names(), &expected))).await?;
    seen("live messages reorder the list, and are counted, by the client and by the server");

    burst(&phone, &rooms[21]).await?;
    receipts(&alice, &phone, &rooms).await?;
    invitations(&phone, &bobs, &alice).await
}

/// The list has one event of each room, so of many at once the client knows the last one only; the server's count knows better,
/// and when the room is opened, so does the client.
async fn burst(phone: &Device, room: &Room) -> Result<()> {
    let known = phone.room(room.room_id())?;
    let expected = counts(&known).2 + 10;
    for text in 0..10 {
        say_in(room, &format!("burst {text}")).await?;
    }
    until("the server's count", async || Ok(differs(counts(&known).2, &expected))).await?;
    let timeline = phone.open(room.room_id()).await?;
    until("the client's count", async || Ok(differs(counts(&known), &(expected, expected, expected)))).await?;
    drop(timeline);
    seen("of many at once the server counts each, and so does the client that opens the room");
    Ok(())
}

/// Reading a room clears its counts, here and on another device.
async fn receipts(alice: &Person, phone: &Device, rooms: &[Room]) -> Result<()> {
    let mut tablet = alice.log_in().await?;
    tablet.start().await?;
    until("all rooms on another device", async || Ok(differs(tablet.names(), &phone.names()))).await?;
    seen("another device shows the same list");
    for (number, kind) in [(7, ReceiptType::Read), (14, ReceiptType::ReadPrivate)] {
        let id = rooms[number].room_id();
        let on_tablet = tablet.room(id)?;
        ensure!(counts(&on_tablet).2 > 0, "the server counts nothing in room {number}");
        let timeline = phone.open(id).await?;
        let last = format!("{number}: {}", number % 4);
        until("the last message", async || Ok(differs(texts(&timeline).await.last().cloned(), &Some(last.clone())))).await?;
        ensure!(timeline.mark_as_read(kind).await?, "nothing was marked as read");
        for room in [phone.room(id)?, on_tablet] {
            until("nothing unread", async || Ok(differs(counts(&room), &(0, 0, 0)))).await?;
        }
    }
    seen("receipts, public and private, clear the counts on both devices");
    tablet.stop().await;
    Ok(())
}

async fn invitations(phone: &Device, bobs: &Device, alice: &Person) -> Result<()> {
    for number in 0..INVITED {
        let room = bobs.create_room(&format!("Invitation {number}"), false, &[&alice.user_id]).await?;
        let invited = phone.has(room.room_id(), RoomState::Invited).await?;
        until("the invitation's name in the list", async || {
            Ok((!phone.names().contains(&format!("Invitation {number}"))).then(|| format!("{:?}", phone.names())))
        })
        .await?;
        if number == 0 {
            invited.leave().await?;
            until("the refused one gone", async || Ok(phone.names().contains(&"Invitation 0".to_owned()).then(|| "it is there".to_owned()))).await?;
            continue;
        }
        invited.join().await?;
        phone.has(room.room_id(), RoomState::Joined).await?;
        say_in(&room, "welcome").await?;
        let timeline = phone.open(room.room_id()).await?;
        until("the welcome", async || Ok(differs(texts(&timeline).await, &vec!["welcome".to_owned()]))).await?;
    }
    seen("invitations are shown, refused and accepted");
    Ok(())
}

/// Many messages are sent while the application is closed.
pub async fn away() -> Result<()> {
    let (alice, bob) = (Person::register("alice").await?, Person::register("bob").await?);
    let (mut phone, bobs) = (alice.log_in().await?, bob.log_in().await?);
    let busy = bobs.create_room("Busy", true, &[]).await?;
    let quiet = bobs.create_room("Quiet", true, &[]).await?;
    for room in [&busy, &quiet] {
        phone.client.join_room_by_id(room.room_id()).await?;
    }
    let mut sent = Vec::new();
    phone.start().await?;
    phone.has(busy.room_id(), RoomState::Joined).await?;
    let timeline = phone.open(busy.room_id()).await?;
    for number in 0..30 {
        sent.push(format!("before {number}"));
        say_in(&busy, &sent[number]).await?;
    }
    until("the live messages", async || Ok(differs(texts(&timeline).await.last().cloned(), &sent.last().cloned()))).await?;
    seen("live messages arrive in an open room");
    drop(timeline);
    phone.stop().await;

    for number in 0..200 {
        sent.push(format!("meanwhile {number}"));
        say_in(&busy, sent.last().expect("one")).await?;
    }
    let made = bobs.create_room("Made meanwhile", false, &[&alice.user_id]).await?;
    say_in(&quiet, "one word").await?;

    let mut phone = phone.reopen().await?;
    phone.start().await?;
    let expected = ["Quiet", "Made meanwhile", "Busy"].map(str::to_owned).to_vec();
    until("the list after its return", async || {
        let mut sees = phone.names();
        sees.sort();
        let mut expected = expected.clone();
        expected.sort();
        Ok(differs(sees, &expected))
    })
    .await?;
    phone.has(made.room_id(), RoomState::Invited).await?;
    let timeline = phone.open(busy.room_id()).await?;
    until("the newest message", async || Ok(differs(texts(&timeline).await.last().cloned(), &sent.last().cloned()))).await?;
    page_back(&timeline).await?;
    until("each message once, in order", async || Ok(differs(texts(&timeline).await, &sent))).await?;
    seen("after 200 messages while away, each is there once, in order");
    say_in(&busy, "now").await?;
    sent.push("now".to_owned());
    until("a live message behind them", async || Ok(differs(texts(&timeline).await, &sent))).await?;
    seen("and goes on live");
    Ok(())
}
