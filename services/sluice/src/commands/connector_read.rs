//! `sluice connector spec|discover|read`: a connector's read side in the standard protocol, so that
//! it can stand in for the reference runtime. Messages go to stdout, one JSON object a line.

use std::{io::Write, path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use sluice_connectors::{
    http::{HttpClient, HttpOptions},
    library,
    limiter::Limiter,
    source::{
        Patience, Source,
        protocol::{Message, ReadRequest},
    },
};
use sluice_core::{Error, Result, secret::SecretConfig};
use tokio::sync::{mpsc, oneshot};

use crate::{cli::ConnectorReadArgs, exit::Exit};

/// Batches of messages, of a page each at most, between reading and printing.
const AHEAD: usize = 4;
/// The longest wait the other side may ask for before the read gives up.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

pub fn spec(dir: &Path) -> Result<Exit> {
    told(print_spec(dir))
}

pub async fn discover(dir: &Path, config: &Path) -> Result<Exit> {
    told(print_catalog(dir, config).await)
}

pub async fn read(args: &ConnectorReadArgs) -> Result<Exit> {
    told(print_records(args).await)
}

/// What failed as a whole is told in the protocol, too.
fn told(ended: Result<Exit>) -> Result<Exit> {
    if let Err(error) = &ended {
        // Whoever has closed the output is told nothing.
        let _ = tell(&mut std::io::stdout().lock(), error);
    }
    ended
}

fn tell(out: &mut impl Write, error: &Error) -> Result<()> {
    print(out, &Message::error("", error))?;
    flush(out)
}

fn print_spec(dir: &Path) -> Result<Exit> {
    let files = library::read_folder(dir)?;
    print(&mut std::io::stdout().lock(), &Source::spec_of(&files)?)?;
    Ok(Exit::Done)
}

async fn print_catalog(dir: &Path, config: &Path) -> Result<Exit> {
    let source = open(dir, config)?.caching();
    let catalog = source.catalog_message().await?;
    let mut out = std::io::stdout().lock();
    if let Some(settings) = source.migrated_settings() {
        print(&mut out, &Message::settings(settings.expose()))?;
    }
    refusals(&source, &mut out)?;
    print(&mut out, &catalog)?;
    Ok(Exit::Done)
}

async fn print_records(args: &ConnectorReadArgs) -> Result<Exit> {
    let request = ReadRequest {
        streams: args.streams.clone(),
        states: match &args.state {
            Some(path) => ReadRequest::states_of(&json_file(path)?)?,
            None => ReadRequest::states_of(&Value::Null)?,
        },
        now: chrono::Utc::now(),
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    let (kept_sender, kept_receiver) = mpsc::channel(1);
    let source = open(&args.dir, &args.config)?
        .caching()
        .patient(Patience::up_to(LONGEST_WAIT))
        .keeping(Arc::new(move |settings| {
            let sender = kept_sender.clone();
            Box::pin(async move { keep(&sender, settings).await })
        }));
    // Standard output may block for as long as its reader likes.
    let runtime = tokio::runtime::Handle::current();
    let printer =
        tokio::task::spawn_blocking(move || runtime.block_on(print_all(receiver, kept_receiver)));
    let complete = source.read_messages(&request, &sender).await;
    // The printer ends when nobody sends any more.
    drop((sender, source));
    printer.await.map_err(|_| {
        Error::internal(
            "output_failed",
            "the messages could not be printed to the end",
        )
    })??;
    Ok(if complete? { Exit::Done } else { Exit::Failed })
}

/// Changed settings and who waits until they are printed.
type Kept = (Message, oneshot::Sender<()>);

/// Returns when the settings have left the process: a rotated refresh token must not be used
/// before it is kept.
async fn keep(sender: &mpsc::Sender<Kept>, settings: SecretConfig) -> Result<()> {
    let closed = || Error::internal("settings_not_kept", "changed settings could not be printed");
    let (done, printed) = oneshot::channel();
    let message = Message::settings(settings.expose());
    sender.send((message, done)).await.map_err(|_| closed())?;
    printed.await.map_err(|_| closed())
}

async fn print_all(
    mut messages: mpsc::Receiver<Vec<Message>>,
    mut settings: mpsc::Receiver<Kept>,
) -> Result<()> {
    let mut out = std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    loop {
        tokio::select! {
            biased;
            Some((message, done)) = settings.recv() => {
                print(&mut out, &message)?;
                flush(&mut out)?;
                // Who waited may be gone; the settings are out all the same.
                let _ = done.send(());
            }
            batch = messages.recv() => {
                let Some(batch) = batch else {
                    return flush(&mut out);
                };
                for message in &batch {
                    print(&mut out, message)?;
                }
                if messages.is_empty() {
                    flush(&mut out)?;
                }
            }
        }
    }
}

fn print(out: &mut impl Write, message: &Message) -> Result<()> {
    message
        .write(out)
        .and_then(|()| out.write_all(b"\n"))
        .map_err(unwritable)
}

fn flush(out: &mut impl Write) -> Result<()> {
    out.flush().map_err(unwritable)
}

fn unwritable(error: std::io::Error) -> Error {
    Error::internal("output_failed", "a message could not be written").caused_by(error)
}

fn refusals(source: &Source, out: &mut impl Write) -> Result<()> {
    for (stream, refusal) in source.refusals() {
        let text = format!("the stream `{stream}` is left out: {}", refusal.message());
        print(out, &Message::warning(&text))?;
    }
    Ok(())
}

pub(super) fn open(dir: &Path, config: &Path) -> Result<Source> {
    let files = library::read_folder(dir)?;
    let config = SecretConfig::new(json_file(config)?);
    let options = HttpOptions::from_config(&config)?;
    let http = HttpClient::new(&files.name, &config, Limiter::new(&[]), options)?;
    Source::load(&files, &files.name, config, http)
}

/// Errors name the file and the place in it, never its content: it may hold secrets.
fn json_file(path: &Path) -> Result<Value> {
    let unreadable = |detail: String| {
        Error::config(
            "json_file_unreadable",
            format!("{} cannot be read: {detail}", path.display()),
        )
    };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| {
        unreadable(format!(
            "not JSON, as seen at line {} column {}",
            error.line(),
            error.column()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_before_reading_are_messages_with_their_class() {
        for (error, class) in [
            (
                Error::config("manifest_invalid", "a broken manifest"),
                "config_error",
            ),
            (Error::internal("state_lost", "no state"), "system_error"),
        ] {
            let mut out = Vec::new();
            tell(&mut out, &error).unwrap();
            let message: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(message["type"], "TRACE");
            assert_eq!(message["trace"]["type"], "ERROR");
            let told = &message["trace"]["error"];
            assert_eq!(told["message"], error.message());
            assert_eq!(told["failure_type"], class);
            assert!(out.ends_with(b"}\n"));
        }
    }
}
