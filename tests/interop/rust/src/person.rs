//! People and their devices: registering and logging in as a client does, and looking at what Element X would show.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use futures_util::{StreamExt, pin_mut};
use matrix_sdk::authentication::matrix::MatrixSession;
use matrix_sdk::encryption::{BackupDownloadStrategy, EncryptionSettings};
use matrix_sdk::ruma::api::client::account::register;
use matrix_sdk::ruma::api::client::room::create_room;
use matrix_sdk::ruma::api::client::uiaa::{AuthData, Dummy};
use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;
use matrix_sdk::ruma::{OwnedUserId, RoomId};
use matrix_sdk::{Client, Room, RoomState, ThreadingSupport, config::RequestConfig};
use matrix_sdk_ui::eyeball_im::Vector;
use matrix_sdk_ui::room_list_service::{RoomListItem, filters::new_filter_non_left};
use matrix_sdk_ui::sync_service::SyncService;
use matrix_sdk_ui::timeline::{RoomExt, Timeline, TimelineItem};

use crate::stage::until;

/// Rooms that the list shows at a time.
const PAGE: usize = 100;
const SCROLLS: std::time::Duration = std::time::Duration::from_millis(300);

static DEVICES: AtomicU32 = AtomicU32::new(0);

pub struct Person {
    pub user_id: OwnedUserId,
    name: String,
    password: String,
}

impl Person {
    /// Registers an account whose name nobody else has.
    pub async fn register(name: &str) -> Result<Self> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
        let (username, password) = (format!("{name}-{now:x}"), format!("password of {name}"));
        let client = Client::builder().homeserver_url(homeserver()).build().await?;
        let mut request = register::v3::Request::new();
        request.username = Some(username.clone());
        request.password = Some(password.clone());
        request.inhibit_login = true;
        let refused = client.matrix_auth().register(request.clone()).await.err().context("registered without authentication")?;
        let session = refused.as_uiaa_response().and_then(|offer| offer.session.clone());
        let mut dummy = Dummy::new();
        dummy.session = session;
        request.auth = Some(AuthData::Dummy(dummy));
        let answer = client.matrix_auth().register(request).await?;
        Ok(Self { user_id: answer.user_id, name: name.to_owned(), password })
    }

    /// Logs in on a new device; it does not sync yet.
    pub async fn log_in(&self) -> Result<Device> {
        let scratch = PathBuf::from(std::env::var("SCRATCH")?);
        let store = scratch.join(format!("{}-{}", self.name, DEVICES.fetch_add(1, Ordering::Relaxed)));
        let client = client(&store).await?;
        client.matrix_auth().login_username(&self.user_id, &self.password).initial_device_display_name(&self.name).send().await?;
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        Ok(Device { client, store, sync: None, shown: Arc::default() })
    }
}

fn homeserver() -> String {
    std::env::var("HOMESERVER_URL").expect("HOMESERVER_URL")
}

async fn client(store: &PathBuf) -> Result<Client> {
    let settings = EncryptionSettings {
        auto_enable_cross_signing: true,
        backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
        auto_enable_backups: true,
    };
    let patience = RequestConfig::new().timeout(std::time::Duration::from_secs(60));
    Ok(Client::builder()
        .homeserver_url(homeserver())
        .sqlite_store(store, None)
        .request_config(patience)
        .with_encryption_settings(settings)
        .with_threading_support(ThreadingSupport::Enabled { with_subscriptions: true })
        .build()
        .await?)
}

/// One logged-in client, with the list of rooms that it shows.
pub struct Device {
    pub client: Client,
    store: PathBuf,
    sync: Option<SyncService>,
    shown: Arc<Mutex<Vector<RoomListItem>>>,
}

