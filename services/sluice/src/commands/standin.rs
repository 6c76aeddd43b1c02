//! `sluice standin yardi|one|lessen360`.

use sluice_core::{Error, Result};
use sluice_standin::{Kind, Options};
use tokio::net::TcpListener;

use crate::{
    cli::{StandinArgs, StandinKind},
    exit::Exit,
    output::out,
};

pub async fn run(args: &StandinArgs) -> Result<Exit> {
    let kind = match args.kind {
        StandinKind::Yardi => Kind::Yardi,
        StandinKind::One => Kind::One,
        StandinKind::Lessen360 => Kind::Lessen360,
    };
    let mut options = Options::new(kind);
    options.records = usize::try_from(args.records).unwrap_or(usize::MAX);
    options.seed = args.seed;
    options.limit_per_minute = args.limit.or(options.limit_per_minute);
    let listener = TcpListener::bind(&args.listen).await.map_err(|error| {
        Error::config("listen_failed", format!("cannot listen on {}", args.listen)).caused_by(error)
    })?;
    let handle = sluice_standin::serve(options, listener).map_err(|error| {
        Error::internal("standin_failed", "the stand-in did not start").caused_by(error)
    })?;
    out!("{}", handle.url());
    eprintln!(
        "stand-in for {} at {}; control endpoints under /_control/; Ctrl-C stops it",
        kind.name(),
        handle.url()
    );
    tokio::signal::ctrl_c().await.map_err(|error| {
        Error::internal("signals_unavailable", "cannot wait for Ctrl-C").caused_by(error)
    })?;
    handle.shutdown().await;
    Ok(Exit::Done)
}
