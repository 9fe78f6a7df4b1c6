//! An encrypted conversation of two, key backup, and a second device that reads what was said before it was there.

use anyhow::{Result, ensure};
use matrix_sdk::RoomState;
use matrix_sdk::encryption::VerificationState;
use matrix_sdk::encryption::recovery::RecoveryState;

use crate::person::{Person, page_back, say_in, texts};
use crate::stage::{differs, seen, until};

pub async fn play() -> Result<()> {
    let (alice, bob) = (Person::register("alice").await?, Person::register("bob").await?);
    let (mut phone, mut bobs) = (alice.log_in().await?, bob.log_in().await?);
    phone.start().await?;
    bobs.start().await?;
    let dm = bobs.client.create_dm(&alice.user_id).await?;
    let id = dm.room_id();
    let invited = phone.has(id, RoomState::Invited).await?;
    until("an invitation that says to be direct", async || Ok(differs(invited.is_direct().await?, &true))).await?;
    invited.join().await?;
    let alices = phone.has(id, RoomState::Joined).await?;
    bobs.has(id, RoomState::Joined).await?;
    let (bobs_name, alices_name) = (bob.user_id.localpart().to_owned(), alice.user_id.localpart().to_owned());
    until("Bob's name for the conversation", async || Ok(differs(phone.names(), &vec![bobs_name.clone()]))).await?;
    until("Alice's name for the conversation", async || Ok(differs(bobs.names(), &vec![alices_name.clone()]))).await?;
    ensure!(alices.latest_encryption_state().await?.is_encrypted(), "not encrypted");
    seen("a conversation of two is named after the other");

    let (hers, his) = (phone.open(id).await?, bobs.open(id).await?);
    let mut said = Vec::new();
    for number in 0..10 {
        said.push(format!("word {number}"));
        say_in(if number % 2 == 0 { &dm } else { &alices }, &said[number]).await?;
        for timeline in [&hers, &his] {
            until("the word", async || Ok(differs(texts(timeline).await, &said))).await?;
        }
    }
    seen("both read each other's encrypted words");

    let key = phone.client.encryption().recovery().enable().wait_for_backups_to_upload().await?;
    until("recovery enabled", async || Ok(differs(phone.client.encryption().recovery().state(), &RecoveryState::Enabled))).await?;
    seen("recovery is set up, with a key backup");

    let mut tablet = alice.log_in().await?;
    tablet.start().await?;
    until("the need of the recovery key", async || Ok(differs(tablet.client.encryption().recovery().state(), &RecoveryState::Incomplete))).await?;
    tablet.has(id, RoomState::Joined).await?;
    let on_tablet = tablet.open(id).await?;
    page_back(&on_tablet).await?;
    until("words that it cannot read", async || Ok(differs(texts(&on_tablet).await, &vec!["?".to_owned(); said.len()]))).await?;
    tablet.client.encryption().recovery().recover(&key).await?;
    until("recovery", async || Ok(differs(tablet.client.encryption().recovery().state(), &RecoveryState::Enabled))).await?;
    let verification = tablet.client.encryption().verification_state();
    until("a verified device", async || Ok(differs(verification.get(), &VerificationState::Verified))).await?;
    until("what was said before", async || Ok(differs(texts(&on_tablet).await, &said))).await?;
    seen("a second device recovers by the key, is verified, and reads what was said before");

    said.push("to both of yours".to_owned());
    say_in(&dm, said.last().expect("one")).await?;
    for timeline in [&hers, &on_tablet] {
        until("the word on both devices", async || Ok(differs(texts(timeline).await, &said))).await?;
    }
    say_in(&tablet.room(id)?, "from the second").await?;
    said.push("from the second".to_owned());
    until("the second device's word", async || Ok(differs(texts(&his).await, &said))).await?;
    seen("both devices go on reading, and the second one writes");

    // an application that was closed while 60 words were said, the sender's key changed in between
    drop(hers);
    phone.stop().await;
    for number in 0..60 {
        if number == 30 {
            dm.discard_room_key().await?;
        }
        said.push(format!("later {number}"));
        say_in(&dm, said.last().expect("one")).await?;
    }
    let mut phone = phone.reopen().await?;
    phone.start().await?;
    let hers = phone.open(id).await?;
    until("the newest word", async || Ok(differs(texts(&hers).await.last().cloned(), &said.last().cloned()))).await?;
    page_back(&hers).await?;
    until("each word once, readable", async || Ok(differs(texts(&hers).await, &said))).await?;
    seen("after 60 encrypted words while away, each is readable, once, in order");
    Ok(())
}
