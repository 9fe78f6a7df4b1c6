//! How people find each other and rooms: spaces, the directories of rooms and of people, previews and knocks.

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use matrix_sdk::room_directory_search::RoomDirectorySearch;
use matrix_sdk::ruma::api::client::room::{Visibility, create_room};
use matrix_sdk::ruma::events::room::join_rules::JoinRule;
use matrix_sdk::ruma::room::{JoinRuleSummary, RoomType};
use matrix_sdk::{Client, Room, RoomState};
use matrix_sdk_ui::spaces::{SpaceRoomList, SpaceService};

use crate::person::{Device, Person};
use crate::stage::{differs, seen, until};

const CHILDREN: usize = 6;

pub async fn play() -> Result<()> {
    let (alice, bob) = (Person::register("alice").await?, Person::register("bob").await?);
    let (mut hers, mut his) = (alice.log_in().await?, bob.log_in().await?);
    hers.start().await?;
    his.start().await?;
    spaces(&hers, &his).await?;
    directories(&hers, &his, &bob).await?;
    knocks(&hers, &his, &bob).await
}

async fn children(client: &Client, space: &Room) -> Result<Vec<(String, Option<RoomState>)>> {
    let list = SpaceRoomList::new(client.clone(), space.room_id().to_owned()).await;
    list.paginate().await?;
    let mut found: Vec<_> = list.rooms().await.into_iter().map(|room| (room.display_name, room.state)).collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

async fn spaces(hers: &Device, his: &Device) -> Result<()> {
    let mut request = create_room::v3::Request::new();
    request.name = Some("Company".to_owned());
    request.preset = Some(create_room::v3::RoomPreset::PublicChat);
    let mut content = create_room::v3::CreationContent::new();
    content.room_type = Some(RoomType::Space);
    request.creation_content = Some(matrix_sdk::ruma::serde::Raw::new(&content)?);
    let space = hers.client.create_room(request).await?;
    let service = SpaceService::new(hers.client.clone()).await;
    hers.has(space.room_id(), RoomState::Joined).await?;
    let mut expected = Vec::new();
    for number in 0..CHILDREN {
        let room = hers.create_room(&format!("Team {number}"), true, &[]).await?;
        hers.has(room.room_id(), RoomState::Joined).await?;
        until("power levels", async || Ok(room.power_levels().await.err().map(|error| error.to_string()))).await?;
        service.add_child_to_space(room.room_id().to_owned(), space.room_id().to_owned()).await?;
        if number == 0 {
            his.client.join_room_by_id(room.room_id()).await?;
        }
        expected.push((format!("Team {number}"), (number == 0).then_some(RoomState::Joined)));
    }
    his.client.join_room_by_id(space.room_id()).await?;
    his.has(space.room_id(), RoomState::Joined).await?;
    let of_his = SpaceService::new(his.client.clone()).await;
    until("the space at the top", async || {
        let top: Vec<String> = of_his.top_level_joined_spaces().await.into_iter().map(|room| room.display_name).collect();
        Ok(differs(top, &vec!["Company".to_owned()]))
    })
    .await?;
    until("the space's rooms", async || Ok(differs(children(&his.client, &space).await?, &expected))).await?;
    seen(format!("a space with {CHILDREN} rooms"));
    Ok(())
}

async fn directories(hers: &Device, his: &Device, bob: &Person) -> Result<()> {
    let mark = format!("{:x}", std::process::id());
    for number in 0..3 {
        let room = hers.create_room(&format!("Listed {mark} {number}"), true, &[]).await?;
        room.privacy_settings().update_room_visibility(Visibility::Public).await?;
    }
    let mut expected: Vec<String> = (0..3).map(|number| format!("Listed {mark} {number}")).collect();
    until("the listed rooms", async || {
        let mut search = RoomDirectorySearch::new(his.client.clone());
        search.search(Some(mark.clone()), 2, None).await?;
        while !search.is_at_last_page() {
            search.next_page().await?;
        }
        let mut names: Vec<String> = search.results().0.into_iter().filter_map(|room| room.name).collect();
        names.sort();
        Ok(differs(names, &expected))
    })
    .await?;
    expected.clear();
    until("Bob among the people", async || {
        let found = hers.client.search_users(bob.user_id.localpart(), 10).await?;
        Ok((!found.results.iter().any(|user| user.user_id == bob.user_id)).then(|| format!("{} people", found.results.len())))
    })
    .await?;
    seen("the directories of rooms, by pages, and of people");
    Ok(())
}

async fn knocks(hers: &Device, his: &Device, bob: &Person) -> Result<()> {
    let room = hers.create_room("Closed", false, &[]).await?;
    let room = hers.has(room.room_id(), RoomState::Joined).await?;
    room.privacy_settings().update_join_rule(JoinRule::Knock).await?;
    let preview = his.client.get_room_preview(room.room_id().into(), vec![]).await?;
    ensure!(preview.name.as_deref() == Some("Closed") && preview.num_joined_members == 1, "preview: {preview:?}");
    ensure!(matches!(preview.join_rule, Some(JoinRuleSummary::Knock)), "preview: {preview:?}");
    let (requests, _task) = room.subscribe_to_knock_requests().await?;
    let mut requests = std::pin::pin!(requests);
    his.client.knock(room.room_id().to_owned().into(), Some("please".to_owned()), vec![]).await?;
    his.has(room.room_id(), RoomState::Knocked).await?;
    let asked = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        loop {
            let mut all = requests.next().await.context("no more requests")?;
            if let Some(asked) = all.pop() {
                return anyhow::Ok(asked);
            }
        }
    })
    .await??;
    ensure!(asked.member_info.user_id == bob.user_id && asked.member_info.reason.as_deref() == Some("please"), "asked: {asked:?}");
    asked.accept().await?;
    his.has(room.room_id(), RoomState::Invited).await?.join().await?;
    his.has(room.room_id(), RoomState::Joined).await?;
    seen("a preview, a knock and its acceptance");
    Ok(())
}
