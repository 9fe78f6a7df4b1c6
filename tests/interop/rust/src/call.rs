//! Membership of a call, and its end by a delayed event (MSC4140, MSC4143), with the requests that Element X sends for its widget.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use matrix_sdk::ruma::api::client::delayed_events::{DelayParameters, delayed_state_event, update_delayed_event};
use matrix_sdk::ruma::events::StateEventType;
use matrix_sdk::ruma::serde::Raw;
use matrix_sdk::{Client, Room, RoomState};
use serde_json::{Value, json};
use update_delayed_event::unstable::UpdateAction;

use crate::person::Person;
use crate::stage::{differs, seen, until};

const TYPE: &str = "org.matrix.msc3401.call.member";
const DELAY: Duration = Duration::from_secs(4);

fn membership(client: &Client) -> Value {
    json!({
        "application": "m.call", "call_id": "", "scope": "m.room", "device_id": client.device_id(), "expires": 14_400_000, "m.call.intent": "video",
        "focus_active": { "type": "livekit", "focus_selection": "oldest_membership" },
        "foci_preferred": [{ "type": "livekit", "livekit_alias": "x", "livekit_service_url": "https://livekit.example.com" }],
    })
}

async fn delayed_leave(client: &Client, room: &Room, key: &str) -> Result<String> {
    let request = delayed_state_event::unstable::Request::new_raw(
        room.room_id().to_owned(),
        key.to_owned(),
        StateEventType::from(TYPE),
        DelayParameters::Timeout { timeout: DELAY },
        Raw::new(&json!({}))?.cast_unchecked(),
    );
    Ok(client.send(request).await?.delay_id)
}

async fn update(client: &Client, delay_id: &str, action: UpdateAction) -> Result<()> {
    client.send(update_delayed_event::unstable::Request::new(delay_id.to_owned(), action)).await?;
    Ok(())
}

pub async fn play() -> Result<()> {
    let (alice, bob) = (Person::register("alice").await?, Person::register("bob").await?);
    let (mut phone, mut bobs) = (alice.log_in().await?, bob.log_in().await?);
    phone.start().await?;
    bobs.start().await?;
    let room = phone.create_room("Hall", true, &[]).await?;
    bobs.client.join_room_by_id(room.room_id()).await?;
    let seen_by_bob = bobs.has(room.room_id(), RoomState::Joined).await?;
    let client = &phone.client;
    let key = format!("_{}_{}_m.call", alice.user_id, client.device_id().expect("logged in"));
    let in_call = async |expected: bool| {
        until(if expected { "Alice in the call" } else { "nobody in the call" }, async || {
            let sees = (seen_by_bob.has_active_room_call(), seen_by_bob.active_room_call_participants());
            Ok(differs(sees, &(expected, if expected { vec![alice.user_id.clone()] } else { vec![] })))
        })
        .await
    };

    // put off again and again, twice as long as it would last by itself
    let delay_id = delayed_leave(client, &room, &key).await?;
    room.send_state_event_raw(TYPE, &key, membership(client)).await?;
    in_call(true).await?;
    let start = Instant::now();
    while start.elapsed() < DELAY * 2 {
        tokio::time::sleep(DELAY / 4).await;
        update(client, &delay_id, UpdateAction::Restart).await?;
        ensure!(seen_by_bob.has_active_room_call(), "the call ended although its end was put off");
    }
    seen("a membership lasts as long as its end is put off");
    let after = in_call(false).await?;
    ensure!(update(client, &delay_id, UpdateAction::Restart).await.is_err(), "what was sent was put off");
    seen(format!("and ends by itself {:.1} s after the last time, having been told {DELAY:?}", after.as_secs_f64()));

    let delay_id = delayed_leave(client, &room, &key).await?;
    room.send_state_event_raw(TYPE, &key, membership(client)).await?;
    in_call(true).await?;
    update(client, &delay_id, UpdateAction::Send).await?;
    let after = in_call(false).await?;
    seen(format!("or at once when it is sent ({:.1} s)", after.as_secs_f64()));

    let delay_id = delayed_leave(client, &room, &key).await?;
    room.send_state_event_raw(TYPE, &key, membership(client)).await?;
    in_call(true).await?;
    update(client, &delay_id, UpdateAction::Cancel).await?;
    tokio::time::sleep(DELAY + Duration::from_secs(2)).await;
    ensure!(seen_by_bob.has_active_room_call(), "the call ended although its end was cancelled");
    room.send_state_event_raw(TYPE, &key, json!({})).await?;
    in_call(false).await?;
    seen("and does not when it is cancelled");
    Ok(())
}
