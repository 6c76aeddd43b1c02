//! A way to a server that can break as networks do.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What happens to the bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Clear,
    /// Bytes stay where they are, in both directions; connections stay open.
    Frozen,
    /// Each piece arrives this much later.
    Slow(Duration),
    /// New connections are closed at once.
    Down,
    /// The server's end is closed, the client's stays open and silent until the weather clears.
    HalfClosed,
    /// Of what the server says, so many bytes arrive per connection, then silence until the weather
    /// clears, which cuts the connection: who lost track of it resets it.
    SilentAfter(usize),
    /// Each piece of what the server says arrives twice.
    Doubled,
}

#[derive(Debug, Clone, Copy)]
struct State {
    weather: Weather,
    /// Connections older than this are cut.
    generation: u64,
}

/// Listens at an address of its own and forwards to the target until dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Forwards to `target`, a host and port.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap_or_else(|error| panic!("a proxy of the tests cannot listen: {error}"));
        let address = listener
            .local_addr()
            .unwrap_or_else(|error| panic!("a proxy of the tests has no address: {error}"));
        let state = watch::Sender::new(State {
            weather: Weather::Clear,
            generation: 0,
        });
        let task = tokio::spawn(accept(listener, target.to_owned(), state.clone()));
        Self {
            address,
            state,
            task,
        }
    }

    /// Host and port to connect to.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes the weather for all connections, open and new.
    pub fn set(&self, weather: Weather) {
        self.state.send_modify(|state| state.weather = weather);
    }

    /// Cuts all open connections.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, target: String, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if state.borrow().weather == Weather::Down {
            continue;
        }
        // A target that is away closes the connection, as it would without us.
        let Ok(server) = TcpStream::connect(&target).await else {
            continue;
        };
        // Small pieces would wait for each other's acknowledgement.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        tokio::spawn(converse(client, server, state.subscribe()));
    }
}

/// Forwards until one side is done or the connection is cut; then both ends are closed.
async fn converse(client: TcpStream, server: TcpStream, mut state: watch::Receiver<State>) {
    let born = state.borrow_and_update().generation;
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let up = forward(client_in, server_out, state.clone(), Side::Client);
    let down = forward(server_in, client_out, state.clone(), Side::Server);
    tokio::select! {
        () = up => {}
        () = down => {}
        () = until(&mut state, |state| state.generation != born) => {}
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Forwards what one side says.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    side: Side,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut said = 0_usize;
    loop {
        let count = tokio::select! {
            count = from.read(&mut buffer) => count.unwrap_or(0),
            () = until(&mut state, |state| state.weather == Weather::HalfClosed), if side == Side::Client => {
                let _ = to.shutdown().await;
                return tokio::select! {
                    () = silence(&mut from) => {}
                    () = until(&mut state, is_clear) => {}
                };
            }
        };
        if count == 0 {
            // Under a closed half, the server's end says nothing to the client.
            if side == Side::Server && state.borrow().weather == Weather::HalfClosed {
                until(&mut state, is_clear).await;
            }
            return;
        }
        until(&mut state, |state| state.weather != Weather::Frozen).await;
        // A sender that left while its bytes stood still takes them along: nobody can fence a
        // request that arrives after its lease.
        if side == Side::Client && has_left(&from).await {
            return;
        }
        let mut times = 1;
        let weather = state.borrow().weather;
        match weather {
            Weather::Slow(delay) => tokio::time::sleep(delay).await,
            Weather::Doubled if side == Side::Server => times = 2,
            Weather::SilentAfter(limit) if side == Side::Server && said + count > limit => {
                return until(&mut state, is_clear).await;
            }
            _ => {}
        }
        said += count;
        for _ in 0..times {
            if to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }
}

fn is_clear(state: &State) -> bool {
    state.weather == Weather::Clear
}

/// Waits for a state; a proxy that is gone has cut everything.
async fn until(state: &mut watch::Receiver<State>, wanted: impl FnMut(&State) -> bool) {
    let _ = state.wait_for(wanted).await;
}

/// Reads and forgets until the sender leaves.
async fn silence(from: &mut OwnedReadHalf) {
    let mut buffer = vec![0; 16 * 1024];
    while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

/// Whether the sender closed its end behind what was read.
async fn has_left(from: &OwnedReadHalf) -> bool {
    let mut one = [0];
    // One look: what is there now.
    let looked = tokio::time::timeout(Duration::ZERO, from.as_ref().peek(&mut one)).await;
    looked.is_ok_and(|peeked| peeked.unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each piece with itself.
    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn say(stream: &mut TcpStream, text: &[u8]) {
        stream.write_all(text).await.unwrap();
    }

    /// What arrives within a moment.
    async fn hear(stream: &mut TcpStream, count: usize) -> Option<Vec<u8>> {
        let mut heard = vec![0; count];
        let read = stream.read_exact(&mut heard);
        match tokio::time::timeout(Duration::from_millis(300), read).await {
            Ok(Ok(_)) => Some(heard),
            _ => None,
        }
    }

    #[tokio::test]
    async fn each_weather_is_as_it_says() {
        let proxy = Proxy::start(&echo().await).await;
        let connect = || TcpStream::connect(proxy.address());
        let mut stream = connect().await.unwrap();
        say(&mut stream, b"ab").await;
        assert_eq!(hear(&mut stream, 2).await.as_deref(), Some(&b"ab"[..]));

        proxy.set(Weather::Frozen);
        say(&mut stream, b"cd").await;
        assert_eq!(hear(&mut stream, 1).await, None);
        proxy.set(Weather::Clear);
        assert_eq!(hear(&mut stream, 2).await.as_deref(), Some(&b"cd"[..]));

        proxy.set(Weather::Doubled);
        say(&mut stream, b"ef").await;
        assert_eq!(hear(&mut stream, 4).await.as_deref(), Some(&b"efef"[..]));

        proxy.set(Weather::SilentAfter(8));
        say(&mut stream, b"gh").await;
        assert_eq!(hear(&mut stream, 2).await.as_deref(), Some(&b"gh"[..]));
        say(&mut stream, b"ij").await;
        assert_eq!(hear(&mut stream, 1).await, None);

        proxy.set(Weather::Clear);
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "reset");

        let mut stream = connect().await.unwrap();
        say(&mut stream, b"kl").await;
        assert!(hear(&mut stream, 2).await.is_some());
        proxy.set(Weather::HalfClosed);
        say(&mut stream, b"mn").await;
        assert_eq!(hear(&mut stream, 1).await, None);
        proxy.set(Weather::Clear);
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "reset");

        let mut stream = connect().await.unwrap();
        say(&mut stream, b"op").await;
        assert!(hear(&mut stream, 2).await.is_some());
        proxy.cut();
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "cut");

        proxy.set(Weather::Down);
        let mut refused = connect().await.unwrap();
        assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0, "closed");
    }

    #[tokio::test]
    async fn a_sender_that_leaves_takes_its_frozen_bytes_along() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let proxy = Proxy::start(&target).await;
        proxy.set(Weather::Frozen);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        say(&mut client, b"late").await;
        drop(client);
        // The proxy has read the bytes by the time it has the end behind them, too.
        tokio::time::timeout(Duration::from_millis(100), server.read(&mut [0]))
            .await
            .unwrap_err();
        proxy.set(Weather::Clear);
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        assert!(heard.is_empty(), "{heard:?}");
    }
}
