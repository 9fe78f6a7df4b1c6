//! A push notification wakes the application: it is not syncing, and asks for the one event (`NotificationClient`, a connection of its own).

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use matrix_sdk::ruma::api::client::state::get_state_event_for_key;
use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;
use matrix_sdk::{RoomState, ruma::events::StateEventType};
use matrix_sdk_ui::notification_client::{NotificationClient, NotificationEvent, NotificationItem, NotificationProcessSetup, NotificationStatus};
use matrix_sdk_ui::sync_service::SyncService;

use crate::person::Person;
use crate::stage::{differs, seen, until};

pub async fn play() -> Result<()> {
    let (alice, bob) = (Person::register("alice").await?, Person::register("bob").await?);
    let (mut phone, mut his) = (alice.log_in().await?, bob.log_in().await?);
    phone.start().await?;
    his.start().await?;
    let dm = his.client.create_dm(&alice.user_id).await?;
    phone.has(dm.room_id(), RoomState::Invited).await?.join().await?;
    phone.has(dm.room_id(), RoomState::Joined).await?;
    let his_dm = his.has(dm.room_id(), RoomState::Joined).await?;
    until("Alice in the room", async || Ok(differs(his_dm.joined_members_count(), &2))).await?;
    let phone = phone.reopen().await?; // and does not sync from now on

    let sync = Arc::new(SyncService::builder(phone.client.clone()).build().await?);
    let client = NotificationClient::new(phone.client.clone(), NotificationProcessSetup::SingleProcess { sync_service: sync }).await?;
    for number in 0..3 {
        let text = format!("secret {number}");
        let sent = dm.send(RoomMessageEventContent::text_plain(&text)).await?.response.event_id;
        let found = shown(client.get_notification(dm.room_id(), &sent).await?)?;
        let NotificationEvent::Timeline(event) = &found.event else { bail!("no message: {found:?}") };
        let content = format!("{event:?}");
        ensure!(content.contains(&text), "not decrypted: {content}");
        ensure!(found.sender_display_name.as_deref() == Some(bob.user_id.localpart()), "from {:?}", found.sender_display_name);
        ensure!(found.is_noisy == Some(true) && found.room_computed_display_name == bob.user_id.localpart(), "shown as {found:?}");
    }
    seen("an encrypted message, with the name of its sender, for an application that was asleep");

    let room = his.create_room("Party", false, &[&alice.user_id]).await?;
    let mut request = get_state_event_for_key::v3::Request::new(room.room_id().to_owned(), StateEventType::RoomMember, alice.user_id.to_string());
    request.format = get_state_event_for_key::v3::StateEventFormat::Event;
    let event: serde_json::Value = serde_json::from_str(his.client.send(request).await?.into_event().json().get())?;
    let id = matrix_sdk::ruma::EventId::parse(event["event_id"].as_str().context("an id")?)?;
    let found = shown(client.get_notification(room.room_id(), &id).await?)?;
    ensure!(matches!(found.event, NotificationEvent::Invite(_)) && found.room_computed_display_name == "Party", "shown as {found:?}");
    seen("an invitation");
    Ok(())
}

fn shown(status: NotificationStatus) -> Result<NotificationItem> {
    match status {
        NotificationStatus::Event(item) => Ok(*item),
        other => bail!("not shown: {other:?}"),
    }
}
