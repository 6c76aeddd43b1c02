//! Child processes that end when we are asked to end.

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock, atomic::AtomicBool, atomic::Ordering},
    time::{Duration, Instant},
};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::Outcome;

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Makes Ctrl-C, hang-up and termination a flag, so that servers are stopped on the way out.
pub fn catch_signals() -> Outcome {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED))
            .map_err(|error| format!("cannot catch signal {signal}: {error}"))?;
    }
    Ok(())
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// The cargo that built us, as if started from a shell. What cargo tells the programs it runs about
/// their package is taken away: build scripts that look at it would run once more at every change
/// between the two, and with them half of the dependencies.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command to its end; an interruption ends it with all its children.
pub fn run(command: &mut Command) -> Outcome {
    let name = describe(command);
    // A group of its own: the terminal's Ctrl-C reaches us alone, and we end the whole group.
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    loop {
        if let Some(status) = child
            .try_wait()
            .map_err(|error| format!("cannot wait for {name}: {error}"))?
        {
            return if status.success() {
                Ok(())
            } else {
                Err(format!("{name} failed: {status}"))
            };
        }
        if interrupted() {
            end_group(&mut child, Duration::from_secs(10));
            return Err("interrupted".into());
        }
        pause();
    }
}

/// Runs a command and returns what it printed, without the last line end.
pub fn output(command: &mut Command) -> Outcome<String> {
    let name = describe(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a command runs and succeeds; shows nothing.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Sends a signal, such as `TERM`, to a child and the processes of its group.
pub fn signal_group(child: &Child, name: &str) -> bool {
    let group = format!("-{}", child.id());
    succeeds(Command::new("kill").args(["-s", name, "--", &group]))
}

/// Ends a process group: politely first, by force when that takes too long.
pub fn end_group(child: &mut Child, patience: Duration) {
    signal_group(child, "TERM");
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if matches!(child.try_wait(), Ok(Some(_))) {
            // Its children may have outlived it.
            signal_group(child, "KILL");
            return;
        }
        pause();
    }
    signal_group(child, "KILL");
    // Reaped; a failure here means that it was gone already.
    let _ = child.wait();
}

/// Waits for a condition; `false` when the time ran out or we were interrupted.
pub fn wait_until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline && !interrupted() {
        if condition() {
            return true;
        }
        pause();
    }
    false
}

/// The step of every polling loop here.
#[expect(
    clippy::disallowed_methods,
    reason = "child processes and signals are polled; there is no runtime to await them"
)]
pub fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args().take(4) {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
