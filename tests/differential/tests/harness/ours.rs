//! Our engine, run as `sluice connector read` runs it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use sluice_connectors::{
    http::{HttpClient, HttpOptions},
    limiter::Limiter,
    source::{
        Patience, Source,
        protocol::{Message, ReadRequest},
    },
};
use sluice_core::{Result, connector::ConnectorFiles, secret::SecretConfig};
use tokio::sync::mpsc;

use super::{
    case::{Case, Command, filled},
    compare::Outcome,
};

/// Runs a case against a server.
pub async fn run(case: &Case, address: &str) -> Outcome {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let mut outcome = Outcome::default();
    if let Err(error) = attempt(case, address, &waits, &mut outcome).await {
        outcome.detail = error.chain();
        let message = Message::error("", &error);
        outcome.message(&printed(&message));
    }
    outcome.waits = waits.lock().expect("no panic").clone();
    outcome
}

async fn attempt(
    case: &Case,
    address: &str,
    waits: &Arc<Mutex<Vec<f64>>>,
    outcome: &mut Outcome,
) -> Result<()> {
    let scene = &case.scene;
    let files = ConnectorFiles {
        name: case.name.clone(),
        files: BTreeMap::from([("manifest.yaml".into(), Arc::from(case.manifest.as_str()))]),
    };
    let config = SecretConfig::new(filled(&scene.config, address));
    let http = HttpClient::new(
        "case",
        &config,
        Limiter::new(&[]),
        HttpOptions::from_config(&config)?,
    )?;
    let noted = Arc::clone(waits);
    let patience = Patience::up_to(Duration::from_secs(600)).with_sleep(move |wait| {
        noted.lock().expect("no panic").push(wait.as_secs_f64());
        Box::pin(async {})
    });
    let (sender, mut receiver) = mpsc::channel(16);
    let settings = sender.clone();
    let source = Source::load(&files, "case", config, http)?
        .caching()
        .patient(patience)
        .keeping(Arc::new(move |changed| {
            let settings = settings.clone();
            Box::pin(async move {
                // The test keeps all messages, so somebody takes this one.
                let message = Message::settings(changed.expose());
                let _ = settings.send(vec![message]).await;
                Ok(())
            })
        }));
    let mut see = |message: &Message| {
        outcome.message(&printed(message));
    };
    // Reading sends them itself.
    if let (Command::Check | Command::Discover, Some(settings)) =
        (scene.command, source.migrated_settings())
    {
        see(&Message::settings(settings.expose()));
    }
    match scene.command {
        Command::Spec => see(&Source::spec_of(&files)?),
        Command::Discover => see(&source.catalog_message().await?),
        Command::Check => {
            let checked = source.check().await;
            let status = if checked.is_ok() {
                "SUCCEEDED"
            } else {
                "FAILED"
            };
            outcome.message(
                &json!({"type": "CONNECTION_STATUS", "connectionStatus": {"status": status}}),
            );
            if let Err(error) = checked {
                outcome.detail = error.chain();
            }
        }
        Command::Read => {
            let request = ReadRequest {
                streams: scene.streams.clone(),
                states: ReadRequest::states_of(&Value::Object(scene.state.clone()))?,
                now: chrono::Utc::now(),
            };
            let read = source.read_messages(&request, &sender);
            tokio::pin!(read);
            loop {
                tokio::select! {
                    biased;
                    Some(messages) = receiver.recv() => messages.iter().for_each(&mut see),
                    ended = &mut read => {
                        ended?;
                        break;
                    }
                }
            }
            while let Ok(messages) = receiver.try_recv() {
                messages.iter().for_each(&mut see);
            }
        }
    }
    Ok(())
}

/// A message as it is printed.
fn printed(message: &Message) -> Value {
    let mut line = Vec::new();
    message.write(&mut line).expect("memory takes it");
    serde_json::from_slice(&line).expect("a message is JSON")
}
