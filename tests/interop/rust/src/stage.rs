//! Lines to and from the test, and waiting for what comes true.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

pub fn say(line: &Value) {
    println!("{line}");
}

/// Names what the play has just seen come true.
pub fn seen(step: impl AsRef<str>) {
    say(&json!({ "seen": step.as_ref() }));
}

/// Asks the test for something and gives its answer back.
pub async fn ask(what: &str) -> Result<Value> {
    say(&json!({ "ask": what }));
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    })
    .await??;
    let answer: Value = serde_json::from_str(&line).with_context(|| format!("nobody answered: {what}"))?;
    if let Some(error) = answer.get("error") {
        bail!("{what}: {error}");
    }
    Ok(answer)
}

/// Looks again and again, for 60 seconds. `check` answers None when it is so, and what it sees otherwise.
pub async fn until(what: &str, check: impl AsyncFnMut() -> Result<Option<String>>) -> Result<Duration> {
    until_within(what, 60, check).await
}

pub async fn until_within(what: &str, seconds: u64, mut check: impl AsyncFnMut() -> Result<Option<String>>) -> Result<Duration> {
    let start = Instant::now();
    loop {
        match check().await? {
            None => return Ok(start.elapsed()),
            Some(sight) if start.elapsed() > Duration::from_secs(seconds) => {
                bail!("waited {seconds} s for: {what}; sees {sight}")
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What `until` wants: nothing if both are the same.
pub fn differs<T: PartialEq + std::fmt::Debug>(sees: T, expected: &T) -> Option<String> {
    (&sees != expected).then(|| format!("{sees:?}"))
}
