//! More rooms than the list shows at a time, and than the SDK asks for at once: all of them, in order, and again after a restart.

use anyhow::Result;
use futures_util::future::try_join_all;
use matrix_sdk::Room;

use crate::person::{Device, Person, say_in};
use crate::stage::{ask, differs, seen, until_within};

const ROOMS: usize = 150;
const AT_ONCE: usize = 15;
const SECONDS: u64 = 120;

async fn make(phone: &Device, bobs: &Device, number: usize) -> Result<Room> {
    let room = bobs.create_room(&format!("Room {number:03}"), true, &[]).await?;
    phone.client.join_room_by_id(room.room_id()).await?;
    Ok(room)
}

fn named(numbers: &[usize]) -> Vec<String> {
    numbers.iter().rev().map(|number| format!("Room {number:03}")).collect()
}

async fn shows(phone: &Device, order: &[usize], when: &str) -> Result<()> {
    let expected = named(order);
    until_within(&format!("all rooms in order {when}"), SECONDS, async || Ok(differs(phone.names(), &expected))).await?;
    seen(format!("{ROOMS} rooms, the newest message first, {when}"));
    Ok(())
}

/// A message in a room brings it to the top.
async fn say(rooms: &[Room], order: &mut Vec<usize>, number: usize) -> Result<()> {
    say_in(&rooms[number], &format!("in {number}")).await?;
    order.retain(|&each| each != number);
    order.push(number);
    Ok(())
}

pub async fn play() -> Result<()> {
    let (alice, bob) = (Person::register("alice").await?, Person::register("bob").await?);
    let (mut phone, bobs) = (alice.log_in().await?, bob.log_in().await?);
    let mut rooms = Vec::new();
    for first in (0..ROOMS).step_by(AT_ONCE) {
        rooms.extend(try_join_all((first..first + AT_ONCE).map(|number| make(&phone, &bobs, number))).await?);
    }
    let mut order = Vec::new();
    for number in 0..ROOMS {
        say(&rooms, &mut order, number * 47 % ROOMS).await?;
    }
    phone.start().await?;
    shows(&phone, &order, "at first").await?;
    for number in [order[0], order[70], order[ROOMS - 2]] {
        say(&rooms, &mut order, number).await?;
    }
    shows(&phone, &order, "after messages from the end, the middle and the top").await?;

    phone.stop().await;
    for number in 0..40 {
        say(&rooms, &mut order, number * 31 % ROOMS).await?;
    }
    let mut phone = phone.reopen().await?;
    phone.start().await?;
    shows(&phone, &order, "after the application was closed").await?;

    for how in ["restart", "kill", "forget"] {
        ask(how).await?;
        for number in [order[0], order[100]] {
            say(&rooms, &mut order, number).await?;
        }
        shows(&phone, &order, &format!("after the server's {how}")).await?;
    }
    Ok(())
}
