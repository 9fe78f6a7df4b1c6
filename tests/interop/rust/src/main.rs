//! Plays of matrix-rust-sdk, the engine of Element X: whole clients on a whole server. Usage: `HOMESERVER_URL=… SCRATCH=… atrium-rust-plays PLAY`.
//!
//! What a play has seen come true is said on standard output, a line of JSON each; what it cannot do itself (restart the server) it
//! asks of the test that started it, as the plays of `../js` do.

mod call;
mod conversation;
mod encryption;
mod many;
mod person;
mod places;
mod push;
mod restart;
mod rooms;
mod stage;

use anyhow::{Result, bail};

#[tokio::main]
async fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    let seconds = std::env::var("PLAY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300.0);
    let limit = std::time::Duration::from_secs_f64(seconds);
    let ended = match tokio::time::timeout(limit, play(&name)).await {
        Ok(ended) => ended,
        Err(_) => Err(anyhow::anyhow!("not over after {seconds} s")),
    };
    match ended {
        Ok(()) => stage::say(&serde_json::json!({ "done": true })),
        Err(error) => {
            eprintln!("{error:?}");
            std::process::exit(1);
        }
    }
    std::process::exit(0); // whatever the SDK still has running
}

async fn play(name: &str) -> Result<()> {
    match name {
        "rooms" => rooms::play().await,
        "away" => rooms::away().await,
        "encryption" => encryption::play().await,
        "conversation" => conversation::play().await,
        "places" => places::play().await,
        "push" => push::play().await,
        "call" => call::play().await,
        "many" => many::play().await,
        "restart" => restart::play().await,
        _ => bail!("no such play: {name:?}"),
    }
}