impl Device {
    /// Starts what Element X starts: the service that syncs rooms and encryption, and the list of rooms, 100 at a time.
    pub async fn start(&mut self) -> Result<()> {
        let sync = SyncService::builder(self.client.clone()).with_offline_mode().build().await?;
        let (service, shown) = (sync.room_list_service(), Arc::clone(&self.shown));
        tokio::spawn(async move {
            let list = service.all_rooms().await.expect("the list of all rooms");
            let (changes, controller) = list.entries_with_dynamic_adapters(PAGE);
            controller.set_filter(Box::new(new_filter_non_left()));
            pin_mut!(changes);
            loop {
                tokio::select! {
                    changes = changes.next() => {
                        let Some(changes) = changes else { break };
                        let mut shown = shown.lock().expect("no panic");
                        for change in changes {
                            change.apply(&mut shown);
                        }
                    }
                    // Whoever looks at the list scrolls down.
                    () = tokio::time::sleep(SCROLLS) => controller.add_one_page(),
                }
            }
        });
        sync.start().await;
        self.sync = Some(sync);
        Ok(())
    }

    /// The application is closed.
    pub async fn stop(&mut self) {
        if let Some(sync) = self.sync.take() {
            sync.stop().await;
        }
    }

    /// The application is closed and opened again: it knows what it has stored, and who it is.
    pub async fn reopen(mut self) -> Result<Self> {
        self.stop().await;
        let session: MatrixSession = self.client.matrix_auth().session().context("logged in")?;
        let store = self.store;
        drop(self.client);
        let client = client(&store).await?;
        client.restore_session(session).await?;
        Ok(Self { client, store, sync: None, shown: Arc::default() })
    }

    /// The rooms that it shows, in their order.
    pub fn shown(&self) -> Vec<Room> {
        self.shown.lock().expect("no panic").iter().map(|item| item.clone().into_inner()).collect()
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.shown().iter().map(name).collect()
    }

    pub fn room(&self, id: &RoomId) -> Result<Room> {
        self.client.get_room(id).with_context(|| format!("room {id}"))
    }

    /// Waits until a room is there with a membership of ours.
    pub async fn has(&self, id: &RoomId, state: RoomState) -> Result<Room> {
        until(&format!("{state:?} in {id}"), async || {
            let sees = self.client.get_room(id).map(|room| room.state());
            Ok((sees != Some(state)).then(|| format!("{sees:?}")))
        })
        .await?;
        self.room(id)
    }

    /// A room is looked at: the server is asked for more of it, as when Element X opens it.
    pub async fn open(&self, id: &RoomId) -> Result<Timeline> {
        if let Some(sync) = &self.sync {
            sync.room_list_service().subscribe_to_rooms(&[id]).await;
        }
        Ok(self.room(id)?.timeline().await?)
    }

    /// A room of this name in which everybody may call; `public`: may be joined by its id.
    pub async fn create_room(&self, name: &str, public: bool, invite: &[&OwnedUserId]) -> Result<Room> {
        let mut request = create_room::v3::Request::new();
        request.name = Some(name.to_owned());
        request.preset = Some(if public { create_room::v3::RoomPreset::PublicChat } else { create_room::v3::RoomPreset::PrivateChat });
        request.invite = invite.iter().map(|&user| user.clone()).collect();
        let levels = serde_json::json!({ "events": { "org.matrix.msc3401.call.member": 0 } });
        request.power_level_content_override = Some(matrix_sdk::ruma::serde::Raw::new(&levels)?.cast_unchecked());
        Ok(self.client.create_room(request).await?)
    }
}

pub fn name(room: &Room) -> String {
    room.cached_display_name().map(|name| name.to_string()).unwrap_or_default()
}

/// Sends a text, and waits for the server's answer.
pub async fn say_in(room: &Room, text: &str) -> Result<()> {
    room.send(RoomMessageEventContent::text_plain(text)).await?;
    Ok(())
}

/// The texts of a timeline, oldest first; `?` for what cannot be decrypted.
pub async fn texts(timeline: &Timeline) -> Vec<String> {
    timeline.items().await.iter().filter_map(|item| text(item)).collect()
}

fn text(item: &TimelineItem) -> Option<String> {
    let content = item.as_event()?.content();
    if content.is_unable_to_decrypt() {
        return Some("?".to_owned());
    }
    Some(content.as_message()?.body().to_owned())
}

/// Pages back to where the room begins.
pub async fn page_back(timeline: &Timeline) -> Result<()> {
    while !timeline.paginate_backwards(30).await? {}
    Ok(())
}
