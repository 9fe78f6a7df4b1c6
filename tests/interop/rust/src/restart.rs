//! The server is restarted, in order and not, and forgets its connections, while a client looks at it.

use anyhow::Result;
use matrix_sdk::RoomState;

use crate::person::{Person, page_back, say_in, texts};
use crate::stage::{ask, differs, seen, until, until_within};

pub async fn play() -> Result<()> {
    let (alice, bob) = (Person::register("alice").await?, Person::register("bob").await?);
    let (mut phone, bobs) = (alice.log_in().await?, bob.log_in().await?);
    let room = bobs.create_room("Room", true, &[]).await?;
    phone.client.join_room_by_id(room.room_id()).await?;
    phone.start().await?;
    phone.has(room.room_id(), RoomState::Joined).await?;
    let timeline = phone.open(room.room_id()).await?;
    let mut said = vec!["before".to_owned()];
    say_in(&room, "before").await?;
    until("the first word", async || Ok(differs(texts(&timeline).await, &said))).await?;

    for how in ["restart", "kill", "forget"] {
        ask(how).await?;
        for number in 0..30 {
            said.push(format!("after {how} {}: {number}", said.len()));
            say_in(&room, said.last().expect("one")).await?;
        }
        until_within("the newest word", 120, async || Ok(differs(texts(&timeline).await.last().cloned(), &said.last().cloned()))).await?;
        page_back(&timeline).await?;
        until("each word once, in order", async || Ok(differs(texts(&timeline).await, &said))).await?;
        let made = bobs
            .create_room(
                &format!("Made after {how} {}", said.len()),
                false,
                &[phone.client.user_id().map(ToOwned::to_owned).as_ref().expect("logged in")],
            )
            .await?;
        phone.has(made.room_id(), RoomState::Invited).await?;
        seen(format!("after {how}, each word is there once, in order, and a new invitation"));
    }
    Ok(())
}
